//! Which configs are in use: what systemd, the master control process's lists and the running command lines say.
//!
//! Three readers make [`Starter`]s of what each of them says (`command_line`, `systemd`, `mcp`), `place` finds the file that a starter
//! means, and `judge` says of each config whether it is started, not started or overridden. [`Sources`] names where on a host all of
//! this is to be read; the one function that does so is [`Sources::read`].

mod command_line;
mod judge;
mod mcp;
mod overrides;
mod place;
mod sources;
mod systemd;

pub use crate::api::StarterKind;
pub use command_line::{Launch, read_command_line};
pub use sources::Sources;
pub use systemd::UnitFiles;

pub(super) use judge::{Files, judge};
pub(super) use mcp::{is_process_list, starters as listed_starters};
pub(super) use overrides::overridden;
pub(super) use place::{Located, in_tree, means};

/// One thing that starts a process with a config, or a process that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starter {
    /// What kind of thing.
    pub kind: StarterKind,
    /// Its name: a systemd unit, the path of a list, or the program that runs.
    pub name: String,
    /// The process id, of one that runs.
    pub pid: Option<u32>,
    /// The file in which it stands, if that lies among the scanned ones.
    pub listed_in: Option<String>,
    /// What it starts.
    pub launch: Launch,
    /// The directory that paths without a beginning are below, where that is known.
    pub working_dir: Option<String>,
    /// The variables of its command whose values are not known.
    pub unknown_variables: Vec<String>,
}

impl Starter {
    /// A starter of which no more than this is known.
    fn new(kind: StarterKind, name: impl Into<String>, launch: Launch) -> Self {
        let (pid, listed_in, working_dir) = (None, None, None);
        Self { kind, name: name.into(), pid, listed_in, launch, working_dir, unknown_variables: Vec::new() }
    }

    /// A path as it is from the root, if the working directory is known.
    pub(super) fn absolute(&self, path: String) -> String {
        match &self.working_dir {
            Some(dir) if !path.starts_with('/') => format!("{}/{path}", dir.trim_end_matches('/')),
            _ => path,
        }
    }
}
