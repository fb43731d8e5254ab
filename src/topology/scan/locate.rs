//! Which scanned file a starter means.

use super::walk::{Identity, identity};
use crate::topology::activity::{Located, Starter, StarterKind, in_tree, means};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// The scanned files, by what a starter may call them.
pub(super) struct Locator<'s> {
    by_path: BTreeMap<String, usize>,
    by_identity: HashMap<Identity, String>,
    dirs: &'s [PathBuf],
}

impl<'s> Locator<'s> {
    pub fn new(files: &[PathBuf], dirs: &'s [PathBuf]) -> Self {
        let paths = files.iter().map(|path| path.to_string_lossy().into_owned());
        let by_identity = files
            .iter()
            .filter_map(|path| Some((identity(&fs::metadata(path).ok()?), path.to_string_lossy().into_owned())))
            .collect();
        Self { by_path: paths.enumerate().map(|(index, path)| (path, index)).collect(), by_identity, dirs }
    }

    /// The file that a starter means by what it was given.
    pub fn locate(&self, starter: &Starter, given: &str) -> Located {
        if given.ends_with('/') || Path::new(&starter.absolute(given.to_owned())).is_dir() {
            return Located::Elsewhere;
        }
        if starter.listed_in.is_some() {
            match in_tree(starter, given, &self.by_path) {
                Located::Elsewhere => {}
                found => return found,
            }
        }
        let meant = means(starter, given);
        for path in &meant {
            if self.by_path.contains_key(path) {
                return Located::At(path.clone());
            }
            // It may be reached by another path, through a link.
            if let Some(path) = fs::metadata(path).ok().and_then(|metadata| self.by_identity.get(&identity(&metadata))) {
                return Located::At(path.clone());
            }
        }
        let Some(path) = meant.first().filter(|path| path.starts_with('/')) else { return self.by_folder(starter, &meant) };
        let is_ours = starter.kind != StarterKind::Mcp || self.dirs.iter().any(|dir| Path::new(path).starts_with(dir));
        if is_ours && !meant.iter().any(|path| Path::new(path).exists()) {
            return Located::Missing(path.clone());
        }
        Located::Elsewhere
    }

    /// A path without a beginning is that of a file in the directory of the process, if there is just one.
    fn by_folder(&self, starter: &Starter, meant: &[String]) -> Located {
        let mut found = meant.iter().flat_map(|path| {
            let ending = format!("/{}/{}", starter.launch.process, path.rsplit('/').next().unwrap_or_default());
            self.by_path.keys().filter(move |known| known.ends_with(&ending))
        });
        match (found.next(), found.next()) {
            (Some(path), other) if other.is_none_or(|other| other == path) => Located::At(path.clone()),
            _ => Located::Elsewhere,
        }
    }
}
