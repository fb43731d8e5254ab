//! Who has fallen silent: what each endpoint was doing is carried from snapshot to snapshot, so that a silence is told that began before
//! the snapshot did. A plain function of what was seen in each.

use crate::api::{Seconds, UtcTime};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Who is quiet for so many times as long as is usual is silent.
const USUAL_TIMES: u32 = 2;

/// What was seen of an endpoint in a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The endpoint.
    pub endpoint_id: String,
    /// Where it is, in words.
    pub place: String,
    /// Packets to and from it.
    pub packets: u64,
    /// Packets of the side that serves.
    pub server_packets: u64,
    /// The last of these.
    pub last_seen: Option<UtcTime>,
    /// Whether something that runs here talks to it, by its config.
    pub in_use: bool,
    /// How often it is polled, by its config.
    pub poll: Option<Duration>,
    /// Whether its packets could come all the time.
    pub was_recorded: bool,
}

/// An endpoint that says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// The endpoint.
    pub endpoint_id: String,
    /// Since when; `None`: it was never heard.
    pub since: Option<UtcTime>,
    /// In words.
    pub message: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "WrittenPast", from = "WrittenPast")]
struct Past {
    last_seen: Option<UtcTime>,
    quiet: Duration,
    /// How long it was quiet before it was heard, the last two times: what happened once was an outage, what happens again is its way.
    gaps: [Duration; 2],
}

/// The same as it is written down for the next start.
#[derive(Serialize, Deserialize)]
struct WrittenPast {
    last_seen: Option<UtcTime>,
    quiet_s: Seconds,
    gaps_s: [Seconds; 2],
}

impl From<Past> for WrittenPast {
    fn from(Past { last_seen, quiet, gaps }: Past) -> Self {
        Self { last_seen, quiet_s: Seconds(quiet), gaps_s: gaps.map(Seconds) }
    }
}

impl From<WrittenPast> for Past {
    fn from(WrittenPast { last_seen, quiet_s, gaps_s }: WrittenPast) -> Self {
        Self { last_seen, quiet: quiet_s.0, gaps: gaps_s.map(|gap| gap.0) }
    }
}

/// What is known of each endpoint so far. It can be written down, so that a silence is told that began before a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silences {
    #[serde(rename = "endpoints")]
    past: BTreeMap<String, Past>,
}

impl Silences {
    /// Takes what was seen in a snapshot that lasted for so long in all, and for so long beyond the one before; tells who is silent. Who is
    /// quiet for less than `at_least` never is, nor, where no config says how often it talks, who is so for less than a `whole` snapshot: one
    /// that was cut short, by a stop or after a start, says nothing of who talks in each of them. Who is not among them is forgotten.
    pub fn take(
        &mut self,
        seen: &[Seen],
        (in_all, beyond): (Duration, Duration),
        (at_least, whole): (Duration, Duration),
    ) -> Vec<Silence> {
        let mut before = std::mem::take(&mut self.past);
        let mut silent = Vec::new();
        for seen in seen {
            let mut past = before.remove(&seen.endpoint_id).unwrap_or_default();
            if seen.server_packets > 0 {
                let quiet = std::mem::take(&mut past.quiet);
                // How long it was before it was ever heard says nothing of its way.
                past.gaps = if past.last_seen.is_some() { [quiet, past.gaps[0]] } else { <[Duration; 2]>::default() };
                past.last_seen = seen.last_seen.or(past.last_seen);
            } else if seen.was_recorded {
                past.quiet = if past.quiet.is_zero() { in_all } else { past.quiet.saturating_add(beyond) };
                let usual = past.gaps[0].min(past.gaps[1]).max(seen.poll.unwrap_or_default()).saturating_mul(USUAL_TIMES);
                let at_least = if seen.poll.is_some() { at_least } else { at_least.max(whole) };
                silent.extend(told(seen, &past).filter(|_| past.quiet > usual && past.quiet >= at_least));
            }
            self.past.insert(seen.endpoint_id.clone(), past);
        }
        silent
    }
}

fn told(seen: &Seen, past: &Past) -> Option<Silence> {
    let Seen { endpoint_id, place, packets, in_use, .. } = seen;
    let message = match (past.last_seen, packets) {
        (Some(since), 0) => format!("{place} talked until {}, and there is no packet to or from it since", since.to_millis()),
        (Some(since), packets) => {
            let were = if *packets == 1 { "packet was" } else { "packets were" };
            format!("{place} talked until {} and has said nothing since; {packets} {were} sent to it", since.to_millis())
        }
        // That it does not answer is found by what was sent to it.
        (None, 1..) => return None,
        (None, 0) if *in_use => {
            format!("there is no packet to or from {place}, although a config that is in use names it")
        }
        (None, 0) => return None,
    };
    Some(Silence { endpoint_id: endpoint_id.clone(), since: past.last_seen, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SNAPSHOT: Duration = Duration::from_secs(300);
    const AT_LEAST: Duration = Duration::from_secs(10);

    fn seen(packets: u64, server_packets: u64) -> Seen {
        Seen {
            endpoint_id: "bms".into(),
            place: "10.0.0.2:502".into(),
            packets,
            server_packets,
            last_seen: (server_packets > 0).then(|| UtcTime::from_unix_ns(1_700_000_000_000_000_000)),
            poll: Some(Duration::from_secs(1)),
            was_recorded: true,
            ..Seen::default()
        }
    }

    fn take(silences: &mut Silences, seen: &Seen) -> Option<String> {
        silences.take(std::slice::from_ref(seen), (SNAPSHOT, SNAPSHOT), (AT_LEAST, SNAPSHOT)).pop().map(|silence| silence.message)
    }

    #[test]
    fn who_talked_and_says_nothing_more_is_silent_snapshot_after_snapshot() {
        let mut silences = Silences::default();
        assert_eq!(take(&mut silences, &seen(0, 0)), None, "never heard, and nobody says that it is in use");
        assert_eq!(take(&mut silences, &seen(600, 300)), None);
        for _ in 0..100 {
            let told = take(&mut silences, &seen(0, 0)).unwrap();
            assert_eq!(told, "10.0.0.2:502 talked until 2023-11-14T22:13:20.000Z, and there is no packet to or from it since");
        }
        assert!(take(&mut silences, &seen(7, 0)).unwrap().ends_with("has said nothing since; 7 packets were sent to it"));
        assert_eq!(take(&mut silences, &seen(600, 300)), None, "it is back");
        assert!(take(&mut silences, &seen(0, 0)).is_some(), "one long outage does not make the next one usual");
    }

    #[test]
    fn who_talks_seldom_or_was_not_recorded_is_not_silent() {
        let mut silences = Silences::default();
        let hourly = |packets| Seen { poll: Some(Duration::from_secs(3600)), ..seen(packets, packets) };
        take(&mut silences, &hourly(2));
        for _ in 0..20 {
            assert_eq!(take(&mut silences, &hourly(0)), None, "it is polled once an hour");
        }
        let mut silences = Silences::default();
        take(&mut silences, &seen(2, 1));
        assert_eq!(take(&mut silences, &Seen { was_recorded: false, ..seen(0, 0) }), None, "its interface was lost");
        let mut told = Vec::new();
        for _ in 0..6 {
            for packets in [0, 0, 1] {
                told.extend(take(&mut silences, &Seen { poll: None, ..seen(packets, packets) }));
            }
        }
        assert_eq!(told.len(), 4, "every fifteen minutes by itself: known after the second time");
    }

    #[test]
    fn a_short_snapshot_says_nothing_and_counts() {
        let mut silences = Silences::default();
        let short = Duration::from_secs(6);
        let mut take = |packets| silences.take(&[seen(packets, packets)], (short, short), (AT_LEAST, SNAPSHOT)).len();
        assert_eq!((take(1), take(0), take(0), take(1), take(0)), (0, 0, 1, 0, 0));
    }

    #[test]
    fn who_talks_once_in_each_snapshot_is_not_silent_in_one_that_is_cut_short() {
        let mut silences = Silences::default();
        let seldom = |packets| Seen { poll: None, ..seen(packets, packets) };
        let mut take = |packets, seconds| {
            let lasted = Duration::from_secs(seconds);
            silences.take(&[seldom(packets)], (lasted, lasted), (AT_LEAST, SNAPSHOT)).len()
        };
        // The rest of a slot after a start, and then it is really gone.
        assert_eq!((take(1, 300), take(0, 40), take(1, 300), take(0, 40), take(0, 300)), (0, 0, 0, 0, 1));
    }

    #[test]
    fn what_is_written_down_and_read_again_goes_on_as_if_nothing_had_been_between() {
        let mut silences = Silences::default();
        take(&mut silences, &seen(600, 300));
        for packets in [0, 1, 0, 0, 0] {
            take(&mut silences, &seen(packets, packets));
            let written = serde_json::to_vec(&silences).unwrap();
            assert_eq!(serde_json::from_slice::<Silences>(&written).unwrap(), silences);
        }
        let written = serde_json::to_vec(&silences).unwrap();
        assert!(take(&mut serde_json::from_slice(&written).unwrap(), &seen(0, 0)).unwrap().contains("talked until 2023-11-14"));
        for damaged in [
            r#"{}"#,
            r#"{"endpoints": {"a": {}}}"#,
            r#"{"endpoints": {"a": {"last_seen": null, "quiet_s": -1, "gaps_s": [0, 0]}}}"#,
        ] {
            assert!(serde_json::from_str::<Silences>(damaged).is_err(), "{damaged}");
        }
        let most = r#"{"endpoints": {"bms": {"last_seen": null, "quiet_s": 1e19, "gaps_s": [1e19, 1e19]}}}"#;
        assert_eq!(take(&mut serde_json::from_str(most).unwrap(), &seen(0, 0)), None, "no length of time is too much");
    }

    #[test]
    fn what_two_snapshots_share_is_quiet_once() {
        let mut silences = Silences::default();
        let mut take = |packets, poll_s| {
            let seen = Seen { poll: Some(Duration::from_secs(poll_s)), ..seen(packets, packets) };
            silences.take(&[seen], (SNAPSHOT, Duration::from_secs(200)), (AT_LEAST, SNAPSHOT)).len()
        };
        assert_eq!((take(1, 140), take(0, 140)), (0, 1), "quiet for 300 s");
        take(1, 200);
        assert_eq!((take(0, 260), take(0, 260), take(0, 260)), (0, 0, 1), "for 300, 500 and 700 s");
    }

    #[test]
    fn a_config_in_use_whose_endpoint_was_never_seen_is_told_as_that() {
        let mut silences = Silences::default();
        let unseen = Seen { in_use: true, ..seen(0, 0) };
        let silent = silences.take(std::slice::from_ref(&unseen), (SNAPSHOT, SNAPSHOT), (AT_LEAST, SNAPSHOT));
        assert_eq!((silent.len(), silent[0].since), (1, None));
        assert_eq!(take(&mut silences, &Seen { packets: 3, ..unseen }), None, "the findings of what was sent say more");
    }

    proptest! {
        #[test]
        fn it_remembers_no_more_than_the_endpoints_there_are(steps in prop::collection::vec(prop::collection::vec((0_u8..5, 0_u64..2), 0..4), 1..30)) {
            let mut silences = Silences::default();
            for step in steps {
                let all: Vec<Seen> = step.iter().map(|(id, packets)| Seen { endpoint_id: id.to_string(), ..seen(*packets, *packets) }).collect();
                let silent = silences.take(&all, (SNAPSHOT, SNAPSHOT), (AT_LEAST, SNAPSHOT));
                prop_assert!(silences.past.len() <= all.len() && silent.len() <= all.len());
            }
        }
    }
}
