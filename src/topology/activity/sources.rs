//! Where a host says what it starts, and the reading of it.

use super::{Starter, StarterKind, UnitFiles, listed_starters, read_command_line};
use crate::{
    api::Problem,
    topology::{json::first_value, problem::ProblemCode, process::Process, scan::read_limited},
};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// The largest unit file, list or command line that is read.
const MAX_BYTES: u64 = 1 << 20;
/// How many entries of one directory are looked at.
const MAX_ENTRIES: usize = 65_536;

/// Where to read what a host starts. Whatever is not there says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The directories of systemd's units, the one that counts most first.
    pub systemd_dirs: Vec<PathBuf>,
    /// The directories of the master control process's lists.
    pub mcp_dirs: Vec<PathBuf>,
    /// Where the kernel shows the running processes (`/proc`).
    pub proc_dir: Option<PathBuf>,
}

impl Sources {
    /// Those of the host that netdiag runs on; the lists lie where a site has them.
    pub fn of_this_host() -> Self {
        let units = [
            "/etc/systemd/system",
            "/run/systemd/system",
            "/usr/local/lib/systemd/system",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
        ];
        Self {
            systemd_dirs: units.map(PathBuf::from).to_vec(),
            mcp_dirs: vec![PathBuf::from("/usr/local/etc/config/mcp")],
            proc_dir: Some(PathBuf::from("/proc")),
        }
    }

    /// Adds the directory of lists that lies beside a process's config directory, as it does in the tree of a controller.
    pub fn with_lists_beside(mut self, config_dirs: &[PathBuf]) -> Self {
        for dir in config_dirs {
            let is_of_process = dir.file_name().and_then(OsStr::to_str).is_some_and(|name| Process::of_program(name).is_some());
            if let Some(beside) = dir.parent().map(|root| root.join("mcp")).filter(|beside| is_of_process && beside.is_dir())
                && !self.mcp_dirs.contains(&beside)
            {
                self.mcp_dirs.push(beside);
            }
        }
        self
    }

    /// Reads everything. Blocks; what cannot be read is told, what is not there is not.
    pub fn read(&self) -> (Vec<Starter>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut starters = self.unit_files(&mut problems).starters();
        for dir in &self.mcp_dirs {
            lists(dir, &mut starters, &mut problems);
        }
        if let Some(proc_dir) = &self.proc_dir {
            starters.extend(running(proc_dir));
        }
        (starters, problems)
    }

    fn unit_files(&self, problems: &mut Vec<Problem>) -> UnitFiles {
        let mut files = UnitFiles::default();
        for dir in &self.systemd_dirs {
            for entry in entries(dir) {
                let name = name_of(&entry);
                if name.ends_with(".wants") || name.ends_with(".requires") {
                    files.wanted.extend(entries(&entry).iter().map(|unit| name_of(unit)).filter(|unit| unit.ends_with(".service")));
                }
            }
        }
        let mut masked = BTreeSet::new();
        for unit in files.wanted.clone() {
            let template = unit.split_once('@').map(|(prefix, _)| format!("{prefix}@.service"));
            for name in [Some(unit.clone()), template].into_iter().flatten() {
                let found = self.systemd_dirs.iter().map(|dir| dir.join(&name)).find(|path| path.exists());
                if let Some(path) = found {
                    // A unit that is a link to nowhere (`/dev/null`) is never started.
                    if !path.is_file() {
                        masked.insert(unit.clone());
                    } else if let Some(text) = text_of(&path, problems) {
                        files.units.insert(name.clone(), text);
                    }
                }
                // Of drop-ins of one name the directory that counts most has the one that is used.
                for dir in self.systemd_dirs.iter().rev() {
                    for path in entries(&dir.join(format!("{name}.d"))) {
                        let text = Some(&path)
                            .filter(|path| path.extension() == Some(OsStr::new("conf")))
                            .and_then(|path| text_of(path, problems));
                        if let Some(text) = text {
                            files.drop_ins.entry(name.clone()).or_default().insert(name_of(&path), text);
                        }
                    }
                }
            }
        }
        files.wanted.retain(|unit| !masked.contains(unit));
        for path in files.environment_paths() {
            // A file that cannot be read sets nothing; the variables that are then unknown are told.
            if let Ok(content) = read_limited(Path::new(&path), MAX_BYTES) {
                files.environment_files.insert(path, String::from_utf8_lossy(&content.bytes).into_owned());
            }
        }
        files
    }
}

/// The starters in the lists of a directory.
fn lists(dir: &Path, starters: &mut Vec<Starter>, problems: &mut Vec<Problem>) {
    for path in entries(dir).into_iter().filter(|path| path.extension() == Some(OsStr::new("json"))) {
        let Some(text) = text_of(&path, problems) else { continue };
        let shown = path.to_string_lossy();
        match first_value(&text) {
            Ok((root, _)) => starters.extend(listed_starters(&root, &shown)),
            Err(_) => problems
                .push(ProblemCode::Unreadable.at(&shown, "this list of processes is no valid JSON; what it starts is not known")),
        }
    }
}

/// The running processes that read configs. A process that ends meanwhile is none.
fn running(proc_dir: &Path) -> Vec<Starter> {
    let starter = |dir: PathBuf| {
        let pid: u32 = name_of(&dir).parse().ok()?;
        // Another mount namespace has other files under the same paths, and another network namespace is another host.
        if ["ns/mnt", "ns/net"].iter().any(|namespace| is_elsewhere(&dir.join(namespace), &proc_dir.join("self").join(namespace))) {
            return None;
        }
        let command_line = read_limited(&dir.join("cmdline"), MAX_BYTES).ok()?;
        let words: Vec<String> =
            command_line.bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let launch = read_command_line(&words)?;
        let working_dir = fs::read_link(dir.join("cwd")).ok().map(|dir| dir.to_string_lossy().into_owned());
        let name = words.into_iter().next().unwrap_or_default();
        Some(Starter { pid: Some(pid), working_dir, ..Starter::new(StarterKind::Running, name, launch) })
    };
    entries(proc_dir).into_iter().filter_map(starter).collect()
}

/// Whether a process is in another namespace than this one, as far as can be seen.
fn is_elsewhere(its: &Path, ours: &Path) -> bool {
    matches!((fs::read_link(its), fs::read_link(ours)), (Ok(its), Ok(ours)) if its != ours)
}

/// The entries of a directory by name; none of one that is not there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().take(MAX_ENTRIES).filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn text_of(path: &Path, problems: &mut Vec<Problem>) -> Option<String> {
    match read_limited(path, MAX_BYTES) {
        Ok(content) => Some(String::from_utf8_lossy(&content.bytes).into_owned()),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::means, *};
    use std::os::unix::fs::symlink;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn shown(starters: &[Starter]) -> Vec<(StarterKind, &str, String)> {
        starters.iter().map(|starter| (starter.kind, starter.name.as_str(), starter.launch.files.join(" "))).collect()
    }

    #[test]
    fn enabled_units_are_read_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let unit = "[Service]\nExecStart=/usr/local/bin/modbus_client /etc/config/modbus_client/%i.json\n";
        write(root.path(), "lib/modbus_client@.service", unit);
        write(root.path(), "lib/gcom_modbus_client@.service", unit);
        write(
            root.path(),
            "etc/modbus_client@b.service.d/x.conf",
            "[Service]\nExecStart=\nExecStart=/bin/modbus_client other.json\n",
        );
        let wants = root.path().join("etc/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        for instance in ["modbus_client@a.service", "modbus_client@b.service", "modbus_client@masked.service"] {
            symlink(root.path().join("lib/modbus_client@.service"), wants.join(instance)).unwrap();
        }
        symlink("/dev/null", root.path().join("etc/modbus_client@masked.service")).unwrap();
        let sources = Sources { systemd_dirs: vec![root.path().join("etc"), root.path().join("lib")], ..Sources::default() };
        let (starters, problems) = sources.read();
        let expected = [
            (StarterKind::Systemd, "modbus_client@a.service", "/etc/config/modbus_client/a.json".to_owned()),
            (StarterKind::Systemd, "modbus_client@b.service", "other.json".to_owned()),
        ];
        assert_eq!((shown(&starters).as_slice(), problems.as_slice()), (&expected[..], &[][..]));
    }

    #[test]
    fn the_files_of_variables_that_units_name_are_read() {
        let root = tempfile::tempdir().unwrap();
        let variables = root.path().join("variables");
        let unit = format!(
            "[Service]\nEnvironmentFile={}\nEnvironmentFile=-/nowhere\nExecStart=/bin/gcom_modbus_client a.json $OPTS\n",
            variables.display()
        );
        write(root.path(), "lib/gateway.service", &unit);
        write(root.path(), "etc/multi-user.target.wants/gateway.service", "");
        let sources = Sources { systemd_dirs: vec![root.path().join("etc"), root.path().join("lib")], ..Sources::default() };
        assert_eq!(sources.read().0[0].unknown_variables, ["OPTS"]);
        fs::write(variables, "OPTS=ip:10.5.7.7\n").unwrap();
        let starter = sources.read().0.remove(0);
        assert_eq!(
            (starter.launch.overrides.as_slice(), starter.unknown_variables.len()),
            (&[("ip".to_owned(), "10.5.7.7".to_owned())][..], 0)
        );
    }

    #[test]
    fn lists_beside_the_config_directories_are_read_and_broken_ones_told() {
        let root = tempfile::tempdir().unwrap();
        let list = r#"{"processes": [{"name": "/bin/modbus_client", "args": ["/etc/config/modbus_client/a.json"]}]}"#;
        write(root.path(), "mcp/mcp_a.json", list);
        write(root.path(), "mcp/mcp_b.json", "{");
        fs::create_dir(root.path().join("modbus_client")).unwrap();
        let sources = Sources::default().with_lists_beside(&[root.path().join("modbus_client"), root.path().to_owned()]);
        let (starters, problems) = sources.read();
        let path = root.path().join("mcp/mcp_a.json");
        let expected = [(StarterKind::Mcp, path.to_str().unwrap(), "/etc/config/modbus_client/a.json".to_owned())];
        assert_eq!(shown(&starters), expected);
        assert_eq!(problems.iter().map(|problem| problem.code.as_str()).collect::<Vec<_>>(), ["config.unreadable"]);
    }

    #[test]
    fn running_processes_are_found_by_their_command_line() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "17/cmdline", "/usr/local/bin/gcom_modbus_client\0bms.json\0ip:10.0.0.7\0");
        symlink("/usr/local/etc/config", root.path().join("17/cwd")).unwrap();
        write(root.path(), "18/cmdline", "/bin/sh\0-c\0modbus_client a.json\0");
        write(root.path(), "19/cmdline", "");
        write(root.path(), "20/cmdline", "/usr/local/bin/modbus_client\0bms.json\0");
        for (pid, network) in [("17", "net:[1]"), ("20", "net:[2]"), ("self", "net:[1]")] {
            fs::create_dir_all(root.path().join(pid).join("ns")).unwrap();
            symlink(network, root.path().join(pid).join("ns/net")).unwrap();
        }
        write(root.path(), "self/cmdline", "modbus_client\0a.json\0");
        let (starters, problems) = Sources { proc_dir: Some(root.path().to_owned()), ..Sources::default() }.read();
        let [starter] = &starters[..] else { panic!("{starters:?}") };
        assert_eq!((starter.pid, means(starter, "bms.json")[0].as_str()), (Some(17), "/usr/local/etc/config/bms.json"));
        assert_eq!(starter.launch.files, ["bms.json"]);
        assert_eq!((starter.launch.overrides.len(), problems.len()), (1, 0));
    }
}
