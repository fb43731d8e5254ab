//! The bytes of one file, whatever it is and whatever happens to it meanwhile.

use crate::{api::Problem, topology::problem::ProblemCode};
use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

/// The bytes of a file, and whether it stayed as it was while they were read.
pub(in crate::topology) struct Content {
    pub bytes: Vec<u8>,
    pub(super) is_settled: bool,
    modified: Option<SystemTime>,
}

impl Content {
    /// Whether something was written less than `span` ago.
    pub(super) fn is_younger_than(&self, span: Duration) -> bool {
        self.modified.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age < span)
    }
}

/// Reads a file, a second time if it changed meanwhile; the content says whether it then stayed as it was.
pub(super) fn read_settled(path: &Path, max_bytes: u64) -> Result<Content, Problem> {
    let first = read_limited(path, max_bytes)?;
    if first.is_settled { Ok(first) } else { read_limited(path, max_bytes) }
}

pub(in crate::topology) fn read_limited(path: &Path, max_bytes: u64) -> Result<Content, Problem> {
    let shown = path.to_string_lossy();
    let unreadable = |error: io::Error| ProblemCode::Unreadable.at(&shown, format!("the file cannot be read: {error}"));
    let too_large = || ProblemCode::TooLarge.at(&shown, format!("the file has more than {max_bytes} bytes"));
    // Non-blocking, so that a pipe that took the file's place meanwhile cannot hold up the scan.
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    if !before.is_file() {
        return Err(ProblemCode::Unreadable.at(&shown, "it is no regular file"));
    }
    if before.len() > max_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default().saturating_add(1));
    (&file).take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
        return Err(too_large());
    }
    let is_settled = is_same(&before, &file, &bytes);
    Ok(Content { bytes, is_settled, modified: before.modified().ok() })
}

fn is_same(before: &Metadata, file: &File, bytes: &[u8]) -> bool {
    let time = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    file.metadata().is_ok_and(|after| {
        time(before) == time(&after) && after.len() == before.len() && usize::try_from(after.len()) == Ok(bytes.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        sync::atomic::{AtomicBool, Ordering},
    };

    #[test]
    fn a_file_that_grows_while_it_is_read_is_not_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, vec![b' '; 1 << 20]).unwrap();
        assert!(read_settled(&path, 1 << 30).is_ok_and(|content| content.is_settled));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                while !is_over.load(Ordering::Relaxed) && file.metadata().unwrap().len() < 1 << 26 {
                    file.write_all(&[b' '; 512]).unwrap();
                }
            });
            let caught = (0..1000).any(|_| read_settled(&path, 1 << 30).is_ok_and(|content| !content.is_settled));
            is_over.store(true, Ordering::Relaxed);
            assert!(caught);
        });
    }
}
