//! `netdiag doctor`: will the service work here, and if not, what to do.

use super::{
    EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE, block_on,
    serve::SettingsArgs,
    text::{Paint, print_and_exit},
};
use crate::{
    api::Severity,
    capture,
    fims::{self, Cipher, ClientOptions},
    probe::{Network, NetworkProber},
    service::{Settings, read_topology},
};
use nix::{
    errno::Errno,
    unistd::{AccessFlags, access},
};
use serde::Serialize;
use std::{fmt::Write as _, fs, path::Path, time::Duration};

/// How long the bus may take to greet.
const BUS_PATIENCE: Duration = Duration::from_secs(3);

/// Check rights, libpcap, interfaces, directories, disk room and bus, and say what to do about each failure.
///
/// Exit code 0: all is well. 1: something is not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    found: String,
    advice: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), advice: None }
    }

    fn bad(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, ok: false, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(super) fn run(args: &Args) -> u8 {
    let settings = match args.settings.load() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("netdiag doctor: {error}");
            return EXIT_USAGE;
        }
    };
    let checks = match block_on(check_all(&settings)) {
        Ok(checks) => checks,
        Err(code) => return code,
    };
    let all_well = checks.iter().all(|check| check.ok);
    let text =
        if args.json { serde_json::to_string(&checks).unwrap_or_default() + "\n" } else { describe(&checks, Paint::stdout()) };
    print_and_exit(&text, if all_well { EXIT_OK } else { EXIT_PROBLEMS })
}

fn describe(checks: &[Check], paint: Paint) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = if check.ok { paint.good("ok  ") } else { paint.bad("FAIL") };
        let _ = writeln!(text, "{mark} {:<18} {}", check.name, check.found);
        if let Some(advice) = &check.advice {
            let _ = writeln!(text, "     {:<18} {}", "", paint.doubtful(&format!("-> {advice}")));
        }
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    let _ = match failed {
        0 => writeln!(text, "\nall is well: `netdiag serve` will do everything it can do"),
        _ => writeln!(
            text,
            "\n{failed} of {} checks failed; netdiag serves all the same where it can, and says what it cannot do",
            checks.len()
        ),
    };
    text
}

async fn check_all(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![rights(), ping()];
    checks.push(
        tokio::task::spawn_blocking(capture_check)
            .await
            .unwrap_or_else(|error| Check::bad("capture", error.to_string(), "report this")),
    );
    checks.push(interfaces().await);
    checks.extend(configs(settings).await);
    checks.extend(state(settings));
    checks.push(bus(settings).await);
    checks
}

/// The right to open raw sockets, as the kernel has it for this process.
fn rights() -> Check {
    const NAME: &str = "rights";
    const CAP_NET_RAW: u32 = 13;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective =
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    match effective {
        Some(set) if set & (1 << CAP_NET_RAW) != 0 => Check::good(NAME, "CAP_NET_RAW is there"),
        Some(_) => Check::bad(
            NAME,
            "CAP_NET_RAW is missing",
            "run as root, or once `setcap cap_net_raw+ep` on the netdiag binary, or AmbientCapabilities=CAP_NET_RAW in its unit",
        ),
        None => Check::bad(NAME, "the process's capabilities cannot be read", "see that /proc is mounted"),
    }
}

fn ping() -> Check {
    let capability = NetworkProber::new().ping_capability();
    let reason = capability.reason.unwrap_or_default();
    if capability.available { Check::good("ping", reason) } else { Check::bad("ping", "no ICMP socket can be opened", reason) }
}

fn capture_check() -> Check {
    let capability = capture::capability();
    let reason = capability.reason.unwrap_or_default();
    if capability.available { Check::good("capture", reason) } else { Check::bad("capture", "traffic cannot be captured", reason) }
}

async fn interfaces() -> Check {
    const NAME: &str = "interfaces";
    let interfaces = match Network::open().await {
        Ok(network) => network.interfaces().await,
        Err(error) => Err(error),
    };
    match interfaces {
        Ok(interfaces) => {
            let usable: Vec<String> = interfaces
                .iter()
                .filter(|interface| interface.up && !interface.loopback && !interface.addresses.is_empty())
                .map(|interface| format!("{} ({})", interface.name, interface.addresses.join(", ")))
                .collect();
            if usable.is_empty() {
                Check::bad(
                    NAME,
                    "no interface but the loopback is up and has an address",
                    "see `ip address`; devices cannot be reached",
                )
            } else {
                Check::good(NAME, usable.join(", "))
            }
        }
        Err(error) => Check::bad(NAME, format!("they cannot be read: {error}"), "see that this process may open netlink sockets"),
    }
}

async fn configs(settings: &Settings) -> Vec<Check> {
    const NAME: &str = "configs";
    if settings.config_dirs.is_empty() {
        let advice = "name them with --config-dir or in the settings (`config_dirs`)";
        return vec![Check::bad(NAME, "no config directory is set and none of the site's exists", advice)];
    }
    let mut checks: Vec<Check> = settings
        .config_dirs
        .iter()
        .filter_map(|dir| {
            let error = fs::read_dir(dir).err()?;
            Some(Check::bad(NAME, format!("{}: {error}", dir.display()), "make it readable for this user, or leave it out"))
        })
        .collect();
    let topology = read_topology(&settings.config_dirs).await;
    let found = format!("{} endpoints in {} files", topology.endpoints.len(), topology.files_scanned);
    let bad = topology.problems.iter().filter(|problem| problem.severity >= Severity::Alarm).count();
    checks.push(match (topology.endpoints.len(), bad) {
        (0, _) => Check::bad(NAME, found, "see that the directories hold the configs of modbus and dnp3 processes"),
        (_, 0) => Check::good(NAME, found),
        _ => Check::bad(NAME, format!("{found}, {bad} serious problems"), "run `netdiag topology` on the directories to see them"),
    });
    checks
}

fn state(settings: &Settings) -> Vec<Check> {
    let dir = &settings.state_dir;
    let mut checks = vec![state_directory(dir)];
    checks.push(disk(dir, settings.min_free_bytes));
    checks
}

/// Whether the service could keep its state there. Nothing is made or written: this only looks.
fn state_directory(dir: &Path) -> Check {
    const NAME: &str = "state directory";
    // One that does not exist is made by the service, if it may write where it would be.
    let place = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    // An empty path is the directory of this process.
    let asked = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let may_write = if !asked.is_dir() { Err(Errno::ENOTDIR) } else { access(asked, AccessFlags::W_OK | AccessFlags::X_OK) };
    match may_write {
        Ok(()) if place == dir => Check::good(NAME, dir.display().to_string()),
        Ok(()) => Check::good(NAME, format!("{} does not exist yet; the service makes it", dir.display())),
        Err(error) => Check::bad(
            NAME,
            format!("{}: {}", asked.display(), error.desc()),
            "make it writable for this user, or choose another with --state-dir",
        ),
    }
}

fn disk(dir: &Path, min_free: u64) -> Check {
    const NAME: &str = "disk room";
    const MIB: u64 = 1 << 20;
    // The directory may not exist; what counts is the disk that it would be on.
    let on_disk = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    match crate::service::free_bytes(on_disk) {
        Ok(free) if free >= min_free => {
            Check::good(NAME, format!("{} MiB free, {} MiB are never used", free / MIB, min_free / MIB))
        }
        Ok(free) => Check::bad(
            NAME,
            format!("{} MiB free, less than the {} MiB that are never used", free / MIB, min_free / MIB),
            "tests run without a capture until there is room; free some, or lower `min_free_bytes`",
        ),
        Err(error) => Check::bad(NAME, format!("{}: {error}", on_disk.display()), "choose another directory with --state-dir"),
    }
}

async fn bus(settings: &Settings) -> Check {
    const NAME: &str = "bus";
    let socket = settings.socket.display();
    let cipher = match Cipher::from_file_if_present(&settings.fims_key) {
        Ok(cipher) => cipher,
        Err(error) => {
            return Check::bad(
                NAME,
                error.to_string(),
                "make it readable for this user; without it nobody on this bus understands netdiag",
            );
        }
    };
    let (client, _incoming) = fims::connect(ClientOptions {
        cipher,
        ..ClientOptions::new(settings.socket.clone(), format!("{}_doctor", settings.process_name))
    });
    let check = match client.ready(BUS_PATIENCE).await {
        Ok(()) => Check::good(NAME, format!("{socket} greets")),
        Err(error) => Check::bad(
            NAME,
            error.to_string(),
            "start the site's fims_server, or `netdiag fims broker`, or name the socket with --socket",
        ),
    };
    client.close().await;
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_looked_at_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("a/b");
        let check = state_directory(&absent);
        assert!(check.ok && check.found.contains("does not exist yet"), "{check:?}");
        assert!(state_directory(dir.path()).ok);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something was made");
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(!state_directory(&dir.path().join("file")).ok);
        assert!(!state_directory(&dir.path().join("file/state")).ok);
    }
}
