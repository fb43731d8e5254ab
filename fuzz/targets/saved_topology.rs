//! Any bytes as topologies that were saved, and compared: two of them, parted by a zero.

use netdiag::topology::{align, compare, read_saved};

pub fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let mut read = || parts.next().map(read_saved);
    let (Some(Ok(mut before)), second) = (read(), read()) else { return };
    assert!(compare(&before, &before).is_empty());
    let json = serde_json::to_vec(&before).unwrap();
    assert!(read_saved(&json).is_ok());
    let Some(Ok(mut after)) = second else { return };
    let (forth, back) = (compare(&before, &after), compare(&after, &before));
    assert_eq!((&forth.added, &forth.removed), (&back.removed, &back.added));
    assert_eq!((&forth.heartbeats_added, &forth.configs_removed), (&back.heartbeats_removed, &back.configs_added));
    assert_eq!(forth.is_empty(), back.is_empty());
    align(&mut before, &mut after);
    let aligned = compare(&before, &after);
    assert!(!aligned.text.is_empty() && serde_json::to_vec(&aligned).is_ok());
}
