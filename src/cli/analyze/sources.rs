//! Where captures are read from, and how far the reading has come.

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

/// Of a directory, the files with one of these endings are captures; each may be followed by `.gz` or `.zst`.
const ENDINGS: [&str; 4] = ["pcap", "pcapng", "cap", "ntar"];
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

/// The captures that the arguments name, directories by their files in the order of their names; and what could not be found.
pub(super) fn all(arguments: &[PathBuf]) -> (Vec<Source>, Vec<String>) {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    for argument in arguments {
        if argument == Path::new("-") {
            sources.push(Source::Stdin);
        } else if argument.is_dir() {
            match captures_in(argument) {
                Ok(paths) if paths.is_empty() => {
                    problems.push(format!(
                        "{}: there is no file with the ending of a capture ({})",
                        argument.display(),
                        ENDINGS.join(", ")
                    ));
                }
                Ok(paths) => sources.extend(paths.into_iter().map(Source::File)),
                Err(error) => problems.push(format!("{}: {error}", argument.display())),
            }
        } else {
            sources.push(Source::File(argument.clone()));
        }
    }
    (sources, problems)
}

fn captures_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_capture_name(&path) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
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

    pub fn end(&mut self) {
        if self.was_shown {
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
