//! Any bytes as a file of heartbeat definitions: what is read can be watched, and what cannot be read is told.

use netdiag::{
    analysis::{Analysis, AnalysisSettings, read_heartbeat_definitions},
    api::RegisterType,
};

pub fn run(bytes: &[u8]) {
    let heartbeats = match read_heartbeat_definitions(bytes) {
        Ok(heartbeats) => heartbeats,
        Err(problem) => return assert!(!problem.is_empty()),
    };
    for heartbeat in &heartbeats {
        assert!(matches!(heartbeat.register_type, RegisterType::Holding | RegisterType::Input), "{heartbeat:?}");
        assert!(
            heartbeat.component.contains(&heartbeat.server.port().to_string()) || heartbeat.server.port() == 0,
            "{heartbeat:?}"
        );
    }
    let count = heartbeats.len();
    let report = Analysis::new(AnalysisSettings::default(), Vec::new(), Vec::new()).with_heartbeats(heartbeats).report();
    assert!(report.heartbeats.len() <= count);
}
