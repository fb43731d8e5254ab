//! What the words behind the file on a command line make of the file.

use crate::topology::json::Json;
use std::borrow::Cow;

/// The keys of `connection` that hold numbers; the others hold texts.
const NUMBERS: [&str; 8] =
    ["port", "device_id", "baud_rate", "data_bits", "stop_bits", "max_num_connections", "connection_timeout", "transfer_timeout"];

/// A Modbus client's config as if what a command line overrides stood in the file's `connection`. Components that leave a value to
/// their connection inherit the new one. An address takes the place of the file's serial line, and the other way round.
pub(in crate::topology) fn overridden<'t>(root: &Json<'t>, overrides: &[(String, String)]) -> Json<'t> {
    let mut root = root.clone();
    let Json::Object(entries) = &mut root else { return root };
    // Of duplicates the clients take the last.
    let connection = entries.iter_mut().rev().find(|(key, _)| key == "connection").map(|(_, value)| value);
    let Some(Json::Object(connection)) = connection else { return root };
    let mut displaced = Vec::new();
    for (key, _) in overrides {
        match key.as_str() {
            "ip" => displaced.push("serial_device"),
            "serial_device" => displaced.push("ip_address"),
            _ => {}
        }
    }
    connection.retain(|(key, _)| !displaced.contains(&key.as_ref()));
    for (word, value) in overrides {
        let key = if word == "ip" { "ip_address" } else { word };
        connection.retain(|(known, _)| known != key);
        connection.push((Cow::Owned(key.to_owned()), typed(key, value)));
    }
    root
}

/// The value as it would stand in the file. What should be a number and is none stays a text, which the reader tells.
fn typed<'t>(key: &str, value: &str) -> Json<'t> {
    let text = || Json::Text(Cow::Owned(value.to_owned()));
    if !NUMBERS.contains(&key) {
        return text();
    }
    match (value.parse::<i64>(), value.parse::<f64>()) {
        (Ok(number), _) => Json::Integer(number),
        (Err(_), Ok(number)) => Json::Float(number),
        _ => text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::json::first_value;

    #[test]
    fn a_word_takes_the_place_of_the_key_however_often_that_stands_there() {
        let text = r#"{"connection": {"name": "n", "port": 502, "serial_device": "/dev/a", "port": 503}, "components": []}"#;
        let (root, _) = first_value(text).unwrap();
        let words = [("ip", "10.0.0.1"), ("port", "1502"), ("connection_timeout", "0.5"), ("baud_rate", "fast")];
        let words = words.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let expected = r#"{"connection": {"name": "n", "ip_address": "10.0.0.1", "port": 1502, "connection_timeout": 0.5,
            "baud_rate": "fast"}, "components": []}"#;
        assert_eq!(overridden(&root, &words), first_value(expected).unwrap().0);
        for text in ["[]", "{}", r#"{"connection": 1}"#] {
            let (root, _) = first_value(text).unwrap();
            assert_eq!(overridden(&root, &words), root);
        }
    }
}
