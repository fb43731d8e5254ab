//! The command line of a process: which configs it was started with, and what it takes from elsewhere.

use crate::topology::process::Process;

/// How many words of a command line are looked at; a real one has a dozen.
const MAX_WORDS: usize = 256;

/// The settings that `gcom_modbus_client` takes after its file, as `key:value`.
const OVERRIDES: [&str; 12] = [
    "ip",
    "port",
    "service",
    "serial_device",
    "baud_rate",
    "parity",
    "data_bits",
    "stop_bits",
    "device_id",
    "max_num_connections",
    "connection_timeout",
    "transfer_timeout",
];

/// A process as a command line starts it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Launch {
    /// Which process.
    pub process: Process,
    /// The config files, as they were given.
    pub files: Vec<String>,
    /// The uri under which it gets its config over the bus, in place of a file.
    pub uri: Option<String>,
    /// What overrides the file, as key and value. Of all processes only `gcom_modbus_client` takes any.
    pub overrides: Vec<(String, String)>,
    /// What would override the file of a `gcom_modbus_client`, and means nothing to this process.
    pub ignored: Vec<String>,
}

impl Launch {
    /// Whether both make the same of a file.
    pub fn reads_like(&self, other: &Self) -> bool {
        (self.process, &self.overrides) == (other.process, &other.overrides)
    }
}

/// What a command line starts; `None` when it is no process that reads configs. The first word is the program.
pub fn read_command_line<S: AsRef<str>>(words: &[S]) -> Option<Launch> {
    let mut words = words.iter().map(AsRef::as_ref).take(MAX_WORDS);
    let process = Process::of_program(words.next()?)?;
    let mut launch = Launch { process, files: Vec::new(), uri: None, overrides: Vec::new(), ignored: Vec::new() };
    while let Some(word) = words.next() {
        if word == "-u" {
            launch.uri = words.next().map(str::to_owned);
        } else if let Some((key, value)) = word.split_once(':').filter(|(key, _)| OVERRIDES.contains(key)) {
            // `ip: 10.0.0.1` is two words.
            let value = if value.is_empty() { words.next().unwrap_or_default() } else { value };
            match process {
                Process::GcomModbusClient => launch.overrides.push((key.to_owned(), value.to_owned())),
                _ => launch.ignored.push(format!("{key}:{value}")),
            }
        } else if !word.starts_with('-') && !word.is_empty() {
            launch.files.push(word.to_owned());
        }
    }
    Some(launch)
}

/// The paths under which a process looks for a config that was given to it as `given`, in its order.
pub(super) fn candidates(process: Process, given: &str) -> Vec<String> {
    let with_ending = format!("{given}.json");
    match process {
        // It cuts the path at its first dot, wherever that stands, and adds the ending.
        Process::ModbusServer => vec![format!("{}.json", given.split('.').next().unwrap_or_default())],
        _ if given.ends_with(".json") => vec![given.to_owned(), with_ending],
        Process::GcomModbusClient | Process::GcomModbusServer => vec![given.to_owned(), with_ending],
        _ => vec![with_ending, given.to_owned()],
    }
}

/// Whether a process makes another path of the given one than whoever wrote it meant: the legacy server stops at the first dot.
pub(super) fn is_cut(process: Process, given: &str) -> bool {
    process == Process::ModbusServer && given.strip_suffix(".json").unwrap_or(given).contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn launch(text: &str) -> Option<Launch> {
        read_command_line(&text.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn the_files_of_a_process_are_its_words_without_a_dash() {
        let one = launch("/usr/local/bin/modbus_client /etc/config/modbus_client/bms.json").unwrap();
        assert_eq!(
            (one.process, one.files.as_slice()),
            (Process::ModbusClient, &["/etc/config/modbus_client/bms.json".to_owned()][..])
        );
        let several = launch("dnp3_server -v one.json two.json").unwrap();
        assert_eq!(several.files, ["one.json", "two.json"]);
        assert_eq!(launch("/bin/sh -c modbus_client"), None);
        assert_eq!(launch("/usr/local/bin/modbus_client_helper x.json"), None);
        assert_eq!(launch(""), None);
    }

    #[test]
    fn overrides_stand_after_the_file_in_one_word_or_two() {
        let launch = launch("gcom_modbus_client bms.json ip:10.0.0.7 port: 1502 max_num_connections:4").unwrap();
        assert_eq!(launch.files, ["bms.json"]);
        let overrides = [("ip", "10.0.0.7"), ("port", "1502"), ("max_num_connections", "4")];
        assert_eq!(launch.overrides, overrides.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn only_the_newer_client_takes_overrides() {
        let launch = launch("modbus_client legacy.json ip:10.5.1.3 port: 1502").unwrap();
        assert_eq!((launch.files.as_slice(), launch.overrides.len()), (&["legacy.json".to_owned()][..], 0));
        assert_eq!(launch.ignored, ["ip:10.5.1.3", "port:1502"]);
    }

    #[test]
    fn a_config_may_come_over_the_bus() {
        let launch = launch("gcom_modbus_server -u /config/poi").unwrap();
        assert_eq!((launch.uri.as_deref(), launch.files.len()), (Some("/config/poi"), 0));
    }

    #[test]
    fn each_process_finds_its_file_in_its_own_way() {
        assert_eq!(candidates(Process::ModbusServer, "/etc/poi.json"), ["/etc/poi.json"]);
        assert_eq!(candidates(Process::ModbusServer, "/etc/v1.2/poi.json"), ["/etc/v1.json"], "a dot in the path breaks it");
        assert!(is_cut(Process::ModbusServer, "/etc/poi.v2") && !is_cut(Process::ModbusServer, "/etc/poi.json"));
        assert!(!is_cut(Process::GcomModbusServer, "/etc/poi.v2"));
        assert_eq!(candidates(Process::ModbusClient, "poi")[0], "poi.json");
        assert_eq!(candidates(Process::GcomModbusClient, "poi")[0], "poi");
    }

    proptest! {
        #[test]
        fn any_words_are_read(words: Vec<String>) {
            let _ = read_command_line(&words);
            let mut with_program = vec!["gcom_modbus_client".to_owned()];
            with_program.extend(words);
            prop_assert!(read_command_line(&with_program).is_some());
        }
    }
}
