//! A directory that another service ships from. Files appear in it complete, by renaming.

use super::{Parcel, Sink, SinkError, SinkSettings};
use async_trait::async_trait;
use nix::sys::statvfs::statvfs;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::Arc,
};

pub(super) struct Directory(pub SinkSettings);

#[async_trait]
impl Sink for Directory {
    async fn put(&self, file_name: &str, parcel: Arc<Parcel>) -> Result<(), SinkError> {
        let (settings, file_name) = (self.0.clone(), file_name.to_owned());
        let put = tokio::task::spawn_blocking(move || put(&settings, &file_name, &parcel)).await;
        put.map_err(|error| SinkError::Unreachable(format!("writing broke off: {error}")))?.map_err(SinkError::Unreachable)
    }
}

fn put(settings: &SinkSettings, file_name: &str, parcel: &Parcel) -> Result<(), String> {
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
        let mut file = BufWriter::new(File::create(&half)?);
        parcel.write_to(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&half, dir.join(file_name))?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written.map_err(failed)
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
        let error = put(&settings(spool.clone()), "h_a.tar", &parcel).unwrap_err();
        assert!(error.contains("mount") && !spool.exists(), "{error}");
        fs::create_dir(&spool).unwrap();
        put(&settings(spool.clone()), "h_a.tar", &parcel).unwrap();
        put(&settings(spool.clone()), "h_a.tar", &parcel).unwrap();
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
        let put = |name: &str, settings: &SinkSettings| put(settings, name, &parcel);
        let settings = settings(spool.clone());
        assert!(put("a.tar", &settings).is_ok() && put("b.tar", &settings).is_ok() && put("c.tar", &settings).is_err());
        fs::remove_file(spool.join("a.tar")).unwrap();
        put("c.tar", &settings).unwrap();
        let full = SinkSettings { min_free_bytes: u64::MAX, max_bytes: u64::MAX, ..settings };
        assert!(put("d.tar", &full).unwrap_err().contains("to be kept free"));
    }
}
