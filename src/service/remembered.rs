//! What is remembered of the endpoints over a restart: whether each worked when a test looked at it last.

use super::{events::Memory, state_files};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where it stands.
pub(super) fn place(state_dir: &Path) -> PathBuf {
    state_dir.join("endpoints.json")
}

/// What was remembered before this start; nothing if that is not known. Blocks on the disk.
pub(super) fn recall(state_dir: &Path) -> Memory {
    let path = place(state_dir);
    let read = state_files::read(&path).and_then(|json| match json {
        Some(json) => Ok(read_remembered_endpoints(&json)?),
        None => Ok(Memory::new()),
    });
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, path = %path.display(), "what was known of the endpoints cannot be read; it starts anew");
        Memory::new()
    })
}

/// Reads what is remembered, by endpoint.
///
/// # Errors
/// When it is damaged, with the line and the column.
pub fn read_remembered_endpoints(json: &[u8]) -> Result<BTreeMap<String, bool>, serde_json::Error> {
    serde_json::from_slice(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn written(memory: &Memory) -> Vec<u8> {
        serde_json::to_vec(memory).unwrap()
    }

    #[test]
    fn what_was_written_is_known_again_and_what_cannot_be_read_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(recall(dir.path()), Memory::new());
        let memory = Memory::from([("modbus_10.0.0.5_502".to_owned(), true), ("dnp3_10.0.0.6_20000".to_owned(), false)]);
        fs::write(place(dir.path()), written(&memory)).unwrap();
        assert_eq!(recall(dir.path()), memory);
        for damaged in [&b""[..], b"[]", b"\xFF\x00", br#"{"a": 1}"#, &written(&memory)[..20]] {
            fs::write(place(dir.path()), damaged).unwrap();
            assert_eq!(recall(dir.path()), Memory::new());
        }
        fs::File::create(place(dir.path())).unwrap().set_len(state_files::MAX_BYTES + 1).unwrap();
        assert_eq!(recall(dir.path()), Memory::new());
    }

    /// What is read of any bytes is no more than stands there, and is the same when it is written and read again.
    fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
        let Ok(memory) = read_remembered_endpoints(bytes) else { return Ok(()) };
        prop_assert!(memory.keys().map(|endpoint_id| endpoint_id.len() + r#""":true"#.len()).sum::<usize>() < bytes.len());
        prop_assert_eq!(read_remembered_endpoints(&written(&memory)).unwrap(), memory);
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            check(&bytes)?;
        }

        #[test]
        fn a_damaged_file_is_read_or_refused(
            memory in prop::collection::btree_map("[ -~]{0,12}", any::<bool>(), 0..20), at: prop::sample::Index, byte: u8, cut: bool,
        ) {
            let mut json = written(&memory);
            prop_assert_eq!(&read_remembered_endpoints(&json).unwrap(), &memory);
            let place = at.index(json.len());
            json[place] = byte;
            check(&json)?;
            if cut {
                json.truncate(place);
                prop_assert!(read_remembered_endpoints(&json).is_err());
            }
        }
    }
}
