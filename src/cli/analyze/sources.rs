//! Where captures are read from, and how far the reading has come.

use crate::analysis::begins_as_capture;
use std::{
    fmt, fs,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Files with one of these endings are meant to be captures, whatever they begin with; each may be followed by `.gz` or `.zst`.
const ENDINGS: [&str; 4] = ["pcap", "pcapng", "cap", "ntar"];
/// Of files that are left out, so many are named.
const NAMED: usize = 3;
/// Progress is told of files that take longer than this, ...
const QUIET: Duration = Duration::from_millis(500);
/// ... this often.
const BETWEEN: Duration = Duration::from_millis(200);

/// A capture to look at.
pub(super) enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Source {
    /// Opens it; `meter` counts what is read.
    pub fn open(&self, meter: &Meter) -> io::Result<Box<dyn Read + Send>> {
        let read = Arc::clone(&meter.read);
        Ok(match self {
            Self::Stdin => Box::new(Counted { source: io::stdin(), read }),
            Self::File(path) => Box::new(Counted { source: fs::File::open(path)?, read }),
        })
    }
}

/// What the arguments come to.
#[derive(Default)]
pub(super) struct Found {
    /// The captures, those of a directory in the order of their names.
    pub sources: Vec<Source>,
    /// What could not be found or read.
    pub problems: Vec<String>,
    /// What was left out, which is no problem.
    pub notes: Vec<String>,
}

/// The captures that the arguments name. Of a directory and all in it, captures are what begins as one or is named as one.
pub(super) fn all(arguments: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for argument in arguments {
        if argument == Path::new("-") {
            found.sources.push(Source::Stdin);
        } else if argument.is_dir() {
            let (before, mut left_out) = (found.sources.len() + found.problems.len(), Vec::new());
            below(argument, &mut found, &mut left_out);
            let others = match left_out.len() {
                0 => String::new(),
                count => {
                    let mut names: Vec<String> = left_out.iter().take(NAMED).map(|path| path.display().to_string()).collect();
                    names.extend((count > NAMED).then(|| "…".to_owned()));
                    format!("{count} {} no capture: {}", if count == 1 { "file is" } else { "files are" }, names.join(", "))
                }
            };
            if found.sources.len() + found.problems.len() == before {
                let why = if others.is_empty() { String::new() } else { format!("; {others}") };
                found.problems.push(format!("{}: there is no capture in it{why}", argument.display()));
            } else if !others.is_empty() {
                found.notes.push(format!("{}: {others}", argument.display()));
            }
        } else {
            found.sources.push(Source::File(argument.clone()));
        }
    }
    found
}

/// Links to directories are not followed, so that this ends.
fn below(dir: &Path, found: &mut Found, left_out: &mut Vec<PathBuf>) {
    let listed = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut paths = match listed {
        Ok(paths) => paths,
        Err(error) => return found.problems.push(format!("{}: {error}", dir.display())),
    };
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if !path.is_symlink() {
                below(&path, found, left_out);
            }
        } else if path.is_file() {
            let is_capture = is_capture_name(&path) || fs::File::open(&path).and_then(begins_as_capture).unwrap_or(false);
            if is_capture { found.sources.push(Source::File(path)) } else { left_out.push(path) }
        }
    }
}

fn is_capture_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    plain.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

struct Counted<R> {
    source: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Tells on a terminal how far a long file is read.
pub(super) struct Meter {
    name: String,
    is_on: bool,
    bytes: Option<u64>,
    read: Arc<AtomicU64>,
    next: Instant,
    was_shown: bool,
}

impl Meter {
    pub fn new(source: &Source, is_on: bool) -> Self {
        let bytes = match source {
            Source::File(path) => path.metadata().ok().map(|metadata| metadata.len()).filter(|bytes| *bytes > 0),
            Source::Stdin => None,
        };
        Self { name: source.to_string(), is_on, bytes, read: Arc::default(), next: Instant::now() + QUIET, was_shown: false }
    }

    pub fn tell(&mut self, packets: u64) {
        if !self.is_on || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + BETWEEN;
        self.was_shown = true;
        let read = self.read.load(Ordering::Relaxed);
        let part = self.bytes.map_or_else(String::new, |bytes| format!("{} %, ", (read.min(bytes) * 100) / bytes));
        let _ = write!(io::stderr(), "\r{}: {part}{packets} packets\x1b[K", self.name);
    }

    /// Takes the line away, for what is printed next.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.was_shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_known_by_their_endings() {
        for name in ["a.pcap", "a.PCAPNG", "a.b.pcap.gz", "a.cap.zst"] {
            assert!(is_capture_name(Path::new(name)), "{name}");
        }
        for name in ["a.txt", "pcap", "a.pcap.txt", "a.gz", ".pcap.swp"] {
            assert!(!is_capture_name(Path::new(name)), "{name}");
        }
    }
}
