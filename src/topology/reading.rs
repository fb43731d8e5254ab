//! What every reader of a file needs to know beside the file's values.

use super::{notes::Notes, port::Services, process::Process};

/// One file that is being read.
pub(super) struct Reading<'r> {
    /// Its path.
    pub path: &'r str,
    /// The process that reads it: the one that is started with it, else the one whose directory it lies in.
    pub process: Option<Process>,
    /// What a command line sets in place of the file.
    pub overrides: &'r [(String, String)],
    /// The services that this host knows.
    pub services: &'r Services,
    /// Where problems go.
    pub notes: &'r Notes<'r>,
}

impl Reading<'_> {
    /// The name of the file without folders and `.json`.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".json").unwrap_or(name)
    }
}
