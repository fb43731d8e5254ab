//! The one place of this room that reads files.

use super::{
    assemble::{assemble, sort_problems},
    file::read_file_with,
    port::Services,
    problem::ProblemCode,
};
use crate::api::{Problem, Topology, UtcTime};
use std::{
    collections::HashSet,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What to scan, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// The directories, each with all below it.
    pub dirs: Vec<PathBuf>,
    /// Files larger than this are told and left out.
    pub max_file_bytes: u64,
    /// How many files are read at most.
    pub max_files: usize,
    /// How many directory entries are looked at at most.
    pub max_entries: usize,
    /// How many directories deep.
    pub max_depth: usize,
    /// Whether symbolic links are followed.
    pub follow_symlinks: bool,
    /// Whether `backup` folders are read too.
    pub include_backups: bool,
    /// The file with the names of TCP services.
    pub services_file: PathBuf,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            dirs: Vec::new(),
            max_file_bytes: 16 * 1024 * 1024,
            max_files: 20_000,
            max_entries: 200_000,
            max_depth: 32,
            follow_symlinks: true,
            include_backups: false,
            services_file: PathBuf::from("/etc/services"),
        }
    }
}

/// Reads every `*.json` file below the directories of the options into a topology of the time `now`. Blocks; whatever cannot be
/// read is a problem in the result.
pub fn scan(options: &ScanOptions, now: UtcTime) -> Topology {
    let services = read_limited(&options.services_file, options.max_file_bytes)
        .map_or_else(|_| Services::default(), |text| Services::parse(&String::from_utf8_lossy(&text.bytes)));
    let mut walk = Walk { options, files: Vec::new(), seen: HashSet::new(), links: Vec::new(), entries: 0, problems: Vec::new() };
    let mut dirs = options.dirs.clone();
    dirs.sort();
    dirs.dedup();
    for dir in dirs {
        match fs::metadata(&dir) {
            Ok(metadata) if metadata.is_dir() => walk.directory(dir, &metadata, 0),
            Ok(_) => walk.tell(ProblemCode::Unreadable, &dir, "it is no directory".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                walk.tell(ProblemCode::DirectoryMissing, &dir, "the config directory does not exist".to_owned());
            }
            Err(error) => walk.tell(ProblemCode::Unreadable, &dir, format!("cannot be read: {error}")),
        }
    }
    walk.follow_links();

    let mut reports = Vec::with_capacity(walk.files.len());
    let mut problems = walk.problems;
    for path in walk.files {
        match read_settled(&path, options.max_file_bytes) {
            Ok((bytes, is_settled)) => {
                let path = path.to_string_lossy();
                let report = read_file_with(&path, &bytes, &services);
                if !is_settled {
                    problems.push(ProblemCode::FileChanging.at(&path, "the file changed while it was read"));
                }
                reports.push(report);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let mut topology = assemble(reports, now);
    topology.problems.extend(problems);
    sort_problems(&mut topology.problems);
    topology
}

/// What makes two paths the same file or directory.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

struct Walk<'o> {
    options: &'o ScanOptions,
    files: Vec<PathBuf>,
    /// The directories and files that were reached; a symbolic link to one of them leads nowhere new.
    seen: HashSet<Identity>,
    /// Symbolic links are followed last, so that a file is known by its own path if it has one below the directories.
    links: Vec<(PathBuf, usize)>,
    entries: usize,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn tell(&mut self, code: ProblemCode, path: &Path, message: String) {
        self.problems.push(code.at(&path.to_string_lossy(), message));
    }

    fn directory(&mut self, dir: PathBuf, metadata: &Metadata, depth: usize) {
        let mut waiting = vec![(dir, identity(metadata), depth)];
        while let Some((dir, identity_of_dir, depth)) = waiting.pop() {
            if !self.seen.insert(identity_of_dir) {
                continue;
            }
            if depth > self.options.max_depth {
                self.tell(ProblemCode::TooMany, &dir, format!("more than {} directories deep", self.options.max_depth));
                continue;
            }
            let entries = match sorted_entries(&dir, self.options.max_entries) {
                Ok(entries) => entries,
                Err(error) => {
                    self.tell(ProblemCode::Unreadable, &dir, format!("the directory cannot be read: {error}"));
                    continue;
                }
            };
            for path in entries {
                self.entries += 1;
                if self.entries > self.options.max_entries {
                    if self.entries == self.options.max_entries + 1 {
                        self.tell(ProblemCode::TooMany, &dir, format!("more than {} directory entries", self.options.max_entries));
                    }
                    return;
                }
                match fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_symlink() => self.links.push((path, depth + 1)),
                    Ok(metadata) if metadata.is_dir() => {
                        if self.is_wanted(&path) {
                            waiting.push((path, identity(&metadata), depth + 1));
                        }
                    }
                    Ok(metadata) => self.file(path, &metadata),
                    Err(error) => self.tell(ProblemCode::Unreadable, &path, format!("cannot be looked at: {error}")),
                }
            }
        }
    }

    /// Whether a directory is to be read; a backup folder is told and left out.
    fn is_wanted(&mut self, dir: &Path) -> bool {
        let name = dir.file_name().unwrap_or_default();
        let is_backup = name.eq_ignore_ascii_case("backup") || name.eq_ignore_ascii_case("backups");
        if is_backup && !self.options.include_backups {
            self.tell(ProblemCode::BackupSkipped, dir, "the backup folder was left out".to_owned());
            return false;
        }
        true
    }

    fn file(&mut self, path: PathBuf, metadata: &Metadata) {
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            return;
        }
        if !metadata.is_file() {
            self.tell(ProblemCode::Unreadable, &path, "it is no regular file".to_owned());
            return;
        }
        if self.files.len() >= self.options.max_files {
            let limit = self.options.max_files;
            if !self.problems.iter().any(|problem| problem.code == ProblemCode::TooMany.code()) {
                self.tell(ProblemCode::TooMany, &path, format!("more than {limit} files; this one and later ones were not read"));
            }
            return;
        }
        self.seen.insert(identity(metadata));
        self.files.push(path);
    }

    fn follow_links(&mut self) {
        if !self.options.follow_symlinks {
            return;
        }
        while !self.links.is_empty() {
            let mut links = std::mem::take(&mut self.links);
            links.sort();
            for (path, depth) in links {
                let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
                match fs::metadata(&path) {
                    Ok(metadata) if self.seen.contains(&identity(&metadata)) => {}
                    Ok(metadata) if metadata.is_dir() => {
                        if self.is_wanted(&path) {
                            self.directory(path, &metadata, depth);
                        }
                    }
                    Ok(metadata) => self.file(path, &metadata),
                    Err(error) if is_json => {
                        self.tell(ProblemCode::Unreadable, &path, format!("the symbolic link leads nowhere: {error}"));
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// The entries of a directory by name; one more than the limit, where there are more, is enough to notice.
fn sorted_entries(dir: &Path, limit: usize) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.take(limit.saturating_add(1)).map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// The bytes of a file, and whether it stayed as it was while they were read.
struct Content {
    bytes: Vec<u8>,
    is_settled: bool,
}

/// Reads a file, a second time if it changed meanwhile, and says whether it then stayed as it was.
fn read_settled(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, bool), Problem> {
    let first = read_limited(path, max_bytes)?;
    if first.is_settled {
        return Ok((first.bytes, true));
    }
    let second = read_limited(path, max_bytes)?;
    Ok((second.bytes, second.is_settled))
}

fn read_limited(path: &Path, max_bytes: u64) -> Result<Content, Problem> {
    let shown = path.to_string_lossy();
    let unreadable = |error: io::Error| ProblemCode::Unreadable.at(&shown, format!("the file cannot be read: {error}"));
    let too_large = || ProblemCode::TooLarge.at(&shown, format!("the file has more than {max_bytes} bytes"));
    // Non-blocking, so that a pipe that took the file's place meanwhile cannot hold up the scan.
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    if !before.is_file() {
        return Err(ProblemCode::Unreadable.at(&shown, "it is no regular file"));
    }
    if before.len() > max_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default().saturating_add(1));
    (&file).take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
        return Err(too_large());
    }
    let is_settled = is_same(&before, &file, &bytes);
    Ok(Content { bytes, is_settled })
}

fn is_same(before: &Metadata, file: &File, bytes: &[u8]) -> bool {
    let time = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    file.metadata().is_ok_and(|after| {
        time(before) == time(&after) && after.len() == before.len() && usize::try_from(after.len()) == Ok(bytes.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::CString, os::unix::fs::symlink};

    const CLIENT: &str = r#"{"connection": {"name": "n", "ip_address": "10.0.0.9", "device_id": 1}, "components": []}"#;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("modbus_client/backup")).unwrap();
        fs::write(root.path().join("modbus_client/a.json"), CLIENT).unwrap();
        root
    }

    fn scanned(root: &Path, change: impl FnOnce(&mut ScanOptions)) -> Topology {
        let mut options = ScanOptions { dirs: vec![root.to_owned()], ..ScanOptions::default() };
        change(&mut options);
        scan(&options, UtcTime::from_unix_ns(0))
    }

    fn codes(topology: &Topology) -> Vec<&str> {
        topology.problems.iter().map(|problem| problem.code.as_str()).collect()
    }

    #[test]
    fn backups_are_told_and_left_out_unless_asked_for() {
        let root = tree();
        fs::write(root.path().join("modbus_client/backup/a.json"), CLIENT).unwrap();
        let topology = scanned(root.path(), |_| {});
        assert_eq!((topology.files_scanned, codes(&topology)), (1, vec!["config.backup_skipped"]));
        assert_eq!(scanned(root.path(), |options| options.include_backups = true).files_scanned, 2);
    }

    #[test]
    fn links_are_followed_once_and_loops_end() {
        let root = tree();
        let client_dir = root.path().join("modbus_client");
        fs::remove_dir(client_dir.join("backup")).unwrap();
        symlink(root.path(), client_dir.join("loop")).unwrap();
        symlink(client_dir.join("a.json"), client_dir.join("again.json")).unwrap();
        symlink("nowhere", client_dir.join("lost.json")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("b.json"), CLIENT.replace("10.0.0.9", "10.0.0.8")).unwrap();
        symlink(outside.path(), client_dir.join("outside")).unwrap();
        let topology = scanned(root.path(), |_| {});
        assert_eq!((topology.endpoints.len(), topology.files_scanned, codes(&topology)), (2, 2, vec!["config.unreadable"]));
        assert_eq!(scanned(root.path(), |options| options.follow_symlinks = false).files_scanned, 1);
    }

    #[test]
    fn what_is_no_file_or_too_large_or_too_much_is_told_and_the_rest_is_read() {
        let root = tree();
        let dir = root.path().join("modbus_client");
        fs::remove_dir(dir.join("backup")).unwrap();
        let pipe = CString::new(dir.join("pipe.json").to_str().unwrap()).unwrap();
        nix::unistd::mkfifo(pipe.as_c_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", dir.join("zero.json")).unwrap();
        fs::write(dir.join("large.json"), vec![b' '; 2000]).unwrap();
        fs::write(dir.join("notes.txt"), "not looked at").unwrap();
        fs::write(dir.join("broken.json"), "{").unwrap();
        let topology = scanned(root.path(), |options| options.max_file_bytes = 1000);
        let expected = ["config.json_syntax", "config.too_large", "config.unreadable", "config.unreadable"];
        assert_eq!((topology.endpoints.len(), codes(&topology)), (1, expected.to_vec()));
        assert!(codes(&scanned(root.path(), |options| options.max_files = 1)).contains(&"config.too_many_files"));
        assert!(codes(&scanned(root.path(), |options| options.max_entries = 2)).contains(&"config.too_many_files"));
        let many = scanned(root.path(), |options| options.max_depth = 0);
        assert_eq!((many.files_scanned, codes(&many)), (0, vec!["config.too_many_files"]));
    }

    #[test]
    fn a_missing_directory_is_told_and_overlapping_ones_are_read_once() {
        let root = tree();
        fs::remove_dir(root.path().join("modbus_client/backup")).unwrap();
        let inner = root.path().join("modbus_client");
        let dirs = vec![inner.clone(), root.path().to_owned(), root.path().join("gone"), inner.join("a.json")];
        let forwards = scanned(root.path(), |options| options.dirs = dirs.clone());
        assert_eq!(forwards.files_scanned, 1);
        assert_eq!(codes(&forwards), ["config.directory_missing", "config.unreadable"]);
        assert_eq!(scanned(root.path(), |options| options.dirs = dirs.into_iter().rev().collect()), forwards);
    }

    #[test]
    fn service_names_come_from_the_services_file() {
        let root = tree();
        let services = root.path().join("services");
        fs::write(&services, "modbus-alt 1700/tcp\n").unwrap();
        fs::write(
            root.path().join("modbus_client/a.json"),
            CLIENT.replace(r#""device_id""#, r#""service": "modbus-alt", "device_id""#),
        )
        .unwrap();
        let topology = scanned(root.path(), |options| options.services_file = services);
        assert_eq!(topology.endpoints[0].port, Some(1700));
    }
}
