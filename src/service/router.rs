//! What a message asks for: a plain function of its method, uri and body.

use crate::api::{
    AnalysisRequest, ApiError, CaptureRequest, ConnectivityRequest, JobQuery, SnapshotQuery, TopologyList, TriggerRequest,
    body_json, parse_body, parse_object,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A request that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start a connectivity test.
    StartConnectivity(Box<ConnectivityRequest>),
    /// Start a capture.
    StartCapture(Box<CaptureRequest>),
    /// Look at a capture file.
    StartAnalysis(AnalysisRequest),
    /// Cancel a job.
    CancelJob(String),
    /// Read the configs again.
    Rescan,
    /// Switch the monitor on or off.
    EnableMonitor(bool),
    /// Change some of the monitor's settings.
    ChangeMonitor(Map<String, Value>),
    /// Save what the flight recorder remembers.
    Trigger(TriggerRequest),
    /// Pin a snapshot, or let it go.
    PinSnapshot {
        /// The snapshot.
        snapshot_id: String,
        /// Whether it is to stay.
        pinned: bool,
    },
    /// Delete a snapshot.
    DeleteSnapshot(String),
    /// Try a sink again at once.
    RetrySink(String),
    /// The monitor.
    Monitor,
    /// The monitor's settings.
    MonitorSettings,
    /// The snapshots.
    Snapshots(SnapshotQuery),
    /// One snapshot.
    Snapshot(String),
    /// The supervisor's heartbeat.
    CopsHeartbeat(u64),
    /// The supervisor asks.
    CopsQuery,
    /// The status.
    Status,
    /// The flat summary.
    Summary,
    /// The topology.
    Topology,
    /// One endpoint of the topology.
    TopologyEndpoint(String),
    /// A piece of a list of the topology.
    TopologyPiece {
        /// The list.
        list: TopologyList,
        /// The number of the first item.
        from: u32,
    },
    /// How the traffic of all endpoints was.
    Health,
    /// How the traffic of one endpoint was.
    EndpointHealth(String),
    /// The controller's own interfaces.
    Interfaces,
    /// The latest jobs.
    Jobs(JobQuery),
    /// One job.
    Job(String),
    /// A job's whole result.
    JobResult(String),
    /// One endpoint of a job's result.
    JobEndpoint {
        /// The job.
        job_id: String,
        /// The endpoint.
        endpoint_id: String,
    },
}

/// Reads a message that is addressed to `base_uri` or below. `None`: nothing is asked (a publication of somebody else).
///
/// # Errors
/// What the asker is to be told: an unknown uri or method, a body that does not fit.
pub fn route(base_uri: &str, method: &str, uri: &str, body: Option<&[u8]>) -> Result<Option<Request>, ApiError> {
    let below = uri.strip_prefix(base_uri).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(path) = below else { return Ok(None) };
    let path: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match method {
        "set" => set(&path, uri, body_json(body)?).map(Some),
        "get" => get(&path, uri, body).map(Some),
        _ if method.starts_with("pub") => Ok(None),
        _ => Err(ApiError::bad_request(format!(
            "method `{method}` is not known here; use `set` to start something and `get` to ask"
        ))),
    }
}

fn set(path: &[&str], uri: &str, body: Value) -> Result<Request, ApiError> {
    match *path {
        ["connectivity", "start"] | ["summary", "run_connectivity_test"] => {
            let request: ConnectivityRequest = parse_command(body)?;
            request.validate()?;
            Ok(Request::StartConnectivity(Box::new(request)))
        }
        ["capture", "start"] => {
            let request: CaptureRequest = parse_command(body)?;
            request.validate()?;
            Ok(Request::StartCapture(Box::new(request)))
        }
        ["analysis", "start"] => {
            // Not from the default: there is no file that could be meant.
            let request: AnalysisRequest = parse_object(body)?;
            Ok(Request::StartAnalysis(request))
        }
        ["jobs", job_id, "cancel"] => is_true(&body).map(|()| Request::CancelJob(job_id.to_owned())),
        ["topology", "rescan"] => is_true(&body).map(|()| Request::Rescan),
        ["cops", "cops_heartbeat"] => body
            .as_u64()
            .map(Request::CopsHeartbeat)
            .ok_or_else(|| ApiError::bad_request(format!("a heartbeat is an unsigned integer, not {body}"))),
        ["monitor", "enabled"] | ["summary", "monitor_enabled"] => is_bool(&body).map(Request::EnableMonitor),
        ["monitor", "settings"] => match body {
            Value::Object(changes) if !changes.is_empty() => Ok(Request::ChangeMonitor(changes)),
            other => Err(ApiError::bad_request(format!("send an object of the settings that are to change, not {other}"))),
        },
        ["monitor", "settings", field] => Ok(Request::ChangeMonitor(Map::from_iter([(field.to_owned(), body)]))),
        ["monitor", "trigger"] => {
            let request: TriggerRequest = parse_command(body)?;
            request.validate()?;
            Ok(Request::Trigger(request))
        }
        ["monitor", "snapshots", snapshot_id, "pinned"] => {
            is_bool(&body).map(|pinned| Request::PinSnapshot { snapshot_id: snapshot_id.to_owned(), pinned })
        }
        ["monitor", "sinks", name, "retry"] => is_true(&body).map(|()| Request::RetrySink(name.to_owned())),
        ["monitor", "snapshots", snapshot_id, "delete"] => is_true(&body).map(|()| Request::DeleteSnapshot(snapshot_id.to_owned())),
        // A parent takes its child's value as a field: `set /x {"y": true}` is `set /x/y true`.
        _ => match body {
            Value::Object(fields) if !fields.is_empty() && path.len() < 3 && is_parent(path) => {
                let mut fields = fields.into_iter();
                match (fields.next(), fields.next()) {
                    (Some((name, value)), None) => {
                        let child: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
                        set(&child, &format!("{uri}/{name}"), crate::api::undress(value))
                    }
                    (_, Some((second, _))) => Err(ApiError::bad_field(
                        second,
                        format!("`{uri}` takes one command in a message; send the others one by one, so that each gets its reply"),
                    )),
                    (None, None) => Err(not_settable(uri)),
                }
            }
            _ => Err(not_settable(uri)),
        },
    }
}

fn get(path: &[&str], uri: &str, body: Option<&[u8]>) -> Result<Request, ApiError> {
    Ok(match *path {
        [] | ["status"] => Request::Status,
        ["summary"] => Request::Summary,
        ["topology"] => Request::Topology,
        ["topology", list] if TopologyList::of_name(list).is_some() => topology_piece(list, "0", uri)?,
        // No endpoint's id is a number.
        ["topology", "endpoints", endpoint_id] if endpoint_id.parse::<u32>().is_err() => {
            Request::TopologyEndpoint(endpoint_id.to_owned())
        }
        ["topology", list, from] if TopologyList::of_name(list).is_some() => topology_piece(list, from, uri)?,
        ["health"] => Request::Health,
        ["health", endpoint_id] => Request::EndpointHealth(endpoint_id.to_owned()),
        ["interfaces"] => Request::Interfaces,
        ["jobs"] => {
            let query: JobQuery = parse_body(body_json(body)?)?;
            query.validate()?;
            Request::Jobs(query)
        }
        ["jobs", job_id] => Request::Job(job_id.to_owned()),
        ["jobs", job_id, "result"] => Request::JobResult(job_id.to_owned()),
        ["jobs", job_id, "endpoints", endpoint_id] => {
            Request::JobEndpoint { job_id: job_id.to_owned(), endpoint_id: endpoint_id.to_owned() }
        }
        ["cops"] => Request::CopsQuery,
        ["monitor"] => Request::Monitor,
        ["monitor", "settings"] => Request::MonitorSettings,
        ["monitor", "snapshots"] => {
            let query: SnapshotQuery = parse_body(body_json(body)?)?;
            query.validate()?;
            Request::Snapshots(query)
        }
        ["monitor", "snapshots", snapshot_id] => Request::Snapshot(snapshot_id.to_owned()),
        _ => {
            return Err(ApiError::not_found(format!(
                "nothing to get at `{uri}`; there are status, summary, topology, topology/endpoints/<endpoint_id>, \
                 topology/<endpoints|hosts|heartbeats|configs|pairs|problems>/<from>, interfaces, jobs, jobs/<job_id>, jobs/<job_id>/result, \
                 jobs/<job_id>/endpoints/<endpoint_id>, health, health/<endpoint_id>, monitor, monitor/settings, monitor/snapshots and \
                 monitor/snapshots/<snapshot_id>"
            )));
        }
    })
}

fn topology_piece(list: &str, from: &str, uri: &str) -> Result<Request, ApiError> {
    match (TopologyList::of_name(list), from.parse()) {
        (Some(list), Ok(from)) => Ok(Request::TopologyPiece { list, from }),
        _ => Err(ApiError::not_found(format!("nothing to get at `{uri}`; a list is asked for from the number of an item, from 0"))),
    }
}

/// The uris that have commands below them.
fn is_parent(path: &[&str]) -> bool {
    matches!(
        *path,
        [] | ["connectivity" | "capture" | "topology" | "summary" | "cops" | "jobs" | "monitor" | "analysis"] | ["jobs", _]
    )
}

/// A command's options. Unlike a query it needs a body, so that an empty message starts nothing.
fn parse_command<T: DeserializeOwned + Default>(body: Value) -> Result<T, ApiError> {
    match body {
        Value::Null => Err(ApiError::bad_request("a command needs a body: `true`, or an object of options")),
        body => parse_body(body),
    }
}

fn is_true(body: &Value) -> Result<(), ApiError> {
    match body {
        Value::Bool(true) => Ok(()),
        other => Err(ApiError::bad_request(format!("send `true` to do this, not {other}"))),
    }
}

fn is_bool(body: &Value) -> Result<bool, ApiError> {
    body.as_bool().ok_or_else(|| ApiError::bad_request(format!("send `true` or `false`, not {body}")))
}

fn not_settable(uri: &str) -> ApiError {
    ApiError::not_found(format!(
        "nothing to set at `{uri}`; there are connectivity/start, capture/start, analysis/start, jobs/<job_id>/cancel, topology/rescan, \
         summary/run_connectivity_test, summary/monitor_enabled, monitor/enabled, monitor/settings, monitor/trigger, \
         monitor/sinks/<name>/retry, monitor/snapshots/<snapshot_id>/pinned and monitor/snapshots/<snapshot_id>/delete"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;
    use proptest::prelude::*;

    fn ask(method: &str, uri: &str, body: &str) -> Result<Option<Request>, ApiError> {
        route("/netdiag", method, uri, (!body.is_empty()).then_some(body.as_bytes()))
    }

    fn started(uri: &str, body: &str) -> ConnectivityRequest {
        match ask("set", uri, body) {
            Ok(Some(Request::StartConnectivity(request))) => *request,
            other => panic!("{uri} {body}: {other:?}"),
        }
    }

    #[test]
    fn a_test_is_started_at_the_leaf_at_the_parent_and_by_the_button() {
        let default = ConnectivityRequest::default();
        assert_eq!(started("/netdiag/connectivity/start", "true"), default);
        assert_eq!(started("/netdiag/connectivity/start", r#"{"value": true}"#), default);
        assert_eq!(started("/netdiag/connectivity", r#"{"start": true}"#), default);
        assert_eq!(started("/netdiag", r#"{"connectivity": {"start": {"value": true}}}"#), default);
        assert_eq!(started("/netdiag/summary/run_connectivity_test", "true"), default);
        assert_eq!(started("/netdiag/summary", r#"{"run_connectivity_test": {"value": true, "type": "Bool"}}"#), default);
        let without_ping = ConnectivityRequest { ping: false, ..default };
        assert_eq!(started("/netdiag/connectivity/start", r#"{"ping": {"value": false}}"#), without_ping);
        assert_eq!(started("/netdiag/connectivity", r#"{"start": {"ping": false}}"#), without_ping);
    }

    #[test]
    fn what_starts_nothing_says_why() {
        let field = |body| ask("set", "/netdiag/connectivity/start", body).unwrap_err();
        assert_eq!(field(r#"{"pign": true}"#).field.as_deref(), Some("pign"));
        assert_eq!(field("").code, ErrorCode::BadRequest, "an absent body where one is needed");
        assert_eq!(field("false").code, ErrorCode::BadRequest);
        assert_eq!(field(r#"{"timeout_ms": 0}"#).field.as_deref(), Some("timeout_ms"));
        assert_eq!(ask("set", "/netdiag/conectivity/start", "true").unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(ask("set", "/netdiag/monitor/enabled", "1").unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(ask("set", "/netdiag/topology/rescan", "1").unwrap_err().code, ErrorCode::BadRequest);
        let two = r#"{"run_connectivity_test": true, "monitor_enabled": true}"#;
        assert_eq!(ask("set", "/netdiag/summary", two).unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn a_look_at_a_file_needs_the_file() {
        let request = Request::StartAnalysis(AnalysisRequest { file: "/captures/a.pcap".to_owned() });
        assert_eq!(ask("set", "/netdiag/analysis/start", r#"{"file": "/captures/a.pcap"}"#).unwrap(), Some(request.clone()));
        assert_eq!(
            ask("set", "/netdiag/analysis", r#"{"start": {"file": {"value": "/captures/a.pcap"}}}"#).unwrap(),
            Some(request)
        );
        for body in ["true", "{}", "", r#"{"file": 1}"#, r#"{"file": "/a", "fiel": 1}"#] {
            assert_eq!(ask("set", "/netdiag/analysis/start", body).unwrap_err().code, ErrorCode::BadRequest, "{body}");
        }
    }

    #[test]
    fn queries_are_read_from_their_uri() {
        assert_eq!(ask("get", "/netdiag", "").unwrap(), Some(Request::Status));
        assert_eq!(ask("get", "/netdiag/status", "").unwrap(), Some(Request::Status));
        assert_eq!(ask("get", "/netdiag/jobs/j1", "").unwrap(), Some(Request::Job("j1".to_owned())));
        let endpoint = Request::JobEndpoint { job_id: "j1".to_owned(), endpoint_id: "modbus_10.0.0.1_502".to_owned() };
        assert_eq!(ask("get", "/netdiag/jobs/j1/endpoints/modbus_10.0.0.1_502", "").unwrap(), Some(endpoint));
        let jobs = Request::Jobs(JobQuery { limit: 3, ..JobQuery::default() });
        assert_eq!(ask("get", "/netdiag/jobs", r#"{"limit": 3}"#).unwrap(), Some(jobs));
        assert_eq!(ask("get", "/netdiag/jobs", r#"{"limit": 0}"#).unwrap_err().field.as_deref(), Some("limit"));
        assert_eq!(ask("get", "/netdiag/health", "").unwrap(), Some(Request::Health));
        let health = Request::EndpointHealth("modbus_10.0.0.1_502".to_owned());
        assert_eq!(ask("get", "/netdiag/health/modbus_10.0.0.1_502", "").unwrap(), Some(health));
        let piece = |list, from| Some(Request::TopologyPiece { list, from });
        assert_eq!(ask("get", "/netdiag/topology/heartbeats", "").unwrap(), piece(TopologyList::Heartbeats, 0));
        assert_eq!(ask("get", "/netdiag/topology/endpoints/500", "").unwrap(), piece(TopologyList::Endpoints, 500));
        let endpoint = Request::TopologyEndpoint("modbus_10.0.0.1_502".to_owned());
        assert_eq!(ask("get", "/netdiag/topology/endpoints/modbus_10.0.0.1_502", "").unwrap(), Some(endpoint));
        for nothing in ["stats", "topology/heartbeats/x", "topology/interfaces"] {
            assert_eq!(ask("get", &format!("/netdiag/{nothing}"), "").unwrap_err().code, ErrorCode::NotFound, "{nothing}");
        }
    }

    #[test]
    fn what_is_not_for_us_asks_nothing() {
        assert_eq!(ask("set", "/netdiagnostics/connectivity/start", "true").unwrap(), None);
        assert_eq!(ask("pub", "/netdiag/status", "{}").unwrap(), None);
        assert_eq!(ask("del", "/netdiag/jobs/1", "").unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn the_supervisor_is_understood() {
        assert_eq!(ask("set", "/netdiag/cops/cops_heartbeat", "17").unwrap(), Some(Request::CopsHeartbeat(17)));
        assert_eq!(ask("set", "/netdiag/cops", r#"{"cops_heartbeat": 17}"#).unwrap(), Some(Request::CopsHeartbeat(17)));
        assert_eq!(ask("set", "/netdiag/cops/cops_heartbeat", "-1").unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(ask("get", "/netdiag/cops", "").unwrap(), Some(Request::CopsQuery));
    }

    proptest! {
        #[test]
        fn no_message_crashes_the_router(method in "set|get|pub|post|.*", path in "[a-z_/]{0,40}|.*", body: Option<Vec<u8>>) {
            let _ = route("/netdiag", &method, &format!("/netdiag{path}"), body.as_deref());
        }
    }
}
