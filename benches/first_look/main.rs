//! The whole first look at long captures, as `netdiag analyze` takes it, beside `tcpdump -r FILE -w COPY` on the same file in the same run:
//! processor time, time, and memory at most; and once `tshark -z expert`, which tells how fast this machine is beside the one that the
//! targets are for.
//!
//! `cargo bench --bench first_look`, or with captures to repeat: `cargo bench --bench first_look -- CAPTURE…`. Everything runs on one core,
//! each in a process of its own, in turn.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

mod captures;
#[path = "../../src/analysis/testing.rs"]
mod testing;

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::resource::{UsageWho, getrusage},
    unistd::Pid,
};
use std::{
    env, io,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

const PACKETS: u64 = 1_050_000;
const ROUNDS: usize = 5;
/// What the first look must keep, on a machine on which `tshark -z expert` takes so long for such a file, and what it aims at.
const MUST_S: f64 = 0.5;
const TSHARK_THERE_S: f64 = 5.2;
const MUST_MIB: f64 = 64.0;
const AIM_TIMES_TCPDUMP: f64 = 2.0;
/// The argument that makes this program run another one and tell what it took.
const MEASURED: &str = "measured";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [what, command @ ..] = &arguments[..]
        && what == MEASURED
    {
        return measured(command);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let named: Vec<String> = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    let sources = captures::sources(&named);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("long.pcapng");
    println!("{:<48} {:>9}  {:<10} {:>6} {:>6} {:>6} {:>7}", "", "packets", "", "CPU s", "least", "s", "MiB");
    let packets = captures::repeat(&sources, PACKETS, &file)?;
    compare(&format!("{} captures, repeated", sources.len()), packets, &file, true)?;
    for rounds in [1, 3] {
        let packets = captures::live(10_000, 20, rounds, &file)?;
        compare(&format!("10,000 live conversations, {} packets", 3 + 40 * rounds), packets, &file, false)?;
    }
    Ok(())
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
struct Took {
    cpu_s: f64,
    wall_s: f64,
    mib: f64,
}

/// Runs both programs in turn; tells the medians, and whether the targets are met, if they are `meant` for this file.
fn compare(what: &str, packets: u64, file: &Path, meant: bool) -> io::Result<()> {
    let copy = file.with_extension("copy");
    let (file, copy) = (file.display().to_string(), copy.display().to_string());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(run(&[env!("CARGO_BIN_EXE_netdiag"), "analyze", "--json", &file])?);
        if is_installed("tcpdump") {
            theirs.push(run(&["tcpdump", "-r", &file, "-w", &copy])?);
        }
    }
    let row = |name: &str, took: &[Took]| {
        let least = took.iter().map(|took| took.cpu_s).fold(f64::INFINITY, f64::min);
        let [cpu, wall, mib] = [median(took, |took| took.cpu_s), median(took, |took| took.wall_s), median(took, |took| took.mib)];
        println!("{what:<48} {packets:>9}  {name:<10} {cpu:>6.2} {least:>6.2} {wall:>6.2} {mib:>7.1}");
        (cpu, mib)
    };
    let (cpu, mib) = row("netdiag", &ours);
    let tcpdump = (!theirs.is_empty()).then(|| row("tcpdump", &theirs).0);
    if !meant {
        return Ok(());
    }
    let is = |met: bool| if met { "met" } else { "NOT met" };
    println!("  must: below {MUST_S} s: {}; below {MUST_MIB} MiB: {}", is(cpu < MUST_S), is(mib < MUST_MIB));
    if is_installed("tshark") {
        let (tshark, _) = row("tshark", &[run(&["tshark", "-r", &file, "-q", "-z", "expert"])?]);
        let slower = tshark / TSHARK_THERE_S;
        println!(
            "  where tshark takes {TSHARK_THERE_S} s, {slower:.1} times as fast: {:.2} s: {}",
            cpu / slower,
            is(cpu / slower < MUST_S)
        );
    }
    if let Some(tcpdump) = tcpdump {
        let times = cpu / tcpdump;
        println!("  aim: {AIM_TIMES_TCPDUMP} times tcpdump: {} ({times:.1} times)", is(times <= AIM_TIMES_TCPDUMP));
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn median(took: &[Took], of: impl Fn(&Took) -> f64) -> f64 {
    let mut all: Vec<f64> = took.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Runs a program from a small process of its own: only so is the memory that is told that of the program alone.
fn run(command: &[&str]) -> io::Result<Took> {
    let output = Command::new(env::current_exe()?).arg(MEASURED).args(command).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let figures: Vec<f64> = said.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    match figures[..] {
        [cpu_s, wall_s, mib] if output.status.success() => Ok(Took { cpu_s, wall_s, mib }),
        _ => Err(io::Error::other(format!("{} failed", command.join(" ")))),
    }
}

/// Runs a program on one core, and tells its processor time, its time and its memory at most.
fn measured(command: &[String]) -> io::Result<()> {
    let mut core = CpuSet::new();
    core.set(0)?;
    sched_setaffinity(Pid::this(), &core)?;
    let [program, arguments @ ..] = command else { return Err(io::Error::other("what is to be measured?")) };
    let begun = Instant::now();
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let wall = begun.elapsed();
    // `netdiag analyze` ends with 1 when something is to be told.
    if !matches!(status.code(), Some(0 | 1)) {
        return Err(io::Error::other(format!("{program}: {status}")));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    println!("{cpu} {} {}", wall.as_secs_f64(), usage.max_rss() as f64 / 1024.0);
    Ok(())
}
