//! The folders of the snapshots. Everything here blocks on the disk.

use crate::api::{Snapshot, SnapshotState};
use serde::Serialize;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is told of each snapshot that is in the archive, with its folder, before anything else of it is removed: so it is told at least
/// once, whenever netdiag is killed.
pub type Handover = Arc<dyn Fn(&str, &Path) + Send + Sync>;

/// Compresses well enough at a speed that a controller does not feel.
const COMPRESSION_LEVEL: i32 = 3;
const PARTIAL: &str = ".pcapng.partial";
const HALF_FILED: &str = ".filing-";
/// Begins the name of the marker for each sink that has a snapshot.
const SHIPPED_TO: &str = "shipped-to-";

/// What cannot be done on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot `{0}`; the list of snapshots names those there are")]
    NotFound(String),
    /// A snapshot's own words cannot be written.
    #[error("what is known of snapshot {0} cannot be put into JSON, or read: {1}")]
    Json(String, String),
}

/// A recording that was not closed: netdiag was killed, or the power went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The snapshot's name.
    pub snapshot_id: String,
    /// Its file.
    pub path: PathBuf,
}

/// The snapshots below one directory.
#[derive(Clone)]
pub struct Store {
    root: PathBuf,
    handover: Handover,
}

impl Store {
    /// Opens the directory, and makes it if need be; what comes into the archive is told to `handover`. What was half filed when netdiag
    /// ended is removed: its recording is still there. So is what was left behind by a move into the archive.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path, handover: Handover) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned(), handover };
        for dir in [store.open_dir(), store.folder(SnapshotState::Temporary), store.folder(SnapshotState::Archived)] {
            fs::create_dir_all(&dir).map_err(io_at(&dir))?;
            for entry in fs::read_dir(&dir).map_err(io_at(&dir))?.flatten() {
                if entry.file_name().to_string_lossy().starts_with(HALF_FILED) {
                    fs::remove_dir_all(entry.path()).map_err(io_at(&entry.path()))?;
                }
            }
        }
        for entry in fs::read_dir(store.folder(SnapshotState::Archived)).into_iter().flatten().flatten() {
            let former = store.folder(SnapshotState::Temporary).join(entry.file_name());
            if former.is_dir() {
                (store.handover)(&entry.file_name().to_string_lossy(), &entry.path());
                fs::remove_dir_all(&former).map_err(io_at(&former))?;
            }
        }
        Ok(store)
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a snapshot is recorded; the capture puts `.partial` behind the name until it is finished.
    pub fn recording(&self, snapshot_id: &str) -> PathBuf {
        self.open_dir().join(format!("{snapshot_id}.pcapng"))
    }

    fn open_dir(&self) -> PathBuf {
        self.root.join("open")
    }

    fn folder(&self, state: SnapshotState) -> PathBuf {
        self.root.join(if state == SnapshotState::Archived { "archive" } else { "clean" })
    }

    /// Files a snapshot in the folder of its state, whole or not at all: the capture (compressed in the archive, unless it may not take
    /// `room_bytes` beside the recording), what it is, what was found, and the context. The recording is removed when all is there.
    ///
    /// # Errors
    /// When something cannot be written; then the recording stays where it is.
    pub fn file(
        &self,
        mut snapshot: Snapshot,
        analysis: &impl Serialize,
        context: Option<&Value>,
        room_bytes: u64,
    ) -> Result<Snapshot, StoreError> {
        let archived = snapshot.state == SnapshotState::Archived;
        let folder = self.folder(snapshot.state);
        let half = folder.join(format!("{HALF_FILED}{}", snapshot.snapshot_id));
        let place = folder.join(&snapshot.snapshot_id);
        if half.exists() {
            fs::remove_dir_all(&half).map_err(io_at(&half))?;
        }
        fs::create_dir(&half).map_err(io_at(&half))?;
        let filed = (|| {
            let recording = snapshot.file.take().map(PathBuf::from);
            if let Some(recording) = &recording {
                let is_small = fs::metadata(recording).map_err(io_at(recording))?.len() <= room_bytes;
                let compressed = archived && is_small;
                let name = if compressed { "capture.pcapng.zst" } else { "capture.pcapng" };
                let copy = half.join(name);
                if compressed { compress(recording, &copy) } else { fs::hard_link(recording, &copy) }.map_err(io_at(&copy))?;
                snapshot.file = Some(place.join(name).display().to_string());
            }
            write_json(&half.join("analysis.json"), &snapshot.snapshot_id, analysis)?;
            if let Some(context) = context {
                write_json(&half.join("context.json"), &snapshot.snapshot_id, context)?;
            }
            if snapshot.pinned {
                let marker = half.join("pinned");
                File::create(&marker).map_err(io_at(&marker))?;
            }
            snapshot.disk_bytes = size_of(&half);
            write_json(&half.join("snapshot.json"), &snapshot.snapshot_id, &snapshot)?;
            sync_dir(&half)?;
            fs::rename(&half, &place).map_err(io_at(&place))?;
            sync_dir(&folder)?;
            if archived {
                (self.handover)(&snapshot.snapshot_id, &place);
            }
            if let Some(recording) = recording {
                fs::remove_file(&recording).map_err(io_at(&recording))?;
            }
            let _ = fs::remove_file(self.reason_file(&snapshot.snapshot_id));
            Ok(())
        })();
        if filed.is_err() {
            let _ = fs::remove_dir_all(&half);
        }
        filed.map(|()| snapshot)
    }

    /// Moves a snapshot that is kept for a while into the archive, with the context: whole or not at all.
    ///
    /// # Errors
    /// When something cannot be read or written; then it stays where it is.
    pub fn archive(&self, snapshot: Snapshot, context: &Value, room_bytes: u64) -> Result<Snapshot, StoreError> {
        let former = self.folder(SnapshotState::Temporary).join(&snapshot.snapshot_id);
        let path = former.join("analysis.json");
        let json = fs::read(&path).map_err(io_at(&path))?;
        let analysis: Value = serde_json::from_slice(&json)
            .map_err(|error| StoreError::Json(snapshot.snapshot_id.clone(), format!("{}: {error}", path.display())))?;
        let archived = self.file(Snapshot { state: SnapshotState::Archived, ..snapshot }, &analysis, Some(context), room_bytes)?;
        fs::remove_dir_all(&former).map_err(io_at(&former))?;
        Ok(archived)
    }

    /// All filed snapshots, oldest first, and what is wrong with those that cannot be read. Those are left alone.
    pub fn list(&self) -> (Vec<Snapshot>, Vec<String>) {
        let (mut snapshots, mut problems) = (Vec::new(), Vec::new());
        for state in [SnapshotState::Temporary, SnapshotState::Archived] {
            let folder = self.folder(state);
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    problems.push(format!("{}: {error}", folder.display()));
                    continue;
                }
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = entry.path().join("snapshot.json");
                let read = fs::read(&path).map_err(|error| error.to_string());
                let read = read.and_then(|json| serde_json::from_slice::<Snapshot>(&json).map_err(|error| error.to_string()));
                match read {
                    Ok(snapshot) if snapshot.snapshot_id == name => {
                        let pinned = entry.path().join("pinned").exists();
                        let shipped_to = shipped_to(&entry.path());
                        snapshots.push(Snapshot { state, pinned, shipped_to, ..snapshot });
                    }
                    Ok(snapshot) => problems.push(format!("{} says that it is {}", path.display(), snapshot.snapshot_id)),
                    Err(error) => problems.push(format!("{}: {error}", path.display())),
                }
            }
        }
        snapshots.sort_by(|a, b| a.snapshot_id.cmp(&b.snapshot_id));
        (snapshots, problems)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when it cannot be removed.
    pub fn remove(&self, snapshot_id: &str) -> Result<(), StoreError> {
        let place = self.place(snapshot_id)?;
        // First out of sight: a folder that is half removed must not be taken for a snapshot.
        let gone = place.with_file_name(format!("{HALF_FILED}{snapshot_id}"));
        fs::rename(&place, &gone).map_err(io_at(&place))?;
        fs::remove_dir_all(&gone).map_err(io_at(&gone))
    }

    /// Pins a snapshot, so that it stays whatever happens, or lets it go.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when it cannot be written.
    pub fn set_pinned(&self, snapshot_id: &str, pinned: bool) -> Result<(), StoreError> {
        let place = self.place(snapshot_id)?;
        let marker = place.join("pinned");
        match pinned {
            true => File::create(&marker).and_then(|file| file.sync_all()).map_err(io_at(&marker)),
            false if marker.exists() => fs::remove_file(&marker).map_err(io_at(&marker)),
            false => Ok(()),
        }?;
        sync_dir(&place)
    }

    /// Tells anew of a snapshot in the archive that it is there: netdiag was killed when it had just been filed.
    pub fn hand_over(&self, snapshot_id: &str) {
        let place = self.folder(SnapshotState::Archived).join(snapshot_id);
        if place.is_dir() {
            (self.handover)(snapshot_id, &place);
        }
    }

    /// Writes down that a sink has a snapshot of the archive.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when it cannot be written.
    pub fn set_shipped(&self, snapshot_id: &str, sink: &str) -> Result<(), StoreError> {
        // Never in the place that it had before it was archived.
        let place = self.folder(SnapshotState::Archived).join(self.place(snapshot_id)?.file_name().unwrap_or_default());
        let path = place.join(format!("{SHIPPED_TO}{sink}"));
        File::create(&path).map(drop).map_err(io_at(&path))
    }

    /// Writes down why a snapshot that is being recorded was triggered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_reason(&self, snapshot_id: &str, reason: &str) -> Result<(), StoreError> {
        let path = self.reason_file(snapshot_id);
        fs::write(&path, reason).map_err(io_at(&path))
    }

    /// Why a snapshot that was not closed had been triggered.
    pub fn reason(&self, snapshot_id: &str) -> Option<String> {
        fs::read_to_string(self.reason_file(snapshot_id)).ok()
    }

    fn reason_file(&self, snapshot_id: &str) -> PathBuf {
        self.open_dir().join(format!("{snapshot_id}.reason"))
    }

    /// The recordings that nobody closed.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let entries = fs::read_dir(self.open_dir()).into_iter().flatten().flatten();
        let mut leftovers: Vec<Leftover> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let snapshot_id = name.strip_suffix(PARTIAL).or_else(|| name.strip_suffix(".pcapng"))?;
                Some(Leftover { snapshot_id: snapshot_id.to_owned(), path: entry.path() })
            })
            .collect();
        leftovers.sort_by(|a, b| a.snapshot_id.cmp(&b.snapshot_id));
        leftovers
    }

    /// The folder of a filed snapshot. An id that is no single name leads nowhere.
    fn place(&self, snapshot_id: &str) -> Result<PathBuf, StoreError> {
        let is_name = !snapshot_id.is_empty()
            && !snapshot_id.starts_with('.')
            && snapshot_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        [SnapshotState::Temporary, SnapshotState::Archived]
            .into_iter()
            .map(|state| self.folder(state).join(snapshot_id))
            .find(|place| is_name && place.is_dir())
            .ok_or_else(|| StoreError::NotFound(snapshot_id.to_owned()))
    }
}

/// The sinks that have a snapshot, as its folder says.
fn shipped_to(place: &Path) -> Vec<String> {
    let names = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut sinks: Vec<String> = names.filter_map(|name| name.to_str()?.strip_prefix(SHIPPED_TO).map(str::to_owned)).collect();
    sinks.sort();
    sinks
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| StoreError::Io { path: path.to_owned(), source }
}

fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(File::create_new(to)?, COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    io::copy(&mut File::open(from)?, &mut encoder)?;
    encoder.finish()?.sync_all()
}

fn write_json(path: &Path, snapshot_id: &str, value: &impl Serialize) -> Result<(), StoreError> {
    let file = File::create_new(path).map_err(io_at(path))?;
    let mut file = BufWriter::new(file);
    serde_json::to_writer(&mut file, value).map_err(|error| StoreError::Json(snapshot_id.to_owned(), error.to_string()))?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(io_at(path))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}

fn size_of(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AnalysisVerdict, UtcTime};

    fn to_nobody() -> Handover {
        Arc::new(|_, _| {})
    }

    fn report() -> Value {
        serde_json::json!({"verdict": "clean"})
    }

    fn snapshot(store: &Store, id: &str, state: SnapshotState) -> Snapshot {
        let recording = store.recording(id);
        fs::write(&recording, vec![7; 100_000]).unwrap();
        Snapshot {
            snapshot_id: id.into(),
            state,
            opened_at: UtcTime::from_unix_ns(0),
            closed_at: Some(UtcTime::from_unix_ns(1)),
            verdict: Some(AnalysisVerdict::Clean),
            text: String::new(),
            trigger: None,
            neighbour_of: None,
            file: Some(recording.display().to_string()),
            disk_bytes: 0,
            packets: 3,
            kernel_dropped: 0,
            interfaces: Vec::new(),
            findings: Vec::new(),
            problem: None,
            pinned: false,
            shipped_to: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_is_filed_whole_and_its_recording_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let clean = store.file(snapshot(&store, "a", SnapshotState::Temporary), &report(), None, u64::MAX).unwrap();
        let context = serde_json::json!({"neighbours": []});
        let kept = store.file(snapshot(&store, "b", SnapshotState::Archived), &report(), Some(&context), u64::MAX).unwrap();
        assert!(store.leftovers().is_empty());
        assert_eq!(fs::read(clean.file.as_ref().unwrap()).unwrap(), vec![7; 100_000]);
        let unpacked = zstd::decode_all(File::open(kept.file.as_ref().unwrap()).unwrap()).unwrap();
        assert_eq!(unpacked, vec![7; 100_000]);
        assert!(kept.disk_bytes < 10_000 && clean.disk_bytes > 100_000);
        assert!(dir.path().join("archive/b/context.json").is_file());
        let (listed, problems) = store.list();
        assert_eq!((listed, problems), (vec![clean, kept], Vec::new()));
    }

    #[test]
    fn one_that_was_kept_for_a_while_is_archived_whole_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let clean = store.file(snapshot(&store, "a", SnapshotState::Temporary), &report(), None, u64::MAX).unwrap();
        store.set_pinned("a", true).unwrap();
        let former = dir.path().join("clean/a");
        let left_behind: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&former)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        let context = serde_json::json!({"topology": {}});
        let archived =
            store.archive(Snapshot { pinned: true, neighbour_of: Some("b".into()), ..clean }, &context, u64::MAX).unwrap();
        let unpacked = zstd::decode_all(File::open(archived.file.as_ref().unwrap()).unwrap()).unwrap();
        assert_eq!(unpacked, vec![7; 100_000]);
        assert!(!former.exists() && dir.path().join("archive/a/context.json").is_file());
        // The power went before the former place was cleared away.
        fs::create_dir(&former).unwrap();
        left_behind.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let (listed, problems) = Store::open(dir.path(), to_nobody()).unwrap().list();
        assert_eq!((listed, problems), (vec![archived], Vec::new()));
        assert!(!former.exists());
    }

    #[test]
    fn what_comes_into_the_archive_is_handed_over_at_least_once() {
        let dir = tempfile::tempdir().unwrap();
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        let handover: Handover = Arc::new(move |id: &str, place: &Path| {
            assert!(place.join("snapshot.json").is_file());
            seen.lock().unwrap().push(id.to_owned());
        });
        let store = Store::open(dir.path(), Arc::clone(&handover)).unwrap();
        let clean = store.file(snapshot(&store, "a", SnapshotState::Temporary), &report(), None, u64::MAX).unwrap();
        store.file(snapshot(&store, "b", SnapshotState::Archived), &report(), None, u64::MAX).unwrap();
        assert_eq!(*told.lock().unwrap(), ["b"]);
        store.archive(clean, &report(), u64::MAX).unwrap();
        store.hand_over("a");
        store.hand_over("never");
        fs::create_dir(dir.path().join("clean/b")).unwrap();
        let store = Store::open(dir.path(), handover).unwrap();
        assert_eq!(*told.lock().unwrap(), ["b", "a", "a", "b"]);
        for sink in ["x", "y", "x"] {
            store.set_shipped("b", sink).unwrap();
        }
        let shipped = |id: &str| store.list().0.into_iter().find(|one| one.snapshot_id == id).unwrap().shipped_to;
        assert_eq!((shipped("b"), shipped("a")), (vec!["x".to_owned(), "y".to_owned()], Vec::new()));
    }

    #[test]
    fn pins_survive_and_ids_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("monitor"), to_nobody()).unwrap();
        store.file(snapshot(&store, "a", SnapshotState::Archived), &report(), None, u64::MAX).unwrap();
        store.set_pinned("a", true).unwrap();
        assert!(Store::open(store.root(), to_nobody()).unwrap().list().0[0].pinned);
        store.set_pinned("a", false).unwrap();
        assert!(!store.list().0[0].pinned);
        for id in ["", ".", "..", "../monitor/archive/a", "a/../a", "b", "a\0"] {
            assert!(matches!(store.remove(id), Err(StoreError::NotFound(_))), "{id}");
        }
        store.remove("a").unwrap();
        assert!(store.list().0.is_empty());
    }

    #[test]
    fn without_room_it_is_archived_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        store.set_reason("a", "because").unwrap();
        assert_eq!(store.reason("a").as_deref(), Some("because"));
        let kept = store.file(snapshot(&store, "a", SnapshotState::Archived), &report(), None, 99_999).unwrap();
        assert_eq!(fs::read(kept.file.unwrap()).unwrap(), vec![7; 100_000]);
        assert_eq!((store.reason("a"), store.leftovers()), (None, Vec::new()));
    }

    #[test]
    fn what_is_damaged_is_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        fs::create_dir(dir.path().join("archive/foreign")).unwrap();
        fs::write(dir.path().join("archive/foreign/notes.txt"), "mine").unwrap();
        fs::create_dir_all(dir.path().join("archive/.filing-x")).unwrap();
        fs::write(dir.path().join("open/y.pcapng.partial"), "").unwrap();
        let store = Store::open(store.root(), to_nobody()).unwrap();
        let (listed, problems) = store.list();
        assert!(listed.is_empty() && problems.len() == 1 && problems[0].contains("foreign"), "{problems:?}");
        assert!(dir.path().join("archive/foreign/notes.txt").exists());
        assert_eq!(store.leftovers()[0].snapshot_id, "y");
    }

    #[test]
    fn a_recording_that_cannot_be_filed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let filed = snapshot(&store, "a", SnapshotState::Temporary);
        fs::remove_dir_all(dir.path().join("clean")).unwrap();
        fs::write(dir.path().join("clean"), "a file where a folder should be").unwrap();
        let error = store.file(filed, &report(), None, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("clean"), "{error}");
        assert_eq!(store.leftovers().len(), 1);
    }
}
