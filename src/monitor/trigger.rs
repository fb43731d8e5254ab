//! What makes the flight recorder save: rules on other processes' messages, and how often it may. Plain functions.

use crate::api::TriggerRule;
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// So many keys of messages are remembered; beyond them a rule looks at every message anew.
const MAX_REMEMBERED: usize = 1024;

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// This.
    Equals(Value),
    /// Anything but this.
    Differs(Value),
    /// A number below this.
    Below(f64),
    /// A number above this.
    Above(f64),
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Equals(right) => same(value, right),
            Self::Differs(wrong) => !same(value, wrong),
            Self::Below(limit) => value.as_f64().is_some_and(|value| value < *limit),
            Self::Above(limit) => value.as_f64().is_some_and(|value| value > *limit),
        }
    }
}

/// Numbers are the same whatever way they are written.
fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// A rule on messages.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// A value of a component: when the condition begins to hold.
    Value {
        /// The uri of the component; messages to it and to its children count.
        uri: String,
        /// The key in the body, or the last segment of the uri.
        key: String,
        /// What makes the recorder save.
        condition: Condition,
    },
    /// An event of the alarm log.
    Event {
        /// Only of this source.
        source: Option<String>,
        /// Of at least this severity.
        severity: u64,
    },
}

impl Rule {
    /// The rule on messages that is set; `None`: it is one on findings, or none at all.
    pub fn of(given: &TriggerRule) -> Option<Self> {
        let TriggerRule { uri, key, equals, differs, below, above, source, severity, .. } = given.clone();
        let condition = (equals.map(Condition::Equals))
            .or(differs.map(Condition::Differs))
            .or(below.map(Condition::Below))
            .or(above.map(Condition::Above));
        match (uri, key, condition, severity) {
            (Some(uri), Some(key), Some(condition), _) => Some(Self::Value { uri, key, condition }),
            (None, None, None, Some(severity)) => Some(Self::Event { source, severity }),
            _ => None,
        }
    }

    /// The uri that it needs to hear.
    pub fn uri(&self) -> &str {
        match self {
            Self::Value { uri, .. } => uri,
            Self::Event { .. } => "/events",
        }
    }
}

/// The rules, and whether each condition holds so far, so that only its beginning counts.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    holds: BTreeMap<(usize, String), bool>,
}

impl Rules {
    /// These rules; nothing is known of any value.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, holds: BTreeMap::new() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Looks at a message: `body` is undressed JSON. The reason to save, if it is one.
    pub fn look(&mut self, method: &str, uri: &str, body: &Value) -> Option<String> {
        let mut reason = None;
        for (index, rule) in self.rules.iter().enumerate() {
            match rule {
                Rule::Event { source, severity } => {
                    let is_event = uri == "/events" && method == "post";
                    let from = body.get("source").and_then(Value::as_str).unwrap_or_default();
                    let is_it = source.as_deref().is_none_or(|source| source == from);
                    if is_event && is_it && body.get("severity").and_then(Value::as_u64).is_some_and(|given| given >= *severity) {
                        let words: String =
                            body.get("message").and_then(Value::as_str).unwrap_or_default().chars().take(200).collect();
                        reason.get_or_insert_with(|| format!("event of {from}: {words}"));
                    }
                }
                Rule::Value { uri: of, key, condition } => {
                    let Some(below) = uri.strip_prefix(of.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
                        continue;
                    };
                    let leaf = below.rsplit('/').next().filter(|leaf| *leaf == key);
                    let Some(value) = body.get(key).or_else(|| leaf.map(|_| body)) else { continue };
                    let holds = condition.holds(value);
                    let place = (index, uri.to_owned());
                    let known = self.holds.contains_key(&place) || self.holds.len() < MAX_REMEMBERED;
                    let held = if known { self.holds.insert(place, holds) } else { None };
                    if holds && held != Some(true) {
                        let value: String = value.to_string().chars().take(80).collect();
                        reason.get_or_insert_with(|| format!("{uri}: {key} is {value}"));
                    }
                }
            }
        }
        reason
    }
}

/// How often the recorder may save.
#[derive(Debug, Clone, Default)]
pub struct RateLimit {
    saved: VecDeque<Duration>,
}

impl RateLimit {
    /// How long after `now` it may save again.
    pub fn free_in(&self, now: Duration, most: usize, period: Duration) -> Duration {
        let limiting = self.saved.len().checked_sub(most).and_then(|index| self.saved.get(index));
        limiting.map_or(Duration::ZERO, |saved| (*saved + period).saturating_sub(now))
    }

    /// Whether it may save at `now` (on a clock that is never set), at most `most` times within `period`. If so, it is counted.
    pub fn admit(&mut self, now: Duration, most: usize, period: Duration) -> bool {
        while self.saved.front().is_some_and(|saved| now.saturating_sub(*saved) >= period) {
            self.saved.pop_front();
        }
        let may = self.saved.len() < most;
        if may {
            self.saved.push_back(now);
        }
        may
    }

    /// What was admitted last did not come about: it does not count.
    pub fn take_back(&mut self) {
        self.saved.pop_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn disconnected() -> Rules {
        let condition = Condition::Equals(json!(false));
        Rules::new(vec![Rule::Value { uri: "/components/bess_1".into(), key: "connected".into(), condition }])
    }

    #[test]
    fn a_component_that_loses_its_connection_triggers_once() {
        let mut rules = disconnected();
        let mut look = |uri: &str, body: Value| rules.look("pub", uri, &body).is_some();
        assert!(!look("/components/bess_1", json!({"connected": true, "soc": 50})));
        assert!(look("/components/bess_1", json!({"connected": false, "soc": 50})));
        assert!(!look("/components/bess_1", json!({"connected": false})), "it stays so");
        assert!(!look("/components/bess_1", json!({"soc": 51})), "nothing is said of it");
        assert!(!look("/components/bess_1", json!({"connected": true})));
        assert!(look("/components/bess_1", json!({"connected": false})));
        assert!(!look("/components/bess_10", json!({"connected": false})), "another component");
        assert!(look("/components/bess_1/connected", json!(false)), "a leaf is its own body");
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let rule = |condition| Rule::Value { uri: "/a".into(), key: "v".into(), condition };
        for (condition, body, holds) in [
            (Condition::Above(5.0), json!({"v": 5.1}), true),
            (Condition::Above(5.0), json!({"v": 5}), false),
            (Condition::Below(5.0), json!({"v": 4}), true),
            (Condition::Below(5.0), json!({"v": "4"}), false),
            (Condition::Equals(json!(1)), json!({"v": 1.0}), true),
            (Condition::Differs(json!("run")), json!({"v": "stop"}), true),
        ] {
            assert_eq!(Rules::new(vec![rule(condition.clone())]).look("pub", "/a", &body).is_some(), holds, "{condition:?} {body}");
        }
    }

    #[test]
    fn an_event_counts_by_source_and_severity() {
        let mut rules = Rules::new(vec![Rule::Event { source: Some("ess_controller".into()), severity: 3 }]);
        let event = |source: &str, severity: u8| json!({"source": source, "message": "BMS fault", "severity": severity});
        assert_eq!(
            rules.look("post", "/events", &event("ess_controller", 3)).as_deref(),
            Some("event of ess_controller: BMS fault")
        );
        assert!(rules.look("post", "/events", &event("ess_controller", 4)).is_some(), "each event counts");
        assert!(rules.look("post", "/events", &event("ess_controller", 2)).is_none());
        assert!(rules.look("post", "/events", &event("site_controller", 4)).is_none());
        assert!(rules.look("get", "/events", &event("ess_controller", 4)).is_none());
    }

    proptest! {
        #[test]
        fn no_message_crashes_a_rule(uri: String, text: String) {
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            let _ = disconnected().look("pub", &uri, &body);
            let _ = disconnected().look("pub", &format!("/components/bess_1{uri}"), &body);
        }

        #[test]
        fn it_never_saves_more_often_than_it_may(mut at in prop::collection::vec(0_u64..10_000, 0..200), most in 1_usize..5, period in 1_u64..1_000) {
            at.sort_unstable();
            let mut limit = RateLimit::default();
            let saved: Vec<u64> =
                at.into_iter().filter(|at| limit.admit(Duration::from_secs(*at), most, Duration::from_secs(period))).collect();
            let admitted = saved.last().is_some_and(|last| {
                limit.take_back();
                limit.admit(Duration::from_secs(*last), most, Duration::from_secs(period))
            });
            prop_assert_eq!(admitted, !saved.is_empty(), "what did not come about makes room");
            let now = saved.last().map_or(Duration::ZERO, |last| Duration::from_secs(*last));
            let free_in = limit.free_in(now, most, Duration::from_secs(period));
            prop_assert!(limit.admit(now + free_in, most, Duration::from_secs(period)));
            for window in saved.windows(most + 1) {
                prop_assert!(window[most] - window[0] >= period);
            }
        }
    }
}
