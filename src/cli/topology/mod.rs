//! `netdiag topology`.

mod change;
mod draw;
mod site;

use super::{
    EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE, block_on,
    text::{Paint, print_and_exit, width},
};
use crate::{
    api::{Severity, Topology},
    service::{read_topology, read_topology_of_others},
    topology::{align, compare, read_saved},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  netdiag topology /usr/local/etc/config
  netdiag topology --json /usr/local/etc/config > before.json
  netdiag topology --compare before.json /usr/local/etc/config
  netdiag topology --elsewhere copy-of-a-site/
  netdiag topology --format dot /usr/local/etc/config | dot -Tsvg > site.svg";

/// Show what should talk to what, read from config directories.
///
/// Prints the devices that this controller connects to, the ports that it listens on, its own interfaces, and what is wrong with the
/// configs before a packet is sent; `netdiag explain CODE` says what to do about a problem. Nothing is probed.
///
/// Exit code 0: nothing is wrong (with --compare: nothing changed). 1: there are problems (changes). 2: a directory or the file to compare
/// with cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Directories of config files, read recursively.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Print the body that the bus would carry; the same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How to show it: text for people, json for programs, dot (Graphviz) or mermaid as a drawing.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The configs are those of other hosts: look at nothing of this one (routes, interfaces, names, what runs).
    #[arg(long)]
    elsewhere: bool,
    /// Tell what changed since a topology that was saved with --json.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Show every problem, also where there are many of a kind.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
    Dot,
    Mermaid,
}

pub(super) fn run(args: &Args) -> u8 {
    let format = if args.json { Format::Json } else { args.format };
    for dir in &args.dirs {
        if let Err(error) = std::fs::read_dir(dir) {
            eprintln!("netdiag topology: {}: {error}; name a directory that holds config files", dir.display());
            return EXIT_USAGE;
        }
    }
    let before = match args.compare.as_deref().map(saved).transpose() {
        Ok(before) => before,
        Err(error) => {
            eprintln!("netdiag topology: {error}");
            return EXIT_USAGE;
        }
    };
    if before.is_some() && matches!(format, Format::Dot | Format::Mermaid) {
        eprintln!("netdiag topology: a change can be shown as text or json, not drawn");
        return EXIT_USAGE;
    }
    let read = match args.elsewhere {
        true => block_on(read_topology_of_others(&args.dirs)),
        false => block_on(read_topology(&args.dirs)),
    };
    let mut topology = match read {
        Ok(topology) => topology,
        Err(code) => return code,
    };
    let json = |body: serde_json::Result<String>| body.unwrap_or_default() + "\n";
    let (text, is_sound) = match before {
        Some(mut before) => {
            align(&mut before, &mut topology);
            let change = compare(&before, &topology);
            let text = if format == Format::Json {
                json(serde_json::to_string(&change))
            } else {
                change::describe(&printable(&change), &printable(&before), &printable(&topology), Paint::stdout())
            };
            (text, change.is_empty())
        }
        None => {
            let text = match format {
                Format::Text => {
                    let text = site::describe(&printable(&topology), Paint::stdout(), width(), args.all);
                    if topology.files_scanned == 0 { text + &nothing_found(&args.dirs) } else { text }
                }
                Format::Json => json(serde_json::to_string(&topology)),
                Format::Dot => draw::dot(&printable(&topology)),
                Format::Mermaid => draw::mermaid(&printable(&topology)),
            };
            (text, topology.problems.iter().all(|problem| problem.severity < Severity::Warning))
        }
    };
    print_and_exit(&text, if is_sound { EXIT_OK } else { EXIT_PROBLEMS })
}

/// What to do where there is no file at all.
fn nothing_found(dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = dirs.iter().map(|dir| printable(&dir.display().to_string())).collect();
    format!(
        "There is no file whose name ends with .json below {}. Name the directory that holds the processes' directories \
         (modbus_client, dnp3_server, ...), usually /usr/local/etc/config.\n",
        dirs.join(", ")
    )
}

/// A copy whose texts cannot move a cursor, colour or turn around what is shown: configs and file names may hold any character.
fn printable<T: Serialize + DeserializeOwned + Clone>(value: &T) -> T {
    let Ok(mut json) = serde_json::to_value(value) else { return value.clone() };
    escape(&mut json);
    serde_json::from_value(json).unwrap_or_else(|_| value.clone())
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(is_unprintable) => {
            *text = text.chars().flat_map(|c| if is_unprintable(c) { escaped(c) } else { vec![c] }).collect();
        }
        Value::Array(values) => values.iter_mut().for_each(escape),
        Value::Object(fields) => fields.values_mut().for_each(escape),
        _ => {}
    }
}

fn escaped(c: char) -> Vec<char> {
    c.escape_default().collect()
}

/// Control characters, and those that turn the direction of writing or break lines.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The topology that was saved in this file.
fn saved(path: &Path) -> Result<Topology, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}; name a file that --json was saved to", path.display()))?;
    read_saved(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_config_reaches_a_terminal_as_a_command() {
        let texts = vec!["\u{1b}[31mred\n".to_owned(), "a\u{9b}b\u{202e}c".to_owned(), "größer → 1".to_owned()];
        assert_eq!(printable(&texts), [r"\u{1b}[31mred\n", r"a\u{9b}b\u{202e}c", "größer → 1"]);
    }
}
