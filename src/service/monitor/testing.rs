//! What the tests of the monitor's parts begin with.

use super::{Core, Monitor};
use crate::{
    api::{Capabilities, Capability, Finding, Severity},
    fims::{self, ClientOptions},
    service::Settings,
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// A service without a bus.
pub(super) fn core(state_dir: &Path) -> Arc<Core> {
    let settings = Settings { state_dir: state_dir.to_owned(), socket: state_dir.join("no-bus"), ..Settings::default() };
    let (client, _) = fims::connect(ClientOptions::new(settings.socket.clone(), settings.process_name.clone()));
    let capability = Capability { available: false, reason: None };
    let capabilities = Capabilities { ping: capability.clone(), capture: capability };
    let monitor = Monitor::new(&settings);
    Arc::new(Core::new(settings, Vec::new(), client, capabilities, BTreeMap::new(), monitor))
}

/// Something that was found.
pub(super) fn finding() -> Finding {
    Finding {
        code: "x".into(),
        severity: Severity::Alarm,
        count: 1,
        first_at: None,
        last_at: None,
        endpoint_id: None,
        message: "y".into(),
        packets: Vec::new(),
    }
}
