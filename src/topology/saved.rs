//! A topology that was saved, to compare another one with.

use crate::api::{Topology, UtcTime};
use thiserror::Error;

/// Why there is nothing to compare with in a file.
#[derive(Debug, Error)]
pub enum SavedError {
    /// It holds something else.
    #[error("it is no topology as --json prints it: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It came over the bus, which left its endpoints out.
    #[error("the topology of {0} was cut to fit a message; save it with `netdiag topology --json`")]
    Cut(UtcTime),
}

/// A topology as `netdiag topology --json` printed it; an older one may lack what this version adds.
///
/// # Errors
/// When it is something else, or was cut to fit a message.
pub fn read_saved(text: &[u8]) -> Result<Topology, SavedError> {
    let topology: Topology = serde_json::from_slice(text)?;
    match topology.endpoint_uris.is_empty() {
        true => Ok(topology),
        false => Err(SavedError::Cut(topology.scanned_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved() -> Vec<u8> {
        let topology = crate::topology::assemble(Vec::new(), UtcTime::from_unix_ns(0));
        serde_json::to_vec(&topology).unwrap()
    }

    #[test]
    fn what_was_cut_for_a_message_is_not_compared_with() {
        assert!(read_saved(&saved()).unwrap().endpoints.is_empty());
        let mut value: serde_json::Value = serde_json::from_slice(&saved()).unwrap();
        value["endpoint_uris"] = serde_json::json!(["/netdiag/topology/endpoints/a"]);
        let error = read_saved(value.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("1970-01-01T00:00:00.000Z") && error.contains("topology --json"), "{error}");
        assert!(read_saved(b"[]").unwrap_err().to_string().contains("no topology"));
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_told_and_never_a_panic(at in 0_usize..1_000, byte: u8) {
            let mut text = saved();
            let at = at % text.len();
            text[at] = byte;
            let _ = read_saved(&text);
            text.truncate(at);
            prop_assert!(read_saved(&text).is_err());
        }
    }
}
