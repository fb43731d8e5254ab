//! JSON as the config processes see it: order and duplicate keys kept, whole numbers told from those with a fraction.

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, cell::Cell, fmt};

/// The deepest nesting that is read; a real config has seven levels.
pub(super) const MAX_DEPTH: u32 = 64;
/// The most keys and values in one document, which bounds the memory that a hostile file can take.
pub(super) const MAX_VALUES: u32 = 1_000_000;

/// A JSON value, borrowed from the text where the text allows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// A number without fraction and exponent.
    Integer(i64),
    /// Any other number.
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// Keys in the order of the text, duplicates kept.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// What it is, in words.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The first value of a key whose spelling matches; `None` where there is none and in what is no object.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The first value of a key in any mixture of capitals and small letters.
    pub fn get_any_case(&self, key: &str) -> Option<&Json<'a>> {
        self.entries().iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    /// The entries of an object; none of anything else.
    pub fn entries(&self) -> &[(Cow<'a, str>, Json<'a>)] {
        match self {
            Self::Object(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; none of anything else.
    pub fn elements(&self) -> &[Json<'a>] {
        match self {
            Self::List(elements) => elements,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A place in a text, both from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    /// The place of a byte offset; at most the place after the last character.
    pub fn of_offset(text: &[u8], offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let newlines = before.iter().filter(|&&byte| byte == b'\n').count();
        let in_line = before.get(line_start..).unwrap_or_default();
        Self { line: count(newlines + 1), column: count(String::from_utf8_lossy(in_line).chars().count() + 1) }
    }

    /// The place that serde_json names by line and byte column.
    fn of_error(text: &str, error: &serde_json::Error) -> Self {
        if error.is_eof() {
            return Self::of_offset(text.as_bytes(), text.len());
        }
        let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default().as_bytes();
        let before = line.get(..error.column().saturating_sub(1)).unwrap_or(line);
        Self { line: count(error.line()), column: count(String::from_utf8_lossy(before).chars().count() + 1) }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Why a text could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonError {
    /// It breaks the rules of JSON.
    Syntax { position: Position, message: String },
    /// It nests deeper than [`MAX_DEPTH`].
    TooDeep { position: Position },
    /// It has more than [`MAX_VALUES`] values.
    TooLarge,
}

/// Reads the first value of a text; beside it the place where other text follows, if it does.
pub(super) fn first_value(text: &str) -> Result<(Json<'_>, Option<Position>), JsonError> {
    let limits = Limits { values_left: Cell::new(MAX_VALUES), too_deep: Cell::new(false) };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match (Value { limits: &limits, depth: 0 }).deserialize(&mut deserializer) {
        Ok(root) => Ok((root, deserializer.end().err().map(|error| Position::of_error(text, &error)))),
        Err(error) if limits.too_deep.get() => Err(JsonError::TooDeep { position: Position::of_error(text, &error) }),
        Err(_) if limits.values_left.get() == 0 => Err(JsonError::TooLarge),
        Err(error) => Err(JsonError::Syntax { position: Position::of_error(text, &error), message: without_position(&error) }),
    }
}

/// serde_json's message without the place, which stands in fields of its own.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message.get(..end).unwrap_or(&message).to_owned(),
        None => message,
    }
}

/// What one document may still take.
struct Limits {
    values_left: Cell<u32>,
    too_deep: Cell<bool>,
}

impl Limits {
    fn enter<E: serde::de::Error>(&self, depth: u32) -> Result<(), E> {
        if depth > MAX_DEPTH {
            self.too_deep.set(true);
            return Err(E::custom("nested too deeply"));
        }
        Ok(())
    }

    fn take_one<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.values_left.get().saturating_sub(1);
        self.values_left.set(left);
        if left == 0 { Err(E::custom("too many values")) } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
struct Value<'l> {
    limits: &'l Limits,
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        self.limits.take_one()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let below = Self { limits: self.limits, depth: self.depth + 1 };
        self.limits.enter(below.depth)?;
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(below)? {
            elements.push(element);
        }
        Ok(Json::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let below = Self { limits: self.limits, depth: self.depth + 1 };
        self.limits.enter(below.depth)?;
        let mut entries = Vec::new();
        while let Some(key) = access.next_key_seed(below)? {
            let Json::Text(key) = key else { return Err(A::Error::custom("a key must be a text")) };
            entries.push((key, access.next_value_seed(below)?));
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn syntax(text: &str) -> (u32, u32) {
        match first_value(text) {
            Err(JsonError::Syntax { position, .. }) => (position.line, position.column),
            other => panic!("expected a syntax error, got {other:?}"),
        }
    }

    #[test]
    fn keeps_order_duplicates_and_the_kind_of_number() {
        let (root, extra) = first_value(r#"{"b": 1, "a": 1.0, "b": 1e0, "c": 18446744073709551615}"#).unwrap();
        let keys: Vec<&str> = root.entries().iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, ["b", "a", "b", "c"]);
        assert_eq!(root.get("b"), Some(&Json::Integer(1)));
        assert_eq!(root.get("a"), Some(&Json::Float(1.0)));
        assert_eq!(root.get_any_case("B"), Some(&Json::Integer(1)));
        assert!(matches!(root.get("c"), Some(Json::Float(_))));
        assert_eq!(extra, None);
    }

    #[test]
    fn places_are_where_the_offending_character_stands() {
        assert_eq!(syntax("{\n  \"a\": 1\n  \"b\": 2}"), (3, 3));
        assert_eq!(syntax("{\"ä\": 1, \"ö\" 2}"), (1, 14));
        assert_eq!(syntax("{\"a\": [1, 2\n"), (2, 1));
        assert_eq!(syntax(""), (1, 1));
        assert_eq!(syntax("/usr/bin/true"), (1, 1));
        let (_, extra) = first_value("{}\n\n  }").unwrap();
        assert_eq!(extra, Some(Position { line: 3, column: 3 }));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let deep = "[".repeat(100_000);
        assert!(matches!(first_value(&deep), Err(JsonError::TooDeep { .. })));
        let within = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(first_value(&within).is_ok());
        let many = format!("[{}0]", "0,".repeat(1_000_000));
        assert_eq!(first_value(&many), Err(JsonError::TooLarge));
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads(text in r#"[\[\]{}",:a0-9.eE\\ \n-]{0,40}"#) {
            let ours = matches!(first_value(&text), Ok((_, None)));
            prop_assert_eq!(ours, serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
