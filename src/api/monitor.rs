//! The monitor: how it is, what it is told, and the snapshots it made.

use super::{AnalysisVerdict, ApiError, Finding, InterfaceCapture, Seconds, SeriesStatus, Severity, UtcTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The shortest snapshot.
const MIN_SNAPSHOT: Duration = Duration::from_millis(200);
/// Rules at most: a client of the bus can subscribe to 255 uris.
const MAX_TRIGGERS: usize = 250;
/// The longest uri that the bus carries.
const MAX_URI_LEN: usize = 255;
/// The longest name of an interface that Linux has.
const MAX_INTERFACE_LEN: usize = 15;
/// Interfaces that may be named.
const MAX_INTERFACES: usize = 64;
/// The longest filter, in bytes.
const MAX_FILTER_LEN: usize = 4096;
/// Findings that may be overlooked.
const MAX_IGNORED: usize = 250;
/// The longest code, key, source or value in a rule, in bytes.
const MAX_WORD_LEN: usize = 255;
/// The longest reason of a trigger, in characters.
const MAX_REASON: usize = 200;

/// How continuous recording is done. Each field has a default; a message may give some of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorSettings {
    /// The length of a snapshot, in seconds.
    pub snapshot_s: Seconds,
    /// How long before the end of a snapshot the next one begins.
    pub overlap_s: Seconds,
    /// The interfaces to record; empty: those that lead to the endpoints of the topology.
    pub interfaces: Vec<String>,
    /// What to record, as a BPF expression; empty: the endpoints of the topology, and ARP and ICMP.
    pub filter: String,
    /// The most bytes that are kept of a packet.
    pub snaplen: u32,
    /// The kernel's buffer for each interface.
    pub buffer_bytes: u32,
    /// The most bytes that the file of one snapshot may have; packets beyond are analysed and not written.
    pub snapshot_max_bytes: u64,
    /// A snapshot is suspect with a finding of at least this severity.
    pub severity: Severity,
    /// Findings that make no snapshot suspect.
    pub ignore: Vec<IgnoredFinding>,
    /// How long a finding that stays is not archived again.
    pub repeat_s: u64,
    /// How many of the snapshots before and of those after a suspect one are archived beside it.
    pub neighbours: u32,
    /// How long a clean snapshot is kept.
    pub clean_retention_s: u64,
    /// How long a suspect snapshot is kept.
    pub archive_max_age_s: u64,
    /// How much the archive may take; the oldest goes first.
    pub archive_max_bytes: u64,
    /// The disk room that is never used.
    pub min_free_bytes: u64,
    /// The part of the disk that is never used, in percent; the larger of the two counts.
    pub min_free_percent: f64,
    /// How long before a trigger the flight recorder's snapshot begins; 0: there is no flight recorder.
    pub pre_s: u64,
    /// How long after a trigger it ends.
    pub post_s: u64,
    /// The most memory that the packets of the last `pre_s` take.
    pub pre_max_bytes: u64,
    /// How many snapshots may be triggered within an hour.
    pub triggers_per_hour: u32,
    /// What triggers by itself: messages of other processes and findings.
    pub triggers: Vec<TriggerRule>,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            snapshot_s: Seconds::whole(300),
            overlap_s: Seconds::whole(10),
            interfaces: Vec::new(),
            filter: String::new(),
            snaplen: 65_535,
            buffer_bytes: 16 << 20,
            snapshot_max_bytes: 512 << 20,
            severity: Severity::Warning,
            ignore: Vec::new(),
            repeat_s: 6 * 3600,
            neighbours: 1,
            clean_retention_s: 3600,
            archive_max_age_s: 30 * 86_400,
            archive_max_bytes: 4 << 30,
            min_free_bytes: 1 << 30,
            min_free_percent: 5.0,
            pre_s: 60,
            post_s: 30,
            pre_max_bytes: 32 << 20,
            triggers_per_hour: 12,
            triggers: Vec::new(),
        }
    }
}

impl MonitorSettings {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// `bad_request` with the first field that cannot be.
    pub fn validate(&self) -> Result<(), ApiError> {
        let day = 86_400;
        let within = |field: &str, value: u64, min: u64, max: u64| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(ApiError::bad_field(field, format!("`{field}` is {value}; it must be from {min} to {max}"))),
        };
        let lasts = |field: &str, value: Seconds, min: Duration, max: Duration| match (min..=max).contains(&value.0) {
            true => Ok(()),
            false => {
                let (min, max) = (Seconds(min), Seconds(max));
                Err(ApiError::bad_field(field, format!("`{field}` is {value}; it must be from {min} to {max}")))
            }
        };
        lasts("snapshot_s", self.snapshot_s, MIN_SNAPSHOT, Duration::from_secs(day))?;
        lasts("overlap_s", self.overlap_s, Duration::ZERO, self.snapshot_s.0 / 2)?;
        self.validate_interfaces()?;
        if self.filter.len() > MAX_FILTER_LEN {
            let message = format!("`filter` has {} bytes; it may have {MAX_FILTER_LEN}", self.filter.len());
            return Err(ApiError::bad_field("filter", message));
        }
        within("snaplen", self.snaplen.into(), 64, 262_144)?;
        within("buffer_bytes", self.buffer_bytes.into(), 65_536, 1 << 30)?;
        within("snapshot_max_bytes", self.snapshot_max_bytes, 4096, u64::MAX)?;
        within("repeat_s", self.repeat_s, 0, 365 * day)?;
        within("neighbours", self.neighbours.into(), 0, 100)?;
        within("clean_retention_s", self.clean_retention_s, 0, 365 * day)?;
        within("archive_max_age_s", self.archive_max_age_s, 1, 3650 * day)?;
        if !(0.0..=50.0).contains(&self.min_free_percent) {
            let message = format!("`min_free_percent` is {}; it must be from 0 to 50", self.min_free_percent);
            return Err(ApiError::bad_field("min_free_percent", message));
        }
        within("pre_s", self.pre_s, 0, 3600)?;
        within("post_s", self.post_s, 0, 3600)?;
        within("pre_max_bytes", self.pre_max_bytes, 0, 128 << 20)?;
        within("triggers_per_hour", self.triggers_per_hour.into(), 1, 3600)?;
        if self.triggers.len() > MAX_TRIGGERS {
            let message = format!("`triggers` has {} rules; there may be {MAX_TRIGGERS}", self.triggers.len());
            return Err(ApiError::bad_field("triggers", message));
        }
        for rule in &self.triggers {
            rule.validate()?;
        }
        if self.ignore.len() > MAX_IGNORED {
            let message = format!("`ignore` has {} entries; there may be {MAX_IGNORED}", self.ignore.len());
            return Err(ApiError::bad_field("ignore", message));
        }
        for (index, ignored) in self.ignore.iter().enumerate() {
            is_short(&format!("ignore[{index}].code"), Some(&ignored.code))?;
            is_short(&format!("ignore[{index}].endpoint_id"), ignored.endpoint_id.as_deref())?;
        }
        Ok(())
    }

    fn validate_interfaces(&self) -> Result<(), ApiError> {
        if self.interfaces.len() > MAX_INTERFACES {
            let message = format!("`interfaces` has {} names; there may be {MAX_INTERFACES}", self.interfaces.len());
            return Err(ApiError::bad_field("interfaces", message));
        }
        for (index, name) in self.interfaces.iter().enumerate() {
            let is_name = !name.is_empty()
                && name.len() <= MAX_INTERFACE_LEN
                && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
            let field = format!("interfaces[{index}]");
            if !is_name {
                let shown: String = name.chars().take(MAX_INTERFACE_LEN * 2).collect();
                let message = format!(
                    "`{field}` is `{shown}`; the name of an interface has 1 to {MAX_INTERFACE_LEN} bytes without spaces and `/`"
                );
                return Err(ApiError::bad_field(field, message));
            }
            if self.interfaces.iter().take(index).any(|other| other == name) {
                return Err(ApiError::bad_field(field, format!("`interfaces` names `{name}` twice; once is enough")));
            }
        }
        Ok(())
    }
}

/// A word that is kept, and told again and again.
fn is_short(field: &str, word: Option<&str>) -> Result<(), ApiError> {
    match word.map(str::len).filter(|len| *len > MAX_WORD_LEN) {
        Some(len) => Err(ApiError::bad_field(field, format!("`{field}` has {len} bytes; it may have {MAX_WORD_LEN}"))),
        None => Ok(()),
    }
}

/// Findings that are overlooked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IgnoredFinding {
    /// The code; one that ends in `*` is the beginning of codes.
    pub code: String,
    /// Only at this endpoint; absent: at any.
    #[serde(default)]
    pub endpoint_id: Option<String>,
}

/// What makes the flight recorder save: a value of a component (`uri`, `key`, and one of `equals`, `differs`, `below`, `above`), an
/// event of the alarm log (`severity`, and `source` if only one counts), or a finding in what is being recorded (`finding`, and
/// `endpoint_id` if only one counts).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerRule {
    /// The uri of the component.
    pub uri: Option<String>,
    /// The key in the body, or the last segment of the uri.
    pub key: Option<String>,
    /// The value that triggers.
    pub equals: Option<Value>,
    /// Any other value triggers.
    pub differs: Option<Value>,
    /// A number below this triggers.
    pub below: Option<f64>,
    /// A number above this triggers.
    pub above: Option<f64>,
    /// The source of the event.
    pub source: Option<String>,
    /// Events of at least this severity trigger.
    pub severity: Option<u64>,
    /// The code of a finding; one that ends in `*` is the beginning of codes.
    pub finding: Option<String>,
    /// The endpoint that the finding must be about.
    pub endpoint_id: Option<String>,
}

impl TriggerRule {
    /// Checks that it is one rule, and a whole one.
    ///
    /// # Errors
    /// `bad_request` that names `triggers` and what is missing.
    pub fn validate(&self) -> Result<(), ApiError> {
        for word in [&self.key, &self.source, &self.finding, &self.endpoint_id] {
            is_short("triggers", word.as_deref())?;
        }
        for value in [&self.equals, &self.differs].into_iter().flatten() {
            is_short("triggers", Some(&value.to_string()))?;
        }
        let conditions = [self.equals.is_some(), self.differs.is_some(), self.below.is_some(), self.above.is_some()];
        let conditions = conditions.into_iter().filter(|given| *given).count();
        let of_value = self.uri.is_some() || self.key.is_some() || conditions > 0;
        let of_event = self.severity.is_some() || self.source.is_some();
        let of_finding = self.finding.is_some() || self.endpoint_id.is_some();
        let is_whole = match (of_value, of_event, of_finding) {
            (true, false, false) => self.uri.as_deref().is_some_and(may_be_subscribed) && self.key.is_some() && conditions == 1,
            (false, true, false) => self.severity.is_some(),
            (false, false, true) => self.finding.as_deref().is_some_and(|code| !code.is_empty()),
            _ => false,
        };
        match is_whole {
            true => Ok(()),
            false => Err(ApiError::bad_field(
                "triggers",
                "a trigger has either `uri` (of letters, digits, `/`, `_`, `-` and `.`), `key` and one of `equals`, `differs`, `below`, `above`; or `severity` and maybe `source`; \
                 or `finding` and maybe `endpoint_id`",
            )),
        }
    }
}

/// The broker refuses a subscription with any other uri, and with it all the others.
fn may_be_subscribed(uri: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'-' | b'.' | b'/' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
    uri.starts_with('/') && uri.len() <= MAX_URI_LEN && uri.bytes().all(is_allowed)
}

/// What the monitor is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MonitorState {
    /// It is switched off.
    #[default]
    Off,
    /// It records.
    Recording,
    /// It is on and cannot record now: `last_problem` says why.
    Paused,
    /// This host lets it record nothing: `last_problem` says why.
    Unavailable,
}

impl MonitorState {
    /// As it stands in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Recording => "recording",
            Self::Paused => "paused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How the monitor is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Monitor {
    /// Whether it is switched on.
    pub enabled: bool,
    /// What it is doing.
    pub state: MonitorState,
    /// How each recorded interface is.
    pub interfaces: Vec<MonitorInterface>,
    /// How recording is done.
    pub settings: MonitorSettings,
    /// How many snapshots there are of each kind.
    pub snapshots: SnapshotCounts,
    /// What all snapshots take on disk, those among them that only wait for a sink.
    pub disk_bytes: u64,
    /// What is free there.
    pub free_bytes: u64,
    /// What is or was wrong with it.
    pub last_problem: Option<String>,
    /// When that was last so.
    #[serde(default)]
    pub last_problem_at: Option<UtcTime>,
    /// What became of the time series.
    #[serde(default)]
    pub series: Option<SeriesStatus>,
    /// How each sink for archived snapshots is.
    #[serde(default)]
    pub sinks: Vec<SinkStatus>,
}

/// What a sink is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// Nothing waits.
    #[default]
    Idle,
    /// Something is on its way.
    Sending,
    /// It failed, and is tried again at `retry_at`.
    Waiting,
}

/// How a sink for archived snapshots is. Counts are since the service started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// Its kind: `directory`, `http` or `s3`.
    pub kind: String,
    /// Where it leads.
    pub place: String,
    /// What it is doing.
    pub state: SinkState,
    /// Snapshots that wait.
    pub queued: u64,
    /// What they have together.
    pub queued_bytes: u64,
    /// Snapshots it has taken.
    pub sent: u64,
    /// What they had together.
    pub sent_bytes: u64,
    /// Snapshots that were given up because too much waited.
    pub dropped: u64,
    /// When it took the last one.
    pub last_sent_at: Option<UtcTime>,
    /// What is wrong with it; `null` when the last attempt went well.
    pub last_problem: Option<String>,
    /// When it is tried again.
    pub retry_at: Option<UtcTime>,
}

/// How a recorded interface is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MonitorInterface {
    /// Its name.
    pub name: String,
    /// Whether packets can come now.
    pub captured: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Packets received since recording began.
    pub received: u64,
    /// Packets that the kernel dropped because they were not read in time.
    pub kernel_dropped: u64,
}

/// Numbers of snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotCounts {
    /// Being recorded, or on their way to their place.
    pub open: u64,
    /// Clean, and kept for a while.
    pub clean: u64,
    /// Suspect since the service started, archived or not.
    pub suspect: u64,
    /// In the archive.
    pub archived: u64,
    /// Deleted since the service started.
    pub deleted: u64,
}

/// Where a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// It is being recorded.
    Open,
    /// It is closed and judged, and on its way to its place on the disk.
    Filing,
    /// It is kept for a while.
    Temporary,
    /// It is in the archive.
    Archived,
    /// It is gone; told once.
    Deleted,
}

/// One snapshot: what was recorded, and what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Its name: the time of its slot.
    pub snapshot_id: String,
    /// Where it is.
    pub state: SnapshotState,
    /// When its recording began.
    pub opened_at: UtcTime,
    /// When it ended.
    pub closed_at: Option<UtcTime>,
    /// Whether somebody should look further; `null` while it is open.
    pub verdict: Option<AnalysisVerdict>,
    /// The whole in one sentence.
    pub text: String,
    /// Why the flight recorder saved it; `null` for the continuous ones.
    pub trigger: Option<String>,
    /// The suspect snapshot beside which this one was archived; `null` for those that are kept for themselves.
    #[serde(default)]
    pub neighbour_of: Option<String>,
    /// The capture.
    pub file: Option<String>,
    /// What it takes on disk, with all that lies beside it.
    pub disk_bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that the kernel dropped; `null`: not known, for netdiag was killed while it recorded.
    pub kernel_dropped: Option<u64>,
    /// What each interface gave; empty if that is not known.
    pub interfaces: Vec<InterfaceCapture>,
    /// What was found, worst first; a publication holds 50 at most, the archive 1000.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    #[serde(default)]
    pub findings_total: u64,
    /// What is wrong with the recording itself.
    pub problem: Option<String>,
    /// Whether it is kept whatever happens.
    pub pinned: bool,
    /// The sinks that have it.
    #[serde(default)]
    pub shipped_to: Vec<String>,
}

impl Snapshot {
    /// One that begins to be recorded, of which nothing else is known yet.
    pub fn opened(snapshot_id: String, opened_at: UtcTime) -> Self {
        Self {
            snapshot_id,
            state: SnapshotState::Open,
            opened_at,
            closed_at: None,
            verdict: None,
            text: "it is being recorded".to_owned(),
            trigger: None,
            neighbour_of: None,
            file: None,
            disk_bytes: 0,
            packets: 0,
            kernel_dropped: Some(0),
            interfaces: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
            problem: None,
            pinned: false,
            shipped_to: Vec::new(),
        }
    }
}

/// Which snapshots to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotQuery {
    /// At most so many, from 1 to 1000, the newest; absent: 100.
    pub limit: Option<u32>,
    /// Only those that come before this one, older: the `next_before` of the list before leads on.
    pub before: Option<String>,
    /// Only those in this state.
    pub state: Option<SnapshotState>,
    /// Only those with this verdict.
    pub verdict: Option<AnalysisVerdict>,
}

impl SnapshotQuery {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A `bad_request` that names the first field out of range.
    pub fn validate(&self) -> Result<(), ApiError> {
        match self.limit {
            Some(limit) if !(1..=1000).contains(&limit) => {
                Err(ApiError::bad_field("limit", format!("`limit` is {limit}; it must be from 1 to 1000")))
            }
            _ => Ok(()),
        }
    }
}

/// The list of snapshots, newest first, without their findings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotList {
    /// How many there are of the kind that was asked for, whatever `before`.
    pub total: u64,
    /// The newest of them; as many as a message carries.
    pub snapshots: Vec<Snapshot>,
    /// There are older ones: ask for those `before` this; `null`: there are none.
    #[serde(default)]
    pub next_before: Option<String>,
}

/// Save what the flight recorder remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerRequest {
    /// Why, in words.
    pub reason: Option<String>,
}

impl TriggerRequest {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// `bad_request` for a reason that is too long to be told with the snapshot.
    pub fn validate(&self) -> Result<(), ApiError> {
        match self.reason.as_ref().map(|reason| reason.chars().count()).filter(|count| *count > MAX_REASON) {
            Some(count) => Err(ApiError::bad_field("reason", format!("`reason` has {count} characters; it may have {MAX_REASON}"))),
            None => Ok(()),
        }
    }
}

/// The flight recorder saves: how the monitor is, and where to get what it saves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerAccepted {
    /// The name of the snapshot that it makes.
    pub snapshot_id: String,
    /// Where that is published, and can be asked for from now on.
    pub uri: String,
    /// How the monitor is.
    #[serde(flatten)]
    pub monitor: Monitor,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trigger_is_one_whole_rule() {
        let check = |rule: Value| serde_json::from_value::<TriggerRule>(rule).unwrap().validate().is_ok();
        assert!(check(json!({"uri": "/components/bess_1", "key": "connected", "equals": false})));
        assert!(check(json!({"severity": 3, "source": "ess_controller"})));
        assert!(!check(json!({})));
        assert!(!check(json!({"uri": "/components/bess_1", "equals": false})));
        assert!(!check(json!({"uri": "/components/bess 1", "key": "connected", "equals": false})));
        assert!(!check(json!({"uri": "/components/bess_1", "key": "v", "above": 1, "below": 2})));
        assert!(!check(json!({"uri": "/components/bess_1", "key": "v", "above": 1, "severity": 2})));
        assert!(!check(json!({"source": "ess_controller"})));
        assert!(check(json!({"finding": "modbus.*", "endpoint_id": "a"})) && check(json!({"finding": "tcp.refused"})));
        assert!(
            !check(json!({"endpoint_id": "a"})) && !check(json!({"finding": "x", "severity": 3})) && !check(json!({"finding": ""}))
        );
    }

    #[test]
    fn what_is_told_again_and_again_is_bounded() {
        let field = |changes: Value| {
            let settings: MonitorSettings = serde_json::from_value(changes).unwrap();
            settings.validate().err().map(|error| error.field.unwrap())
        };
        let long = "x".repeat(300);
        for (changes, expected) in [
            (json!({"interfaces": ["eth0", "bond0.100"]}), None),
            (json!({"interfaces": [""]}), Some("interfaces[0]")),
            (json!({"interfaces": ["e0", "e0"]}), Some("interfaces[1]")),
            (json!({"interfaces": ["e0", "sixteen-letters0"]}), Some("interfaces[1]")),
            (json!({"interfaces": ["e 0"]}), Some("interfaces[0]")),
            (json!({"interfaces": (0..65).map(|n| format!("e{n}")).collect::<Vec<_>>()}), Some("interfaces")),
            (json!({"filter": "x".repeat(4097)}), Some("filter")),
            (json!({"ignore": [{"code": "tcp.*"}, {"code": long}]}), Some("ignore[1].code")),
            (json!({"ignore": [{"code": "tcp.*", "endpoint_id": long}]}), Some("ignore[0].endpoint_id")),
            (json!({"ignore": vec![json!({"code": "tcp.*"}); 251]}), Some("ignore")),
            (json!({"triggers": [{"uri": "/a", "key": "k", "equals": [long]}]}), Some("triggers")),
            (json!({"triggers": [{"uri": "/a", "key": long, "equals": 1}]}), Some("triggers")),
        ] {
            assert_eq!(field(changes.clone()).as_deref(), expected, "{changes}");
        }
        let of = |len| TriggerRequest { reason: Some("ü".repeat(len)) }.validate().map_err(|error| error.field.unwrap());
        assert_eq!((of(200), of(201)), (Ok(()), Err("reason".to_owned())));
    }

    #[test]
    fn a_list_has_a_length_that_can_be_sent() {
        let field = |limit| SnapshotQuery { limit, ..SnapshotQuery::default() }.validate().err().and_then(|error| error.field);
        assert_eq!([None, Some(1), Some(1000)].map(field), [None, None, None]);
        assert_eq!([Some(0), Some(1001)].map(field), [Some("limit".to_owned()), Some("limit".to_owned())]);
    }

    #[test]
    fn the_defaults_are_valid_and_an_overlap_of_more_than_half_is_not() {
        MonitorSettings::default().validate().unwrap();
        let field = |settings: MonitorSettings| settings.validate().unwrap_err().field.unwrap();
        let of = |snapshot_s, overlap_s| MonitorSettings {
            snapshot_s: Seconds(Duration::from_millis(snapshot_s)),
            overlap_s: Seconds(Duration::from_millis(overlap_s)),
            ..MonitorSettings::default()
        };
        assert_eq!(field(of(10_000, 5_001)), "overlap_s");
        assert_eq!(field(of(199, 0)), "snapshot_s");
        of(200, 100).validate().unwrap();
        assert_eq!(field(MonitorSettings { pre_max_bytes: (128 << 20) + 1, ..MonitorSettings::default() }), "pre_max_bytes");
        assert_eq!(field(MonitorSettings { min_free_percent: f64::NAN, ..MonitorSettings::default() }), "min_free_percent");
    }
}
