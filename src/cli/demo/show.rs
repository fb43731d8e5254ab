//! The demo as a person sees it.

use super::{
    Compared,
    cast::{Part, Role},
};
use crate::{
    api::{ConnectState, ConnectivityResult, EndpointResult, Job, PingState, Verdict},
    cli::text::{Paint, print, width, wrap},
    lab::{Placement, Site},
};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

/// What the site is.
pub(super) fn introduction(placement: Placement, site: &Site, cast: &[Role]) {
    let paint = Paint::stdout();
    let mut text = String::new();
    let place = match placement {
        Placement::Namespaces => "each device in a network namespace of its own",
        Placement::Loopback => "on the loopback",
    };
    let _ = writeln!(text, "{}, {place}:\n", paint.bold("A simulated site"));
    for role in cast {
        if let Some(left_out) = site.left_out().iter().find(|left_out| left_out.name == role.name()) {
            let _ = writeln!(text, "  {}", paint.faint(&format!("{:<14} left out: {}", left_out.name, left_out.reason)));
            continue;
        }
        let (place, speaks) = match &role.part {
            Part::Device(device) => {
                let place = site.device(&device.name).map(|device| device.socket_address().to_string()).unwrap_or_default();
                (place, device.speaks.protocol())
            }
            Part::Inbound(server) => (format!("port {}", server.port), server.speaks.protocol()),
        };
        let _ = writeln!(text, "  {:<14} {speaks:<7} {place:<18} {}", role.name(), role.story);
    }
    let _ = print(&text);
}

/// The progress of the test: a line that moves on a terminal, a line for each step elsewhere.
pub(super) struct Progress {
    quiet: bool,
    moving: bool,
    phase: String,
    decided: usize,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, moving: io::stderr().is_terminal(), phase: String::new(), decided: 0 }
    }

    pub(super) fn asked(&self) {
        if !self.quiet {
            let command = Paint::stdout().bold("netdiag fims send -m set -u /netdiag/connectivity/start -r /reply/demo true");
            let _ = print(&format!("\nAsked over the bus, as by\n\n  {command}\n\n"));
        }
    }

    pub(super) fn decided(&mut self, endpoint: &EndpointResult) {
        self.decided += 1;
        if !self.quiet && !self.moving {
            eprintln!("  {:<22} {}", endpoint.name.as_deref().unwrap_or(&endpoint.endpoint_id), word(endpoint.verdict));
        }
    }

    pub(super) fn job(&mut self, job: &Job) {
        if self.quiet {
            return;
        }
        if self.moving {
            const WIDTH: usize = 30;
            let done = (job.progress * WIDTH as f64).round() as usize;
            eprint!(
                "\r  [{}{}] {:>3.0} %  {:<22} {:>3} decided ",
                "#".repeat(done.min(WIDTH)),
                ".".repeat(WIDTH.saturating_sub(done)),
                job.progress * 100.0,
                job.phase,
                self.decided
            );
            let _ = io::stderr().flush();
        } else if job.phase != self.phase {
            eprintln!("  {:>3.0} %  {}", job.progress * 100.0, job.phase);
        }
        self.phase.clone_from(&job.phase);
    }

    pub(super) fn ended(&self) {
        if !self.quiet && self.moving {
            eprint!("\r{:80}\r", "");
        }
    }
}

/// The verdicts, and whether they are right.
pub(super) fn result(result: &ConnectivityResult, site: &Site, compared: &[Compared]) {
    let paint = Paint::stdout();
    let mut text = String::new();
    let indent = 60;
    let reason_width = width().saturating_sub(indent).max(40);
    let head = format!("{:<9} {:<14} {:<7} {:<9} {:<16} {}", "VERDICT", "ENDPOINT", "SPEAKS", "PING", "PORT", "WHY");
    let _ = writeln!(text, "{}", paint.bold(&head));
    for endpoint in &result.endpoints {
        let name = endpoint.name.as_deref().unwrap_or(&endpoint.endpoint_id);
        let verdict = format!("{:<9}", word(endpoint.verdict));
        let verdict = match endpoint.verdict {
            Verdict::Ok => paint.good(&verdict),
            Verdict::Failed => paint.bad(&verdict),
            Verdict::Degraded => paint.doubtful(&verdict),
            Verdict::Unknown | Verdict::Skipped => paint.faint(&verdict),
        };
        let mut lines = wrap(&endpoint.reason, reason_width).into_iter();
        let first = lines.next().unwrap_or_default();
        let _ =
            writeln!(text, "{verdict} {name:<14} {:<7} {:<9} {:<16} {first}", endpoint.protocol, ping(endpoint), port(endpoint));
        for line in lines {
            let _ = writeln!(text, "{:indent$}{line}", "");
        }
    }
    let _ = writeln!(text, "\n{}", paint.bold(&capitalised(&result.text)));
    if let Some(capture) = &result.capture {
        let names: Vec<&str> = capture.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        let _ = writeln!(
            text,
            "{} packets captured on {}, {} bytes, {} dropped by the kernel",
            capture.packets,
            names.join(", "),
            capture.file_bytes,
            capture.kernel_dropped
        );
    }
    for problem in &result.problems {
        let _ = writeln!(text, "{}", paint.doubtful(problem));
    }
    if let Some(device) = site.device("relay_1") {
        let (stats, polls) = (device.stats(), device.session().map_or(0, |session| session.answers));
        let undisturbed = stats.connections == 1 && stats.thrown_out == 0;
        let told = if undisturbed { paint.good("undisturbed") } else { paint.bad("disturbed") };
        let _ = writeln!(text, "relay_1's DNP3 master: {told}, one session since before the test, {polls} polls answered");
    }
    let wrong: Vec<&Compared> = compared.iter().filter(|compared| compared.mismatch.is_some()).collect();
    if wrong.is_empty() {
        let _ = writeln!(text, "{}", paint.good(&format!("All {} verdicts are as the site was built.", compared.len())));
    }
    for compared in wrong {
        let mismatch = compared.mismatch.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}", paint.bad(&format!("{} ({}): {mismatch}", compared.name, compared.story)));
    }
    let _ = print(&text);
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Degraded => "degraded",
        Verdict::Failed => "FAILED",
        Verdict::Unknown => "unknown",
        Verdict::Skipped => "skipped",
    }
}

fn ping(endpoint: &EndpointResult) -> String {
    match (endpoint.ping.state, endpoint.ping.rtt_ms) {
        (PingState::Answered, Some(rtt)) => format!("{:.2} ms", rtt.mean),
        (PingState::Answered, None) => "answered".to_owned(),
        (PingState::NoAnswer, _) => "none".to_owned(),
        (PingState::Error, _) => "error".to_owned(),
        (PingState::NotRequested, _) => "-".to_owned(),
    }
}

fn port(endpoint: &EndpointResult) -> String {
    let state = match endpoint.connect.state {
        ConnectState::Open => "open",
        ConnectState::Refused => "refused",
        ConnectState::TimedOut => "timed out",
        ConnectState::Unreachable => "unreachable",
        ConnectState::Reset => "reset",
        ConnectState::Error => "error",
        ConnectState::Skipped | ConnectState::NotRequested => "not tried",
    };
    endpoint.port.map_or_else(|| state.to_owned(), |port| format!("{port} {state}"))
}

fn capitalised(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map(|first| first.to_uppercase().collect::<String>() + characters.as_str()).unwrap_or_default()
}
