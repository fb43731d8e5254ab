//! The settings: one JSON or TOML file and a few flags, each with a default that fits a real site.

use super::series_settings::{InfluxSettings, SeriesSettings};
use crate::{
    analysis::{AnalysisSettings, HeartbeatWatch, read_heartbeat_definitions},
    api::{ApiError, DegradedFrom, ExtraEndpoint, MonitorSettings},
    archive::historian::SinkSettings,
    fims,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    env, fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

/// Everything that can be set. A setting that is left out has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The bus's socket. Default: `$FIMS_SOCKET`, or the socket of the site's `fims_server`.
    pub socket: PathBuf,
    /// The bus's key file; bodies are encrypted if it exists.
    pub fims_key: PathBuf,
    /// Where the config files are, read recursively. Default: the directories of the site's modbus and dnp3 processes that exist.
    pub config_dirs: Vec<PathBuf>,
    /// Where the master control process's lists are, which tell which configs are in use; so do the lists beside the config directories,
    /// in `mcp`. Default: where a site has them.
    pub mcp_dirs: Vec<PathBuf>,
    /// Where the capture files are that may be looked at on request, besides the state directory.
    pub analysis_dirs: Vec<PathBuf>,
    /// How often to look whether something has changed that the kernel does not tell of: what is started, interfaces, and directories
    /// that cannot be watched.
    pub topology_check_s: u64,
    /// Where jobs are recorded. Default: `$STATE_DIRECTORY`, or `/var/lib/netdiag`.
    pub state_dir: PathBuf,
    /// The uri under which everything is.
    pub base_uri: String,
    /// The name by which the bus knows this process, and the source of its events.
    pub process_name: String,
    /// Endpoints that are in no config and part of every test.
    pub extra_endpoints: Vec<ExtraEndpoint>,
    /// How often status and summary are published.
    pub publish_period_s: u64,
    /// How many finished jobs of each kind are kept.
    pub jobs_kept: usize,
    /// How many tests may wait for their turn.
    pub jobs_queued: usize,
    /// The largest capture of one job.
    pub capture_max_bytes: u64,
    /// How much the captures of all kept jobs may take; the oldest go first.
    pub captures_kept_bytes: u64,
    /// How many bytes of each packet a connectivity test keeps.
    pub capture_snaplen: u32,
    /// The kernel's buffer for each captured interface.
    pub capture_buffer_bytes: u32,
    /// No capture begins with less disk room than this.
    pub min_free_bytes: u64,
    /// Responses that take this long are slow; so is an endpoint of which one response in twenty is.
    pub slow_response_ms: u64,
    /// A connection that takes longer than this to open is slow.
    pub slow_connect_ms: u64,
    /// A request that waits longer than this is unanswered.
    pub response_timeout_ms: u64,
    /// A heartbeat register that has not changed for this long is frozen, unless its config says another time.
    pub heartbeat_timeout_ms: u64,
    /// A server that talked and then says nothing for this long, while it is still asked, has gone silent.
    pub silence_ms: u64,
    /// So many frames to all within a second are a storm.
    pub storm_per_s: u64,
    /// A SYN, or a question for a hardware address, that waits longer than this is unanswered.
    pub attempt_timeout_ms: u64,
    /// Segments sent again are a warning from this number on; an endpoint with fewer is not degraded by them.
    pub retransmissions_min: u64,
    /// Segments sent again are a warning if they are at least one in so many of those with payload.
    pub retransmissions_one_in: u64,
    /// So many connections of one server that were made anew, after an end that was not the client's own close, are a warning.
    pub reconnects_min: u64,
    /// An endpoint of which one response in so many is an exception is degraded.
    pub degraded_exceptions_one_in: u64,
    /// An endpoint of which one response in so many is slow is degraded.
    pub degraded_slow_one_in: u64,
    /// An endpoint of which one packet in so many is a segment sent again is degraded.
    pub degraded_retransmissions_one_in: u64,
    /// A configured endpoint of which nothing is seen for this long is missing.
    pub never_seen_after_s: u64,
    /// What follows a stall of a whole host within this time is told as a part of it.
    pub stall_aftermath_s: u64,
    /// Two masters of one outstation that speak in turn, each again within this time, are there at once.
    pub two_masters_within_s: u64,
    /// Two packets alike within this time are one, captured twice; 0: only those that are numbered.
    pub copy_window_us: u64,
    /// Two packets alike, also in the number or the time stamp that their sender gave them, are one within this time; 0: never.
    pub numbered_copy_window_ms: u64,
    /// How long bytes that the capture does not have, and the receiver does, are waited for.
    pub gap_patience_ms: u64,
    /// A packet that is earlier than the one before by so much tells that the clock was set back.
    pub clock_step_ms: u64,
    /// Ports on which Modbus TCP is spoken, besides 502 and those of the configs.
    pub modbus_ports: Vec<u16>,
    /// Ports on which DNP3 is spoken, besides 20000 and those of the configs.
    pub dnp3_ports: Vec<u16>,
    /// Files that define heartbeat registers, besides those of the configs.
    pub heartbeat_files: Vec<PathBuf>,
    /// Whether the monitor is on when it was never switched by a message.
    pub monitor_enabled: bool,
    /// How the monitor records, when that was never set by a message.
    pub monitor: MonitorSettings,
    /// The time series that the monitor tells.
    pub series: SeriesSettings,
    /// The InfluxDB that takes them, too.
    pub influx: Option<InfluxSettings>,
    /// Where archived snapshots are sent.
    pub sinks: Vec<SinkSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            socket: env::var_os("FIMS_SOCKET")
                .filter(|path| !path.is_empty())
                .map_or_else(|| fims::DEFAULT_SOCKET.into(), PathBuf::from),
            fims_key: fims::DEFAULT_KEY_FILE.into(),
            config_dirs: ["modbus_client", "modbus_server", "dnp3_client", "dnp3_server"]
                .map(|process| Path::new("/usr/local/etc/config").join(process))
                .into_iter()
                .filter(|dir| dir.is_dir())
                .collect(),
            mcp_dirs: vec!["/usr/local/etc/config/mcp".into()],
            analysis_dirs: Vec::new(),
            topology_check_s: 30,
            state_dir: env::var_os("STATE_DIRECTORY")
                .filter(|path| !path.is_empty())
                .map_or_else(|| "/var/lib/netdiag".into(), PathBuf::from),
            base_uri: "/netdiag".to_owned(),
            process_name: "netdiag".to_owned(),
            extra_endpoints: Vec::new(),
            publish_period_s: 5,
            jobs_kept: 100,
            jobs_queued: 8,
            capture_max_bytes: 64 << 20,
            captures_kept_bytes: 512 << 20,
            capture_snaplen: 65_535,
            capture_buffer_bytes: 8 << 20,
            min_free_bytes: 256 << 20,
            slow_response_ms: 1000,
            slow_connect_ms: 500,
            response_timeout_ms: 2000,
            heartbeat_timeout_ms: 10_000,
            silence_ms: 10_000,
            storm_per_s: 1000,
            attempt_timeout_ms: 1000,
            retransmissions_min: 3,
            retransmissions_one_in: 100,
            reconnects_min: 3,
            degraded_exceptions_one_in: 10,
            degraded_slow_one_in: 20,
            degraded_retransmissions_one_in: 50,
            never_seen_after_s: 60,
            stall_aftermath_s: 60,
            two_masters_within_s: 60,
            copy_window_us: 100,
            numbered_copy_window_ms: 100,
            gap_patience_ms: 200,
            clock_step_ms: 1000,
            modbus_ports: Vec::new(),
            dnp3_ports: Vec::new(),
            heartbeat_files: Vec::new(),
            monitor_enabled: false,
            monitor: MonitorSettings::default(),
            series: SeriesSettings::default(),
            influx: None,
            sinks: Vec::new(),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no JSON or TOML, or names a setting that does not exist.
    #[error("cannot use the settings {}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A file of heartbeat definitions cannot be used.
    #[error("the heartbeat definitions {}: {problem}", path.display())]
    Heartbeats {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A setting of the monitor cannot be.
    #[error("the settings of the monitor: {0}")]
    Monitor(ApiError),
    /// A sink cannot be.
    #[error("the sink `{name}`: {problem}")]
    Sink {
        /// Its name.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A setting has a value that cannot be.
    #[error("the setting `{field}` is {value}; it must be {right}")]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        right: String,
    },
}

impl Settings {
    /// Reads a settings file: TOML if its name ends in `.toml`, else JSON.
    ///
    /// # Errors
    /// When it cannot be read or is malformed; the message names the file, the place and the setting.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(path).map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        Self::from_text(path, &text)
    }

    /// The same of a text that was read already.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_text(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let malformed =
            |message: String| SettingsError::Malformed { path: path.to_owned(), message: message.trim_end().to_owned() };
        if path.extension().is_some_and(|extension| extension == "toml") {
            toml::from_str(text).map_err(|error| malformed(error.to_string()))
        } else {
            serde_json::from_str(text).map_err(|error| malformed(error.to_string()))
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] for the first setting that cannot be.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/');
        let uri = &self.base_uri;
        let well_formed = uri.len() > 1 && uri.len() <= 64 && uri.starts_with('/') && !uri.ends_with('/') && !uri.contains("//");
        require(
            "base_uri",
            format!("`{uri}`"),
            well_formed && uri.bytes().all(legal),
            "a `/` and then segments of `-`, `.`, `0-9`, `A-Z`, `_`, `a-z`, at most 64 bytes",
        )?;
        let name = &self.process_name;
        require("process_name", format!("`{name}`"), !name.is_empty() && name.len() <= 64, "1 to 64 bytes")?;
        within("publish_period_s", self.publish_period_s, 1..=3600)?;
        within("topology_check_s", self.topology_check_s, 1..=86_400)?;
        within("jobs_kept", self.jobs_kept as u64, 1..=10_000)?;
        within("jobs_queued", self.jobs_queued as u64, 1..=1000)?;
        let bytes = self.capture_max_bytes;
        require("capture_max_bytes", bytes.to_string(), bytes >= 4096, "4096 or more")?;
        within("capture_snaplen", self.capture_snaplen.into(), 64..=262_144)?;
        within("capture_buffer_bytes", self.capture_buffer_bytes.into(), 65_536..=1 << 30)?;
        within("slow_response_ms", self.slow_response_ms, 1..=600_000)?;
        within("slow_connect_ms", self.slow_connect_ms, 1..=600_000)?;
        within("response_timeout_ms", self.response_timeout_ms, 1..=600_000)?;
        within("heartbeat_timeout_ms", self.heartbeat_timeout_ms, 100..=86_400_000)?;
        within("silence_ms", self.silence_ms, 100..=86_400_000)?;
        within("attempt_timeout_ms", self.attempt_timeout_ms, 1..=600_000)?;
        within("never_seen_after_s", self.never_seen_after_s, 1..=86_400)?;
        within("stall_aftermath_s", self.stall_aftermath_s, 1..=86_400)?;
        within("two_masters_within_s", self.two_masters_within_s, 1..=86_400)?;
        within("copy_window_us", self.copy_window_us, 0..=1_000_000)?;
        within("numbered_copy_window_ms", self.numbered_copy_window_ms, 0..=10_000)?;
        within("gap_patience_ms", self.gap_patience_ms, 1..=60_000)?;
        within("clock_step_ms", self.clock_step_ms, 1..=86_400_000)?;
        for (field, value) in [
            ("storm_per_s", self.storm_per_s),
            ("retransmissions_min", self.retransmissions_min),
            ("retransmissions_one_in", self.retransmissions_one_in),
            ("reconnects_min", self.reconnects_min),
            ("degraded_exceptions_one_in", self.degraded_exceptions_one_in),
            ("degraded_slow_one_in", self.degraded_slow_one_in),
            ("degraded_retransmissions_one_in", self.degraded_retransmissions_one_in),
        ] {
            within(field, value, 1..=1_000_000)?;
        }
        super::monitor::check_at_start(&self.monitor).map_err(SettingsError::Monitor)?;
        let period_s = self.series.period_s;
        require("series.period_s", period_s.to_string(), period_s <= 86_400, "from 1 to 86400, or 0 for no time series")?;
        if let Some((field, value, right)) = self.influx.as_ref().and_then(InfluxSettings::wrong) {
            return Err(SettingsError::OutOfRange { field, value, right: right.to_owned() });
        }
        for (index, sink) in self.sinks.iter().enumerate() {
            let wrong = |problem| SettingsError::Sink { name: sink.name.clone(), problem };
            sink.validate().map_err(wrong)?;
            if self.sinks.iter().take(index).any(|other| other.name == sink.name) {
                return Err(wrong("there are two of this name; each needs its own".to_owned()));
            }
        }
        Ok(())
    }

    /// The thresholds and ports, as the analysis takes them.
    pub fn analysis(&self) -> AnalysisSettings {
        let mut settings = AnalysisSettings {
            response_timeout: Duration::from_millis(self.response_timeout_ms),
            slow_response: Duration::from_millis(self.slow_response_ms),
            heartbeat_timeout: Duration::from_millis(self.heartbeat_timeout_ms),
            silence: Duration::from_millis(self.silence_ms),
            storm_per_s: self.storm_per_s,
            attempt_timeout: Duration::from_millis(self.attempt_timeout_ms),
            retransmissions_min: self.retransmissions_min,
            retransmissions_one_in: self.retransmissions_one_in,
            reconnects_min: self.reconnects_min,
            never_seen_after: Duration::from_secs(self.never_seen_after_s),
            stall_aftermath: Duration::from_secs(self.stall_aftermath_s),
            two_masters_within: Duration::from_secs(self.two_masters_within_s),
            copy_window: Duration::from_micros(self.copy_window_us),
            numbered_copy_window: Duration::from_millis(self.numbered_copy_window_ms),
            gap_patience: Duration::from_millis(self.gap_patience_ms),
            clock_step: Duration::from_millis(self.clock_step_ms),
            ..AnalysisSettings::default()
        };
        settings.modbus_ports.extend(&self.modbus_ports);
        settings.dnp3_ports.extend(&self.dnp3_ports);
        settings
    }

    /// How much of what goes wrong an endpoint bears before it is degraded.
    pub fn degraded_from(&self) -> DegradedFrom {
        DegradedFrom {
            exceptions_one_in: self.degraded_exceptions_one_in,
            slow_one_in: self.degraded_slow_one_in,
            retransmissions_min: self.retransmissions_min,
            retransmissions_one_in: self.degraded_retransmissions_one_in,
        }
    }

    /// The registers of the definition files. Blocks.
    ///
    /// # Errors
    /// [`SettingsError::Heartbeats`] for the first file that cannot be used.
    pub fn heartbeat_watches(&self) -> Result<Vec<HeartbeatWatch>, SettingsError> {
        let read = |path: &PathBuf| {
            let text = fs::read(path).map_err(|error| error.to_string());
            let watches = text.and_then(|text| read_heartbeat_definitions(&text));
            watches.map_err(|problem| SettingsError::Heartbeats { path: path.clone(), problem })
        };
        Ok(self.heartbeat_files.iter().map(read).collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// The directories whose capture files may be looked at on request.
    pub fn analysis_dirs(&self) -> Vec<PathBuf> {
        std::iter::once(&self.state_dir).chain(&self.analysis_dirs).cloned().collect()
    }

    /// The full uri of a path below the base uri; an empty path is the base itself.
    pub fn uri(&self, path: &str) -> String {
        if path.is_empty() { self.base_uri.clone() } else { format!("{}/{path}", self.base_uri) }
    }
}

fn require(field: &'static str, value: String, holds: bool, right: &str) -> Result<(), SettingsError> {
    if holds { Ok(()) } else { Err(SettingsError::OutOfRange { field, value, right: right.to_owned() }) }
}

fn within(field: &'static str, value: u64, range: RangeInclusive<u64>) -> Result<(), SettingsError> {
    require(field, value.to_string(), range.contains(&value), &format!("from {} to {}", range.start(), range.end()))
}

impl From<SettingsError> for ApiError {
    fn from(error: SettingsError) -> Self {
        Self::bad_request(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn json_and_toml_say_the_same() {
        let (_a, json) = file("s.json", r#"{"base_uri": "/diag", "config_dirs": ["/a", "/b"], "publish_period_s": 2}"#);
        let (_b, toml) = file("s.toml", "base_uri = \"/diag\"\nconfig_dirs = [\"/a\", \"/b\"]\npublish_period_s = 2\n");
        let json = Settings::from_file(&json).unwrap();
        assert_eq!(json, Settings::from_file(&toml).unwrap());
        assert_eq!((json.uri("status").as_str(), json.uri("").as_str()), ("/diag/status", "/diag"));
    }

    #[test]
    fn a_mistyped_setting_is_named() {
        for (name, text) in [("s.json", r#"{"publish_perod_s": 2}"#), ("s.toml", "publish_perod_s = 2")] {
            let (_dir, path) = file(name, text);
            let error = Settings::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("publish_perod_s") && error.contains(name), "{error}");
        }
        let (_dir, path) = file("gone.json", "");
        assert!(Settings::from_file(&path.with_file_name("missing.json")).unwrap_err().to_string().contains("missing.json"));
    }

    #[test]
    fn the_example_is_valid() {
        let settings = Settings::from_file(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/settings.toml"))).unwrap();
        settings.validate().unwrap();
        assert_eq!((settings.extra_endpoints.len(), settings.config_dirs.len()), (2, 2));
    }

    #[test]
    fn the_defaults_are_valid_and_bad_values_are_not() {
        Settings::default().validate().unwrap();
        for base_uri in ["", "/", "netdiag", "/net diag", "/a//b", "/a/", "/a:b"] {
            let settings = Settings { base_uri: base_uri.to_owned(), ..Settings::default() };
            assert!(settings.validate().unwrap_err().to_string().contains("base_uri"), "{base_uri}");
        }
        let sink = SinkSettings { name: "spool".into(), path: Some("/var/spool".into()), ..SinkSettings::default() };
        Settings { sinks: vec![sink.clone()], ..Settings::default() }.validate().unwrap();
        let two = Settings { sinks: vec![sink.clone(), sink], ..Settings::default() };
        assert!(two.validate().unwrap_err().to_string().contains("two of this name"));
        assert!(Settings { publish_period_s: 0, ..Settings::default() }.validate().is_err());
        let refused = |settings: Settings| settings.validate().unwrap_err().to_string();
        assert_eq!(
            refused(Settings { capture_buffer_bytes: 1, ..Settings::default() }),
            "the setting `capture_buffer_bytes` is 1; it must be from 65536 to 1073741824"
        );
        assert_eq!(
            refused(Settings { capture_max_bytes: 4095, ..Settings::default() }),
            "the setting `capture_max_bytes` is 4095; it must be 4096 or more"
        );
    }

    /// The settings that are thresholds of the first look and of an endpoint's health, each with a value that cannot be.
    const THRESHOLDS: [(&str, u64); 20] = [
        ("slow_response_ms", 0),
        ("slow_connect_ms", 600_001),
        ("response_timeout_ms", 0),
        ("heartbeat_timeout_ms", 99),
        ("silence_ms", 99),
        ("storm_per_s", 0),
        ("attempt_timeout_ms", 0),
        ("retransmissions_min", 0),
        ("retransmissions_one_in", 0),
        ("reconnects_min", 0),
        ("degraded_exceptions_one_in", 0),
        ("degraded_slow_one_in", 0),
        ("degraded_retransmissions_one_in", 1_000_001),
        ("never_seen_after_s", 0),
        ("stall_aftermath_s", 86_401),
        ("two_masters_within_s", 0),
        ("copy_window_us", 1_000_001),
        ("numbered_copy_window_ms", 10_001),
        ("gap_patience_ms", 0),
        ("clock_step_ms", 0),
    ];

    #[test]
    fn each_threshold_reaches_what_it_is_for_and_is_checked_by_its_name() {
        let set = |field: &str, value: u64| -> Settings { serde_json::from_value(serde_json::json!({field: value})).unwrap() };
        let usual = Settings::default();
        assert_eq!(usual.degraded_from(), DegradedFrom::default());
        assert_eq!(usual.analysis(), AnalysisSettings::default());
        for (field, wrong) in THRESHOLDS {
            let error = set(field, wrong).validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("the setting `{field}` is {wrong}; it must be from ")), "{error}");
            let other = set(field, 777);
            other.validate().unwrap();
            let is_taken = other.analysis() != usual.analysis() || other.degraded_from() != usual.degraded_from();
            assert!(is_taken || other.slow_connect_ms == 777, "{field} changes nothing");
        }
    }

    #[test]
    fn the_settings_page_has_each_setting() {
        let page = include_str!("../../docs/settings.md");
        let settings = serde_json::to_value(Settings::default()).unwrap();
        for field in settings.as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{field}`")), "{field} is not in docs/settings.md");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_file_names_itself_and_a_sound_one_can_be_written(at: prop::sample::Index, character: char, is_toml: bool) {
            let example = Settings::from_text(Path::new("s.toml"), include_str!("../../examples/settings.toml")).unwrap();
            let (name, text) = match is_toml {
                true => ("s.toml", include_str!("../../examples/settings.toml").to_owned()),
                false => ("s.json", serde_json::to_string_pretty(&example).unwrap()),
            };
            prop_assert_eq!(Settings::from_text(Path::new(name), &text).unwrap(), example);
            let place = at.index(text.chars().count());
            let damaged: String = text.chars().enumerate().map(|(index, c)| if index == place { character } else { c }).collect();
            match Settings::from_text(Path::new(name), &damaged) {
                Ok(settings) => prop_assert!(serde_json::to_string(&settings).is_ok()),
                Err(error) => prop_assert!(error.to_string().contains(name)),
            }
        }
    }
}
