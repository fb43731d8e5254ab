//! Looking up keys the way the process that reads the file does.

use super::{
    json::Json,
    outcome::{self, Does},
    problem::{ProblemCode, clip, quote},
    process::Process,
    reading::Reading,
};
use crate::api::Severity;
use std::borrow::Cow;

/// The longest name, id or uri that is kept of a file.
const MAX_NAME: usize = 256;

/// How a process finds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// As the Modbus clients do: exact spelling, and of duplicates the last.
    Exact,
    /// As servers and DNP3 processes do: any capitals, and of duplicates the first.
    AnyCase,
}

/// How many look-alikes of one object are named.
const MAX_LOOKALIKES: usize = 8;

/// Keys whose look-alikes are told, because they decide who talks to whom.
const TELLING_KEYS: [&str; 8] =
    ["ip_address", "port", "device_id", "serial_device", "master_address", "station_address", "local_uri", "max_num_connections"];

/// An object of a config, with the name by which problems call it.
#[derive(Clone)]
pub(super) struct Section<'t> {
    pub name: String,
    value: &'t Json<'t>,
    keys: Keys,
    reading: &'t Reading<'t>,
    /// Whether modbus_client does not look at the keys that are asked for.
    is_for_gcom: bool,
}

impl<'t> Section<'t> {
    pub fn new(name: impl Into<String>, value: &'t Json<'t>, keys: Keys, reading: &'t Reading<'t>) -> Self {
        Self { name: name.into(), value, keys, reading, is_for_gcom: false }
    }

    /// A point of this section, a register group.
    pub fn of_point(&self, point: &'t Json<'t>) -> Self {
        Self { name: format!("a point of {}", self.name), value: point, ..self.clone() }
    }

    /// Whether a part of a Modbus client's file is the object that it should be; if not, that is told.
    pub fn is_object_of_client(&self) -> bool {
        let is_object = matches!(self.value, Json::Object(_));
        if !is_object {
            let mistake = format!("{} is {}; it should be an object", self.name, self.value.type_name());
            self.tell_of_client("", ProblemCode::WrongType, &mistake, Does::Refuses, Does::Untold);
        }
        is_object
    }

    /// The same section, for keys that of the Modbus clients only gcom_modbus_client looks at: the other takes any type.
    pub fn for_gcom(&self) -> Self {
        Self { is_for_gcom: true, ..self.clone() }
    }

    /// Tells a problem of the usual severity at the place of a key; if the key is not there, where the section begins.
    pub fn tell(&self, key: &str, code: ProblemCode, message: impl Into<String>) {
        self.tell_as(key, code.severity(), code, message);
    }

    /// Tells a problem of a severity of its own at the place of a key.
    pub fn tell_as(&self, key: &str, severity: Severity, code: ProblemCode, message: impl Into<String>) {
        let entries = self.value.entries();
        let found = entries.iter().find(|(written, _)| self.matches(written, key)).or_else(|| entries.first());
        self.reading.notes.tell_at(found.map(|(written, _)| written.as_ref()), severity, code, message.into());
    }

    /// Tells a mistake in a Modbus client's file, as bad as what the client does about it.
    pub fn tell_of_client(&self, key: &str, code: ProblemCode, mistake: &str, legacy: Does<'_>, gcom: Does<'_>) {
        let (severity, does) = outcome::of_client(self.reading.process, legacy, gcom);
        let message = does.map_or_else(|| mistake.to_owned(), |does| format!("{mistake}; {does}"));
        self.tell_as(key, severity, code, message);
    }

    fn matches(&self, written: &str, key: &str) -> bool {
        match self.keys {
            Keys::Exact => written == key,
            Keys::AnyCase => written.eq_ignore_ascii_case(key),
        }
    }

    /// The value that the process takes for a key; a duplicate or an odd spelling is told.
    pub fn value(&self, key: &str) -> Option<&'t Json<'t>> {
        let mut found = self.value.entries().iter().filter(|(written, _)| self.matches(written, key));
        let (written, first) = found.next()?;
        if written != key {
            self.tell(key, ProblemCode::KeyCase, format!("{} in {} is read as `{key}`", quote(written), self.name));
        }
        let Some((_, last)) = found.next_back() else { return Some(first) };
        let (taken, which) = match self.keys {
            Keys::Exact => (last, "last"),
            Keys::AnyCase => (first, "first"),
        };
        self.tell(
            key,
            ProblemCode::DuplicateKey,
            format!("`{key}` stands more than once in {}; the {which} one was read", self.name),
        );
        Some(taken)
    }

    /// A text; anything else is told and counts as absent.
    pub fn text(&self, key: &str) -> Option<&'t str> {
        let value = self.value(key)?;
        value.as_text().or_else(|| self.wrong(key, "a text in quotes", value))
    }

    /// A text, cut to the length that a name may have.
    pub fn name_text(&self, key: &str) -> Option<String> {
        self.text(key).map(|text| clip(text, MAX_NAME))
    }

    /// The id in `system`, if it is a text. Silent, as every reader tells of an id that it cannot use.
    pub fn system_id(&self) -> Option<String> {
        self.value("id")?.as_text().map(|text| clip(text, MAX_NAME)).filter(|id| !id.is_empty())
    }

    /// A whole number; anything else is told and counts as absent. Servers and DNP3 processes cut off a fraction.
    pub fn integer(&self, key: &str) -> Option<i64> {
        let value = self.value(key)?;
        self.whole_number(value).or_else(|| self.wrong(key, "a whole number", value))
    }

    /// The whole number that the process makes of a value; silent about anything else.
    pub fn whole_number(&self, value: &Json<'_>) -> Option<i64> {
        match (value, self.keys) {
            (Json::Integer(number), _) => Some(*number),
            (Json::Float(number), Keys::AnyCase) => Some(*number as i64),
            _ => None,
        }
    }

    /// A number with or without a fraction; anything else is told and counts as absent.
    pub fn number(&self, key: &str) -> Option<f64> {
        let value = self.value(key)?;
        match value {
            Json::Integer(number) => Some(*number as f64),
            Json::Float(number) => Some(*number),
            _ => self.wrong(key, "a number", value),
        }
    }

    /// A whole number from 0.
    pub fn count(&self, key: &str) -> Option<u64> {
        let number = self.integer(key)?;
        u64::try_from(number).ok().or_else(|| {
            self.tell(key, ProblemCode::WrongType, format!("`{key}` in {} is {number}; it cannot be negative", self.name));
            None
        })
    }

    /// Whether a key is literally `true`.
    pub fn is_true(&self, key: &str) -> bool {
        self.flag(key) == Some(true)
    }

    /// True or false; anything else is told and counts as absent.
    pub fn flag(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        match value {
            Json::Bool(flag) => Some(*flag),
            _ => self.wrong(key, "true or false", value),
        }
    }

    /// The elements of a list; anything else is told and counts as absent.
    pub fn list(&self, key: &str) -> &'t [Json<'t>] {
        match self.value(key) {
            Some(Json::List(elements)) => elements,
            Some(value) => {
                self.wrong::<()>(key, "a list", value);
                &[]
            }
            None => &[],
        }
    }

    /// A Modbus unit id; one out of range is told and counts as absent.
    pub fn unit_id(&self) -> Option<u8> {
        let number = self.integer("device_id")?;
        u8::try_from(number).ok().or_else(|| {
            let message = format!("`device_id` in {} is {number}; a unit id is a number from 0 to 255", self.name);
            self.tell("device_id", ProblemCode::UnitIdInvalid, message);
            None
        })
    }

    /// Tells the keys that resemble one that matters and are not read.
    pub fn tell_lookalikes(&self) {
        let entries = self.value.entries();
        let is_present = |key: &str| entries.iter().any(|(written, _)| self.matches(written, key));
        let telling = TELLING_KEYS.map(|key| (key, is_present(key)));
        let mut unread = Vec::new();
        for (written, _) in entries.iter().filter(|(written, _)| written.len() <= 64) {
            let plain = normal(written);
            let resembled = telling.iter().find(|(key, _)| !self.matches(written, key) && resembles(&plain, key));
            match resembled {
                // A slip of the pen, rather than a note or a value put aside.
                Some((key, false)) if plain == *key => {
                    let message = format!("{} in {} is not read; the key is `{key}`", quote(written), self.name);
                    self.reading.notes.tell_at(Some(written), Severity::Warning, ProblemCode::LookalikeKey, message);
                }
                Some(_) if unread.len() < MAX_LOOKALIKES => unread.push(written.as_ref()),
                _ => {}
            }
        }
        if let Some(first) = unread.first() {
            let named: Vec<String> = unread.iter().map(|written| quote(written)).collect();
            let message = format!("not read in {}: {}", self.name, named.join(", "));
            self.reading.notes.tell_at(Some(first), ProblemCode::LookalikeKey.severity(), ProblemCode::LookalikeKey, message);
        }
    }

    /// Tells a value of the wrong type, and what the Modbus clients make of it; the others are not known to mind.
    pub fn wrong<T>(&self, key: &str, expected: &str, value: &Json<'_>) -> Option<T> {
        let mistake = format!("{} in {} is {}; it should be {expected}", quote(key), self.name, value.type_name());
        let by_default = Does::GoesOn("takes the default without a word");
        match (self.keys, self.is_for_gcom) {
            (Keys::AnyCase, _) => self.tell(key, ProblemCode::WrongType, mistake),
            (Keys::Exact, false) => self.tell_of_client(key, ProblemCode::WrongType, &mistake, Does::Refuses, by_default),
            (Keys::Exact, true) if self.reading.process == Some(Process::ModbusClient) => {}
            (Keys::Exact, true) => self.tell_of_client(key, ProblemCode::WrongType, &mistake, Does::Untold, by_default),
        }
        None
    }
}

/// A key in small letters with underscores for blanks.
fn normal(written: &str) -> String {
    written.trim().to_ascii_lowercase().replace([' ', '-'], "_")
}

/// Whether a key, in its normal form, looks like another: as a part of it, or, as `port` is part of many words, with a mark before
/// or a digit behind it.
fn resembles(plain: &str, key: &str) -> bool {
    match key {
        "port" => {
            let bare = plain.trim_end_matches(|c: char| c.is_ascii_digit());
            let bare = bare.strip_prefix("comment_").unwrap_or(bare).trim_start_matches(['x', 'y', '_']);
            bare == key
        }
        // The ranges of templates are told as such.
        _ => plain.contains(key) && !plain.ends_with("_range"),
    }
}

/// A text of a point; silent about anything else.
pub(super) fn point_text<'t>(point: &'t Json<'t>, key: &str, keys: Keys) -> Option<&'t str> {
    point_value(point, key, keys)?.as_text()
}

/// A value of a point, found as the process would.
pub(super) fn point_value<'t>(point: &'t Json<'t>, key: &str, keys: Keys) -> Option<&'t Json<'t>> {
    match keys {
        Keys::AnyCase => point.get_any_case(key),
        Keys::Exact => {
            point.entries().iter().rev().find(|(written, _): &&(Cow<'_, str>, Json<'_>)| written == key).map(|(_, value)| value)
        }
    }
}

/// A whole number from 0 of a point; silent about anything else.
pub(super) fn point_number(point: &Json<'_>, key: &str, keys: Keys) -> Option<u32> {
    match point_value(point, key, keys)? {
        Json::Integer(number) => u32::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{json::first_value, notes::Notes, port::Services};

    fn with_section<T>(text: &str, keys: Keys, read: impl Fn(&Section<'_>) -> T) -> (T, Vec<String>) {
        let (root, _) = first_value(text).unwrap();
        let (notes, services) = (Notes::new("a.json", ""), Services::default());
        let reading = Reading { path: "a.json", process: None, overrides: &[], services: &services, notes: &notes };
        let read = read(&Section::new("system", &root, keys, &reading));
        let codes = notes.into_problems().into_iter().map(|problem| problem.code).collect();
        (read, codes)
    }

    #[test]
    fn duplicates_and_capitals_are_taken_as_the_process_takes_them() {
        let text = r#"{"Port": 1, "port": 2}"#;
        assert_eq!(with_section(text, Keys::Exact, |section| section.integer("port")), (Some(2), vec![]));
        let (port, codes) = with_section(text, Keys::AnyCase, |section| section.integer("port"));
        assert_eq!((port, codes), (Some(1), vec!["config.key_case".to_owned(), "config.duplicate_key".to_owned()]));
        let (port, codes) = with_section(r#"{"port": 1, "port": 2}"#, Keys::Exact, |section| section.integer("port"));
        assert_eq!((port, codes), (Some(2), vec!["config.duplicate_key".to_owned()]));
    }

    #[test]
    fn a_wrong_type_is_told_and_counts_as_absent() {
        for text in [r#"{"device_id": "1"}"#, r#"{"device_id": 1.0}"#, r#"{"device_id": null}"#, r#"{"device_id": 256}"#] {
            let (unit, codes) = with_section(text, Keys::Exact, |section| section.unit_id());
            assert_eq!((unit, codes.len()), (None, 1), "{text}");
        }
        assert_eq!(with_section(r#"{"device_id": 7.9}"#, Keys::AnyCase, |section| section.unit_id()), (Some(7), vec![]));
        let (enabled, _) = with_section(r#"{"heartbeat_enabled": 1}"#, Keys::Exact, |section| section.is_true("heartbeat_enabled"));
        assert!(!enabled);
    }

    #[test]
    fn look_alikes_are_told_and_ordinary_words_are_not() {
        let (_, codes) = with_section(r#"{"device id": 1, "xport": 2, "report": 3, "transport": 4}"#, Keys::Exact, |section| {
            section.tell_lookalikes()
        });
        assert_eq!(codes.len(), 2);
        let (_, codes) =
            with_section(r#"{"port": 1, "support": 2, "port_name": 3}"#, Keys::Exact, |section| section.tell_lookalikes());
        assert_eq!(codes, Vec::<String>::new());
    }
}
