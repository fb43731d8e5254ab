//! The folders of the snapshots. Everything here blocks on the disk.

use super::writing::{Room, compress, create, link_or_copy, on_disk, remove_all, size_of, sync_dir, write};
use crate::api::{Snapshot, SnapshotState};
use serde::Serialize;
use serde_json::Value;
use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is told of each snapshot that is in the archive, with its folder, before anything else of it is removed: so it is told at least
/// once, whenever netdiag is killed.
pub type Handover = Arc<dyn Fn(&str, &Path) + Send + Sync>;

const PARTIAL: &str = ".pcapng.partial";
const HALF_FILED: &str = ".filing-";
/// Begins the name of the marker for each sink that has a snapshot.
const SHIPPED_TO: &str = "shipped-to-";
/// What is noted beside a recording until it is filed: why it was triggered, and that it is pinned.
const NOTES: [&str; 2] = [REASON, PINNED];
const REASON: &str = ".reason";
const PINNED: &str = ".pinned";

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

impl StoreError {
    /// Whether there was too little room on the disk; it may be tried again when there is some.
    pub fn is_lack_of_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
    }
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
                    remove_all(&entry.path()).map_err(io_at(&entry.path()))?;
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
        store.remove_stray_notes()?;
        Ok(store)
    }

    /// Notes whose recording is gone.
    fn remove_stray_notes(&self) -> Result<(), StoreError> {
        let recordings: Vec<String> = self.leftovers()?.into_iter().map(|leftover| leftover.snapshot_id).collect();
        for entry in fs::read_dir(self.open_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let noted = NOTES.iter().find_map(|note| name.strip_suffix(note));
            if noted.is_some_and(|snapshot_id| !recordings.iter().any(|recording| recording == snapshot_id)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
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

    /// Files a snapshot in the folder of its state, whole or not at all: the capture (compressed in the archive, as far as there is `room`
    /// beside the recording), what it is, what was found, and the context. The recording is removed when all is there. One that has been
    /// filed before is only cleared away.
    ///
    /// # Errors
    /// When something cannot be written; then the recording stays where it is.
    pub fn file(
        &self,
        snapshot: Snapshot,
        analysis: &impl Serialize,
        context: Option<&Value>,
        mut room: Room<'_>,
    ) -> Result<Snapshot, StoreError> {
        let state = snapshot.state;
        let (folder, snapshot_id) = (self.folder(state), snapshot.snapshot_id.clone());
        let (half, place) = (folder.join(format!("{HALF_FILED}{snapshot_id}")), folder.join(&snapshot_id));
        let recording = snapshot.file.clone().map(PathBuf::from);
        let filed = match self.read(state, &snapshot_id) {
            Ok(filed) => filed,
            Err(_) => {
                if half.exists() {
                    remove_all(&half).map_err(io_at(&half))?;
                }
                let filed = self.fill(&half, &place, snapshot, analysis, context, &mut room);
                let filed = filed.and_then(|filed| fs::rename(&half, &place).map_err(io_at(&place)).map(|()| filed));
                if filed.is_err() {
                    let _ = fs::remove_dir_all(&half);
                }
                filed?
            }
        };
        // It is filed; what goes wrong now is not worth doing all of it again.
        if let Err(error) = sync_dir(&folder) {
            tracing::warn!(snapshot_id, %error, "should the power go now, a snapshot is filed once more");
        }
        if state == SnapshotState::Archived {
            (self.handover)(&snapshot_id, &place);
        }
        if let Some(recording) = recording
            && let Err(error) = fs::remove_file(&recording)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %recording.display(), %error, "a recording that is filed cannot be removed");
        }
        self.remove_notes(&snapshot_id);
        Ok(filed)
    }

    /// Writes all that a snapshot is into a folder of its own.
    fn fill(
        &self,
        half: &Path,
        place: &Path,
        mut snapshot: Snapshot,
        analysis: &impl Serialize,
        context: Option<&Value>,
        room: &mut Room<'_>,
    ) -> Result<Snapshot, StoreError> {
        fs::create_dir(half).map_err(io_at(half))?;
        if let Some(recording) = snapshot.file.take().map(PathBuf::from) {
            let name = put_capture(&recording, half, snapshot.state == SnapshotState::Archived, room)?;
            snapshot.file = Some(place.join(name).display().to_string());
        }
        write_json(&half.join("analysis.json"), &to_json(&snapshot, analysis)?, room)?;
        if let Some(context) = context {
            write_json(&half.join("context.json"), &to_json(&snapshot, context)?, room)?;
        }
        if snapshot.pinned {
            let marker = half.join("pinned");
            create(&marker).map_err(io_at(&marker))?;
        }
        // With the file that says so, whose own length the number hardly changes.
        let own = to_json(&snapshot, &snapshot)?.len() as u64 + 20;
        snapshot.disk_bytes = size_of(half).saturating_add(on_disk(own));
        write_json(&half.join("snapshot.json"), &to_json(&snapshot, &snapshot)?, room)?;
        sync_dir(half).map_err(io_at(half))?;
        Ok(snapshot)
    }

    /// Moves a snapshot that is kept for a while into the archive, with the context: whole or not at all.
    ///
    /// # Errors
    /// When something cannot be read or written; then it stays where it is.
    pub fn archive(&self, snapshot: Snapshot, context: &Value, room: Room<'_>) -> Result<Snapshot, StoreError> {
        let former = self.folder(SnapshotState::Temporary).join(&snapshot.snapshot_id);
        let path = former.join("analysis.json");
        let json = fs::read(&path).map_err(io_at(&path))?;
        let analysis: Value = serde_json::from_slice(&json)
            .map_err(|error| StoreError::Json(snapshot.snapshot_id.clone(), format!("{}: {error}", path.display())))?;
        let archived = self.file(Snapshot { state: SnapshotState::Archived, ..snapshot }, &analysis, Some(context), room)?;
        fs::remove_dir_all(&former).map_err(io_at(&former))?;
        Ok(archived)
    }

    /// The names of all filed snapshots, oldest first, and the folders that cannot be read.
    pub fn names(&self) -> (Vec<(SnapshotState, String)>, Vec<String>) {
        let (mut names, mut problems) = (Vec::new(), Vec::new());
        for state in [SnapshotState::Temporary, SnapshotState::Archived] {
            let folder = self.folder(state);
            match fs::read_dir(&folder) {
                Ok(entries) => {
                    let all = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
                    names.extend(all.filter(|name| !name.starts_with(HALF_FILED)).map(|name| (state, name)));
                }
                Err(error) => problems.push(format!("{}: {error}", folder.display())),
            }
        }
        names.sort_by(|(_, a), (_, b)| a.cmp(b));
        (names, problems)
    }

    /// A filed snapshot with all its findings.
    ///
    /// # Errors
    /// A sentence with the path, when it cannot be read. It is left alone.
    pub fn read(&self, state: SnapshotState, snapshot_id: &str) -> Result<Snapshot, String> {
        let place = self.folder(state).join(snapshot_id);
        let path = place.join("snapshot.json");
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let json = fs::read(&path).map_err(|error| told(&error))?;
        let snapshot: Snapshot = serde_json::from_slice(&json).map_err(|error| told(&error))?;
        if snapshot.snapshot_id != snapshot_id {
            return Err(format!("{} says that it is {}", path.display(), snapshot.snapshot_id));
        }
        let (pinned, shipped_to) = (place.join("pinned").exists(), shipped_to(&place));
        Ok(Snapshot { state, pinned, shipped_to, ..snapshot })
    }

    /// A filed snapshot with all its findings, wherever it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when it cannot be read.
    pub fn get(&self, snapshot_id: &str) -> Result<Snapshot, StoreError> {
        let place = self.place(snapshot_id)?;
        let archived = place.parent().is_some_and(|folder| *folder == self.folder(SnapshotState::Archived));
        let state = if archived { SnapshotState::Archived } else { SnapshotState::Temporary };
        self.read(state, snapshot_id).map_err(|error| StoreError::Json(snapshot_id.to_owned(), error))
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

    /// Pins a snapshot, so that it stays whatever happens, or lets it go. One that is being recorded is pinned as it is filed, also when
    /// netdiag is killed before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or when it cannot be written.
    pub fn set_pinned(&self, snapshot_id: &str, pinned: bool) -> Result<(), StoreError> {
        let (place, marker) = match self.place(snapshot_id) {
            Ok(place) => (place.clone(), place.join("pinned")),
            Err(not_filed) => {
                let is_open = self.leftovers()?.iter().any(|leftover| leftover.snapshot_id == snapshot_id);
                if !is_open {
                    return Err(not_filed);
                }
                (self.open_dir(), self.note(snapshot_id, PINNED))
            }
        };
        match pinned {
            true => create(&marker).and_then(|file| file.sync_all()).map_err(io_at(&marker)),
            false if marker.exists() => fs::remove_file(&marker).map_err(io_at(&marker)),
            false => Ok(()),
        }?;
        sync_dir(&place).map_err(io_at(&place))
    }

    /// Whether a snapshot that was not closed had been pinned.
    pub fn is_open_pinned(&self, snapshot_id: &str) -> bool {
        self.note(snapshot_id, PINNED).exists()
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
        create(&path).map(drop).map_err(io_at(&path))
    }

    /// Writes down why a snapshot that is being recorded was triggered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_reason(&self, snapshot_id: &str, reason: &str) -> Result<(), StoreError> {
        let path = self.note(snapshot_id, REASON);
        let write = |mut file: fs::File| file.write_all(reason.as_bytes()).and_then(|()| file.sync_all());
        create(&path).and_then(write).map_err(io_at(&path))?;
        sync_dir(&self.open_dir()).map_err(io_at(&self.open_dir()))
    }

    /// Why a snapshot that was not closed had been triggered, if that is known: a disk that lost power may have the file and not its bytes.
    pub fn reason(&self, snapshot_id: &str) -> Option<String> {
        fs::read_to_string(self.note(snapshot_id, REASON)).ok().filter(|reason| !reason.is_empty())
    }

    fn note(&self, snapshot_id: &str, what: &str) -> PathBuf {
        self.open_dir().join(format!("{snapshot_id}{what}"))
    }

    /// Forgets what was noted beside a recording.
    pub fn remove_notes(&self, snapshot_id: &str) {
        for what in NOTES {
            let _ = fs::remove_file(self.note(snapshot_id, what));
        }
    }

    /// Removes the recording of a snapshot that is not filed, with what was noted beside it.
    ///
    /// # Errors
    /// When it cannot be looked for, or be removed.
    pub fn remove_recording(&self, snapshot_id: &str) -> Result<(), StoreError> {
        for leftover in self.leftovers()?.into_iter().filter(|leftover| leftover.snapshot_id == snapshot_id) {
            fs::remove_file(&leftover.path).map_err(io_at(&leftover.path))?;
        }
        self.remove_notes(snapshot_id);
        Ok(())
    }

    /// The recordings that nobody closed: all of them, for what is not among them is taken for lost.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, StoreError> {
        let dir = self.open_dir();
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io_at(&dir))? {
            let entry = entry.map_err(io_at(&dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(snapshot_id) = name.strip_suffix(PARTIAL).or_else(|| name.strip_suffix(".pcapng")) {
                leftovers.push(Leftover { snapshot_id: snapshot_id.to_owned(), path: entry.path() });
            }
        }
        leftovers.sort_by(|a, b| a.snapshot_id.cmp(&b.snapshot_id));
        Ok(leftovers)
    }

    /// The folder of a filed snapshot. An id that is no single name leads nowhere.
    fn place(&self, snapshot_id: &str) -> Result<PathBuf, StoreError> {
        let is_name = !snapshot_id.is_empty()
            && !snapshot_id.starts_with('.')
            && snapshot_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        [SnapshotState::Archived, SnapshotState::Temporary]
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

/// Puts the capture into the folder of its snapshot and gives the name it has there.
fn put_capture(recording: &Path, half: &Path, archived: bool, room: &mut Room<'_>) -> Result<&'static str, StoreError> {
    if archived {
        let name = "capture.pcapng.zst";
        let copy = half.join(name);
        match compress(recording, &copy, room) {
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            compressed => return compressed.map_err(io_at(&copy)).map(|()| name),
        }
    }
    let name = "capture.pcapng";
    let copy = half.join(name);
    link_or_copy(recording, &copy, room).map_err(io_at(&copy)).map(|()| name)
}

fn to_json(snapshot: &Snapshot, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Json(snapshot.snapshot_id.clone(), error.to_string()))
}

fn write_json(path: &Path, json: &[u8], room: &mut Room<'_>) -> Result<(), StoreError> {
    write(path, json, room).map_err(io_at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AnalysisVerdict, UtcTime};
    use std::fs::File;

    fn to_nobody() -> Handover {
        Arc::new(|_, _| {})
    }

    fn report() -> Value {
        serde_json::json!({"verdict": "clean"})
    }

    fn all_room() -> impl FnMut() -> u64 {
        || u64::MAX
    }

    /// All filed snapshots, oldest first, and what is wrong with the others.
    fn list(store: &Store) -> (Vec<Snapshot>, Vec<String>) {
        let (names, mut problems) = store.names();
        let mut read = Vec::new();
        for (state, name) in names {
            match store.read(state, &name) {
                Ok(snapshot) => read.push(snapshot),
                Err(problem) => problems.push(problem),
            }
        }
        (read, problems)
    }

    fn snapshot(store: &Store, id: &str, state: SnapshotState) -> Snapshot {
        let recording = store.recording(id);
        fs::write(&recording, vec![7; 100_000]).unwrap();
        Snapshot {
            state,
            closed_at: Some(UtcTime::from_unix_ns(1)),
            verdict: Some(AnalysisVerdict::Clean),
            file: Some(recording.display().to_string()),
            packets: 3,
            ..Snapshot::opened(id.into(), UtcTime::from_unix_ns(0))
        }
    }

    #[test]
    fn a_snapshot_is_filed_whole_and_its_recording_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let clean = store.file(snapshot(&store, "a", SnapshotState::Temporary), &report(), None, &mut all_room()).unwrap();
        let context = serde_json::json!({"neighbours": []});
        let kept = store.file(snapshot(&store, "b", SnapshotState::Archived), &report(), Some(&context), &mut all_room()).unwrap();
        assert!(store.leftovers().unwrap().is_empty());
        assert_eq!(fs::read(clean.file.as_ref().unwrap()).unwrap(), vec![7; 100_000]);
        let unpacked = zstd::decode_all(File::open(kept.file.as_ref().unwrap()).unwrap()).unwrap();
        assert_eq!(unpacked, vec![7; 100_000]);
        assert!(kept.disk_bytes < 30_000 && clean.disk_bytes > 100_000);
        assert!(dir.path().join("archive/b/context.json").is_file());
        let (listed, problems) = list(&store);
        assert_eq!((listed, problems), (vec![clean, kept], Vec::new()));
    }

    #[test]
    fn one_that_was_kept_for_a_while_is_archived_whole_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let clean = store.file(snapshot(&store, "a", SnapshotState::Temporary), &report(), None, &mut all_room()).unwrap();
        store.set_pinned("a", true).unwrap();
        let former = dir.path().join("clean/a");
        let left_behind: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&former)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        let context = serde_json::json!({"topology": {}});
        let archived =
            store.archive(Snapshot { pinned: true, neighbour_of: Some("b".into()), ..clean }, &context, &mut all_room()).unwrap();
        let unpacked = zstd::decode_all(File::open(archived.file.as_ref().unwrap()).unwrap()).unwrap();
        assert_eq!(unpacked, vec![7; 100_000]);
        assert!(!former.exists() && dir.path().join("archive/a/context.json").is_file());
        // The power went before the former place was cleared away.
        fs::create_dir(&former).unwrap();
        left_behind.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let (listed, problems) = list(&Store::open(dir.path(), to_nobody()).unwrap());
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
        let clean = store.file(snapshot(&store, "a", SnapshotState::Temporary), &report(), None, &mut all_room()).unwrap();
        store.file(snapshot(&store, "b", SnapshotState::Archived), &report(), None, &mut all_room()).unwrap();
        assert_eq!(*told.lock().unwrap(), ["b"]);
        store.archive(clean, &report(), &mut all_room()).unwrap();
        store.hand_over("a");
        store.hand_over("never");
        fs::create_dir(dir.path().join("clean/b")).unwrap();
        let store = Store::open(dir.path(), handover).unwrap();
        assert_eq!(*told.lock().unwrap(), ["b", "a", "a", "b"]);
        for sink in ["x", "y", "x"] {
            store.set_shipped("b", sink).unwrap();
        }
        let shipped = |id: &str| list(&store).0.into_iter().find(|one| one.snapshot_id == id).unwrap().shipped_to;
        assert_eq!((shipped("b"), shipped("a")), (vec!["x".to_owned(), "y".to_owned()], Vec::new()));
    }

    #[test]
    fn pins_survive_and_ids_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("monitor"), to_nobody()).unwrap();
        store.file(snapshot(&store, "a", SnapshotState::Archived), &report(), None, &mut all_room()).unwrap();
        store.set_pinned("a", true).unwrap();
        assert!(list(&Store::open(store.root(), to_nobody()).unwrap()).0[0].pinned);
        store.set_pinned("a", false).unwrap();
        assert!(!list(&store).0[0].pinned);
        for id in ["", ".", "..", "../monitor/archive/a", "a/../a", "b", "a\0"] {
            assert!(matches!(store.remove(id), Err(StoreError::NotFound(_))), "{id}");
        }
        store.remove("a").unwrap();
        assert!(list(&store).0.is_empty());
    }

    #[test]
    fn without_room_it_is_archived_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        store.set_reason("a", "because").unwrap();
        assert_eq!(store.reason("a").as_deref(), Some("because"));
        store.set_reason("cut", "").unwrap();
        assert_eq!(store.reason("cut"), None);
        let recorded = snapshot(&store, "a", SnapshotState::Archived);
        // The room has gone just when it is being compressed.
        let mut looks = 0;
        let mut room = || {
            looks += 1;
            if looks == 1 { 0 } else { 50_000 }
        };
        let kept = store.file(recorded, &report(), None, &mut room).unwrap();
        assert_eq!(fs::read(kept.file.unwrap()).unwrap(), vec![7; 100_000]);
        assert_eq!((store.reason("a"), store.leftovers().unwrap()), (None, Vec::new()));
        // Not even for what is said of it: it waits where it was recorded.
        let error = store.file(snapshot(&store, "b", SnapshotState::Temporary), &report(), None, &mut || 10).unwrap_err();
        assert!(error.is_lack_of_room(), "{error}");
        assert_eq!((store.leftovers().unwrap().len(), list(&store).0.len()), (1, 1));
        assert!(!dir.path().join("clean/.filing-b").exists());
    }

    #[test]
    fn what_was_filed_already_is_only_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let filed = store.file(snapshot(&store, "a", SnapshotState::Archived), &report(), None, &mut all_room()).unwrap();
        // The power went, or the disk failed, when it had its name and its recording was not removed yet.
        let again = snapshot(&store, "a", SnapshotState::Archived);
        store.set_reason("a", "because").unwrap();
        assert_eq!(store.file(again, &report(), None, &mut || 0).unwrap(), filed);
        assert_eq!((store.leftovers().unwrap(), store.reason("a")), (Vec::new(), None));
        assert_eq!(store.get("a").unwrap(), filed);
        assert!(matches!(store.get("b"), Err(StoreError::NotFound(_))));
    }

    #[test]
    fn a_pin_of_what_is_being_recorded_outlives_a_kill_and_stray_notes_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let recorded = snapshot(&store, "a", SnapshotState::Temporary);
        store.set_pinned("a", true).unwrap();
        store.set_reason("gone", "because").unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        assert!(store.is_open_pinned("a") && store.reason("gone").is_none());
        assert!(matches!(store.set_pinned("gone", true), Err(StoreError::NotFound(_))));
        store.set_pinned("a", false).unwrap();
        assert!(!store.is_open_pinned("a"));
        store.set_pinned("a", true).unwrap();
        store.file(Snapshot { pinned: true, ..recorded }, &report(), None, &mut all_room()).unwrap();
        assert!(store.get("a").unwrap().pinned && !store.is_open_pinned("a"));
    }

    #[test]
    fn a_file_that_is_called_like_a_half_filed_snapshot_keeps_nothing_from_opening() {
        let dir = tempfile::tempdir().unwrap();
        Store::open(dir.path(), to_nobody()).unwrap();
        let stray = dir.path().join("archive").join(format!("{HALF_FILED}a"));
        fs::write(&stray, "x").unwrap();
        Store::open(dir.path(), to_nobody()).unwrap();
        assert!(!stray.exists());
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
        let (listed, problems) = list(&store);
        assert!(listed.is_empty() && problems.len() == 1 && problems[0].contains("foreign"), "{problems:?}");
        assert!(dir.path().join("archive/foreign/notes.txt").exists());
        assert_eq!(store.leftovers().unwrap()[0].snapshot_id, "y");
    }

    #[test]
    fn recordings_that_cannot_be_looked_for_are_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        fs::remove_dir(dir.path().join("open")).unwrap();
        fs::write(dir.path().join("open"), "a file where a folder should be").unwrap();
        let told = store.leftovers().unwrap_err().to_string();
        assert!(told.contains("open: "), "{told}");
    }

    #[test]
    fn a_recording_that_cannot_be_filed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), to_nobody()).unwrap();
        let filed = snapshot(&store, "a", SnapshotState::Temporary);
        fs::remove_dir_all(dir.path().join("clean")).unwrap();
        fs::write(dir.path().join("clean"), "a file where a folder should be").unwrap();
        let error = store.file(filed, &report(), None, &mut all_room()).unwrap_err().to_string();
        assert!(error.contains("clean"), "{error}");
        assert_eq!(store.leftovers().unwrap().len(), 1);
    }
}
