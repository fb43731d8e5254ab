//! Any bytes as what netdiag remembered of the endpoints before a restart: what is read is no more than stands there, and the same when it
//! is written and read again.

use netdiag::service::read_remembered_endpoints;

pub fn run(bytes: &[u8]) {
    let remembered = match read_remembered_endpoints(bytes) {
        Ok(remembered) => remembered,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(remembered.keys().map(|endpoint_id| endpoint_id.len() + r#""":true"#.len()).sum::<usize>() < bytes.len());
    let json = serde_json::to_vec(&remembered).unwrap();
    assert_eq!(read_remembered_endpoints(&json).unwrap(), remembered);
}
