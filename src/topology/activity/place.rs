//! Which file a starter means.

use super::{Starter, command_line::candidates};
use crate::topology::process::Process;
use std::collections::BTreeMap;

/// Where the file is that a starter names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// It was scanned, under this path.
    At(String),
    /// It should be here and is not.
    Missing(String),
    /// It is none of what was scanned.
    Elsewhere,
}

/// The paths that a starter's file may have, best first.
pub fn means(starter: &Starter, given: &str) -> Vec<String> {
    let paths = candidates(starter.launch.process, given);
    paths.into_iter().map(|path| starter.absolute(path)).collect()
}

/// Finds the file that a list of a scanned tree means. The list gives paths as they are on its own host, for instance
/// `/usr/local/etc/config/modbus_client/a.json`; the tree may be a copy that lies anywhere. So the list and the file have the same
/// config root: `<root>/mcp/list.json` means `<root>/modbus_client/a.json`.
///
/// `files` are all scanned paths.
pub fn in_tree(starter: &Starter, given: &str, files: &BTreeMap<String, usize>) -> Located {
    let Some(root) = starter.listed_in.as_deref().and_then(parent).and_then(parent) else { return Located::Elsewhere };
    let folder = folder_of(starter.launch.process, given);
    let mut missing = None;
    for path in means(starter, given) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let path = format!("{root}/{folder}/{name}");
        if files.contains_key(&path) {
            return Located::At(path);
        }
        missing.get_or_insert(path);
    }
    let beside = format!("{root}/{folder}/");
    let has_folder = files.range(beside.clone()..).next().is_some_and(|(path, _)| path.starts_with(&beside));
    missing.filter(|_| has_folder).map_or(Located::Elsewhere, Located::Missing)
}

/// The folder of a given path, else that of the process.
fn folder_of(process: Process, given: &str) -> &str {
    parent(given).and_then(|folder| folder.rsplit('/').next()).filter(|folder| !folder.is_empty()).unwrap_or(process.as_str())
}

/// The path of the folder that a path lies in.
pub(super) fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::{super::StarterKind, *};
    use crate::topology::activity::read_command_line;

    #[test]
    fn a_list_and_its_files_share_a_root() {
        let words = ["/usr/local/bin/modbus_client", "/usr/local/etc/config/modbus_client/a.json"];
        let list = "copy/east/config/mcp/list.json";
        let launch = read_command_line(&words).unwrap();
        let starter = Starter { listed_in: Some(list.to_owned()), ..Starter::new(StarterKind::Mcp, list, launch) };
        let files = |paths: &[&str]| paths.iter().enumerate().map(|(index, path)| ((*path).to_owned(), index)).collect();
        let located = |paths: &[&str]| in_tree(&starter, words[1], &files(paths));
        let (east, west) = ("copy/east/config/modbus_client/a.json", "copy/west/config/modbus_client/a.json");
        assert_eq!(located(&[west, east]), Located::At(east.to_owned()));
        assert_eq!(located(&[west]), Located::Elsewhere, "another controller's file is not meant");
        assert_eq!(located(&["copy/east/config/modbus_client/b.json"]), Located::Missing(east.to_owned()));
    }
}
