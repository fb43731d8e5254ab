//! `netdiag analyze`.

mod overview;
mod servers;
mod show;
mod sources;
mod thresholds;
mod told;

use super::{
    EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE, block_on,
    text::{print, print_and_exit, print_json},
};
use crate::{
    analysis::{Analysis, AnalysisSettings, Expectation, HeartbeatWatch, Watch},
    api::{AnalysisReport, AnalysisVerdict, Topology, Transaction},
    service::{Settings, read_topology},
};
use overview::Line;
use show::Screen;
use sources::{Meter, Source};
use std::{io::IsTerminal as _, ops::ControlFlow, path::PathBuf};
use thresholds::Thresholds;

/// So many files are shown one by one; of more, the overview alone.
const FEW: usize = 3;

const EXAMPLES: &str = "Examples:
  netdiag analyze site.pcapng
  netdiag analyze --topology /usr/local/etc/config captures/
  tcpdump -w - -c 1000 | netdiag analyze -
  netdiag analyze --transactions site.pcap.gz | grep unanswered
  netdiag analyze --json site.pcap | jq .reasons";

/// Take a first look at capture files: should an expert look further, and where?
///
/// Reads pcap and pcapng, plain or compressed with gzip or zstd, and prints what is suspicious, worst first, with the packets that show it
/// as Wireshark numbers them; then each server's figures. It fits the screen; --details prints all. Of a directory, or of more than three
/// files, each is a line. `netdiag explain CODE` says what a finding means and what to check first.
///
/// Exit code 0: clean. 1: suspect. 2: something could not be read. 3: the output could not be written.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Capture files, directories of them (read recursively, captures known by their first bytes), or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directories of config files: what they name is told by its name, and what they do not name is told.
    #[arg(long, value_name = "DIR", num_args = 1)]
    topology: Vec<PathBuf>,
    /// The service's settings file, whose thresholds, ports and heartbeats count here too; the options below override it.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A file of heartbeat definitions: {"name": {"pair_id": "client->server:port", "hb_reg_type": 3, "hb_dev_id": 1, "hb_reg": 768}}.
    #[arg(long, value_name = "FILE")]
    heartbeats: Vec<PathBuf>,
    /// A further port on which Modbus TCP is spoken.
    #[arg(long, value_name = "PORT")]
    modbus_port: Vec<u16>,
    /// A further port on which DNP3 is spoken.
    #[arg(long, value_name = "PORT")]
    dnp3_port: Vec<u16>,
    #[command(flatten)]
    thresholds: Thresholds,
    /// Print the report that the bus would carry, whole; of several files or a directory a list of them.
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
    /// Print each file's report, or each transaction, as one line of JSON.
    #[arg(long)]
    jsonl: bool,
    /// Print one line for each Modbus or DNP3 request and what came of it, in place of the report; in the order in which that was known.
    #[arg(long, conflicts_with = "json")]
    transactions: bool,
    /// Print everything: each finding by itself, and clients, units, functions and polls of each server.
    #[arg(long)]
    details: bool,
}

/// What every file is looked at with.
struct Look {
    settings: AnalysisSettings,
    watches: Vec<Watch>,
    expectations: Vec<Expectation>,
    heartbeats: Vec<HeartbeatWatch>,
}

pub(super) fn run(args: &Args) -> u8 {
    match look_at_all(args) {
        ControlFlow::Continue(code) | ControlFlow::Break(code) => code,
    }
}

fn fail(message: &dyn std::fmt::Display) -> u8 {
    eprintln!("netdiag analyze: {message}");
    EXIT_USAGE
}

/// Breaks off with the code to exit with when nobody takes the output any more.
fn look_at_all(args: &Args) -> ControlFlow<u8, u8> {
    let look = match look(args) {
        Ok(look) => look,
        Err(error) => return ControlFlow::Break(fail(&error)),
    };
    let found = sources::all(&args.files);
    let mut code = EXIT_OK;
    for problem in &found.problems {
        code = fail(problem);
    }
    for note in &found.notes {
        eprintln!("netdiag analyze: {note}");
    }
    // What was asked for decides on the shape, not what could be read.
    let is_list = args.files.len() > 1 || args.files.iter().any(|file| file.is_dir());
    let for_people = !args.json && !args.jsonl && !args.transactions;
    let screen = Screen::of_stdout(args.details);
    let one_by_one = args.details || found.sources.len() <= FEW;
    let mut files = Vec::new();
    let mut comma = "";
    if args.json && is_list {
        print("[")?;
    }
    for source in &found.sources {
        let report = match first_look(source, &look, args) {
            Ok(report) => report?,
            Err(error) => {
                code = fail(&error);
                continue;
            }
        };
        if report.verdict == AnalysisVerdict::Suspect {
            code = code.max(EXIT_PROBLEMS);
        }
        if args.json && is_list {
            print_json(comma, &report, "")?;
            comma = ",";
        } else if args.json || (args.jsonl && !args.transactions) {
            print_json("", &report, "\n")?;
        } else if for_people && one_by_one {
            print(&show::report(&report, &screen))?;
        }
        files.push(Line::of(&report));
    }
    if args.json && is_list {
        print("]\n")?;
    }
    if for_people && (files.len() > 1 || !one_by_one) {
        return ControlFlow::Continue(print_and_exit(&overview::overview(files, FEW, &screen), code));
    }
    ControlFlow::Continue(code)
}

/// The settings file, if there is one, and the options that override it.
fn settings(args: &Args) -> Result<Settings, String> {
    let mut settings = match &args.settings {
        Some(path) => Settings::from_file(path).map_err(|error| error.to_string())?,
        None => Settings::default(),
    };
    args.thresholds.override_in(&mut settings);
    settings.modbus_ports.extend(&args.modbus_port);
    settings.dnp3_ports.extend(&args.dnp3_port);
    settings.heartbeat_files.extend(args.heartbeats.iter().cloned());
    settings.validate().map_err(|error| error.to_string())?;
    Ok(settings)
}

fn look(args: &Args) -> Result<Look, String> {
    let settings = settings(args)?;
    let heartbeats = settings.heartbeat_watches().map_err(|error| error.to_string())?;
    let mut look = Look { settings: settings.analysis(), watches: Vec::new(), expectations: Vec::new(), heartbeats };
    if !args.topology.is_empty() {
        for dir in &args.topology {
            std::fs::read_dir(dir).map_err(|error| format!("{}: {error}; name a directory of config files", dir.display()))?;
        }
        let topology: Topology = block_on(read_topology(&args.topology)).map_err(|_| "the configs could not be read".to_owned())?;
        look.watches = topology.endpoints.iter().map(Watch::of).collect();
        look.expectations = topology.endpoints.iter().map(Expectation::of).collect();
        look.heartbeats.extend(HeartbeatWatch::of_topology(&topology.heartbeats, &topology.endpoints));
    }
    Ok(look)
}

/// Looks at one file; breaks off when nobody takes the output any more.
fn first_look(source: &Source, look: &Look, args: &Args) -> Result<ControlFlow<u8, AnalysisReport>, String> {
    let mut analysis = Analysis::new(look.settings.clone(), look.watches.clone(), Vec::new())
        .with_expectations(look.expectations.clone())
        .with_heartbeats(look.heartbeats.clone());
    if args.transactions {
        analysis.record_transactions();
    }
    let mut meter = Meter::new(source, std::io::stderr().is_terminal());
    let mut printed = ControlFlow::Continue(());
    let opened = source.open(&meter).map_err(|error| format!("{source}: {error}"))?;
    let through = analysis.read_through(opened, &mut |analysis, packets| {
        let rows = lines(&analysis.take_transactions(false), args.jsonl);
        if !rows.is_empty() {
            // Both may be the same terminal.
            meter.clear();
            printed = print(&rows);
        }
        meter.tell(packets);
        if printed.is_continue() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    meter.clear();
    let through = through.map_err(|error| format!("{source}: {error}"))?;
    if !through.is_capture {
        return Err(format!("{source}: {}", through.damage.unwrap_or_else(|| "it is no capture file".to_owned())));
    }
    if let ControlFlow::Break(code) = printed {
        return Ok(ControlFlow::Break(code));
    }
    if let ControlFlow::Break(code) = print(&lines(&analysis.take_transactions(true), args.jsonl)) {
        return Ok(ControlFlow::Break(code));
    }
    Ok(ControlFlow::Continue(analysis.report_of_file(source.to_string(), through)))
}

fn lines(transactions: &[Transaction], as_json: bool) -> String {
    let line = |transaction: &Transaction| match as_json {
        true => serde_json::to_string(transaction).unwrap_or_default(),
        false => show::transaction(transaction),
    };
    transactions.iter().map(|transaction| line(transaction) + "\n").collect()
}
