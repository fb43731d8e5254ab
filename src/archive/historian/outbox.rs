//! The queue of a sink on disk: a folder for each snapshot that waits, whole or not at all. Everything here blocks on the disk.

use super::{super::writing::remove_all, Parcel};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const HALF: &str = ".half-";

/// The snapshots that wait for one sink.
#[derive(Debug, Clone)]
pub struct Outbox {
    dir: PathBuf,
}

impl Outbox {
    /// The queue in this directory.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Makes the directory if need be, and removes what was half put in when netdiag was killed.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn clean(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(HALF) {
                remove_all(&entry.path())?;
            }
        }
        Ok(())
    }

    /// What waits, and the bytes of each tar.
    pub fn list(&self) -> Vec<(String, u64)> {
        let names =
            fs::read_dir(&self.dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| self.parcel(&name).ok().map(|parcel| (parcel.tar_bytes(), name)))
            .map(|(bytes, name)| (name, bytes))
            .collect()
    }

    /// Puts in the files of a snapshot's folder: they stay here when that is removed, and take no room of their own until then. Gives the
    /// bytes of the tar. One that waits already is left as it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, name: &str, folder: &Path) -> io::Result<u64> {
        let place = self.dir.join(name);
        if !place.exists() {
            let half = self.dir.join(format!("{HALF}{name}"));
            if half.exists() {
                remove_all(&half)?;
            }
            fs::create_dir_all(&half)?;
            let linked =
                link_all(folder, &half).and_then(|()| File::open(&half)?.sync_all()).and_then(|()| fs::rename(&half, &place));
            if linked.is_err() {
                let _ = fs::remove_dir_all(&half);
            }
            linked?;
            File::open(&self.dir)?.sync_all()?;
        }
        self.parcel(name).map(|parcel| parcel.tar_bytes())
    }

    /// One that waits, to be sent.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub fn parcel(&self, name: &str) -> io::Result<Parcel> {
        Parcel::of(&self.dir.join(name), name)
    }

    /// Takes one out: it has been sent, or is given up.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        // First out of sight: half a folder must not be sent.
        let half = self.dir.join(format!("{HALF}{name}"));
        match fs::rename(self.dir.join(name), &half) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| fs::remove_dir_all(&half)),
        }
    }
}

fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        // What is empty marks something for this host alone: pinned, or shipped.
        if !entry.metadata().is_ok_and(|data| data.is_file() && data.len() > 0) {
            continue;
        }
        let link = to.join(&name);
        // Not every file system links.
        if fs::hard_link(entry.path(), &link).is_err() {
            fs::copy(entry.path(), &link)?;
            File::open(&link)?.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &Path) -> PathBuf {
        let folder = dir.join("archive/a");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("capture.pcapng.zst"), [7; 1000]).unwrap();
        fs::write(folder.join("snapshot.json"), "{}").unwrap();
        fs::write(folder.join("pinned"), "").unwrap();
        folder
    }

    #[test]
    fn what_waits_outlives_the_archive_and_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let outbox = Outbox::new(dir.path().join("outbox/x"));
        outbox.clean().unwrap();
        let bytes = outbox.put("a", &folder).unwrap();
        assert_eq!(outbox.put("a", &folder).unwrap(), bytes, "twice is once");
        fs::remove_dir_all(folder).unwrap();
        fs::create_dir(dir.path().join("outbox/x/.half-b")).unwrap();
        fs::write(dir.path().join("outbox/x/.half-c"), "no folder").unwrap();
        outbox.clean().unwrap();
        assert_eq!(outbox.list(), [("a".to_owned(), bytes)]);
        let mut tar = Vec::new();
        outbox.parcel("a").unwrap().write_to(&mut tar).unwrap();
        assert_eq!(tar.len() as u64, bytes);
        let names: Vec<String> =
            tar::Archive::new(&*tar).entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["a/capture.pcapng.zst", "a/snapshot.json"], "a pin is for this host");
        outbox.remove("a").unwrap();
        outbox.remove("a").unwrap();
        assert!(outbox.list().is_empty() && outbox.parcel("a").is_err());
    }
}
