//! The vocabulary of the bus: requests, replies and publications as they stand in a message body.
//!
//! Every type here is plain data with a JSON form and a generated JSON Schema (`schemas/`). Names are snake_case, a unit is part
//! of a name (`_ms`, `_s`, `_bytes`), times are RFC 3339 UTC strings, addresses are strings, and what is absent is `null` or left
//! out, never zero. This room knows nothing of the others.

mod analysis;
mod clothing;
mod connectivity;
mod endpoint;
mod error;
mod finding;
mod health;
mod job;
mod limits;
mod message;
mod monitor;
mod request;
mod schema;
mod seconds;
mod status;
mod time;
mod topology;

pub use analysis::{
    AnalysisReport, AnalysisVerdict, ClientReport, Dnp3Report, ExceptionCount, FunctionCount, HeartbeatCondition, HeartbeatReport,
    IndicationCount, LinkFunctionCount, ModbusReport, PollReport, ReconnectReport, ServerReport, TcpReport, Transaction,
    TransactionOutcome, UnitReport,
};
pub use clothing::undress;
pub use connectivity::{
    ArpView, CaptureReport, ConnectReport, ConnectState, ConnectivityResult, Dnp3View, EndpointResult, Greeting, GreetingState,
    IcmpUnreachable, InterfaceCapture, KernelView, ModbusView, PingReport, PingState, ResponseTimes, RoundTrip, Verdict, WireView,
};
pub use endpoint::{
    Activity, Component, Direction, Dnp3Addresses, Endpoint, PortSource, Protocol, SerialLine, Transport, endpoint_id,
};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use finding::{Finding, Severity};
pub use health::{EndpointHealth, HealthList, InfluxStatus, SeriesStatus, TrafficFigures, TrafficHealth};
pub use job::{CaptureSummary, Job, JobAccepted, JobKind, JobState, JobSummary, VerdictCounts};
pub use limits::{DegradedFrom, is_one_in};
pub use message::{CopsAnswer, Event};
pub use monitor::{
    IgnoredFinding, Monitor, MonitorInterface, MonitorSettings, MonitorState, SinkState, SinkStatus, Snapshot, SnapshotCounts,
    SnapshotList, SnapshotQuery, SnapshotState, TriggerAccepted, TriggerRequest, TriggerRule,
};
pub use request::{
    AnalysisRequest, CaptureRequest, ConnectivityRequest, ExtraEndpoint, JobQuery, MAX_BODY_DEPTH, body_json, parse_body,
    parse_object,
};
pub use schema::{reply_schema, schemas};
pub use seconds::Seconds;
pub use status::{BusCounters, Capabilities, Capability, Health, MonitorStatus, Status, Summary};
pub use time::UtcTime;
pub use topology::{
    Change, ConfigStarter, ConfigUse, Controller, CutList, EndpointDetail, FieldChange, Heartbeat, HeartbeatKind, Host, Interface,
    InterfaceCounters, InterfaceList, Pair, Problem, RegisterType, StarterKind, Topology, TopologyChange, TopologyList,
    TopologyPiece, TopologySummary,
};
