//! The settings of the monitor's time series, and of the InfluxDB that takes them.

use crate::http::parse_url;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Parameters of a url that hold no secret, so that they may be told.
const TOLD_PARAMETERS: [&str; 6] = ["db", "rp", "org", "orgID", "bucket", "consistency"];
/// Tags that every point has; others cannot be called so.
pub(super) const OWN_TAGS: [&str; 4] = ["host", "endpoint_id", "name", "protocol"];

/// How each endpoint's traffic is told over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeriesSettings {
    /// How long a period is; after each one every endpoint is published. 0: never.
    pub period_s: u64,
}

impl Default for SeriesSettings {
    fn default() -> Self {
        Self { period_s: 60 }
    }
}

/// An InfluxDB, or whatever takes its line protocol. Secrets stand in files of their own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfluxSettings {
    /// Where points are written to: `http://host:8086/write?db=site` (version 1), or
    /// `http://host:8086/api/v2/write?org=plant&bucket=site` (version 2).
    pub url: String,
    /// A file with the token (version 2).
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The user (version 1).
    #[serde(default)]
    pub username: Option<String>,
    /// A file with the user's password (version 1).
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A file (PEM) with the authorities that have signed the server's certificate, if the host does not know them.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The measurement of the points.
    #[serde(default = "measurement")]
    pub measurement: String,
    /// Tags that every point gets besides `host`, `endpoint_id`, `name` and `protocol`.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The most memory that points take which cannot be written yet; the oldest are dropped first.
    #[serde(default = "queue_max_bytes")]
    pub queue_max_bytes: u64,
}

fn measurement() -> String {
    "netdiag_endpoint".to_owned()
}

const fn queue_max_bytes() -> u64 {
    32 << 20
}

impl InfluxSettings {
    /// The url, if it can be one.
    pub(super) fn parsed_url(&self) -> Option<Url> {
        parse_url(&self.url)
    }

    /// The url as it may be told: without user, password, and parameters that may be secrets.
    pub(super) fn told_url(&self) -> String {
        let Some(mut url) = self.parsed_url() else { return "not a url of http or https".to_owned() };
        // These fail for urls without a host only.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_fragment(None);
        let told: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(key, _)| TOLD_PARAMETERS.contains(&key.as_ref()))
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        url.set_query(None);
        if !told.is_empty() {
            url.query_pairs_mut().extend_pairs(told);
        }
        url.to_string()
    }

    /// The first thing that cannot be: the setting, its value as it may be told, and what would be right.
    pub(super) fn wrong(&self) -> Option<(&'static str, String, &'static str)> {
        if self.parsed_url().is_none() {
            return Some(("influx.url", self.told_url(), "such as `http://host:8086/write?db=site`"));
        }
        if self.token_file.is_some() && (self.username.is_some() || self.password_file.is_some()) {
            let value = "there, and so are a user or a password".to_owned();
            return Some(("influx.token_file", value, "either a token, or a user and a password"));
        }
        if self.username.is_some() != self.password_file.is_some() {
            let value = if self.username.is_some() { "there without `password_file`" } else { "missing" };
            return Some(("influx.username", value.to_owned(), "there together with `password_file`"));
        }
        if self.measurement.is_empty() || self.measurement.starts_with('_') || self.measurement.chars().any(char::is_control) {
            return Some(("influx.measurement", format!("`{}`", self.measurement.escape_debug()), "such as `netdiag_endpoint`"));
        }
        let is_bad = |key: &str| {
            key.is_empty() || key.starts_with('_') || ["time", "field", "measurement"].contains(&key) || OWN_TAGS.contains(&key)
        };
        if let Some(tag) = self.tags.keys().find(|key| is_bad(key)) {
            let right = "no name that InfluxDB or netdiag uses itself, and none that begins with `_`";
            return Some(("influx.tags", format!("with a tag `{tag}`"), right));
        }
        let least = 64 << 10;
        (self.queue_max_bytes < least).then(|| ("influx.queue_max_bytes", self.queue_max_bytes.to_string(), "65536 or more"))
    }
}

impl fmt::Debug for InfluxSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InfluxSettings")
            .field("url", &self.told_url())
            .field("token_file", &self.token_file)
            .field("username", &self.username)
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .field("measurement", &self.measurement)
            .field("tags", &self.tags)
            .field("queue_max_bytes", &self.queue_max_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> InfluxSettings {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn no_secret_of_a_url_is_told() {
        let influx = settings("url = \"https://admin:hunter2@db.site:8086/write?db=site&u=admin&p=hunter2&token=hunter2#hunter2\"");
        assert_eq!(influx.told_url(), "https://db.site:8086/write?db=site");
        assert!(influx.wrong().is_none());
        assert!(!format!("{influx:?}").contains("hunter2"));
        let broken = settings("url = \"ftp://admin:hunter2@db.site/\"");
        assert!(!format!("{broken:?} {:?}", broken.wrong().unwrap()).contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let url = "url = \"http://127.0.0.1:8086/api/v2/write?org=o&bucket=b\"\n";
        let field = |more: &str| settings(&format!("{url}{more}")).wrong().map(|(field, ..)| field);
        assert_eq!(field("token_file = \"/t\"\ntags = {site = \"north\"}"), None);
        assert_eq!(field("username = \"u\"\npassword_file = \"/p\""), None);
        assert_eq!(field("username = \"u\""), Some("influx.username"));
        assert_eq!(field("password_file = \"/p\""), Some("influx.username"));
        assert_eq!(field("token_file = \"/t\"\nusername = \"u\"\npassword_file = \"/p\""), Some("influx.token_file"));
        for tag in ["host", "time", "_field", ""] {
            assert_eq!(field(&format!("tags = {{\"{tag}\" = \"x\"}}")), Some("influx.tags"), "{tag}");
        }
        for measurement in ["", "_m", "a\\nb"] {
            assert_eq!(field(&format!("measurement = \"{measurement}\"")), Some("influx.measurement"), "{measurement}");
        }
        assert_eq!(field("measurement = \"plc traffic\""), None);
        assert_eq!(field("queue_max_bytes = 1"), Some("influx.queue_max_bytes"));
        for url in ["nonsense", "/write?db=x", "file:///etc", "http://"] {
            assert_eq!(settings(&format!("url = \"{url}\"")).wrong().unwrap().0, "influx.url", "{url}");
        }
        assert!(toml::from_str::<InfluxSettings>(&format!("{url}password = \"p\"")).is_err(), "secrets stand in files");
    }
}
