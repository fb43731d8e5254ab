//! Wall-clock times as they stand in a message.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr, time::SystemTime};

/// A moment in UTC, to the nanosecond; in JSON an RFC 3339 string with 3, 6 or 9 decimals, as many as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcTime(i64);

impl UtcTime {
    /// From nanoseconds since 1970-01-01T00:00:00Z.
    pub const fn from_unix_ns(unix_ns: i64) -> Self {
        Self(unix_ns)
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub const fn unix_ns(self) -> i64 {
        self.0
    }

    /// Cut to whole milliseconds, which is what most messages carry.
    pub const fn to_millis(self) -> Self {
        Self(self.0 - self.0.rem_euclid(1_000_000))
    }

    /// Seconds from `earlier` to this moment; negative when this moment is the earlier one.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }
}

impl From<SystemTime> for UtcTime {
    fn from(time: SystemTime) -> Self {
        let unix_ns = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        };
        Self(unix_ns)
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.0.rem_euclid(1_000_000_000) {
            ns if ns % 1_000_000 == 0 => 3,
            ns if ns % 1_000 == 0 => 6,
            _ => 9,
        };
        match Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => write!(f, "{timestamp:.decimals$}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl FromStr for UtcTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let timestamp: Timestamp = text.parse().map_err(|error| format!("`{text}` is no RFC 3339 time: {error}"))?;
        i64::try_from(timestamp.as_nanosecond()).map(Self).map_err(|_| format!("`{text}` is outside the years 1678 to 2262"))
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for UtcTime {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UtcTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3,9}Z$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_as_many_decimals_as_it_needs_and_at_least_three() {
        assert_eq!(UtcTime::from_unix_ns(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UtcTime::from_unix_ns(1_500_000).to_string(), "1970-01-01T00:00:00.001500Z");
        assert_eq!(UtcTime::from_unix_ns(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(UtcTime::from_unix_ns(-1).to_millis().to_string(), "1969-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn round_trips_through_json(unix_ns: i64) {
            let time = UtcTime::from_unix_ns(unix_ns);
            let text = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<UtcTime>(&text).unwrap(), time);
        }
    }
}
