//! The one place of this room that walks directories and reads configs.

mod content;
mod locate;
mod reader;
mod walk;

pub(in crate::topology) use content::read_limited;
pub use reader::Readings;

use super::{
    activity::{Files, Sources, Starter, judge, means},
    assemble::assemble_used,
    port::Services,
};
use crate::api::{Topology, UtcTime};
use locate::Locator;
use reader::Reader;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use walk::Walk;

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
    /// Where it is written what the host starts; by default nowhere, as for the tree of another host.
    pub sources: Sources,
    /// Whether the files that this host's processes are started with are read too where they lie outside of the directories.
    pub follow_started: bool,
    /// A file that is no whole config and was written less than this ago is taken as one that is still being copied; by default none is.
    pub settle: Duration,
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
            sources: Sources::default(),
            follow_started: false,
            settle: Duration::ZERO,
        }
    }
}

/// Reads every `*.json` file below the directories of the options into a topology of the time `now`. Blocks; whatever cannot be read is a problem in the result.
pub fn scan(options: &ScanOptions, now: UtcTime) -> Topology {
    scan_again(options, now, &mut Readings::default())
}

/// Scans as [`scan`] does, and takes the reading before for files that are being written just now.
pub fn scan_again(options: &ScanOptions, now: UtcTime, readings: &mut Readings) -> Topology {
    let services = read_limited(&options.services_file, options.max_file_bytes)
        .map_or_else(|_| Services::default(), |text| Services::parse(&String::from_utf8_lossy(&text.bytes)));
    let (mut starters, mut problems) = options.sources.read();
    let mut walk = Walk::through(options);
    if options.follow_started {
        for path in started_files(&starters) {
            walk.add(path);
        }
    }
    problems.append(&mut walk.problems);

    let reader = Reader::new(options, &services, readings);
    let mut reports = Vec::with_capacity(walk.files.len());
    for path in &walk.files {
        match reader.read(path, None) {
            Ok(report) => reports.push(report),
            Err(problem) => problems.push(problem),
        }
    }
    let files_scanned = reports.len();
    for starter in reports.iter().flat_map(|report| &report.starters) {
        // A list may lie in a config directory and among the host's own.
        if !starters.contains(starter) {
            starters.push(starter.clone());
        }
    }
    let locator = Locator::new(&walk.files, &options.dirs);
    let files = Files {
        locate: &|starter, given| locator.locate(starter, given),
        read_as: &|path, launch| reader.read(Path::new(path), Some(launch)).ok(),
    };
    let (configs, more) = judge(&mut reports, &starters, &files);
    problems.extend(more);
    *readings = reader.into_readings();
    let mut topology = assemble_used(reports, configs, problems, now);
    topology.files_scanned = u32::try_from(files_scanned).unwrap_or(u32::MAX);
    topology
}

/// The files that the processes of this host were started with, wherever they lie. Of a list one cannot tell whether it is this
/// host's, so its paths are looked for among what is scanned only.
fn started_files(starters: &[Starter]) -> impl Iterator<Item = PathBuf> {
    starters
        .iter()
        .filter(|starter| starter.listed_in.is_none())
        .flat_map(|starter| {
            let first_there = |given: &String| means(starter, given).into_iter().map(PathBuf::from).find(|path| path.is_file());
            starter.launch.files.iter().filter_map(first_there)
        })
        .filter(|path| path.is_absolute())
}

/// What a later look at the directories is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    /// Every directory that a scan enters.
    pub dirs: Vec<PathBuf>,
    /// Changes with every file: its path, size, time, owner and mode.
    digest: u64,
}

/// Looks at the directories of a scan without reading a file. Blocks, for as long as a scan of that many files takes to find them.
pub fn footprint(options: &ScanOptions) -> Footprint {
    let walk = Walk::through(options);
    let mut hasher = DefaultHasher::new();
    for path in &walk.files {
        path.hash(&mut hasher);
        if let Ok(metadata) = path.metadata() {
            (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()).hash(&mut hasher);
            (metadata.ctime(), metadata.ctime_nsec(), metadata.mode(), metadata.uid()).hash(&mut hasher);
        }
    }
    for problem in &walk.problems {
        (&problem.path, &problem.code).hash(&mut hasher);
    }
    Footprint { dirs: walk.dirs, digest: hasher.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Activity;
    use std::{ffi::CString, fs, os::unix::fs::symlink};

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

    fn modbus_client(path: &str) -> String {
        format!(r#"{{"processes": [{{"name": "/usr/local/bin/modbus_client", "args": ["{path}"]}}]}}"#)
    }

    #[test]
    fn the_lists_of_a_tree_tell_which_configs_are_in_use() {
        let root = tree();
        fs::remove_dir(root.path().join("modbus_client/backup")).unwrap();
        fs::write(root.path().join("modbus_client/spare.json"), CLIENT.replace("10.0.0.9", "10.0.0.8")).unwrap();
        fs::create_dir(root.path().join("mcp")).unwrap();
        fs::write(root.path().join("mcp/one.json"), modbus_client("/usr/local/etc/config/modbus_client/a.json")).unwrap();
        fs::write(root.path().join("mcp/two.json"), modbus_client("/usr/local/etc/config/modbus_client/gone.json")).unwrap();
        let topology = scanned(root.path(), |_| {});
        let uses: Vec<_> = topology.configs.iter().map(|config| (config.activity, config.starters.len())).collect();
        assert_eq!(uses, [(Activity::Started, 1), (Activity::NotStarted, 0)]);
        assert_eq!(codes(&topology), ["config.started_missing", "config.not_started"]);
        // The same when only the process's directory is scanned and the lists lie beside it.
        let dirs = vec![root.path().join("modbus_client")];
        let sources = Sources::default().with_lists_beside(&dirs);
        let beside = scanned(root.path(), |options| (options.dirs, options.sources) = (dirs, sources));
        assert_eq!((&beside.configs, codes(&beside)), (&topology.configs, codes(&topology)));
        assert_eq!(
            topology.endpoints.iter().map(|endpoint| endpoint.activity).collect::<Vec<_>>(),
            [Activity::NotStarted, Activity::Started]
        );
    }

    #[test]
    fn a_running_command_line_goes_before_the_file_that_it_names() {
        let (root, proc_dir) = (tree(), tempfile::tempdir().unwrap());
        let client_dir = root.path().join("modbus_client");
        fs::remove_dir(client_dir.join("backup")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("b.json"), CLIENT.replace("10.0.0.9", "10.0.0.8")).unwrap();
        let (inside, outside) = (client_dir.join("a"), outside.path().join("b.json"));
        let run = |pid: u32, words: &[&str]| {
            fs::create_dir(proc_dir.path().join(pid.to_string())).unwrap();
            fs::write(proc_dir.path().join(format!("{pid}/cmdline")), words.join("\0")).unwrap();
        };
        run(7, &["gcom_modbus_client", inside.to_str().unwrap(), "ip:10.0.0.1"]);
        run(8, &["gcom_modbus_client", inside.to_str().unwrap(), "ip:10.0.0.2", "port:1502"]);
        run(9, &["/usr/local/bin/modbus_client", outside.to_str().unwrap()]);
        run(10, &["/usr/local/bin/modbus_client", client_dir.join("gone.json").to_str().unwrap()]);
        let sources = Sources { proc_dir: Some(proc_dir.path().to_owned()), ..Sources::default() };
        let alone = scanned(root.path(), |options| options.sources = sources.clone());
        assert_eq!(alone.files_scanned, 1, "what lies outside is read only if that is asked for");
        let topology = scanned(root.path(), |options| (options.sources, options.follow_started) = (sources, true));
        let endpoints: Vec<_> =
            topology.endpoints.iter().map(|endpoint| (endpoint.endpoint_id.as_str(), endpoint.activity)).collect();
        let overridden = Activity::Overridden;
        let expected =
            [("modbus_10.0.0.1_502", overridden), ("modbus_10.0.0.2_1502", overridden), ("modbus_10.0.0.8_502", Activity::Started)];
        assert_eq!(endpoints, expected);
        let mut found = codes(&topology);
        found.sort_unstable();
        assert_eq!(found, ["config.overridden", "config.overridden", "config.started_missing"]);
        assert_eq!(topology.files_scanned, 2);
    }

    #[test]
    fn a_file_that_is_being_written_keeps_its_last_good_reading_until_it_is_quiet() {
        let root = tree();
        let path = root.path().join("modbus_client/a.json");
        fs::remove_dir(root.path().join("modbus_client/backup")).unwrap();
        let options =
            ScanOptions { dirs: vec![root.path().to_owned()], settle: Duration::from_secs(3600), ..ScanOptions::default() };
        let mut readings = Readings::default();
        let mut scanned = || scan_again(&options, UtcTime::from_unix_ns(0), &mut readings);
        let whole = scanned();
        assert_eq!((whole.endpoints.len(), codes(&whole).len()), (1, 0));
        for half in [&CLIENT[..CLIENT.len() / 2], "", "{"] {
            fs::write(&path, half).unwrap();
            let topology = scanned();
            assert_eq!((&topology.endpoints, codes(&topology)), (&whole.endpoints, vec!["config.file_changing"]), "{half}");
        }
        fs::write(&path, CLIENT.replace("10.0.0.9", "10.0.0.8")).unwrap();
        let copied = scanned();
        assert_eq!((copied.endpoints[0].endpoint_id.as_str(), codes(&copied).len()), ("modbus_10.0.0.8_502", 0));
        fs::write(&path, "{").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let quiet = scanned();
        assert_eq!((quiet.endpoints.len(), codes(&quiet)), (0, vec!["config.json_syntax"]));
        // Nothing is known of one that was never whole.
        fs::write(&path, "{").unwrap();
        let new = scanned();
        assert_eq!((new.endpoints.len(), codes(&new)), (0, vec!["config.file_changing"]));
    }

    #[test]
    fn what_the_starting_process_makes_of_a_file_stands_too_while_it_is_written() {
        let (root, proc_dir) = (tree(), tempfile::tempdir().unwrap());
        let path = root.path().join("modbus_client/a.json");
        fs::write(&path, CLIENT.replace("10.0.0.9", "10.x.x.x")).unwrap();
        fs::create_dir(proc_dir.path().join("7")).unwrap();
        let command_line = ["gcom_modbus_client", path.to_str().unwrap(), "ip:10.0.0.1"].join("\0");
        fs::write(proc_dir.path().join("7/cmdline"), command_line).unwrap();
        let sources = Sources { proc_dir: Some(proc_dir.path().to_owned()), ..Sources::default() };
        let settle = Duration::from_secs(3600);
        let options = ScanOptions { dirs: vec![root.path().to_owned()], sources, settle, ..ScanOptions::default() };
        let mut readings = Readings::default();
        let whole = scan_again(&options, UtcTime::from_unix_ns(0), &mut readings);
        assert_eq!(whole.endpoints[0].endpoint_id, "modbus_10.0.0.1_502");
        fs::write(&path, "{").unwrap();
        let half = scan_again(&options, UtcTime::from_unix_ns(0), &mut readings);
        assert_eq!((&half.endpoints, &half.configs), (&whole.endpoints, &whole.configs));
    }

    #[test]
    fn the_legacy_server_stops_at_the_first_dot_of_a_path() {
        let root = tempfile::tempdir().unwrap();
        let server = r#"{"system": {"id": "poi", "ip_address": "0.0.0.0"}, "registers": {}}"#;
        fs::create_dir_all(root.path().join("modbus_server")).unwrap();
        fs::create_dir_all(root.path().join("mcp")).unwrap();
        fs::write(root.path().join("modbus_server/poi.v2.json"), server).unwrap();
        let list = r#"{"processes": [{"name": "/bin/modbus_server", "args": ["/etc/config/modbus_server/poi.v2.json"]}]}"#;
        fs::write(root.path().join("mcp/list.json"), list).unwrap();
        let topology = scanned(root.path(), |_| {});
        assert_eq!(topology.configs[0].activity, Activity::NotStarted);
        assert_eq!(codes(&topology), ["config.path_cut", "config.started_missing", "config.not_started"]);
        fs::write(root.path().join("modbus_server/poi.json"), server).unwrap();
        let topology = scanned(root.path(), |_| {});
        let uses: Vec<_> = topology.configs.iter().map(|config| config.activity).collect();
        assert_eq!(uses, [Activity::Started, Activity::NotStarted]);
        assert!(codes(&topology).contains(&"config.path_cut") && !codes(&topology).contains(&"config.started_missing"));
    }

    #[test]
    fn a_footprint_changes_with_the_files_and_not_by_itself() {
        let root = tree();
        let options = ScanOptions { dirs: vec![root.path().to_owned()], ..ScanOptions::default() };
        let before = footprint(&options);
        assert_eq!(footprint(&options), before);
        assert_eq!(before.dirs.len(), 2, "the backup folder is not entered");
        fs::write(root.path().join("modbus_client/b.json"), CLIENT).unwrap();
        let added = footprint(&options);
        assert_ne!(added, before);
        fs::write(root.path().join("modbus_client/b.json"), CLIENT.replace('1', "2")).unwrap();
        assert_ne!(footprint(&options), added);
        fs::remove_file(root.path().join("modbus_client/b.json")).unwrap();
        assert_eq!(footprint(&options), before);
    }
}
