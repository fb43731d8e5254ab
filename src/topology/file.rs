//! One file: from its bytes to what it says.

use super::{
    activity::{Launch, Starter, listed_starters, overridden},
    dnp3,
    json::{Json, JsonError, MAX_DEPTH, MAX_VALUES, Position, first_value},
    kind::{FileKind, recognise},
    modbus_client, modbus_server,
    notes::Notes,
    outcome::{self, Does},
    port::Services,
    problem::{ProblemCode, clip},
    process::Process,
    reading::Reading,
    repair::blank_out,
};
use crate::api::{Direction, Endpoint, Heartbeat, Problem, Protocol, Severity};
use std::borrow::Cow;

/// What one file says.
#[derive(Debug, Clone, PartialEq)]
pub struct FileReport {
    /// The path, as it was given.
    pub path: String,
    /// What the file is.
    pub kind: FileKind,
    /// The process that is started with it, else the one whose directory it lies in, if that can read it.
    pub process: Option<Process>,
    /// What it connects to or listens on; a config describes at most one.
    pub endpoint: Option<Endpoint>,
    /// Its heartbeats and watchdogs.
    pub heartbeats: Vec<Heartbeat>,
    /// The files that a DNP3 file list names.
    pub listed_files: Vec<String>,
    /// The DNP3 files that stand behind this one on a command line, and share its channel.
    pub started_together: Vec<String>,
    /// What a list of processes starts.
    pub starters: Vec<Starter>,
    /// What is wrong with it, or questionable.
    pub problems: Vec<Problem>,
}

impl FileReport {
    /// Whether it is a config of a process that netdiag knows, or a broken one in the directory of such a process.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self.kind, FileKind::NotOurs | FileKind::ProcessList)
    }
}

/// What a reader makes of a config.
pub(super) struct Found {
    pub endpoint: Endpoint,
    pub heartbeats: Vec<Heartbeat>,
}

/// Reads a file. `path` tells the process (by its folders) and, for DNP3, the role; it is not opened. Service names are unknown.
pub fn read_file(path: &str, bytes: &[u8]) -> FileReport {
    read_file_with(path, bytes, &Services::default())
}

/// Reads a file on a host that knows these services.
pub fn read_file_with(path: &str, bytes: &[u8], services: &Services) -> FileReport {
    read_file_as(path, bytes, services, None)
}

/// Reads a file as a process does that was started with it, where one is: it is the process, not the directory, that decides the
/// defaults and, for DNP3, the role; and what its command line overrides goes before the file.
pub(super) fn read_file_as(path: &str, bytes: &[u8], services: &Services, launch: Option<&Launch>) -> FileReport {
    let text = Text::of(bytes);
    let notes = Notes::new(path, &text.text);
    let process = launch.map(|launch| launch.process).or_else(|| Process::of_path(path));
    let overrides = launch.map(|launch| launch.overrides.as_slice()).unwrap_or_default();
    let report = FileReport {
        path: path.to_owned(),
        kind: FileKind::Broken,
        process,
        endpoint: None,
        heartbeats: Vec::new(),
        listed_files: Vec::new(),
        started_together: Vec::new(),
        starters: Vec::new(),
        problems: Vec::new(),
    };
    let reading = Reading { path, process, overrides, services, notes: &notes };
    // The tolerant second look is only for what the first one refuses.
    let first = first_value(&text.text);
    let mut report = match first {
        Ok((root, extra)) => read_root(report, &root, &text, extra, None, &reading),
        Err(error) => match blank_out(&text.text).map(|(mended, repairs)| (mended, repairs.describe())) {
            Some((mended, repairs)) if matches!(error, JsonError::Syntax { .. }) => match first_value(&mended) {
                Ok((root, extra)) => {
                    notes.read_from(&mended);
                    read_root(report, &root, &text, extra, Some((error, repairs)), &reading)
                }
                Err(_) => broken(report, &text, error, &reading),
            },
            _ => broken(report, &text, error, &reading),
        },
    };
    report.problems = notes.into_problems();
    if let Some(endpoint) = &report.endpoint {
        for problem in &mut report.problems {
            problem.endpoint_id = Some(endpoint.endpoint_id.clone());
        }
    }
    report
}

/// The text of a file, and what was odd about its bytes.
struct Text<'b> {
    text: Cow<'b, str>,
    has_mark: bool,
    /// The first place that is no UTF-8.
    not_utf8: Option<Position>,
}

impl<'b> Text<'b> {
    fn of(bytes: &'b [u8]) -> Self {
        let (bytes, has_mark) = match bytes.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) => (rest, true),
            None => (bytes, false),
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text: Cow::Borrowed(text), has_mark, not_utf8: None },
            Err(error) => {
                let not_utf8 = Some(Position::of_offset(bytes, error.valid_up_to()));
                Self { text: String::from_utf8_lossy(bytes), has_mark, not_utf8 }
            }
        }
    }
}

fn tell_at(reading: &Reading<'_>, code: ProblemCode, severity: Severity, position: Option<Position>, message: String) {
    let (line, column) = (position.map(|position| position.line), position.map(|position| position.column));
    reading.notes.add(Problem { severity, line, column, ..code.at(reading.path, message) }, code);
}

/// How bad it is that a file cannot be read: a file in a process's directory is one that a process fails over.
fn severity_of_broken(reading: &Reading<'_>) -> Severity {
    if reading.process.is_some() { Severity::Alarm } else { Severity::Warning }
}

fn broken(report: FileReport, text: &Text<'_>, error: JsonError, reading: &Reading<'_>) -> FileReport {
    let severity = severity_of_broken(reading);
    if let Some(position) = text.not_utf8 {
        let message = "the file is neither valid UTF-8 nor JSON; save it as UTF-8, or move it away if it is no config".to_owned();
        tell_at(reading, ProblemCode::NotUtf8, severity, Some(position), message);
        return report;
    }
    match error {
        JsonError::Syntax { position, message } => {
            let message = match text.text.trim() {
                "" => "the file is empty".to_owned(),
                _ => format!("no valid JSON: {}; mend the text here", clip(&message, 200)),
            };
            tell_at(reading, ProblemCode::JsonSyntax, severity, Some(position), message);
        }
        JsonError::TooDeep { position } => {
            let message = format!("the JSON is nested deeper than {MAX_DEPTH} levels");
            tell_at(reading, ProblemCode::TooDeep, severity, Some(position), message);
        }
        JsonError::TooLarge => {
            let message = format!("the JSON holds more than {MAX_VALUES} keys and values");
            tell_at(reading, ProblemCode::TooLarge, severity, None, message);
        }
    }
    report
}

/// Reads a file whose JSON has been read, whatever had to be mended for it.
fn read_root(
    mut report: FileReport,
    root: &Json<'_>,
    text: &Text<'_>,
    extra: Option<Position>,
    mended: Option<(JsonError, String)>,
    reading: &Reading<'_>,
) -> FileReport {
    report.kind = recognise(root);
    if report.kind == FileKind::ProcessList {
        report.starters = listed_starters(root, &report.path);
        return report;
    }
    if report.kind == FileKind::NotOurs {
        // A text that only begins like JSON is broken; a whole JSON document of another program is none of our business.
        if !matches!(root, Json::Object(_) | Json::List(_)) && (extra.is_some() || text.not_utf8.is_some()) {
            report.kind = FileKind::Broken;
            let position = extra.unwrap_or(Position { line: 1, column: 1 });
            return broken(report, text, JsonError::Syntax { position, message: "trailing characters".to_owned() }, reading);
        }
        if let Some((error, _)) = mended {
            report.kind = FileKind::Broken;
            return broken(report, text, error, reading);
        }
        return report;
    }
    let reading = Reading { process: fitting_process(report.kind, reading), ..*reading };
    report.process = reading.process;
    let is_client = report.kind.reader() == Some((Protocol::Modbus, Some(Direction::Outbound)));
    tell_about_text(text, extra, mended, is_client, &reading);

    let found = match report.kind {
        FileKind::ModbusClient if !reading.overrides.is_empty() => {
            modbus_client::read(&overridden(root, reading.overrides), &reading)
        }
        FileKind::ModbusClient => modbus_client::read(root, &reading),
        FileKind::ModbusClientSingle => modbus_client::read_single(root, &reading),
        FileKind::ModbusServer | FileKind::ModbusServerUnits => modbus_server::read(root, &reading),
        FileKind::Dnp3Registers | FileKind::Dnp3Objects => dnp3::read(root, &reading),
        FileKind::Dnp3FileList => {
            let files = root.get_any_case("files").map(Json::elements).unwrap_or_default();
            report.listed_files = files.iter().filter_map(Json::as_text).take(1024).map(|file| clip(file, 1024)).collect();
            None
        }
        FileKind::ProcessList | FileKind::NotOurs | FileKind::Broken => None,
    };
    if let Some(found) = found {
        report.heartbeats = found.heartbeats;
        for heartbeat in &mut report.heartbeats {
            heartbeat.endpoint_id.clone_from(&found.endpoint.endpoint_id);
        }
        report.endpoint = Some(found.endpoint);
    }
    report
}

/// The process, unless it cannot read this kind of file, which is told.
fn fitting_process(kind: FileKind, reading: &Reading<'_>) -> Option<Process> {
    let process = reading.process?;
    if kind.suits(process) {
        return Some(process);
    }
    let (protocol, direction) = kind.reader()?;
    let side = match direction {
        Some(Direction::Outbound) => "client",
        Some(Direction::Inbound) => "server",
        _ => "master or outstation",
    };
    let message = format!("the file is in the directory of {process}, but its content is for a {protocol} {side}");
    reading.notes.tell(ProblemCode::WrongDirectory, message);
    None
}

fn tell_about_text(
    text: &Text<'_>,
    extra: Option<Position>,
    mended: Option<(JsonError, String)>,
    is_client: bool,
    reading: &Reading<'_>,
) {
    if text.has_mark {
        reading.notes.tell(ProblemCode::ByteOrderMark, "the file begins with a UTF-8 byte order mark");
    }
    let refused = if is_client { severity_of_broken(reading) } else { Severity::Warning };
    if let Some(position) = text.not_utf8 {
        let message = match is_client {
            true => "not valid UTF-8 here; Modbus clients refuse the file",
            false => "not valid UTF-8 here; the process does not notice",
        };
        tell_at(reading, ProblemCode::NotUtf8, refused, Some(position), message.to_owned());
    }
    if let Some((JsonError::Syntax { position, message }, repairs)) = mended {
        let message = format!("no valid JSON: {message}; the file was read without {repairs}, but its process refuses it");
        tell_at(reading, ProblemCode::JsonSyntax, severity_of_broken(reading), Some(position), message);
    }
    if extra.is_some() {
        let (severity, does) = match is_client {
            true => outcome::of_client(reading.process, Does::GoesOn("may take what stands before it"), Does::Refuses),
            false => (Severity::Warning, Some("the process does not notice".to_owned())),
        };
        let message = format!("text follows the end of the JSON; {}", does.unwrap_or_default());
        tell_at(reading, ProblemCode::ExtraData, severity, extra, message);
    }
}
