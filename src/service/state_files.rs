//! The files in which netdiag remembers something over a restart.

use std::{
    fs,
    io::{self, ErrorKind, Read as _},
    path::Path,
};

/// The longest file that is read: what a hundred thousand endpoints need.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// What stands in a file; nothing if there is none yet. Blocks on the disk.
///
/// # Errors
/// When it cannot be read, or is longer than [`MAX_BYTES`].
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"{}");
        let file = fs::File::create(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len() as u64, MAX_BYTES);
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "it has more than 16777216 bytes");
        assert!(read(dir.path()).is_err());
    }
}
