//! `netdiag analyze`.

mod show;
mod sources;

use super::{
    EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE, block_on,
    text::{Paint, print, width},
};
use crate::{
    analysis::{Analysis, AnalysisSettings, Expectation, HeartbeatWatch, Watch, read_heartbeat_definitions},
    api::{AnalysisReport, AnalysisVerdict, Topology, Transaction},
    service::read_topology,
};
use sources::{Meter, Source};
use std::{io::IsTerminal as _, ops::ControlFlow, path::PathBuf, time::Duration};

const EXAMPLES: &str = "Examples:
  netdiag analyze site.pcapng
  netdiag analyze --topology /usr/local/etc/config captures/
  tcpdump -w - -c 1000 | netdiag analyze -
  netdiag analyze --transactions site.pcap.gz | grep unanswered
  netdiag analyze --json site.pcap | jq .reasons";

/// Take a first look at capture files: should an expert look further, and where?
///
/// Reads pcap and pcapng, plain or compressed with gzip or zstd, and prints what is suspicious, worst first, with the packets that show it
/// as Wireshark numbers them; then each server's figures. `netdiag explain CODE` says what a finding means and what to check first.
///
/// Exit code 0: clean. 1: suspect. 2: something could not be read.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Capture files, directories of them, or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directories of config files: what they name is told by its name, and what they do not name is told.
    #[arg(long, value_name = "DIR", num_args = 1)]
    topology: Vec<PathBuf>,
    /// A file of heartbeat definitions: {"name": {"pair_id": "client->server:port", "hb_reg_type": 3, "hb_dev_id": 1, "hb_reg": 768}}.
    #[arg(long, value_name = "FILE")]
    heartbeats: Option<PathBuf>,
    /// A further port on which Modbus TCP is spoken.
    #[arg(long, value_name = "PORT")]
    modbus_port: Vec<u16>,
    /// A further port on which DNP3 is spoken.
    #[arg(long, value_name = "PORT")]
    dnp3_port: Vec<u16>,
    /// A request that waits longer than this is unanswered.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: u64,
    /// An answer that takes this long is slow.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    slow_ms: u64,
    /// Print the report that the bus would carry; of several files a list of them.
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
    /// Print each file's report, or each transaction, as one line of JSON.
    #[arg(long)]
    jsonl: bool,
    /// Print one line for each Modbus or DNP3 request and what came of it, in place of the report.
    #[arg(long, conflicts_with = "json")]
    transactions: bool,
    /// Print clients, units, functions and polls of each server too.
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
    let fail = |message: &dyn std::fmt::Display| {
        eprintln!("netdiag analyze: {message}");
        EXIT_USAGE
    };
    let look = match look(args) {
        Ok(look) => look,
        Err(error) => return fail(&error),
    };
    let (sources, problems) = sources::all(&args.files);
    let mut code = EXIT_OK;
    for problem in &problems {
        code = fail(problem);
    }
    let mut reports = Vec::new();
    for source in &sources {
        match first_look(source, &look, args) {
            Ok(Some(report)) => {
                if report.verdict == AnalysisVerdict::Suspect {
                    code = code.max(EXIT_PROBLEMS);
                }
                let printed = match (args.transactions, args.jsonl, args.json) {
                    (true, ..) => true,
                    (_, true, _) => print(&(serde_json::to_string(&report).unwrap_or_default() + "\n")),
                    (.., true) => true,
                    _ => print(&show::report(&report, Paint::stdout(), width(), args.details)),
                };
                if !printed {
                    return EXIT_OK;
                }
                reports.push(report);
            }
            // The reader of the output has gone.
            Ok(None) => return EXIT_OK,
            Err(error) => code = fail(&error),
        }
    }
    let last = match &reports[..] {
        [report] if args.json => serde_json::to_string(report).unwrap_or_default() + "\n",
        reports if args.json => serde_json::to_string(reports).unwrap_or_default() + "\n",
        reports if reports.len() > 1 && !args.jsonl && !args.transactions => show::overall(reports, Paint::stdout()),
        _ => String::new(),
    };
    if print(&last) { code } else { EXIT_OK }
}

fn look(args: &Args) -> Result<Look, String> {
    let mut settings = AnalysisSettings {
        response_timeout: Duration::from_millis(args.timeout_ms),
        slow_response: Duration::from_millis(args.slow_ms),
        ..AnalysisSettings::default()
    };
    settings.modbus_ports.extend(&args.modbus_port);
    settings.dnp3_ports.extend(&args.dnp3_port);
    let mut heartbeats = Vec::new();
    if let Some(path) = &args.heartbeats {
        let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        heartbeats = read_heartbeat_definitions(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut look = Look { settings, watches: Vec::new(), expectations: Vec::new(), heartbeats };
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

/// Looks at one file; `None` when nobody reads the output any more.
fn first_look(source: &Source, look: &Look, args: &Args) -> Result<Option<AnalysisReport>, String> {
    let mut analysis = Analysis::new(look.settings.clone(), look.watches.clone(), Vec::new())
        .with_expectations(look.expectations.clone())
        .with_heartbeats(look.heartbeats.clone());
    if args.transactions {
        analysis.record_transactions();
    }
    let mut meter = Meter::new(source, std::io::stderr().is_terminal());
    let mut is_read = true;
    let opened = source.open(&meter).map_err(|error| format!("{source}: {error}"))?;
    let through = analysis.read_through(opened, &mut |analysis, packets| {
        meter.tell(packets);
        is_read = print(&lines(&analysis.take_transactions(false), args.jsonl));
        if is_read { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    meter.end();
    let through = through.map_err(|error| format!("{source}: {error}"))?;
    if !through.is_capture {
        return Err(format!("{source}: {}", through.damage.unwrap_or_else(|| "it is no capture file".to_owned())));
    }
    if !is_read || !print(&lines(&analysis.take_transactions(true), args.jsonl)) {
        return Ok(None);
    }
    let mut report = analysis.report();
    report.file = Some(source.to_string());
    report.damage = through.damage;
    Ok(Some(report))
}

fn lines(transactions: &[Transaction], as_json: bool) -> String {
    let line = |transaction: &Transaction| match as_json {
        true => serde_json::to_string(transaction).unwrap_or_default(),
        false => show::transaction(transaction),
    };
    transactions.iter().map(|transaction| line(transaction) + "\n").collect()
}
