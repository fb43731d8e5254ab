//! Any rules of the flight recorder on any messages: the first line is the rules as they stand in the settings, each line behind it a
//! message: method, uri and body, parted by spaces.

use netdiag::{
    api::TriggerRule,
    monitor::{Rule, Rules},
};
use serde_json::Value;

/// A reason goes into a file name's neighbour and into messages.
const MAX_REASON: usize = 4096;

pub fn run(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let rules: Vec<TriggerRule> = lines.next().and_then(|line| serde_json::from_slice(line).ok()).unwrap_or_default();
    let rules: Vec<TriggerRule> = rules.into_iter().filter(|rule| rule.validate().is_ok()).collect();
    let on_messages: Vec<Rule> = rules.iter().filter_map(Rule::of).collect();
    // One that is whole is on messages, or on findings.
    assert!(rules.iter().all(|rule| rule.finding.is_some() != Rule::of(rule).is_some()));
    let mut rules = Rules::new(on_messages.clone());
    assert_eq!(rules.is_empty(), on_messages.is_empty());
    for line in lines {
        let line = String::from_utf8_lossy(line);
        let mut parts = line.splitn(3, ' ');
        let (Some(method), Some(uri), Some(body)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let Ok(body) = serde_json::from_str::<Value>(body) else { continue };
        if let Some(reason) = rules.look(method, uri, &body) {
            let hears = |rule: &Rule| uri.starts_with(rule.uri());
            assert!(on_messages.iter().any(hears) && reason.len() <= MAX_REASON + line.len(), "{reason}");
        }
        // What lasts does not trigger again; each event does.
        if uri != "/events" {
            assert_eq!(rules.look(method, uri, &body), None);
        }
    }
}
