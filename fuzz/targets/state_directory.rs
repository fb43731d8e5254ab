//! Any bytes as what netdiag finds in its state directory at its start: jobs, their results, snapshots, notes. Whatever lies there, it
//! starts, and takes nothing for whole that is not.
//!
//! The first byte chooses the file.

use netdiag::{
    api::{Snapshot, SnapshotState, UtcTime},
    archive::{self, historian::Outbox},
    jobs::{self, Jobs, Limits},
};
use std::{fs, path::Path, sync::Arc};

const JOB: &str = "0193f1a0-0000-7000-8000-000000000001";
const SNAPSHOT: &str = "20261123T114500.000Z";

pub fn run(bytes: &[u8]) {
    let Some((choice, content)) = bytes.split_first() else { return };
    let state = tempfile::tempdir().unwrap();
    match choice % 4 {
        0 => jobs(state.path(), content),
        1 => snapshot(state.path(), content),
        2 => analysis(state.path(), content),
        _ => names(state.path(), content),
    }
}

fn jobs(state_dir: &Path, content: &[u8]) {
    let store = jobs::Store::open(state_dir).unwrap();
    fs::write(store.create(JOB).unwrap().join("job.json"), content).unwrap();
    store.tidy();
    let found = store.load_all();
    assert_eq!(found.jobs.len() + found.problems.len(), 1);
    for job in found.jobs {
        assert_eq!(job.job_id, JOB);
        let mut all = Jobs::new(Limits::default());
        all.restore([job], UtcTime::from_unix_ns(0));
        // Nothing goes on over a restart.
        let job = all.get(JOB).unwrap();
        assert!(job.state.is_final(), "{:?}", job.state);
        store.save(job).unwrap();
        assert_eq!(store.load_all().jobs.len(), 1);
    }
    assert!(store.load_result(JOB).unwrap().is_none());
}

fn open(root: &Path) -> archive::Store {
    archive::Store::open(root, Arc::new(|_, _| {})).unwrap()
}

fn snapshot(root: &Path, content: &[u8]) {
    let store = open(root);
    let place = root.join("archive").join(SNAPSHOT);
    fs::create_dir(&place).unwrap();
    fs::write(place.join("snapshot.json"), content).unwrap();
    let (names, problems) = store.names();
    assert_eq!((names.as_slice(), problems.as_slice()), (&[(SnapshotState::Archived, SNAPSHOT.to_owned())][..], &[][..]));
    let read = store.read(SnapshotState::Archived, SNAPSHOT);
    assert_eq!(store.get(SNAPSHOT).is_ok(), read.is_ok());
    match read {
        Ok(snapshot) => {
            assert_eq!((snapshot.snapshot_id.as_str(), snapshot.state), (SNAPSHOT, SnapshotState::Archived));
            assert!(serde_json::to_vec(&snapshot).is_ok());
        }
        Err(problem) => assert!(problem.contains("snapshot.json"), "{problem}"),
    }
    store.set_pinned(SNAPSHOT, true).unwrap();
    store.remove(SNAPSHOT).unwrap();
    assert!(store.names().0.is_empty());
}

/// What was found in a snapshot that goes into the archive.
fn analysis(root: &Path, content: &[u8]) {
    let store = open(root);
    let place = root.join("clean").join(SNAPSHOT);
    fs::create_dir(&place).unwrap();
    fs::write(place.join("analysis.json"), content).unwrap();
    match store.archive(recorded(), &serde_json::Value::Null, &mut || u64::MAX) {
        Ok(archived) => assert_eq!((archived.state, place.exists()), (SnapshotState::Archived, false)),
        Err(error) => assert!(error.to_string().contains("analysis.json") && place.exists(), "{error}"),
    }
}

/// A snapshot without a capture.
fn recorded() -> Snapshot {
    Snapshot { state: SnapshotState::Temporary, ..Snapshot::opened(SNAPSHOT.to_owned(), UtcTime::from_unix_ns(0)) }
}

/// Names that anybody may have given to files and folders.
fn names(root: &Path, content: &[u8]) {
    let store = open(root);
    let outbox = Outbox::new(root.join("outbox/spool"));
    outbox.clean().unwrap();
    let text = String::from_utf8_lossy(content);
    for (number, name) in text.split(['\0', '/']).take(8).enumerate() {
        // Two dots are a way out of the directory, for this test too.
        if name.is_empty() || name == "." || name == ".." {
            continue;
        }
        let folder = root.join(["open", "clean", "archive", "outbox/spool"][number % 4]);
        let _ = if number < 4 { fs::write(folder.join(name), b"x") } else { fs::create_dir(folder.join(name)) };
        let _ = (store.get(name).is_ok(), store.reason(name), store.is_open_pinned(name), outbox.parcel(name).is_ok());
    }
    drop(store);
    let store = open(root);
    for leftover in store.leftovers().unwrap() {
        assert!(leftover.path.starts_with(root.join("open")));
    }
    for (state, name) in store.names().0 {
        let _ = store.read(state, &name);
        if store.get(&name).is_ok() {
            panic!("{name} is no snapshot");
        }
        let _ = store.remove(&name);
    }
    outbox.clean().unwrap();
    for (name, bytes) in outbox.list() {
        assert!(bytes >= 1024);
        outbox.remove(&name).unwrap();
    }
}
