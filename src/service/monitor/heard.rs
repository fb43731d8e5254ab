//! Who was heard and who was not, remembered over a restart.

use super::{Monitor, lock};
use crate::{jobs::write_atomically, monitor::Silences, service::state_files};
use std::path::{Path, PathBuf};

/// What was remembered before this start; nothing if there is no file yet. Blocks on the disk.
///
/// # Errors
/// A sentence with the path, when the file cannot be read or is damaged.
pub(super) fn recall(state_dir: &Path) -> Result<Silences, String> {
    let path = place(state_dir);
    let told = |error: &dyn std::fmt::Display| {
        format!("who was heard before this start is not known, for {} cannot be read: {error}", path.display())
    };
    match state_files::read(&path).map_err(|error| told(&error))? {
        Some(json) => serde_json::from_slice(&json).map_err(|error| told(&error)),
        None => Ok(Silences::default()),
    }
}

fn place(state_dir: &Path) -> PathBuf {
    state_dir.join("monitor-heard.json")
}

impl Monitor {
    /// Has this written down.
    pub(super) fn heard(&self, silences: &Silences) {
        match serde_json::to_vec(silences) {
            Ok(json) => *lock(&self.heard) = Some(json),
            Err(error) => tracing::error!(%error, "who was heard is not written down"),
        }
        self.errands.call();
    }

    /// Writes down who was heard, for the next start. Blocks on the disk.
    pub(super) fn remember_heard(&self, state_dir: &Path) {
        let Some(json) = lock(&self.heard).take() else { return };
        if let Err(error) = write_atomically(&place(state_dir), &json) {
            lock(&self.view).problem(format!("who was heard could not be written down: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Settings;
    use std::fs;

    #[test]
    fn what_has_changed_is_written_down_once() {
        let dir = tempfile::tempdir().unwrap();
        let monitor = Monitor::new(&Settings { state_dir: dir.path().to_owned(), ..Settings::default() });
        let set = dir.path().join("monitor.json");
        monitor.remember_what_waits(dir.path());
        assert!(!set.exists() && !place(dir.path()).exists(), "nothing has changed, so the settings file counts at the next start");
        assert!(monitor.set_enabled(true).is_err(), "it has not been started");
        monitor.heard(&Silences::default());
        monitor.remember_what_waits(dir.path());
        for written in [set, place(dir.path())] {
            fs::remove_file(&written).unwrap();
            monitor.remember_what_waits(dir.path());
            assert!(!written.exists(), "{} is written already", written.display());
        }
    }

    #[test]
    fn what_is_damaged_or_too_long_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(recall(dir.path()), Ok(Silences::default()));
        let written = br#"{"endpoints": {"bms": {"last_seen": "2026-11-23T12:00:00Z", "quiet_s": 0.5, "gaps_s": [0, 300]}}}"#;
        fs::write(place(dir.path()), written).unwrap();
        assert!(recall(dir.path()).is_ok_and(|known| known != Silences::default()));
        for damaged in [&written[..40], b"", b"\xFF\x00", b"[]"] {
            fs::write(place(dir.path()), damaged).unwrap();
            let told = recall(dir.path()).unwrap_err();
            assert!(told.contains("monitor-heard.json cannot be read: "), "{told}");
        }
        fs::File::create(place(dir.path())).unwrap().set_len(state_files::MAX_BYTES + 1).unwrap();
        assert!(recall(dir.path()).unwrap_err().contains("more than"));
    }
}
