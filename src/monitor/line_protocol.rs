//! Points of a time series as the text that InfluxDB takes: the line protocol of its versions 1 and 2.
//!
//! `measurement,tag=value,tag=value field=1i,field=2.5,field="text",field=true 1700000000000`

use std::fmt::Write as _;

/// A value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    /// A whole number.
    Int(i64),
    /// A number; what is no number (NaN, infinite) is left out.
    Float(f64),
    /// A text.
    Text(&'a str),
    /// True or false.
    Bool(bool),
}

/// One point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    /// What was measured.
    pub measurement: &'a str,
    /// What it is known by; a tag without key or value is left out.
    pub tags: Vec<(&'a str, &'a str)>,
    /// The values; `None` is left out.
    pub fields: Vec<(&'a str, Option<Field<'a>>)>,
    /// When, in milliseconds since 1970: the precision `ms` must be asked for.
    pub unix_ms: i64,
}

/// Adds a point to a text, as one line. A point without a value adds nothing; gives whether there was one.
///
/// The text can hold no backslash and no control character outside of values in quotes: each becomes a `_`, so that no line can be
/// broken out of.
pub fn write_point(point: &Point<'_>, text: &mut String) -> bool {
    let mut fields = String::new();
    for (key, value) in point.fields.iter().filter(|(key, _)| !key.is_empty()) {
        let Some(value) = value.as_ref().and_then(written) else { continue };
        if !fields.is_empty() {
            fields.push(',');
        }
        escape(key, ",= ", &mut fields);
        fields.push('=');
        fields.push_str(&value);
    }
    if fields.is_empty() || point.measurement.is_empty() {
        return false;
    }
    // A line that begins with a `#` is a comment.
    match point.measurement.strip_prefix('#') {
        Some(rest) => {
            text.push('_');
            escape(rest, ", ", text);
        }
        None => escape(point.measurement, ", ", text),
    }
    for (key, value) in point.tags.iter().filter(|(key, value)| !key.is_empty() && !value.is_empty()) {
        text.push(',');
        escape(key, ",= ", text);
        text.push('=');
        escape(value, ",= ", text);
    }
    // Writing to a text cannot fail.
    let _ = writeln!(text, " {fields} {}", point.unix_ms);
    true
}

fn written(value: &Field<'_>) -> Option<String> {
    match value {
        Field::Int(number) => Some(format!("{number}i")),
        Field::Float(number) => number.is_finite().then(|| number.to_string()),
        Field::Bool(value) => Some(value.to_string()),
        Field::Text(text) => {
            let mut quoted = String::with_capacity(text.len() + 2);
            quoted.push('"');
            for character in text.chars() {
                match character {
                    '"' | '\\' => quoted.extend(['\\', character]),
                    control if control.is_control() => quoted.push(' '),
                    other => quoted.push(other),
                }
            }
            quoted.push('"');
            Some(quoted)
        }
    }
}

/// A name: special characters have a backslash before them, and what has no form is replaced.
fn escape(name: &str, special: &str, text: &mut String) {
    for character in name.chars() {
        match character {
            special_one if special.contains(special_one) => text.extend(['\\', special_one]),
            '\\' => text.push('_'),
            control if control.is_control() => text.push('_'),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(point: &Point<'_>) -> String {
        let mut text = String::new();
        write_point(point, &mut text);
        text
    }

    #[test]
    fn a_point_is_one_line() {
        let point = Point {
            measurement: "netdiag_endpoint",
            tags: vec![("host", "site 1"), ("name", "a,b=c"), ("empty", "")],
            fields: vec![
                ("requests", Some(Field::Int(60))),
                ("response_ms_p95", Some(Field::Float(2.5))),
                ("response_ms_max", None),
                ("mean", Some(Field::Float(f64::NAN))),
                ("health_text", Some(Field::Text("it says \"no\", \\ and\nmore"))),
                ("ok", Some(Field::Bool(true))),
            ],
            unix_ms: 1_700_000_000_123,
        };
        assert_eq!(
            line(&point),
            "netdiag_endpoint,host=site\\ 1,name=a\\,b\\=c requests=60i,response_ms_p95=2.5,\
             health_text=\"it says \\\"no\\\", \\\\ and more\",ok=true 1700000000123\n"
        );
    }

    #[test]
    fn without_a_value_there_is_no_point() {
        let point = Point {
            measurement: "m",
            tags: vec![],
            fields: vec![("a", None), ("b", Some(Field::Float(f64::INFINITY)))],
            unix_ms: 0,
        };
        assert_eq!(line(&point), "");
        assert!(!write_point(&point, &mut String::new()));
    }

    /// A line read by the rules of the protocol's reference, by another hand than the one that writes.
    #[derive(Debug, PartialEq)]
    struct Read {
        measurement: String,
        tags: Vec<(String, String)>,
        fields: Vec<(String, Value)>,
        time: i64,
    }

    #[derive(Debug, PartialEq)]
    enum Value {
        Int(i64),
        Float(f64),
        Text(String),
        Bool(bool),
    }

    /// Takes characters until one of `ends` that has no backslash before it; gives the text and the end.
    fn until(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, ends: &str) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(character) = rest.next() {
            match character {
                '\\' => match rest.next() {
                    Some(escaped) if ",= ".contains(escaped) => text.push(escaped),
                    other => panic!("a backslash before {other:?}"),
                },
                end if ends.contains(end) => return (text, Some(end)),
                other => text.push(other),
            }
        }
        (text, None)
    }

    fn read(line: &str) -> Read {
        let mut rest = line.chars().peekable();
        let (measurement, mut end) = until(&mut rest, ", ");
        let (mut tags, mut fields) = (Vec::new(), Vec::new());
        while end == Some(',') {
            let (key, equals) = until(&mut rest, "=, ");
            assert_eq!(equals, Some('='), "{line}");
            let (value, next) = until(&mut rest, ", ");
            tags.push((key, value));
            end = next;
        }
        assert_eq!(end, Some(' '), "{line}");
        loop {
            let (key, equals) = until(&mut rest, "=, ");
            assert_eq!(equals, Some('='), "{line}");
            let value = if rest.next_if_eq(&'"').is_some() {
                let mut text = String::new();
                loop {
                    match rest.next().unwrap() {
                        '\\' => text.push(rest.next().unwrap()),
                        '"' => break,
                        other => text.push(other),
                    }
                }
                end = rest.next();
                Value::Text(text)
            } else {
                let (word, next) = until(&mut rest, ", ");
                end = next;
                match (word.strip_suffix('i'), word.as_str()) {
                    (Some(number), _) => Value::Int(number.parse().unwrap()),
                    (None, "true") => Value::Bool(true),
                    (None, "false") => Value::Bool(false),
                    (None, number) => Value::Float(number.parse().unwrap()),
                }
            };
            fields.push((key, value));
            if end == Some(' ') {
                break;
            }
            assert_eq!(end, Some(','), "{line}");
        }
        let time: String = rest.collect();
        Read { measurement, tags, fields, time: time.parse().unwrap() }
    }

    fn name(text: &str) -> String {
        text.chars().map(|c| if c == '\\' || c.is_control() { '_' } else { c }).collect()
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c ,=\\\\\"#\n\r\t]{0,8}", any::<String>()]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            measurement in text(), tags in prop::collection::vec((text(), text()), 0..5), names in prop::collection::vec(text(), 4),
            int: i64, float: f64, words in text(), truth: bool, unix_ms: i64,
        ) {
            let values = [Field::Int(int), Field::Float(float), Field::Text(&words), Field::Bool(truth)];
            let point = Point {
                measurement: &measurement,
                tags: tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
                fields: names.iter().map(String::as_str).zip(values.map(Some)).collect(),
                unix_ms,
            };
            let line = line(&point);
            if measurement.is_empty() || (names.iter().zip(values).all(|(key, value)| key.is_empty() || written(&value).is_none())) {
                prop_assert_eq!(line, "");
                return Ok(());
            }
            let one = line.strip_suffix('\n').unwrap();
            prop_assert!(!one.contains(['\n', '\r']) && !one.starts_with('#'));
            let read = read(one);
            let first = |text: String| if let Some(rest) = text.strip_prefix('#') { format!("_{rest}") } else { text };
            prop_assert_eq!(&read.measurement, &first(name(&measurement)));
            let expected: Vec<_> = tags.iter().filter(|(key, value)| !key.is_empty() && !value.is_empty()).map(|(key, value)| (name(key), name(value))).collect();
            prop_assert_eq!(&read.tags, &expected);
            let expected: Vec<(String, Value)> = names.iter().zip(values).filter(|(key, _)| !key.is_empty()).filter_map(|(key, value)| {
                let value = match value {
                    Field::Int(number) => Value::Int(number),
                    Field::Float(number) if number.is_finite() => Value::Float(number),
                    Field::Float(_) => return None,
                    Field::Text(text) => Value::Text(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()),
                    Field::Bool(truth) => Value::Bool(truth),
                };
                Some((name(key), value))
            }).collect();
            prop_assert_eq!(&read.fields, &expected);
            prop_assert_eq!(read.time, unix_ms);
        }
    }
}
