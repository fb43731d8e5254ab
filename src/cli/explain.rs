//! `netdiag explain`.

use super::{
    EXIT_OK, EXIT_USAGE,
    text::{Paint, print_and_exit, width, wrap},
};
use crate::{analysis::catalogue, topology::ProblemCode};
use serde::Serialize;
use std::fmt::Write as _;

/// Explain a finding's code: what it means, usual causes, what to check first.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The code, for instance tcp.syn_unanswered; without one, all codes are listed.
    code: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is said of a code, whether it is about the wire or about a config.
#[derive(Debug, Clone, Serialize)]
struct Explanation {
    code: &'static str,
    title: &'static str,
    meaning: &'static str,
    causes: &'static [&'static str],
    check_first: Vec<&'static str>,
}

/// Every code there is, those of the wire first.
fn explanations() -> Vec<Explanation> {
    let wire = catalogue::ENTRIES.iter().map(|entry| Explanation {
        code: entry.code,
        title: entry.title,
        meaning: entry.meaning,
        causes: entry.causes,
        check_first: entry.check.to_vec(),
    });
    let config = ProblemCode::ALL.iter().map(|problem| Explanation {
        code: problem.code(),
        title: problem.meaning(),
        meaning: "",
        causes: &[],
        check_first: vec![problem.advice()],
    });
    wire.chain(config).collect()
}

pub(super) fn run(args: &Args) -> u8 {
    let all = explanations();
    let chosen = match &args.code {
        None => None,
        Some(code) => match all.iter().find(|explanation| explanation.code == code) {
            Some(explanation) => Some(explanation),
            None => {
                eprintln!("netdiag explain: there is no code `{code}`; run `netdiag explain` to see them all");
                return EXIT_USAGE;
            }
        },
    };
    let text = match (chosen, args.json) {
        (Some(explanation), true) => serde_json::to_string(explanation).unwrap_or_default() + "\n",
        (None, true) => serde_json::to_string(&all).unwrap_or_default() + "\n",
        (Some(explanation), false) => describe(explanation),
        (None, false) => list(&all),
    };
    print_and_exit(&text, EXIT_OK)
}

fn list(all: &[Explanation]) -> String {
    let mut text = String::new();
    for explanation in all {
        let _ = writeln!(text, "{:<32} {}", explanation.code, explanation.title);
    }
    text
}

fn describe(explanation: &Explanation) -> String {
    let paint = Paint::stdout();
    let mut text = format!("{}: {}\n", paint.bold(explanation.code), explanation.title);
    let meaning: &[&str] = if explanation.meaning.is_empty() { &[] } else { &[explanation.meaning] };
    for (title, paragraphs) in
        [("Meaning", meaning), ("Usual causes", explanation.causes), ("Check first", &explanation.check_first)]
    {
        if paragraphs.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{}", paint.bold(title));
        for paragraph in paragraphs {
            for (number, line) in wrap(paragraph, width() - 4).into_iter().enumerate() {
                let bullet = if number == 0 && paragraphs.len() > 1 { "-" } else { " " };
                let _ = writeln!(text, "  {bullet} {line}");
            }
        }
    }
    text
}
