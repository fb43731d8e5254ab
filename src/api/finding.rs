//! One thing that was found wrong, on the wire or in a config.

use super::UtcTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// Wrong, but the endpoint works.
    Warning,
    /// The endpoint does not work, or will not for long.
    Alarm,
}

/// A finding with its evidence. Codes are stable; `docs/findings.md` explains each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The stable code, for instance `tcp.syn_unanswered`.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// How often it was seen.
    pub count: u64,
    /// When it was first seen.
    pub first_at: Option<UtcTime>,
    /// When it was last seen.
    pub last_at: Option<UtcTime>,
    /// The endpoint it is about, where it is about one.
    pub endpoint_id: Option<String>,
    /// The finding in words.
    pub message: String,
    /// The first few packets that show it, numbered from 1 as Wireshark numbers the capture file.
    #[serde(default)]
    pub packets: Vec<u64>,
}

impl Finding {
    /// What it is about, wherever and whenever it is seen: the endpoint, or else its words that name something. What is counted or
    /// measured in them changes from one capture to the next; addresses and names of interfaces do not.
    pub fn about(&self) -> String {
        let words = self.message.split(' ').enumerate().filter(|(place, word)| is_name(word, *place == 0) && !is_measure(word));
        let named = || words.map(|(_, word)| word).collect::<Vec<_>>().join(" ");
        self.endpoint_id.clone().unwrap_or_else(named)
    }
}

/// Whether a word names something: an address, or what a message begins with and says something of (`eth0:`). The punctuation behind another
/// word does not make a name of it.
fn is_name(word: &str, is_first: bool) -> bool {
    let bare = word.strip_suffix(['.', ':', ',', ';']).unwrap_or(word);
    bare.contains(['.', ':']) || (is_first && word.ends_with(':'))
}

/// Whether a word is a number or a time.
fn is_measure(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    bare.parse::<f64>().is_ok() || bare.parse::<UtcTime>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_endpoint_it_is_about_the_addresses_in_its_words_whatever_is_counted_and_measured() {
        let about = |message: &str| {
            let finding = Finding {
                code: "x".into(),
                severity: Severity::Info,
                count: 1,
                first_at: None,
                last_at: None,
                endpoint_id: None,
                message: message.into(),
                packets: Vec::new(),
            };
            (finding.about(), Finding { endpoint_id: Some("bms".into()), ..finding }.about())
        };
        for (message, expected) in [
            ("3 segments sent again to or from 10.0.0.1:502, of 90 segments with payload (3.3 %); 1 fast", "10.0.0.1:502,"),
            ("[fd00::1]:502 talked until 2026-11-23T12:00:00.000Z and has said nothing since, for 1.5 s", "[fd00::1]:502"),
            ("eth0: not recorded for 3 s of 300 s", "eth0:"),
            ("10.0.0.9 is claimed by 02:00:00:00:00:09 and by 02:00:00:00:00:0a", "10.0.0.9 02:00:00:00:00:09 02:00:00:00:00:0a"),
            ("the clock was set back 3 times; times across it mean nothing", ""),
            ("10.0.0.5 stopped answering; 8 requests were answered late: the host stalled", "10.0.0.5"),
            ("10.0.0.5 stopped answering; the same 2 times more: the host stalled. So it is.", "10.0.0.5"),
            ("nobody answered for fd00::, fd00::1: both are away", "fd00::, fd00::1:"),
        ] {
            assert_eq!(about(message), (expected.to_owned(), "bms".to_owned()));
        }
    }
}
