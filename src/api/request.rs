//! What may be asked, and the one way in which every body is read.

use super::{Activity, ApiError, Direction, Endpoint, JobKind, JobState, PortSource, Protocol, Transport, endpoint_id, undress};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;
use std::net::IpAddr;

/// The deepest nesting of a body that is read.
pub const MAX_BODY_DEPTH: usize = 32;

/// An endpoint that is in no config: ssh, a web page, any port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraEndpoint {
    /// The IP address, or a host name.
    #[serde(deserialize_with = "host")]
    #[schemars(length(min = 1, max = 253))]
    pub address: String,
    /// The TCP port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// What is spoken there.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
}

/// An IP address in its usual spelling, or what may be a host name.
fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    // What ends with a number is meant as an address.
    let is_name = text.len() <= 253
        && text.split('.').all(is_label)
        && text.rsplit('.').next().is_some_and(|label| !label.chars().all(|c| c.is_ascii_digit()));
    if is_name { Ok(text) } else { Err(D::Error::custom("`address` is neither an IP address nor a host name")) }
}

impl ExtraEndpoint {
    /// The endpoint that it stands for. A host name has no address yet.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            endpoint_id: endpoint_id(self.protocol, Direction::Outbound, &self.address, Some(self.port)),
            protocol: self.protocol,
            direction: Direction::Outbound,
            transport: Transport::Tcp,
            name: None,
            host: Some(self.address.clone()),
            address: self.address.parse().ok(),
            port: Some(self.port),
            port_source: PortSource::Explicit,
            unit_ids: Vec::new(),
            uses_default_unit: false,
            accepts_any_unit: false,
            dnp3_addresses: Vec::new(),
            serial: None,
            config_files: Vec::new(),
            activity: Activity::Unknown,
            process: None,
            controller: None,
            components: Vec::new(),
            max_connections: None,
            fims_uris: Vec::new(),
            interface: None,
            source_address: None,
            gateway: None,
        }
    }
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// A request for a first look at a capture file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnalysisRequest {
    /// The file, by its absolute path; it must lie below an allowed directory.
    pub file: String,
}

/// A request for a connectivity test; every field may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectivityRequest {
    /// Whether to ping each address.
    pub ping: bool,
    /// Whether to connect to each port (never a DNP3 port; see `dnp3_connect`).
    pub connect: bool,
    /// Whether to capture the traffic of the test and judge by it.
    pub capture: bool,
    /// Whether to connect to DNP3 ports too. An old outstation may drop its master when a second connection comes.
    pub dnp3_connect: bool,
    /// Endpoint ids, addresses, `address:port`, config file names or CIDR blocks; absent means the whole topology.
    pub targets: Option<Vec<String>>,
    /// Only endpoints that speak one of these.
    pub protocols: Option<Vec<Protocol>>,
    /// Endpoints that are in no config.
    pub extra: Vec<ExtraEndpoint>,
    /// Pings to each address.
    #[schemars(range(min = 1, max = 100))]
    pub ping_count: u32,
    /// How long to wait for an answer. Under 3200 ms "no ARP answer" cannot be told from "timed out" without a capture.
    #[schemars(range(min = 1, max = 60_000))]
    pub timeout_ms: u64,
    /// Connects to each port until one opens.
    #[schemars(range(min = 1, max = 10))]
    pub connect_attempts: u32,
    /// Endpoints at a time. One device never gets two connections at a time.
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: u32,
    /// Probes a second, over all endpoints.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_rate_per_s: u32,
    /// How long to go on capturing after the last probe.
    #[schemars(range(max = 60_000))]
    pub settle_ms: u64,
}

impl Default for ConnectivityRequest {
    fn default() -> Self {
        Self {
            ping: true,
            connect: true,
            capture: true,
            dnp3_connect: false,
            targets: None,
            protocols: None,
            extra: Vec::new(),
            ping_count: 3,
            timeout_ms: 3500,
            connect_attempts: 1,
            concurrency: 512,
            max_rate_per_s: 500,
            settle_ms: 1000,
        }
    }
}

/// The most `targets` or `extra` entries in one request.
const MAX_LIST: usize = 2_000;
/// The longest target: more than any path of a config file needs.
const MAX_WORD: usize = 512;
/// The most interfaces that one capture opens; each takes a buffer of the kernel's.
const MAX_INTERFACES: usize = 32;

impl ConnectivityRequest {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A `bad_request` that names the first field out of range.
    pub fn validate(&self) -> Result<(), ApiError> {
        in_range("ping_count", u64::from(self.ping_count), 1, 100)?;
        in_range("timeout_ms", self.timeout_ms, 1, 60_000)?;
        in_range("connect_attempts", u64::from(self.connect_attempts), 1, 10)?;
        in_range("concurrency", u64::from(self.concurrency), 1, 4096)?;
        in_range("max_rate_per_s", u64::from(self.max_rate_per_s), 1, 10_000)?;
        in_range("settle_ms", self.settle_ms, 0, 60_000)?;
        for (name, entries) in [("targets", self.targets.as_ref().map_or(0, Vec::len)), ("extra", self.extra.len())] {
            if entries > MAX_LIST {
                return Err(ApiError::bad_field(name, format!("`{name}` has {entries} entries; at most {MAX_LIST} are allowed")));
            }
        }
        if let Some(index) = self.targets.iter().flatten().position(|target| target.len() > MAX_WORD) {
            return Err(ApiError::bad_field(format!("targets[{index}]"), format!("a target has at most {MAX_WORD} bytes")));
        }
        if self.targets.as_ref().is_some_and(Vec::is_empty) {
            return Err(ApiError::bad_field("targets", "`targets` is empty; leave it out to test the whole topology"));
        }
        if self.protocols.as_ref().is_some_and(Vec::is_empty) {
            return Err(ApiError::bad_field("protocols", "`protocols` is empty; leave it out to test every protocol"));
        }
        if let Some(index) = self.extra.iter().position(|extra| extra.port == 0) {
            return Err(ApiError::bad_field(format!("extra[{index}].port"), "port 0 cannot be connected to; use 1 to 65535"));
        }
        if !self.ping && !self.connect && !self.capture && !self.dnp3_connect {
            return Err(ApiError::bad_request("ping, connect and capture are all off, so there is nothing to test; switch one on"));
        }
        Ok(())
    }
}

/// A request to record traffic; every field may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureRequest {
    /// The interfaces; absent means those that the topology uses.
    pub interfaces: Option<Vec<String>>,
    /// A filter in libpcap's language; absent means one built from the topology.
    pub filter: Option<String>,
    /// For how long.
    #[schemars(range(min = 1, max = 86_400))]
    pub duration_s: u64,
    /// The largest file; absent means the setting `capture_max_bytes`.
    pub max_bytes: Option<u64>,
    /// How many bytes of each packet to keep; absent means all.
    #[schemars(range(min = 64, max = 262_144))]
    pub snaplen: Option<u32>,
}

impl Default for CaptureRequest {
    fn default() -> Self {
        Self { interfaces: None, filter: None, duration_s: 60, max_bytes: None, snaplen: None }
    }
}

impl CaptureRequest {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A `bad_request` that names the first field out of range.
    pub fn validate(&self) -> Result<(), ApiError> {
        in_range("duration_s", self.duration_s, 1, 86_400)?;
        if let Some(snaplen) = self.snaplen {
            in_range("snaplen", u64::from(snaplen), 64, 262_144)?;
        }
        if let Some(max_bytes) = self.max_bytes {
            in_range("max_bytes", max_bytes, 4096, u64::MAX)?;
        }
        if self.interfaces.as_ref().is_some_and(Vec::is_empty) {
            return Err(ApiError::bad_field(
                "interfaces",
                "`interfaces` is empty; leave it out to capture those that the topology uses",
            ));
        }
        let interfaces = self.interfaces.as_deref().unwrap_or_default();
        if interfaces.len() > MAX_INTERFACES {
            return Err(ApiError::bad_field("interfaces", format!("at most {MAX_INTERFACES} interfaces are captured at a time")));
        }
        if let Some(index) = (0..interfaces.len()).find(|index| interfaces[..*index].contains(&interfaces[*index])) {
            return Err(ApiError::bad_field(format!("interfaces[{index}]"), "an interface is named twice; name each once"));
        }
        if self.filter.as_ref().is_some_and(|filter| filter.len() > 65_536 || filter.contains('\0')) {
            return Err(ApiError::bad_field("filter", "`filter` must be at most 65536 bytes of text"));
        }
        Ok(())
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobQuery {
    /// At most so many, newest first.
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u32,
    /// Only of this kind.
    pub kind: Option<JobKind>,
    /// Only in this state.
    pub state: Option<JobState>,
}

impl Default for JobQuery {
    fn default() -> Self {
        Self { limit: 20, kind: None, state: None }
    }
}

impl JobQuery {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A `bad_request` that names the first field out of range.
    pub fn validate(&self) -> Result<(), ApiError> {
        in_range("limit", u64::from(self.limit), 1, 1000)
    }
}

fn in_range(field: &str, value: u64, min: u64, max: u64) -> Result<(), ApiError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let right = if max == u64::MAX { format!("{min} or more") } else { format!("from {min} to {max}") };
    Err(ApiError::bad_field(field, format!("`{field}` is {value}; it must be {right}")))
}

/// Reads a message body as JSON and takes its clothes off. An absent body is `null`.
///
/// # Errors
/// A `bad_request` if it is no JSON, or nested deeper than [`MAX_BODY_DEPTH`].
pub fn body_json(body: Option<&[u8]>) -> Result<Value, ApiError> {
    let Some(body) = body else { return Ok(Value::Null) };
    if depth(body) > MAX_BODY_DEPTH {
        return Err(ApiError::bad_request(format!("the body is nested deeper than {MAX_BODY_DEPTH} levels")));
    }
    let value = serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(undress(value))
}

/// The deepest bracket nesting of a JSON text, without building it.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Reads an undressed body into a request type, where `true`, `null` and an absent body mean "all defaults".
///
/// # Errors
/// A `bad_request` that names the offending field: unknown, of a wrong type, or with a value that does not exist.
pub fn parse_body<T: DeserializeOwned + Default>(body: Value) -> Result<T, ApiError> {
    match body {
        Value::Null | Value::Bool(true) => Ok(T::default()),
        Value::Object(_) => parse_object(body),
        Value::Bool(false) => Err(ApiError::bad_request("`false` starts nothing; send `true` or an object of options")),
        other => Err(ApiError::bad_request(format!("expected `true` or an object of options, not {}", kind_of(&other)))),
    }
}

/// Reads a body that must be an object, because not every field can be left out.
///
/// # Errors
/// A `bad_request` that names the field, or says that an object is needed.
pub fn parse_object<T: DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    if !body.is_object() {
        return Err(ApiError::bad_request(format!("expected an object, not {}", kind_of(&body))));
    }
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        // A field that is missing is named by the message alone: where it should be is the object around it.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            (".", None) => ApiError::bad_request(message),
            (".", Some(field)) => ApiError::bad_field(field.to_owned(), message),
            (_, Some(field)) => ApiError::bad_field(format!("{path}.{field}"), message),
            (_, None) => ApiError::bad_field(path, message),
        }
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Result<ConnectivityRequest, ApiError> {
        let request: ConnectivityRequest = parse_body(body_json(Some(text.as_bytes()))?)?;
        request.validate()?;
        Ok(request)
    }

    #[test]
    fn a_field_that_is_missing_is_the_offending_one() {
        let read = |body| parse_object::<AnalysisRequest>(body).unwrap_err();
        assert_eq!(read(json!({})).field.as_deref(), Some("file"));
        assert_eq!(read(json!({"file": 1})).field.as_deref(), Some("file"));
        let nested = parse_body::<ConnectivityRequest>(json!({"extra": [{"address": "10.0.0.1"}]})).unwrap_err();
        assert_eq!(nested.field.as_deref(), Some("extra[0].port"), "{nested:?}");
    }

    #[test]
    fn an_extra_endpoint_has_an_address_or_a_host_name() {
        let address = |text: &str| {
            let request = read(&json!({"extra": [{"address": text, "port": 22}]}).to_string())?;
            Ok::<_, ApiError>((request.extra[0].address.clone(), request.extra[0].endpoint().address))
        };
        assert_eq!(address("10.0.0.1").unwrap(), ("10.0.0.1".to_owned(), Some([10, 0, 0, 1].into())));
        assert_eq!(address("FE80:0::1").unwrap().0, "fe80::1");
        assert_eq!(address("gateway-1.site").unwrap(), ("gateway-1.site".to_owned(), None));
        for text in ["", "10.0.0.256", "10.0.0", "a b", "a..b", "10.0.0.1:22", "ssh://host"] {
            assert!(address(text).is_err_and(|error| error.to_string().contains("host name")), "{text}");
        }
    }

    #[test]
    fn naked_clothed_true_and_absent_mean_the_defaults() {
        for text in ["true", r#"{"value": true}"#, "{}", r#"{"ping": {"value": true}}"#, "null"] {
            assert_eq!(read(text).unwrap(), ConnectivityRequest::default(), "{text}");
        }
        assert_eq!(parse_body::<ConnectivityRequest>(body_json(None).unwrap()).unwrap(), ConnectivityRequest::default());
    }

    #[test]
    fn an_error_names_the_offending_field() {
        let field = |text| read(text).unwrap_err().field;
        assert_eq!(field(r#"{"pign": true}"#).as_deref(), Some("pign"));
        assert_eq!(field(r#"{"ping": "yes"}"#).as_deref(), Some("ping"));
        assert_eq!(field(r#"{"ping_count": 0}"#).as_deref(), Some("ping_count"));
        assert_eq!(field(r#"{"timeout_ms": -1}"#).as_deref(), Some("timeout_ms"));
        assert_eq!(field(r#"{"timeout_ms": 99999999999999999999999}"#).as_deref(), Some("timeout_ms"));
        assert_eq!(field(r#"{"extra": [{"address": "10.0.0.1", "port": 0}]}"#).as_deref(), Some("extra[0].port"));
        assert_eq!(field(r#"{"extra": [{"address": "not here", "port": 22}]}"#).as_deref(), Some("extra[0].address"));
        assert_eq!(field(r#"{"protocols": ["modbus", "profinet"]}"#).as_deref(), Some("protocols[1]"));
        assert_eq!(field(r#"{"targets": []}"#).as_deref(), Some("targets"));
    }

    #[test]
    fn what_is_no_request_is_refused_in_words() {
        for text in ["", "{", "false", "5", "[]", "\"go\"", "nope", "{\"ping\":false,\"connect\":false,\"capture\":false}"] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{text}");
            assert!(error.message.len() > 10, "{text}: {error}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(body_json(Some(nested(MAX_BODY_DEPTH).as_bytes())).is_ok());
        assert!(body_json(Some(nested(MAX_BODY_DEPTH + 1).as_bytes())).is_err());
        assert_eq!(body_json(Some(br#""[[[[\"[[[""#)).unwrap(), json!("[[[[\"[[["));
        assert_eq!(depth(br#""[[[[\"[[[""#), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_crash_the_reader(body: Vec<u8>) {
            if let Ok(value) = body_json(Some(&body)) {
                let _ = parse_body::<ConnectivityRequest>(value.clone()).map(|request| request.validate());
                let _ = parse_body::<CaptureRequest>(value.clone()).map(|request| request.validate());
                let _ = parse_body::<JobQuery>(value).map(|query| query.validate());
            }
        }

        #[test]
        fn a_request_round_trips(ping: bool, ping_count in 1_u32..=100, timeout_ms in 1_u64..=60_000, targets: Option<Vec<String>>) {
            let request = ConnectivityRequest { ping, ping_count, timeout_ms, targets, ..ConnectivityRequest::default() };
            let value = serde_json::to_value(&request).unwrap();
            prop_assert_eq!(parse_body::<ConnectivityRequest>(value).unwrap(), request);
        }
    }
}
