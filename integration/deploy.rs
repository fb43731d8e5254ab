//! What a site runs: the service as systemd starts it, and the unit that it is started by.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixDatagram,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use support::{
    needs,
    service::{Asker, Bus},
};

const UNIT: &str = "deploy/netdiag.service";
const NETDIAG: &str = env!("CARGO_BIN_EXE_netdiag");
/// A user without rights.
const NOBODY: u32 = 65_534;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The part of systemd: a directory, a socket to be notified on, and the process that it started there.
struct Manager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
    service: Option<Child>,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        fs::set_permissions(dir.path().join("notify"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::create_dir_all(dir.path().join("state")).unwrap();
        fs::create_dir_all(dir.path().join("config")).unwrap();
        Self { dir, socket, service: None }
    }

    fn bus_socket(&self) -> PathBuf {
        self.dir.path().join("fims")
    }

    /// Lets a command run `netdiag serve` as the unit would, with the watchdog's time in its environment.
    fn start(&mut self, mut command: Command, watchdog: Duration) {
        let settings = json!({
            "socket": self.bus_socket(), "fims_key": self.dir.path().join("no-key"),
            "config_dirs": [self.dir.path().join("config")], "min_free_bytes": 1 << 20,
        });
        fs::write(self.dir.path().join("settings.json"), settings.to_string()).unwrap();
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        command.args(["serve", "--log", "info", "--settings"]).arg(self.dir.path().join("settings.json"));
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command.env("STATE_DIRECTORY", self.dir.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        self.service = Some(command.spawn().unwrap());
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.service.as_ref().unwrap().id().try_into().unwrap())
    }

    /// Hears until a line comes that begins so; returns all lines up to the end of the datagram that has it.
    fn hear_until(&self, wanted: &str, patience: Duration) -> Vec<String> {
        self.hear(patience, |lines| lines.last().is_some_and(|line| line.starts_with(wanted)))
            .unwrap_or_else(|lines| panic!("no {wanted}, but {lines:?}; it logged:\n{}", self.log()))
    }

    /// Hears until `enough` is content with the lines so far; after `patience` the lines are an error.
    fn hear(&self, patience: Duration, enough: impl Fn(&[String]) -> bool) -> Result<Vec<String>, Vec<String>> {
        let deadline = Instant::now() + patience;
        let (mut lines, mut datagram) = (Vec::new(), [0; 4096]);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(lines);
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = self.socket.recv(&mut datagram) else { return Err(lines) };
            let mut is_enough = false;
            for line in std::str::from_utf8(&datagram[..length]).unwrap().lines() {
                lines.push(line.to_owned());
                is_enough |= enough(&lines);
            }
            if is_enough {
                return Ok(lines);
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The exit code of the service, which ends within this time.
    fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.service.as_mut().unwrap().try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end; it logged:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(service) = &mut self.service {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_that_it_is_ready_that_it_lives_and_that_it_ends() {
    let mut manager = Manager::new();
    let bus = Bus::start(&manager.bus_socket());
    let watchdog = Duration::from_millis(400);
    let started = Instant::now();
    manager.start(Command::new(NETDIAG), watchdog);
    let lines = manager.hear_until("READY=1", Duration::from_secs(20));
    println!("ready after {:?}", started.elapsed());
    assert_eq!(lines[0], "READY=1", "nothing is said before");
    let heard_from = Instant::now();
    let beats = |lines: &[String]| lines.iter().filter(|line| *line == "WATCHDOG=1").count();
    let on_the_bus = |lines: &[String]| lines.iter().any(|line| line.starts_with("STATUS=on the bus; 0 endpoints, 0 jobs"));
    let lines = manager.hear(Duration::from_secs(20), |lines| beats(lines) >= 6 && on_the_bus(lines));
    let lines = lines.unwrap_or_else(|lines| panic!("{lines:?}; it logged:\n{}", manager.log()));
    println!("{} signs of life in {:?}", beats(&lines), heard_from.elapsed());
    assert!(!lines.contains(&"READY=1".to_owned()), "ready is said once: {lines:?}");
    kill(manager.pid(), Signal::SIGTERM).unwrap();
    manager.hear_until("STOPPING=1", Duration::from_secs(5));
    assert_eq!(manager.exit_code(Duration::from_secs(10)), Some(0), "it logged:\n{}", manager.log());
    bus.stop().await;
}

#[test]
fn a_bus_that_is_not_there_does_not_keep_it_from_being_ready() {
    let mut manager = Manager::new();
    manager.start(Command::new(NETDIAG), Duration::from_millis(400));
    manager.hear_until("READY=1", Duration::from_secs(20));
    manager.hear_until("STATUS=waiting for the bus", Duration::from_secs(5));
    manager.hear_until("WATCHDOG=1", Duration::from_secs(5));
    kill(manager.pid(), Signal::SIGTERM).unwrap();
    manager.hear_until("STOPPING=1", Duration::from_secs(5));
    assert_eq!(manager.exit_code(Duration::from_secs(10)), Some(0));
}

#[test]
fn a_service_that_is_stopped_in_its_tracks_gives_no_sign_of_life() {
    let mut manager = Manager::new();
    manager.start(Command::new(NETDIAG), Duration::from_millis(400));
    manager.hear_until("WATCHDOG=1", Duration::from_secs(20));
    kill(manager.pid(), Signal::SIGSTOP).unwrap();
    // What was under way when it was stopped still arrives.
    let _ = manager.hear(Duration::from_millis(300), |_| false);
    assert_eq!(manager.hear(Duration::from_secs(1), |_| false), Err(vec![]));
    kill(manager.pid(), Signal::SIGCONT).unwrap();
    manager.hear_until("WATCHDOG=1", Duration::from_secs(5));
}

#[test]
fn a_manager_that_does_not_read_keeps_it_neither_from_working_nor_from_ending() {
    let mut manager = Manager::new();
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"from somebody else", manager.dir.path().join("notify")).is_ok() {}
    manager.start(Command::new(NETDIAG), Duration::from_millis(400));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !manager.log().contains("systemd cannot be told") {
        assert!(Instant::now() < deadline, "it logged:\n{}", manager.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // It reads at last, and hears that the service is ready.
    manager.hear_until("READY=1", Duration::from_secs(10));
    manager.hear_until("WATCHDOG=1", Duration::from_secs(5));
    while full.send_to(b"from somebody else", manager.dir.path().join("notify")).is_ok() {}
    std::thread::sleep(Duration::from_millis(600));
    kill(manager.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(manager.exit_code(Duration::from_secs(10)), Some(0));
}

/// The log's file stands for the journal: systemd tells device and inode of what stderr is connected to.
#[test]
fn the_journal_gets_levels_and_no_second_time() {
    let mut manager = Manager::new();
    let log = manager.dir.path().join("log");
    fs::write(&log, "").unwrap();
    let stat = fs::metadata(&log).unwrap();
    let mut command = Command::new(NETDIAG);
    command.env("JOURNAL_STREAM", format!("{}:{}", stat.dev(), stat.ino()));
    manager.start(command, Duration::from_secs(10));
    manager.hear_until("READY=1", Duration::from_secs(20));
    kill(manager.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(manager.exit_code(Duration::from_secs(10)), Some(0));
    let log = manager.log();
    let well_formed = |line: &str| ["<3>", "<4>", "<6>", "<7>"].iter().any(|priority| line.starts_with(priority));
    assert!(log.lines().all(well_formed), "{log}");
    let line = log.lines().find(|line| line.contains("serves")).unwrap();
    assert!(line.starts_with("<6>netdiag::service::serve: netdiag"), "{line}");
}

/// The keys of the unit's sections, each with all its values.
fn unit() -> BTreeMap<(String, String), Vec<String>> {
    let text = fs::read_to_string(in_repository(UNIT)).unwrap();
    let (mut section, mut keys) = (String::new(), BTreeMap::<_, Vec<String>>::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("neither key nor section: {line}"));
            keys.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
        }
    }
    keys
}

#[test]
fn the_unit_gives_what_the_service_needs_and_no_more() {
    let unit = unit();
    let value = |section: &str, key: &str| {
        unit.get(&(section.to_owned(), key.to_owned())).map_or_else(|| panic!("no {key} in [{section}]"), |values| values.join(" "))
    };
    for (key, expected) in [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
        ("StateDirectory", "netdiag"),
        ("User", "netdiag"),
        ("AmbientCapabilities", "CAP_NET_RAW"),
        ("CapabilityBoundingSet", "CAP_NET_RAW"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("IOSchedulingClass", "idle"),
        ("MemoryDenyWriteExecute", "yes"),
        // The bus's socket is in /tmp, and what runs is read from /proc.
        ("PrivateTmp", "no"),
        ("ProtectProc", "default"),
        ("PrivateUsers", "no"),
    ] {
        assert_eq!(value("Service", key), expected, "{key}");
    }
    assert!(netdiag::fims::DEFAULT_SOCKET.starts_with("/tmp/"), "PrivateTmp may be on again");
    assert!(!unit.contains_key(&("Service".to_owned(), "DynamicUser".to_owned())), "that would hide /tmp");
    for key in ["MemoryMax", "CPUWeight", "Nice", "SystemCallFilter", "TasksMax"] {
        value("Service", key);
    }
    for family in ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"] {
        assert!(value("Service", "RestrictAddressFamilies").split(' ').any(|allowed| allowed == family), "{family}");
    }
    // A stop in order closes and files what is open, up to 20 s, and says goodbye; the watchdog's last sign comes at its begin.
    let seconds = |key| value("Service", key).parse::<u64>().unwrap();
    assert!(seconds("WatchdogSec") >= 10 && seconds("TimeoutStopSec") >= 30);
    assert_eq!(value("Service", "ExecStart"), "/usr/bin/netdiag serve $NETDIAG_ARGS");
    assert_eq!(value("Install", "WantedBy"), "multi-user.target");
}

/// The unit with the program that has been built in place of the installed one.
fn unit_of_this_build(dir: &Path) -> PathBuf {
    let text = fs::read_to_string(in_repository(UNIT)).unwrap();
    let path = dir.join("netdiag.service");
    fs::write(&path, text.replace("/usr/bin/netdiag", NETDIAG)).unwrap();
    path
}

/// Runs systemd-analyze; [`needs::missing`] where there is none.
fn systemd_analyze(args: &[&str], unit: &Path) -> Option<(bool, String)> {
    match Command::new("systemd-analyze").args(args).arg(unit).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            Some((output.status.success(), said.into_owned()))
        }
        Err(error) => {
            needs::missing(&format!("the unit is not verified by systemd itself, systemd-analyze: {error}"));
            None
        }
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let Some((is_well, said)) = systemd_analyze(&["verify", "--man=no"], &unit_of_this_build(dir.path())) else { return };
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("netdiag.service")).collect();
    assert!(is_well && about_it.is_empty(), "{said}");
}

/// systemd's own measure, from 0 (locked up) to 10 (free to do everything); 2.5 in tenths. It is 2.0 with systemd 252; other
/// versions weigh a little differently.
const EXPOSURE_AT_MOST: &str = "25";

#[test]
fn systemd_rates_the_unit_as_well_locked_up() {
    let dir = tempfile::tempdir().unwrap();
    let unit = unit_of_this_build(dir.path());
    let args = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_AT_MOST];
    let Some((is_well, said)) = systemd_analyze(&args, &unit) else { return };
    if said.contains("unrecognized option") {
        needs::missing("this systemd-analyze is too old to rate a unit that is not loaded");
        return;
    }
    println!("{}", said.lines().last().unwrap_or_default());
    assert!(is_well, "{said}");
}

/// The rights of the unit, given by `setpriv` instead of systemd: another user, only CAP_NET_RAW, no way to more.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_rights_of_the_unit_it_pings_and_captures() {
    assert!(nix::unistd::geteuid().is_root(), "this test gives the service the rights of another user, so it must run as root");
    if !needs::program("setpriv", "--version") {
        return;
    }
    let mut manager = Manager::new();
    let bus = Bus::start(&manager.bus_socket());
    // That user may have no way to where the program was built.
    let program = manager.dir.path().join("netdiag");
    fs::copy(NETDIAG, &program).unwrap();
    std::os::unix::fs::chown(manager.dir.path().join("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
    command.args(["--bounding-set", "-all,+net_raw", "--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw"]);
    command.arg(program);
    manager.start(command, Duration::from_secs(10));
    manager.hear_until("READY=1", Duration::from_secs(20));
    let mut asker = Asker::connect(&manager.bus_socket(), "/netdiag").await;
    let (status, _): (Value, _) = asker.insist("/status").await;
    let capabilities = &status["capabilities"];
    assert_eq!(capabilities["ping"]["available"], true, "{status:#}");
    if cfg!(feature = "libpcap") {
        assert_eq!(capabilities["capture"]["available"], true, "{status:#}");
    }
    let process = fs::read_to_string(format!("/proc/{}/status", manager.pid())).unwrap();
    let net_raw = format!("{:016x}", 1 << 13);
    for set in ["CapEff", "CapBnd"] {
        let line = process.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        assert_eq!(line.trim_start_matches(':').trim(), net_raw, "{set}");
    }
    kill(manager.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(manager.exit_code(Duration::from_secs(10)), Some(0), "it logged:\n{}", manager.log());
    bus.stop().await;
}
