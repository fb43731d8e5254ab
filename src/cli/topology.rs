//! `netdiag topology`.

use super::{
    EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE, block_on,
    text::{Paint, print},
};
use crate::{
    api::{Direction, Endpoint, Severity, Topology},
    service::read_topology,
};
use std::{fmt::Write as _, path::PathBuf};

/// Show what should talk to what, read from config directories.
///
/// Exit code 0: every file could be used. 1: there are problems. 2: a directory cannot be read.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directories of config files, read recursively.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Print the body that the bus would carry.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> u8 {
    for dir in &args.dirs {
        if let Err(error) = std::fs::read_dir(dir) {
            eprintln!("netdiag topology: {}: {error}; name a directory that holds config files", dir.display());
            return EXIT_USAGE;
        }
    }
    let topology = match block_on(read_topology(&args.dirs)) {
        Ok(topology) => topology,
        Err(code) => return code,
    };
    let text =
        if args.json { serde_json::to_string(&topology).unwrap_or_default() + "\n" } else { describe(&topology, Paint::stdout()) };
    if !print(&text) {
        // The reader has seen enough.
        return EXIT_OK;
    }
    if topology.problems.iter().any(|problem| problem.severity >= Severity::Warning) { EXIT_PROBLEMS } else { EXIT_OK }
}

fn describe(topology: &Topology, paint: Paint) -> String {
    let mut text = String::new();
    for (direction, title) in [
        (Direction::Outbound, "This controller connects to"),
        (Direction::Inbound, "This controller listens on"),
        (Direction::Undetermined, "Role undetermined, so never probed"),
    ] {
        let endpoints: Vec<&Endpoint> = topology.endpoints.iter().filter(|endpoint| endpoint.direction == direction).collect();
        if endpoints.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{}", paint.bold(title));
        for endpoint in endpoints {
            let _ = writeln!(text, "  {}", line(endpoint));
        }
        text.push('\n');
    }
    if !topology.problems.is_empty() {
        let _ = writeln!(text, "{}", paint.bold("Problems"));
        for problem in &topology.problems {
            let place = match (&problem.path, problem.line, problem.column) {
                (Some(path), Some(line), Some(column)) => format!("{path}:{line}:{column}: "),
                (Some(path), ..) => format!("{path}: "),
                _ => String::new(),
            };
            let code = match problem.severity {
                Severity::Alarm => paint.bad(&problem.code),
                Severity::Warning => paint.doubtful(&problem.code),
                Severity::Info => paint.faint(&problem.code),
            };
            let _ = writeln!(text, "  {code} {place}{}", problem.message);
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "{} endpoints on {} hosts, {} heartbeats, {} problems, out of {} files",
        topology.endpoints.len(),
        topology.hosts.len(),
        topology.heartbeats.len(),
        topology.problems.len(),
        topology.files_scanned
    );
    text
}

fn line(endpoint: &Endpoint) -> String {
    let place = match (&endpoint.host, endpoint.port, &endpoint.serial) {
        (_, _, Some(serial)) => serial.device.clone(),
        (Some(host), Some(port), None) => format!("{host}:{port}"),
        (host, ..) => host.clone().unwrap_or_else(|| "?".to_owned()),
    };
    let mut line = format!("{:<7} {place:<24} {:<28}", endpoint.protocol, endpoint.name.as_deref().unwrap_or("-"));
    if !endpoint.unit_ids.is_empty() {
        let units: Vec<String> = endpoint.unit_ids.iter().map(u8::to_string).collect();
        let _ = write!(line, " units {}", units.join(","));
    } else if endpoint.accepts_any_unit {
        line.push_str(" any unit");
    } else if endpoint.uses_default_unit {
        line.push_str(" default unit");
    }
    for link in &endpoint.dnp3_addresses {
        let _ = write!(line, " link {} to {}", link.local, link.remote);
    }
    match (&endpoint.interface, endpoint.source_address, endpoint.gateway) {
        (Some(interface), _, Some(gateway)) => {
            let _ = write!(line, " by {interface} through {gateway}");
        }
        (Some(interface), Some(source), None) => {
            let _ = write!(line, " by {interface} from {source}");
        }
        _ => {}
    }
    line.trim_end().to_owned()
}
