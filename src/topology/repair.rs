//! The tolerant second look at a text that is no JSON: comments and trailing commas are blanked out.

/// What was blanked out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Repairs {
    pub trailing_commas: u32,
    pub comments: u32,
}

impl Repairs {
    /// In words, for instance `1 trailing comma`.
    pub fn describe(self) -> String {
        let part = |number: u32, what: &str| match number {
            0 => None,
            1 => Some(format!("1 {what}")),
            _ => Some(format!("{number} {what}s")),
        };
        let parts = [part(self.trailing_commas, "trailing comma"), part(self.comments, "comment")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

#[derive(Clone, Copy)]
enum State {
    Plain,
    Text,
    Escape,
    LineComment,
    BlockComment,
}

/// The text with comments (`//`, `/* */`) and trailing commas replaced by blanks, so that every other character keeps its place;
/// `None` when there are none.
pub(super) fn blank_out(text: &str) -> Option<(String, Repairs)> {
    let mut bytes = text.as_bytes().to_vec();
    let mut repairs = Repairs::default();
    let mut state = State::Plain;
    let mut comma: Option<usize> = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        let mut width = 1;
        state = match (state, byte) {
            (State::Escape, _) => State::Text,
            (State::Text, b'\\') => State::Escape,
            (State::Text, b'"') => State::Plain,
            (State::Text, _) => State::Text,
            (State::LineComment, b'\n') => State::Plain,
            (State::BlockComment, b'*') if next == Some(b'/') => {
                width = 2;
                blank(&mut bytes, at, 2);
                State::Plain
            }
            (State::LineComment | State::BlockComment, _) => {
                blank(&mut bytes, at, 1);
                state
            }
            (State::Plain, b'/') if matches!(next, Some(b'/' | b'*')) => {
                width = 2;
                blank(&mut bytes, at, 2);
                repairs.comments = repairs.comments.saturating_add(1);
                if next == Some(b'/') { State::LineComment } else { State::BlockComment }
            }
            (State::Plain, _) => {
                match byte {
                    b',' => comma = Some(at),
                    b'}' | b']' => {
                        if let Some(trailing) = comma.take() {
                            blank(&mut bytes, trailing, 1);
                            repairs.trailing_commas = repairs.trailing_commas.saturating_add(1);
                        }
                    }
                    byte if !byte.is_ascii_whitespace() => comma = None,
                    _ => {}
                }
                if byte == b'"' { State::Text } else { State::Plain }
            }
        };
        at += width;
    }
    if repairs == Repairs::default() {
        return None;
    }
    String::from_utf8(bytes).ok().map(|text| (text, repairs))
}

fn blank(bytes: &mut [u8], at: usize, width: usize) {
    for byte in bytes.iter_mut().skip(at).take(width).filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blanks_trailing_commas_and_comments_and_nothing_in_texts() {
        let text = "{ // ä, first\n \"a,]\": [1, 2, /* , */ ],\n \"b//\\\",}\": 3,\n}";
        let (mended, repairs) = blank_out(text).unwrap();
        assert_eq!(repairs, Repairs { trailing_commas: 2, comments: 2 });
        assert_eq!(mended.len(), text.len());
        let value: serde_json::Value = serde_json::from_str(&mended).unwrap();
        assert_eq!(value, serde_json::json!({"a,]": [1, 2], "b//\",}": 3}));
        assert_eq!(repairs.describe(), "2 trailing commas and 2 comments");
    }

    #[test]
    fn a_sound_text_needs_no_repair() {
        assert_eq!(blank_out(r#"{"a": "x,}", "b": [1, 2]}"#), None);
    }

    proptest! {
        #[test]
        fn keeps_every_line_where_it_was(text in r#"[\[\]{}",:/*a0ä \n\\]{0,60}"#) {
            if let Some((mended, _)) = blank_out(&text) {
                prop_assert_eq!(mended.len(), text.len());
                prop_assert_eq!(mended.matches('\n').count(), text.matches('\n').count());
            }
        }
    }
}
