//! The record on disk: one folder a job, each file written whole or not at all.
//!
//! ```text
//! <state dir>/jobs/<job id>/job.json         the job as it stands
//!                          /result.json      its result, once there is one
//!                          /capture.pcapng   the traffic, if it was captured
//! ```

use crate::api::Job;
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// A file of the record that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct RecordError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What a former run of the service left.
#[derive(Debug, Default)]
pub struct Found {
    /// The jobs, by id.
    pub jobs: Vec<Job>,
    /// Folders of jobs whose record is damaged or was never written, as after a power cut, by id. What else they hold is whole.
    pub damaged: Vec<String>,
    /// Why records could not be read.
    pub problems: Vec<RecordError>,
}

/// The folder in which jobs are recorded. All calls block on the disk.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The record below `state_dir`, whose folder is made if it does not exist.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, RecordError> {
        let dir = state_dir.join("jobs");
        fs::create_dir_all(&dir).map_err(|source| RecordError { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// The folder of one job.
    pub fn job_dir(&self, job_id: &str) -> PathBuf {
        self.dir.join(job_id)
    }

    /// The file of a job's result.
    pub fn result_path(&self, job_id: &str) -> PathBuf {
        self.job_dir(job_id).join("result.json")
    }

    /// The file of a job's capture.
    pub fn capture_path(&self, job_id: &str) -> PathBuf {
        self.job_dir(job_id).join("capture.pcapng")
    }

    /// Makes a job's folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self, job_id: &str) -> Result<PathBuf, RecordError> {
        let dir = self.job_dir(job_id);
        fs::create_dir_all(&dir).map_err(|source| RecordError { path: dir.clone(), source })?;
        Ok(dir)
    }

    /// Writes a job as it stands; what has ended also outlives a power cut.
    ///
    /// # Errors
    /// When the disk fails or is full; the former record is then still there.
    pub fn save(&self, job: &Job) -> Result<(), RecordError> {
        let path = self.create(&job.job_id)?.join("job.json");
        let json = serde_json::to_vec_pretty(job).map_err(|error| RecordError { path: path.clone(), source: error.into() })?;
        replace_file(&path, &json, job.state.is_final())
    }

    /// Writes a job's result.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub fn save_result(&self, job_id: &str, json: &[u8]) -> Result<(), RecordError> {
        self.create(job_id)?;
        write_atomically(&self.result_path(job_id), json)
    }

    /// Reads a job's result; `None` if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load_result(&self, job_id: &str) -> Result<Option<Vec<u8>>, RecordError> {
        let path = self.result_path(job_id);
        match fs::read(&path) {
            Ok(json) => Ok(Some(json)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecordError { path, source }),
        }
    }

    /// Reads every job that can be read, and says which cannot.
    pub fn load_all(&self) -> Found {
        let mut found = Found::default();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(source) => return Found { problems: vec![RecordError { path: self.dir.clone(), source }], ..found },
        };
        for entry in entries.flatten() {
            let path = entry.path().join("job.json");
            let name = entry.file_name().to_string_lossy().into_owned();
            match fs::read(&path).and_then(|json| Ok(serde_json::from_slice::<Job>(&json)?)) {
                // A folder that does not bear its job's name was not written here, and must never be removed by that name.
                Ok(job) if name == job.job_id => found.jobs.push(job),
                Ok(job) => {
                    let source = io::Error::other(format!("holds the record of job `{}`", job.job_id));
                    found.problems.push(RecordError { path, source });
                }
                Err(source) => {
                    if is_damage(&source) && uuid::Uuid::try_parse(&name).is_ok_and(|id| id.to_string() == name) {
                        found.damaged.push(name);
                    }
                    found.problems.push(RecordError { path, source });
                }
            }
        }
        found.jobs.sort_by(|a, b| a.job_id.cmp(&b.job_id));
        found.damaged.sort();
        found
    }

    /// Puts in order what a crash left behind, in the folder of every job, also of those whose record cannot be read: an unfinished
    /// capture gets its proper name (it holds whole packets up to some moment, and counts among the captures that are kept), and files
    /// that were being written are removed. Only for the start, when nothing is being written.
    pub fn tidy(&self) {
        let folders = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for file in folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten() {
            let path = file.path();
            match file.file_name().to_str() {
                Some("capture.pcapng.partial") => drop(fs::rename(&path, path.with_file_name("capture.pcapng"))),
                Some(name) if name.starts_with('.') && name.ends_with(".tmp") => drop(fs::remove_file(&path)),
                _ => {}
            }
        }
    }

    /// Removes a job with its result and its capture.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn remove(&self, job_id: &str) -> Result<(), RecordError> {
        let path = self.job_dir(job_id);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| RecordError { path, source }),
        }
    }

    /// Removes the oldest captures until those that stay are within `max_bytes`, never one of `in_use`, and says which jobs lost theirs.
    ///
    /// # Errors
    /// When a capture cannot be removed.
    pub fn prune_captures(&self, max_bytes: u64, in_use: &[String]) -> Result<Vec<String>, RecordError> {
        let entries = fs::read_dir(&self.dir).map_err(|source| RecordError { path: self.dir.clone(), source })?;
        let mut captures: Vec<(String, u64)> = entries
            .flatten()
            .filter_map(|entry| {
                let job_id = entry.file_name().into_string().ok()?;
                Some((job_id.clone(), fs::metadata(self.capture_path(&job_id)).ok()?.len()))
            })
            .collect();
        captures.sort();
        let mut removed = Vec::new();
        let mut total: u64 = captures.iter().map(|(_, bytes)| bytes).sum();
        for (job_id, bytes) in captures {
            if total <= max_bytes {
                break;
            }
            if in_use.contains(&job_id) {
                continue;
            }
            let path = self.capture_path(&job_id);
            fs::remove_file(&path).map_err(|source| RecordError { path, source })?;
            total -= bytes;
            removed.push(job_id);
        }
        Ok(removed)
    }
}

/// Whether it is the content that cannot be read: half of it or none is there. A disk that fails or forbids may be better tomorrow.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Writes a file so that a reader, a crash or a full disk sees the old content or the new, never a part: written beside it under
/// another name, synced, renamed.
///
/// # Errors
/// When the disk fails or is full; the former file is then untouched.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), RecordError> {
    replace_file(path, content, true)
}

/// The same; without `sync` the end of the process does no harm, but a power cut may lose the change.
fn replace_file(path: &Path, content: &[u8], sync: bool) -> Result<(), RecordError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(content)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if let Some(dir) = path.parent().filter(|_| sync) {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        RecordError { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{JobKind, UtcTime},
        jobs::{Jobs, Limits},
    };

    fn job(id: &str) -> Job {
        let mut jobs = Jobs::new(Limits::default());
        jobs.submit(id.to_owned(), JobKind::Connectivity, serde_json::json!({"ping": true}), None, UtcTime::from_unix_ns(5))
            .unwrap()
    }

    #[test]
    fn jobs_come_back_as_they_were_written_and_bad_records_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&job("b")).unwrap();
        store.save(&job("a")).unwrap();
        fs::create_dir(store.job_dir("broken")).unwrap();
        fs::write(store.job_dir("broken").join("job.json"), "{\"job_id\": \"bro").unwrap();
        fs::create_dir(store.job_dir("moved")).unwrap();
        fs::copy(store.job_dir("a").join("job.json"), store.job_dir("moved").join("job.json")).unwrap();
        let cut_off = "01890a5d-ac96-774b-bcce-b302099a8057";
        let empty = "01890a5d-ac96-774b-bcce-b302099a8058";
        for (id, json) in [(cut_off, "{\"job_id\": \"01"), (empty, "")] {
            fs::create_dir(store.job_dir(id)).unwrap();
            fs::write(store.job_dir(id).join("job.json"), json).unwrap();
        }
        let found = store.load_all();
        assert_eq!(found.jobs, [job("a"), job("b")]);
        assert_eq!(found.problems.len(), 4, "{:?}", found.problems);
        assert_eq!(found.damaged, [cut_off, empty], "only what bears the name of a job");
    }

    #[test]
    fn a_write_that_fails_leaves_the_former_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        write_atomically(&path, b"old").unwrap();
        assert!(write_atomically(&dir.path().join("no/such/dir.json"), b"new").is_err());
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_capture_that_a_crash_left_is_kept_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.create("a").unwrap();
        fs::write(store.job_dir("a").join("capture.pcapng.partial"), b"packets").unwrap();
        // Also that of a job which counts as ended.
        let mut ended = job("b");
        ended.state = crate::api::JobState::Interrupted;
        store.save(&ended).unwrap();
        fs::write(store.job_dir("b").join("capture.pcapng.partial"), b"more").unwrap();
        fs::write(store.job_dir("b").join(".result.json.17.tmp"), b"{").unwrap();
        crate::jobs::Driver::new(store.clone(), Limits::default(), Default::default(), Box::new(|_| {}));
        assert_eq!(fs::read(store.capture_path("a")).unwrap(), b"packets");
        assert_eq!(fs::read(store.capture_path("b")).unwrap(), b"more");
        assert_eq!(fs::read_dir(store.job_dir("b")).unwrap().count(), 2, "the record and the capture");
    }

    #[test]
    fn the_oldest_captures_go_first_and_never_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for id in ["a", "b", "c", "d"] {
            store.create(id).unwrap();
            fs::write(store.capture_path(id), [0; 100]).unwrap();
        }
        assert_eq!(store.prune_captures(250, &["a".to_owned()]).unwrap(), ["b", "c"]);
        assert!(store.capture_path("a").exists() && store.capture_path("d").exists());
        assert!(store.prune_captures(250, &[]).unwrap().is_empty());
    }
}
