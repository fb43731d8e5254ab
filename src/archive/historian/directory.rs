//! A directory that another service ships from. Files appear in it complete, by renaming.

use super::{Parcel, Sink, SinkError, SinkSettings, while_it_moves};
use crate::archive::writing::create;
use async_trait::async_trait;
use nix::sys::statvfs::statvfs;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub(super) struct Directory {
    settings: SinkSettings,
    /// Held while a file is written, also by one that has been given up because the file system hangs.
    writing: Arc<Mutex<()>>,
}

impl Directory {
    pub fn new(settings: SinkSettings) -> Self {
        Self { settings, writing: Arc::default() }
    }
}

#[async_trait]
impl Sink for Directory {
    async fn put(&self, file_name: &str, parcel: Arc<Parcel>) -> Result<(), SinkError> {
        let (settings, file_name) = (self.settings.clone(), file_name.to_owned());
        let moved = Arc::new(AtomicU64::new(0));
        let (writing, moves) = (Arc::clone(&self.writing), Arc::clone(&moved));
        let put = tokio::task::spawn_blocking(move || match writing.try_lock() {
            Ok(_writing) => put(&settings, &file_name, &parcel, &moves),
            // Another thread that waits for it would help nobody.
            Err(_) => Err("the file system of the directory hangs".to_owned()),
        });
        let put = while_it_moves(put, &moved).await?;
        put.map_err(|error| SinkError::Unreachable(format!("writing broke off: {error}")))?.map_err(SinkError::Unreachable)
    }
}

fn put(settings: &SinkSettings, file_name: &str, parcel: &Parcel, moved: &AtomicU64) -> Result<(), String> {
    let dir = settings.path.as_deref().ok_or("no `path` is set")?;
    let failed = |error: io::Error| format!("{}: {error}", dir.display());
    // Never made: where a disk should be mounted, the files would lie beneath it.
    if !dir.is_dir() {
        return Err(format!("{} is no directory; make it, or mount what it is on", dir.display()));
    }
    let (bytes, lie_there) = (parcel.tar_bytes(), lie_there(dir));
    // The first one always fits.
    if lie_there > 0 && lie_there.saturating_add(bytes) > settings.max_bytes {
        return Err(format!(
            "nobody takes the files in {}: {lie_there} bytes of at most {} lie there",
            dir.display(),
            settings.max_bytes
        ));
    }
    let free = statvfs(dir).map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
    let needed = bytes.saturating_add(settings.min_free_bytes);
    if free < needed {
        return Err(format!("{} has {free} bytes of room; with those to be kept free, {needed} are needed", dir.display()));
    }
    let half = dir.join(format!(".{file_name}.partial"));
    let written = (|| {
        let mut file = BufWriter::new(Counted(create(&half)?, moved));
        parcel.write_to(&mut file)?;
        file.flush()?;
        file.get_ref().0.sync_all()?;
        fs::rename(&half, dir.join(file_name))?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written.map_err(failed)
}

/// A file, and how much has been written of it.
struct Counted<'a>(File, &'a AtomicU64);

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.fetch_add(written as u64, Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Bytes of the files that nobody has taken yet.
fn lie_there(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "tar"));
    ours.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn parcel(dir: &Path) -> Parcel {
        let folder = dir.join("a");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("capture"), [7; 5000]).unwrap();
        Parcel::of(&folder, "a").unwrap()
    }

    fn settings(path: PathBuf) -> SinkSettings {
        SinkSettings { path: Some(path), max_bytes: 15_000, min_free_bytes: 0, ..SinkSettings::default() }
    }

    #[test]
    fn a_file_is_there_whole_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let parcel = parcel(dir.path());
        let spool = dir.path().join("spool");
        let error = put(&settings(spool.clone()), "h_a.tar", &parcel, &AtomicU64::new(0)).unwrap_err();
        assert!(error.contains("mount") && !spool.exists(), "{error}");
        fs::create_dir(&spool).unwrap();
        put(&settings(spool.clone()), "h_a.tar", &parcel, &AtomicU64::new(0)).unwrap();
        put(&settings(spool.clone()), "h_a.tar", &parcel, &AtomicU64::new(0)).unwrap();
        let names: Vec<_> = fs::read_dir(&spool).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["h_a.tar"]);
        assert_eq!(fs::metadata(spool.join("h_a.tar")).unwrap().len(), parcel.tar_bytes());
    }

    #[test]
    fn files_that_nobody_takes_do_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let parcel = parcel(dir.path());
        let spool = dir.path().join("spool");
        fs::create_dir(&spool).unwrap();
        let put = |name: &str, settings: &SinkSettings| put(settings, name, &parcel, &AtomicU64::new(0));
        let settings = settings(spool.clone());
        assert!(put("a.tar", &settings).is_ok() && put("b.tar", &settings).is_ok() && put("c.tar", &settings).is_err());
        fs::remove_file(spool.join("a.tar")).unwrap();
        put("c.tar", &settings).unwrap();
        let full = SinkSettings { min_free_bytes: u64::MAX, max_bytes: u64::MAX, ..settings };
        assert!(put("d.tar", &full).unwrap_err().contains("to be kept free"));
    }
}
