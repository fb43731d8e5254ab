//! Any text as a settings file, and as a message that changes the monitor's settings: what is taken can be written and read again.
//!
//! The first byte chooses: a file of TOML, a file of JSON, or the body of a message.

use netdiag::{
    analysis::Analysis,
    api::MonitorSettings,
    service::{Settings, changed_monitor_settings},
};
use serde_json::{Map, Value};
use std::path::Path;

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 3 {
        0 => file("settings.toml", bytes),
        1 => file("settings.json", bytes),
        _ => message(bytes),
    }
}

fn file(name: &str, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut settings = match Settings::from_text(Path::new(name), text) {
        Ok(settings) => settings,
        Err(error) => return assert!(error.to_string().contains(name), "{error}"),
    };
    // Whether a filter compiles is the business of libpcap, which may look up the names of hosts.
    settings.monitor.filter.clear();
    if let Err(error) = settings.validate() {
        return assert!(!error.to_string().is_empty());
    }
    let json = serde_json::to_string(&settings).unwrap();
    let again = Settings::from_text(Path::new("settings.json"), &json).unwrap();
    // A number behind a point may come back with another last digit.
    assert_eq!(again.monitor.min_free_percent as f32, settings.monitor.min_free_percent as f32);
    again.validate().unwrap();
    assert!(settings.uri("status").starts_with('/'));
    assert_eq!(Analysis::new(settings.analysis(), Vec::new(), Vec::new()).report().packets, 0);
}

fn message(bytes: &[u8]) {
    let Ok(changes) = serde_json::from_slice::<Map<String, Value>>(bytes) else { return };
    let before = MonitorSettings::default();
    let changed = match changed_monitor_settings(&before, &changes) {
        Ok(changed) => changed,
        Err(error) => return assert!(!error.message.is_empty()),
    };
    if changes.is_empty() {
        assert_eq!(changed, before);
    }
    if changed.validate().is_ok() {
        let Value::Object(all) = serde_json::to_value(&changed).unwrap() else { return };
        let again = changed_monitor_settings(&before, &all).unwrap();
        assert_eq!(
            (again.snapshot_s, &again.filter, again.triggers.len()),
            (changed.snapshot_s, &changed.filter, changed.triggers.len())
        );
        again.validate().unwrap();
    }
}
