//! The command line: what each subcommand takes, prints and exits with.

mod analyze;
mod demo;
mod doctor;
mod explain;
mod fims;
mod log;
mod serve;
mod text;
mod topology;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code: nothing wrong was found.
pub const EXIT_OK: u8 = 0;
/// Exit code: problems were found.
pub const EXIT_PROBLEMS: u8 = 1;
/// Exit code: wrong use, or input that could not be read.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: it could not run (no right, no bus).
pub const EXIT_CANNOT_RUN: u8 = 3;

/// Tells the people who run battery-energy-storage sites what is wrong with their network.
///
/// netdiag reads the site's modbus and dnp3 configs, tests what should talk to what while it captures the traffic, and gives each
/// endpoint a verdict with the reason read off the wire. Everything is asked for and answered over the FIMS message bus.
///
/// Exit codes: 0 nothing wrong found, 1 problems found, 2 wrong use or unreadable input, 3 could not run.
#[derive(Debug, Parser)]
#[command(name = "netdiag", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Topology(topology::Args),
    Analyze(Box<analyze::Args>),
    Explain(explain::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Fims(fims::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for and go to stdout with 0; all else is wrong use.
            let code = if error.use_stderr() { EXIT_USAGE } else { EXIT_OK };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    ExitCode::from(match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Topology(args) => topology::run(&args),
        Command::Analyze(args) => analyze::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Fims(args) => fims::run(args),
    })
}

/// Runs async work on a small runtime; a service beside a power plant's controller needs no thread for each core.
fn block_on<F: Future>(work: F) -> Result<F::Output, u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(32).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let output = runtime.block_on(work);
            // A name that does not resolve may hold a thread for long; the end does not wait for it.
            runtime.shutdown_background();
            Ok(output)
        }
        Err(error) => {
            eprintln!("netdiag: cannot start: {error}");
            Err(EXIT_CANNOT_RUN)
        }
    }
}

/// Cancels `stop` on SIGTERM and SIGINT.
fn stop_on_signals(stop: &CancellationToken) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}
