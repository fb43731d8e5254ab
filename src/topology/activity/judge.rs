//! Started, not started, or overridden: each config's verdict out of what all starters say.

use super::{Launch, Located, Starter, StarterKind, command_line::is_cut, place::parent};
use crate::{
    api::{Activity, ConfigStarter, ConfigUse, Direction, Problem, Protocol},
    topology::{
        file::FileReport,
        problem::{ProblemCode, clip, quote},
        process::Process,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// The longest command line that is repeated to people.
const MAX_SHOWN: usize = 200;

/// What judging needs to know of the scanned files.
pub struct Files<'f> {
    /// Which file a starter means.
    pub locate: &'f dyn Fn(&Starter, &str) -> Located,
    /// Reads a scanned file as a process does that was started so; `None` if that cannot be done now.
    pub read_as: &'f dyn Fn(&str, &Launch) -> Option<FileReport>,
}

/// Judges each config, and has it read the way that the process does which is started with it.
///
/// A config that nothing starts is `not_started` only where there is reason to know: when something starts another config of the same
/// folder, or when systemd or a running process of this host uses the same config root.
pub fn judge(reports: &mut Vec<FileReport>, starters: &[Starter], files: &Files<'_>) -> (Vec<ConfigUse>, Vec<Problem>) {
    let mut problems = Vec::new();
    let started = Started::by(starters, reports, files, &mut problems);
    let mut uses = Vec::new();
    let mut variants = Vec::new();
    for report in reports.iter_mut() {
        let by = started.by_path.get(&report.path).map(Vec::as_slice).unwrap_or_default();
        let (fitting, unfit): (Vec<&Starter>, Vec<&Starter>) =
            by.iter().copied().partition(|starter| report.kind.suits(starter.launch.process));
        for starter in unfit {
            problems.push(ProblemCode::StartedUnusable.at(&report.path, unusable(starter)));
        }
        let more = read_as_started(report, &fitting, files);
        let is_config = report.endpoint.is_some()
            || !report.listed_files.is_empty()
            || report.process.is_some_and(|_| report.is_ours())
            || !by.is_empty();
        if !is_config {
            continue;
        }
        let activity = match by {
            [] if started.is_known(&report.path) => Activity::NotStarted,
            [] => Activity::Unknown,
            _ if by.iter().any(|starter| !starter.launch.overrides.is_empty()) => Activity::Overridden,
            _ => Activity::Started,
        };
        let endpoint_of = report.endpoint.as_ref().map(|endpoint| endpoint.endpoint_id.clone());
        let mut tell = |code: ProblemCode, message: String| {
            problems.push(Problem { endpoint_id: endpoint_of.clone(), ..code.at(&report.path, message) });
        };
        if activity == Activity::NotStarted && report.endpoint.is_some() {
            tell(ProblemCode::NotStarted, "nothing starts a process with this file".to_owned());
        }
        if let Some(message) = started_twice(by) {
            tell(ProblemCode::StartedTwice, message);
        }
        for starter in by {
            if !starter.launch.overrides.is_empty() {
                tell(ProblemCode::Overridden, format!("{} overrides the file with {}", shown(starter), words(starter)));
            }
            if !starter.launch.ignored.is_empty() {
                let ignored = quote(&starter.launch.ignored.join(" "));
                let message = format!("{} has {ignored} on its command line, which only gcom_modbus_client takes", shown(starter));
                tell(ProblemCode::OverrideIgnored, message);
            }
        }
        uses.push(ConfigUse {
            path: report.path.clone(),
            process: report.process.or_else(|| by.first().map(|starter| starter.launch.process)).map(|process| process.to_string()),
            activity,
            starters: by.iter().map(|starter| config_starter(starter)).collect(),
        });
        let from = variants.len();
        variants.extend(more);
        for report in variants.iter_mut().skip(from).chain([report]) {
            if let Some(endpoint) = &mut report.endpoint {
                endpoint.activity = activity;
            }
        }
    }
    reports.extend(variants);
    uses.sort_by(|a, b| a.path.cmp(&b.path));
    (uses, problems)
}

/// What the starters start, and where it is known what is started.
#[derive(Default)]
struct Started<'s> {
    by_path: BTreeMap<String, Vec<&'s Starter>>,
    known_folders: BTreeSet<String>,
    known_roots: BTreeSet<String>,
}

impl<'s> Started<'s> {
    fn by(starters: &'s [Starter], reports: &mut [FileReport], files: &Files<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut started = Self::default();
        for starter in starters {
            tell_about(starter, problems);
            let mut located = Vec::new();
            for given in &starter.launch.files {
                let path = match (files.locate)(starter, given) {
                    Located::At(path) => {
                        located.push(path.clone());
                        path
                    }
                    Located::Missing(path) => {
                        let message = format!("{} is started with {}, which does not exist", shown(starter), quote(&path));
                        problems.push(ProblemCode::StartedMissing.at(&path, message));
                        path
                    }
                    Located::Elsewhere => continue,
                };
                if is_cut(starter.launch.process, given) {
                    let message = format!(
                        "{} is started with {}; it cuts a path at its first dot and adds `.json`, so it opens {}",
                        shown(starter),
                        quote(given),
                        quote(&path)
                    );
                    problems.push(ProblemCode::PathCut.at(&path, message));
                }
                started.folder_of(&path, starter);
            }
            // Of several DNP3 files the first one opens the channel.
            if let [first, others @ ..] = located.as_slice()
                && starter.launch.process.protocol() == Protocol::Dnp3
                && let Some(first) = reports.iter_mut().find(|report| report.path == *first)
            {
                let news = others.iter().filter(|path| !first.started_together.contains(path)).cloned().collect::<Vec<_>>();
                first.started_together.extend(news);
            }
            for path in located {
                started.by_path.entry(path).or_default().push(starter);
            }
        }
        // The members of a DNP3 file list are started with the list.
        for list in reports.iter().filter(|report| !report.listed_files.is_empty()) {
            let Some(by) = started.by_path.get(&list.path).cloned() else { continue };
            for listed in &list.listed_files {
                let name = listed.rsplit('/').next().unwrap_or_default();
                let member = reports.iter().find(|report| report.path.rsplit('/').next() == Some(name) && report.path != list.path);
                if let Some(member) = member {
                    started.by_path.entry(member.path.clone()).or_default().extend(&by);
                }
            }
        }
        started
    }

    fn folder_of(&mut self, path: &str, starter: &Starter) {
        if let Some(folder) = parent(path) {
            self.known_folders.insert(folder.to_owned());
            if starter.kind != StarterKind::Mcp {
                self.known_roots.extend(parent(folder).map(str::to_owned));
            }
        }
    }

    /// Whether it is known of a file whether something starts it.
    fn is_known(&self, path: &str) -> bool {
        parent(path).is_some_and(|folder| {
            self.known_folders.contains(folder) || parent(folder).is_some_and(|root| self.known_roots.contains(root))
        })
    }
}

/// What is to be said of a starter, whatever files it means.
fn tell_about(starter: &Starter, problems: &mut Vec<Problem>) {
    if let Some(uri) = &starter.launch.uri {
        let message = format!("{} gets its config over the bus from {}; there is no file to read", shown(starter), quote(uri));
        problems.push(ProblemCode::ConfigFromBus.at(&starter.name, message));
    }
    if !starter.unknown_variables.is_empty() {
        let variables: Vec<String> = starter.unknown_variables.iter().map(|name| quote(&format!("${name}"))).collect();
        let message = format!("the command of {} has {}, whose value is not known", shown(starter), variables.join(", "));
        problems.push(ProblemCode::VariableUnknown.at(&starter.name, message));
    }
}

fn config_starter(starter: &Starter) -> ConfigStarter {
    let overrides = starter.launch.overrides.iter().map(|(key, value)| clip(&format!("{key}:{value}"), MAX_SHOWN)).collect();
    ConfigStarter { kind: starter.kind, name: clip(&starter.name, MAX_SHOWN), pid: starter.pid, overrides }
}

fn shown(starter: &Starter) -> String {
    let process = starter.launch.process;
    match (starter.kind, starter.pid) {
        (StarterKind::Running, Some(pid)) => format!("the running {process} (process {pid})"),
        (StarterKind::Running, None) => format!("the running {process}"),
        (StarterKind::Systemd, _) => format!("{process} of the unit {}", quote(&starter.name)),
        (StarterKind::Mcp, _) => format!("{process} of the list {}", quote(&starter.name)),
    }
}

fn words(starter: &Starter) -> String {
    let words: Vec<String> = starter.launch.overrides.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    quote(&words.join(" "))
}

/// That a process is started with what is no config of its kind, and what such a config has.
fn unusable(starter: &Starter) -> String {
    let process = starter.launch.process;
    let has = match (process.protocol(), process.direction()) {
        (Protocol::Modbus, Direction::Outbound) => "an object `connection` and a list `components`",
        (Protocol::Modbus, _) => "objects `system` and `registers`",
        _ => "an object `system`, and `registers` or `objects` with DNP3 points",
    };
    format!("{} is started with this file, which is no config of {process}: such a one has {has}", shown(starter))
}

/// Two processes on one config poll the same device side by side. Each with its own override is what a shared file is for.
fn started_twice(by: &[&Starter]) -> Option<String> {
    let plain = || by.iter().filter(|starter| starter.launch.overrides.is_empty());
    let named = |starters: &[&&Starter]| starters.iter().map(|starter| shown(starter)).collect::<Vec<_>>().join(" and ");
    let twice = |kind: StarterKind| {
        let same: Vec<&&Starter> = plain().filter(|starter| starter.kind == kind).collect();
        let names: BTreeSet<(&str, Option<u32>)> = same.iter().map(|starter| (starter.name.as_str(), starter.pid)).collect();
        (names.len() > 1).then(|| named(&same))
    };
    // A unit of one process did not start the running one of another.
    let different = || {
        let mut seen: BTreeSet<Process> = BTreeSet::new();
        let first_of_each: Vec<&&Starter> = plain().filter(|starter| seen.insert(starter.launch.process)).collect();
        (first_of_each.len() > 1).then(|| named(&first_of_each))
    };
    let names = twice(StarterKind::Running)
        .or_else(|| twice(StarterKind::Systemd))
        .or_else(|| twice(StarterKind::Mcp))
        .or_else(different)?;
    Some(format!("{} all use this file", clip(&names, 400)))
}

/// Has a file read as the processes do that are started with it; several that put its endpoint in different places make a reading each.
/// What runs goes before what would be started.
fn read_as_started(report: &mut FileReport, by: &[&Starter], files: &Files<'_>) -> Vec<FileReport> {
    let runs = by.iter().any(|starter| starter.kind == StarterKind::Running);
    let mut launches: Vec<&Launch> = Vec::new();
    for starter in by.iter().filter(|starter| !runs || starter.kind == StarterKind::Running) {
        if !launches.iter().any(|known| known.reads_like(&starter.launch)) {
            launches.push(&starter.launch);
        }
    }
    // Without overrides first: the file's own endpoint stays the first one.
    launches.sort_by_key(|launch| !launch.overrides.is_empty());
    let mut readings: Vec<FileReport> = Vec::new();
    for launch in launches {
        let is_as_scanned = launch.overrides.is_empty() && report.process == Some(launch.process);
        let reading = if is_as_scanned { None } else { (files.read_as)(&report.path, launch) };
        let reading = reading.unwrap_or_else(|| report.clone());
        let place = |reading: &FileReport| reading.endpoint.as_ref().map(|endpoint| endpoint.endpoint_id.clone());
        match readings.iter_mut().find(|known| place(known) == place(&reading)) {
            Some(known) => known.problems.extend(reading.problems),
            None => readings.push(reading),
        }
    }
    let mut readings = readings.into_iter();
    if let Some(first) = readings.next() {
        let started_together = std::mem::take(&mut report.started_together);
        *report = FileReport { started_together, ..first };
    }
    readings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Transport,
        topology::{Services, activity::read_command_line, file::read_file_as, read_file},
    };

    const CLIENT: &str = r#"{"connection": {"name": "n", "ip_address": "10.0.0.9", "device_id": 1}, "components": [
        {"id": "c", "heartbeat_enabled": true, "component_heartbeat_read_uri": "life", "registers": [
            {"type": "Input Registers", "map": [{"id": "life", "offset": 3}]}]}]}"#;

    fn starter(kind: StarterKind, pid: u32, words: &str) -> Starter {
        let launch = read_command_line(&words.split(' ').collect::<Vec<_>>()).unwrap();
        Starter { pid: Some(pid), ..Starter::new(kind, format!("{kind:?}"), launch) }
    }

    fn judged(starters: &[Starter]) -> (Vec<FileReport>, Vec<ConfigUse>, Vec<String>) {
        judged_among(&[("etc/gcom_modbus_client/a.json", CLIENT), ("etc/notes/b.json", "{}")], starters)
    }

    /// Each starter's files are those whose names it gives.
    fn judged_among(files: &[(&str, &str)], starters: &[Starter]) -> (Vec<FileReport>, Vec<ConfigUse>, Vec<String>) {
        let mut reports: Vec<FileReport> = files.iter().map(|(path, text)| read_file(path, text.as_bytes())).collect();
        let locate = |_: &Starter, given: &str| {
            let found = files.iter().find(|(path, _)| path.rsplit('/').next() == Some(given));
            found.map_or(Located::Elsewhere, |(path, _)| Located::At((*path).to_owned()))
        };
        let read_as = |path: &str, launch: &Launch| {
            let (path, text) = files.iter().find(|(known, _)| *known == path)?;
            Some(read_file_as(path, text.as_bytes(), &Services::default(), Some(launch)))
        };
        let (uses, problems) = judge(&mut reports, starters, &Files { locate: &locate, read_as: &read_as });
        (reports, uses, problems.into_iter().map(|problem| problem.code).collect())
    }

    fn run(words: &str) -> Starter {
        starter(StarterKind::Running, 1, words)
    }

    fn codes(report: &FileReport) -> Vec<&str> {
        report.problems.iter().map(|problem| problem.code.as_str()).collect()
    }

    #[test]
    fn without_a_starter_nothing_is_known() {
        let (_, uses, problems) = judged(&[]);
        assert_eq!((uses.len(), uses[0].activity, problems.len()), (1, Activity::Unknown, 0), "what is no config is not judged");
    }

    #[test]
    fn two_processes_on_one_file_are_told_unless_each_has_its_own_target() {
        let run = |pid, words| starter(StarterKind::Running, pid, words);
        let twice = [run(1, "gcom_modbus_client a.json"), run(2, "gcom_modbus_client a.json")];
        assert_eq!(judged(&twice).2, ["config.started_twice"]);
        let once = [run(1, "gcom_modbus_client a.json"), starter(StarterKind::Systemd, 0, "gcom_modbus_client a.json")];
        assert_eq!(judged(&once).2, Vec::<String>::new(), "the unit is what started the process");
        let apart = [run(1, "gcom_modbus_client a.json ip:10.0.0.1"), run(2, "gcom_modbus_client a.json ip:10.0.0.2")];
        assert_eq!(judged(&apart).2, ["config.overridden"; 2]);
    }

    #[test]
    fn an_override_moves_the_endpoint_and_its_heartbeats() {
        let (reports, uses, _) = judged(&[starter(StarterKind::Running, 1, "gcom_modbus_client a.json ip:10.0.0.1 port:1502")]);
        let endpoint = reports[0].endpoint.as_ref().unwrap();
        assert_eq!((endpoint.endpoint_id.as_str(), endpoint.activity), ("modbus_10.0.0.1_1502", Activity::Overridden));
        assert_eq!(reports[0].heartbeats[0].endpoint_id, endpoint.endpoint_id);
        assert_eq!(uses[0].starters[0].overrides, ["ip:10.0.0.1", "port:1502"]);
        let (running, unit) = ("gcom_modbus_client a.json", "gcom_modbus_client a.json ip:10.0.0.1");
        let (reports, ..) = judged(&[starter(StarterKind::Running, 1, running), starter(StarterKind::Systemd, 0, unit)]);
        assert_eq!(
            reports[0].endpoint.as_ref().unwrap().endpoint_id,
            "modbus_10.0.0.9_502",
            "what runs goes before what would be started"
        );
        assert_eq!(reports.len(), 2);
    }

    #[test]
    fn an_override_gives_a_config_without_a_usable_address_its_endpoint() {
        for address in [r#""ip_address": "10.x.x.x", "#, ""] {
            let text = CLIENT.replace(r#""ip_address": "10.0.0.9", "#, address);
            let (reports, uses, problems) = judged_among(&[("c/a.json", &text)], &[run("gcom_modbus_client a.json ip:10.5.1.1")]);
            let endpoint = reports[0].endpoint.as_ref().unwrap();
            assert_eq!((endpoint.endpoint_id.as_str(), endpoint.activity), ("modbus_10.5.1.1_502", Activity::Overridden));
            assert_eq!((codes(&reports[0]), problems.as_slice()), (vec![], &["config.overridden".to_owned()][..]));
            assert_eq!(
                (uses[0].process.as_deref(), endpoint.process.as_deref()),
                (Some("gcom_modbus_client"), uses[0].process.as_deref())
            );
        }
    }

    #[test]
    fn a_serial_line_on_the_command_line_takes_the_address_away() {
        let (reports, ..) = judged(&[run("gcom_modbus_client a.json serial_device:/dev/ttyS5 baud_rate:19200 parity:even")]);
        let endpoint = reports[0].endpoint.as_ref().unwrap();
        assert_eq!((endpoint.transport, endpoint.address, endpoint.port), (Transport::Rtu, None, None));
        let line = endpoint.serial.as_ref().unwrap();
        assert_eq!((line.device.as_str(), line.baud_rate, line.parity.as_str()), ("/dev/ttyS5", 19_200, "even"));
        assert_eq!(codes(&reports[0]), Vec::<&str>::new());
        let serial = CLIENT.replace(r#""ip_address": "10.0.0.9""#, r#""serial_device": "/dev/ttyS1""#);
        let (reports, ..) = judged_among(&[("c/a.json", &serial)], &[run("gcom_modbus_client a.json ip:10.5.1.1")]);
        assert_eq!(reports[0].endpoint.as_ref().unwrap().endpoint_id, "modbus_10.5.1.1_502");
    }

    #[test]
    fn a_unit_id_on_the_command_line_is_inherited_by_what_has_none() {
        let unitless = CLIENT.replace(r#", "device_id": 1"#, "");
        let (reports, ..) =
            judged_among(&[("gcom_modbus_client/a.json", &unitless)], &[run("gcom_modbus_client a.json device_id:9")]);
        let endpoint = reports[0].endpoint.as_ref().unwrap();
        assert_eq!((endpoint.unit_ids.as_slice(), endpoint.uses_default_unit), (&[9][..], false));
        assert_eq!((endpoint.components[0].unit_ids.as_slice(), reports[0].heartbeats[0].unit_id), (&[9][..], Some(9)));
        assert_eq!(codes(&reports[0]), Vec::<&str>::new());
        let (reports, ..) = judged(&[run("gcom_modbus_client a.json port:banana")]);
        assert_eq!(reports[0].endpoint.as_ref().unwrap().port, Some(502));
        assert!(codes(&reports[0]).contains(&"config.port_invalid"));
    }

    #[test]
    fn the_process_that_starts_a_file_decides_how_it_is_read() {
        let unitless = CLIENT.replace(r#", "device_id": 1"#, "");
        let files = [("modbus_client/a.json", unitless.as_str())];
        let (reports, uses, _) = judged_among(&files, &[run("gcom_modbus_client a.json")]);
        let endpoint = reports[0].endpoint.as_ref().unwrap();
        assert_eq!(
            (endpoint.process.as_deref(), uses[0].process.as_deref()),
            (Some("gcom_modbus_client"), Some("gcom_modbus_client"))
        );
        assert!(reports[0].problems[0].message.contains("gcom_modbus_client asks unit 1"), "{:?}", reports[0].problems);
        // Two that differ: what runs goes first, and both are told.
        let unit = starter(StarterKind::Systemd, 0, "modbus_client a.json");
        let (reports, uses, problems) = judged_among(&files, &[unit, run("gcom_modbus_client a.json")]);
        assert_eq!((reports.len(), uses[0].process.as_deref()), (1, Some("gcom_modbus_client")));
        assert_eq!(problems, ["config.started_twice"]);
    }

    #[test]
    fn an_older_dnp3_process_has_its_role_and_its_own_address_keys() {
        let text = r#"{"system": {"id": "o", "ip_address": "10.0.0.4", "local_address": 3, "remote_address": 4,
            "master_address": 7}, "objects": {}}"#;
        let files = [("dnp3_interface/odessa_new.json", text)];
        for (process, direction) in [("dnp3_outstation", Direction::Inbound), ("dnp3_master", Direction::Outbound)] {
            let (reports, uses, _) = judged_among(&files, &[run(&format!("{process} odessa_new.json"))]);
            let endpoint = reports[0].endpoint.as_ref().unwrap();
            let addresses = endpoint.dnp3_addresses[0];
            assert_eq!((endpoint.direction, addresses.local, addresses.remote), (direction, 3, 4), "{process}");
            assert_eq!((uses[0].process.as_deref(), codes(&reports[0])), (Some(process), vec![]));
        }
    }

    #[test]
    fn what_a_legacy_process_is_given_behind_the_file_changes_nothing_and_is_told() {
        let (reports, uses, problems) = judged(&[run("modbus_client a.json ip:10.5.1.3")]);
        assert_eq!(reports[0].endpoint.as_ref().unwrap().endpoint_id, "modbus_10.0.0.9_502");
        assert_eq!((uses[0].activity, problems.as_slice()), (Activity::Started, &["config.override_ignored".to_owned()][..]));
    }

    #[test]
    fn a_started_file_that_its_process_cannot_use_is_told() {
        let files = [("modbus_client/a.json", r#"{"connection": {}, "componets": []}"#)];
        let (_, uses, problems) = judged_among(&files, &[run("modbus_client a.json")]);
        assert_eq!((uses[0].activity, problems.as_slice()), (Activity::Started, &["config.started_unusable".to_owned()][..]));
        let (reports, uses, problems) = judged(&[run("modbus_server a.json")]);
        assert_eq!(
            (uses[0].process.as_deref(), problems.as_slice()),
            (Some("gcom_modbus_client"), &["config.started_unusable".to_owned()][..])
        );
        assert!(reports[0].endpoint.is_some());
    }

    #[test]
    fn a_variable_without_a_value_is_told() {
        let unit =
            Starter { unknown_variables: vec!["OPTS".to_owned()], ..starter(StarterKind::Systemd, 0, "modbus_client a.json") };
        assert_eq!(judged(&[unit]).2, ["config.variable_unknown"]);
    }

    #[test]
    fn a_config_from_the_bus_is_told() {
        assert_eq!(judged(&[starter(StarterKind::Running, 1, "gcom_modbus_client -u /config/a")]).2, ["config.from_bus"]);
    }
}
