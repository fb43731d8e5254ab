//! Directories under the eye of the kernel (`inotify(7)`).

use futures::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use std::{io, path::PathBuf};

/// What is worth a new look: entries that come, go or are written to the end, and directories that go.
const TELLING: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF);

/// Room for many events at a time.
const BUFFER_BYTES: usize = 4096;

/// Directories that are watched until this is dropped.
pub(super) struct DirWatch {
    events: EventStream<[u8; BUFFER_BYTES]>,
}

impl DirWatch {
    /// Watches these directories, each without those below it. One that has gone meanwhile is left out.
    ///
    /// # Errors
    /// The kernel's limits do not allow it (`fs.inotify.max_user_watches`, `max_user_instances`).
    pub(super) fn new(dirs: &[PathBuf]) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        for dir in dirs {
            match inotify.watches().add(dir, TELLING) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { events: inotify.into_event_stream([0; BUFFER_BYTES])? })
    }

    /// Waits until something has changed. What exactly is not told: a scan finds out.
    pub(super) async fn changed(&mut self) {
        if !matches!(self.events.next().await, Some(Ok(_))) {
            tracing::debug!("the watch on the config directories failed; they are looked at on a period");
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Duration};
    use tokio::time::timeout;

    #[tokio::test]
    async fn what_is_written_moved_or_removed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::new(&[dir.path().to_owned(), dir.path().join("gone")]).unwrap();
        let mut noticed = async |patience_ms| timeout(Duration::from_millis(patience_ms), watch.changed()).await.is_ok();
        assert!(!noticed(50).await, "nothing has happened");
        let (one, two) = (dir.path().join("one.json"), dir.path().join("two.json"));
        fs::write(&one, "{}").unwrap();
        assert!(noticed(5000).await);
        while noticed(50).await {}
        fs::rename(&one, &two).unwrap();
        assert!(noticed(5000).await);
        while noticed(50).await {}
        fs::remove_file(&two).unwrap();
        assert!(noticed(5000).await);
    }
}
