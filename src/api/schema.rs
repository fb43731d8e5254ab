//! The JSON Schema of each body, generated from its type, and which body belongs to which uri.

use super::{
    AnalysisReport, AnalysisRequest, CaptureReport, CaptureRequest, ConnectivityRequest, ConnectivityResult, CopsAnswer,
    EndpointDetail, EndpointHealth, EndpointResult, ErrorBody, Event, HealthList, InterfaceList, Job, JobAccepted, JobQuery,
    Monitor, MonitorSettings, Snapshot, SnapshotList, SnapshotQuery, Status, Summary, Topology, TopologyChange, TopologyList,
    TopologyPiece, TopologySummary, Transaction, TriggerAccepted, TriggerRequest,
};
use schemars::{JsonSchema, Schema, schema_for};

/// Every body's name and schema, as `schemas/<name>.json` has it.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("analysis_report", schema_for!(AnalysisReport)),
        ("analysis_request", schema_for!(AnalysisRequest)),
        ("capture_request", schema_for!(CaptureRequest)),
        ("capture_result", schema_for!(CaptureReport)),
        ("connectivity_request", schema_for!(ConnectivityRequest)),
        ("connectivity_result", schema_for!(ConnectivityResult)),
        ("cops_answer", schema_for!(CopsAnswer)),
        ("endpoint", schema_for!(EndpointDetail)),
        ("endpoint_health", schema_for!(EndpointHealth)),
        ("endpoint_result", schema_for!(EndpointResult)),
        ("error", schema_for!(ErrorBody)),
        ("event", schema_for!(Event)),
        ("health_list", schema_for!(HealthList)),
        ("interface_list", schema_for!(InterfaceList)),
        ("job", schema_for!(Job)),
        ("job_accepted", schema_for!(JobAccepted)),
        ("job_list", schema_for!(JobList)),
        ("job_query", schema_for!(JobQuery)),
        ("monitor", schema_for!(Monitor)),
        ("monitor_settings", schema_for!(MonitorSettings)),
        ("snapshot", schema_for!(Snapshot)),
        ("snapshot_list", schema_for!(SnapshotList)),
        ("snapshot_query", schema_for!(SnapshotQuery)),
        ("status", schema_for!(Status)),
        ("summary", schema_for!(Summary)),
        ("topology", schema_for!(Topology)),
        ("topology_change", schema_for!(TopologyChange)),
        ("topology_piece", schema_for!(TopologyPiece)),
        ("topology_summary", schema_for!(TopologySummary)),
        ("transaction", schema_for!(Transaction)),
        ("trigger_accepted", schema_for!(TriggerAccepted)),
        ("trigger_request", schema_for!(TriggerRequest)),
    ]
}

/// The latest jobs, newest first.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct JobList(#[allow(dead_code)] Vec<Job>);

/// The name of the schema that the reply to a request has, unless it is an error; `path` is the uri below the base uri. A `set` that
/// is published (`pub`) has the schema of the `get` of its uri.
pub fn reply_schema(method: &str, path: &str) -> Option<&'static str> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match (method, segments.as_slice()) {
        ("set", ["connectivity" | "capture" | "analysis", "start"] | ["summary", "run_connectivity_test"]) => Some("job_accepted"),
        ("set", ["jobs", _, "cancel"]) => Some("job"),
        ("set", ["topology", "rescan"]) => Some("topology_summary"),
        ("get" | "pub", [] | ["status"]) => Some("status"),
        ("get" | "pub", ["summary"]) => Some("summary"),
        ("get", ["topology"]) => Some("topology"),
        ("get", ["topology", "endpoints", id]) if id.parse::<u32>().is_err() => Some("endpoint"),
        ("get", ["topology", list] | ["topology", list, _]) if TopologyList::of_name(list).is_some() => Some("topology_piece"),
        ("pub", ["topology", "change"]) => Some("topology_change"),
        ("get" | "pub", ["interfaces"]) => Some("interface_list"),
        ("get", ["health"]) => Some("health_list"),
        ("get" | "pub", ["health", _]) => Some("endpoint_health"),
        ("get", ["jobs"]) => Some("job_list"),
        ("get" | "pub", ["jobs", _]) => Some("job"),
        ("get" | "pub", ["jobs", _, "result"]) => Some("connectivity_result"),
        ("get" | "pub", ["jobs", _, "endpoints", _]) => Some("endpoint_result"),
        ("get" | "pub", ["monitor"])
        | (
            "set",
            ["monitor", "enabled" | "settings"]
            | ["monitor", "settings", _]
            | ["monitor", "sinks", _, "retry"]
            | ["summary", "monitor_enabled"],
        ) => Some("monitor"),
        ("set", ["monitor", "trigger"]) => Some("trigger_accepted"),
        ("get", ["monitor", "settings"]) => Some("monitor_settings"),
        ("get", ["monitor", "snapshots"]) => Some("snapshot_list"),
        ("get" | "pub", ["monitor", "snapshots", _]) | ("set", ["monitor", "snapshots", _, "pinned" | "delete"]) => {
            Some("snapshot")
        }
        ("get", ["cops"]) => Some("cops_answer"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    /// `NETDIAG_WRITE_SCHEMAS=1 cargo test schemas` writes them anew.
    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let mut names = Vec::new();
        for (name, schema) in schemas() {
            let path = dir.join(format!("{name}.json"));
            let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            if std::env::var_os("NETDIAG_WRITE_SCHEMAS").is_some() {
                fs::write(&path, &generated).unwrap();
            }
            let committed = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(committed, generated, "{} differs from its type; see the comment on this test", path.display());
            names.push(format!("{name}.json"));
        }
        let mut present: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        present.sort();
        assert_eq!(present, names, "a schema without a type");
    }

    #[test]
    fn every_reply_has_a_schema_that_exists() {
        let known: Vec<_> = schemas().into_iter().map(|(name, _)| name).collect();
        for (method, path) in
            [("get", ""), ("set", "/connectivity/start"), ("get", "/jobs/1/endpoints/a"), ("pub", "/jobs/1/result")]
        {
            assert!(known.contains(&reply_schema(method, path).unwrap()), "{method} {path}");
        }
        assert_eq!(reply_schema("get", "/nothing"), None);
    }
}
