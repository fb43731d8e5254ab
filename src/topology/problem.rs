//! The catalogue of what can be wrong with a config, each with its stable code.

use crate::api::{Problem, Severity};

/// Declares the catalogue: variant, code, usual severity, what it means, what to do.
macro_rules! problem_codes {
    ($($variant:ident $code:literal $severity:ident $meaning:literal $advice:literal;)*) => {
        /// What can be wrong with a config file, or with a set of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ProblemCode {
            $(#[doc = $meaning] $variant,)*
        }

        impl ProblemCode {
            /// Every code there is, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable code, as it stands in a message.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// How much it usually matters; a problem may be more or less severe when the circumstances say so.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// What to do about it.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),* }
            }
        }
    };
}

problem_codes! {
    DirectoryMissing "config.directory_missing" Warning
        "A config directory does not exist."
        "Create the directory, or take it out of `config_dirs`.";
    Unreadable "config.unreadable" Warning
        "A file or directory could not be read."
        "Check its owner and mode, and that it is a regular file; netdiag needs to read it.";
    TooLarge "config.too_large" Warning
        "A file is larger than the limit, or holds more values than a config ever does."
        "Check that it is a config at all, and move it out of the directory if not.";
    TooMany "config.too_many_files" Warning
        "There are more files or directories than the scan's limit; those beyond it were not looked at."
        "Check that the config directories are the right ones, or raise the limit.";
    FileChanging "config.file_changing" Warning
        "A file changed while it was read, twice; what was read may be half of it."
        "Scan again when the copy has ended.";
    BackupSkipped "config.backup_skipped" Info
        "A backup folder was left out: its files would be counted as running configs."
        "Nothing, if these are old files; otherwise move them out of the folder.";
    JsonSyntax "config.json_syntax" Warning
        "The file is no valid JSON."
        "Mend the text at the line and column given; until then the process restarts every few seconds.";
    TooDeep "config.too_deep" Warning
        "The JSON is nested deeper than any config."
        "Check that it is a config at all.";
    ExtraData "config.extra_data" Warning
        "There is text after the end of the JSON; the first value was read. Servers and DNP3 processes do the same, gcom_modbus_client refuses the file, modbus_client may."
        "Delete what follows the last closing brace.";
    NotUtf8 "config.not_utf8" Warning
        "The file is not valid UTF-8. Modbus clients refuse it, servers and DNP3 processes do not notice."
        "Save the file as UTF-8.";
    ByteOrderMark "config.byte_order_mark" Info
        "The file begins with a UTF-8 byte order mark, which some JSON parsers refuse."
        "Save the file without a byte order mark.";
    Template "config.template" Warning
        "The file is a template whose tokens or ranges nothing on this host replaces."
        "Generate the real file from it, or move the template out of the config directory.";
    PlaceholderAddress "config.placeholder_address" Alarm
        "The address is a placeholder."
        "Put in the device's address.";
    AddressInvalid "config.address_invalid" Alarm
        "The address is neither an IP address nor a host name."
        "Write the address as four numbers of 0 to 255, without leading zeros, or as a host name.";
    MissingAddress "config.missing_address" Alarm
        "The config names neither an address nor a serial device."
        "Add `ip_address` or `serial_device`; the process refuses the file, or falls back to an address nobody meant.";
    Ipv6Unsupported "config.ipv6_unsupported" Warning
        "The address is IPv6, which the installed processes do not resolve."
        "Use the device's IPv4 address.";
    NameUnresolved "config.name_unresolved" Alarm
        "A host name could not be resolved; the process that uses it refuses to start."
        "Add the name to `/etc/hosts` or the name server, or write the address.";
    BothAddressAndSerial "config.both_ip_and_serial" Warning
        "The config names an IP address and a serial device: modbus_client refuses that, gcom_modbus_client takes the serial line, a server the address."
        "Delete the one that is not meant.";
    SerialAddress "config.serial_needs_address" Alarm
        "A DNP3 config of a serial line has no `ip_address`, which the processes require even there."
        "Add an `ip_address`.";
    SerialUnit "config.serial_needs_unit" Alarm
        "A Modbus server on a serial line has no unit id, which it needs there."
        "Write `device_id`.";
    PortInvalid "config.port_invalid" Alarm
        "The port is no whole number from 1 to 65535; the process refuses the file or takes another port without a word."
        "Write the port as a number without quotes or decimals.";
    ServiceUnknown "config.service_unknown" Warning
        "The service name is not in `/etc/services`: gcom_modbus_client refuses the file, the other processes use the port."
        "Add the service to `/etc/services`, or delete the key `service`.";
    UnitIdInvalid "config.unit_id_invalid" Warning
        "A unit id is no whole number from 0 to 255."
        "Write the unit id as a number.";
    DefaultUnit "config.default_unit" Info
        "The unit id is left to the process: 255 with modbus_client, 1 with gcom_modbus_client."
        "Write `device_id`, so that a change of process does not change the device that is asked.";
    GroupUnit "config.group_unit" Warning
        "A register group has a unit id of its own, which only gcom_modbus_client reads; modbus_client asks the component's unit."
        "Put registers of another unit into a component of their own.";
    ServerUnitDiffers "config.server_unit_differs" Info
        "The unit id of `system` differs from those of the register sections, which are the ones that count."
        "Delete `device_id` from `system`, or make them agree.";
    LinkAddressInvalid "config.link_address_invalid" Warning
        "A DNP3 link address is no whole number from 0 to 65519."
        "Write the address as a number.";
    LinkAddressIgnored "config.link_address_ignored" Info
        "`local_address` and `remote_address` are read only by older DNP3 processes."
        "Write `master_address` and `station_address`.";
    ConnectionsInvalid "config.max_connections_invalid" Warning
        "`max_num_connections` is out of range (1 to 25 for gcom_modbus_client, 1 to 255 for modbus_client)."
        "Write a number within the range.";
    TimeoutInvalid "config.timeout_invalid" Warning
        "A timeout is out of range, and the process takes another one without a word: modbus_client allows a `connection_timeout` of 0 to 10 s, gcom_modbus_client one of 2 to 30 s and a `transfer_timeout` of 0.05 to 30 s."
        "Write a number of seconds within the range.";
    FrequencyMissing "config.frequency_missing" Warning
        "Neither a component nor its connection has a `frequency` above 0: modbus_client refuses the file, gcom_modbus_client polls every 100 ms."
        "Write `frequency`, the poll period in ms, in the component or in `connection`.";
    ConnectionName "config.connection_name" Warning
        "A Modbus client's `connection` has no name: modbus_client refuses the file, gcom_modbus_client calls itself `modbus_client`."
        "Give the connection a name, unique on this host.";
    NotLoadable "config.not_loadable" Warning
        "The single-component client format (`system` with `registers`) is not loadable by the installed Modbus clients."
        "Convert the file to `connection` and `components`, or remove it.";
    RoleUndetermined "config.role_undetermined" Warning
        "Nothing tells whether a DNP3 config is a master's or an outstation's; the endpoint is never probed."
        "Put the file into a directory named after its process, or name it `..._client.json` or `..._server.json`.";
    WrongDirectory "config.wrong_directory" Warning
        "The file lies in the directory of a process that cannot read its kind."
        "Move it to the directory of its process.";
    WrongType "config.wrong_type" Warning
        "A value has the wrong type: modbus_client refuses the file, gcom_modbus_client takes the default without a word."
        "Write the value as the type given.";
    DuplicateKey "config.duplicate_key" Warning
        "A key stands twice in one object: servers and DNP3 processes take the first, Modbus clients another."
        "Delete the one that is not meant.";
    KeyCase "config.key_case" Info
        "A key is spelled with other capitals than the process's; servers and DNP3 processes accept that, Modbus clients do not."
        "Spell the key in small letters.";
    LookalikeKey "config.lookalike_key" Info
        "A key resembles one that the process reads, and is not read."
        "Nothing, if it is a note; otherwise spell the key as given.";
    UnknownSection "config.unknown_section" Info
        "A server's register section has a name that is not read."
        "Use coils, discrete_inputs, input_registers or holding_registers.";
    RegistersUnread "config.registers_unread" Warning
        "A server's `registers` is a list, of which modbus_server reads no points; only gcom_modbus_server does."
        "Run the file with gcom_modbus_server, or write one map of registers.";
    UnknownRegisterType "config.unknown_register_type" Warning
        "A register group's type is none that the client knows."
        "Use Coil, Discrete Input, Input or Holding.";
    UnknownPointType "config.unknown_point_type" Warning
        "A group's type is no DNP3 point type; the process refuses or ignores the group."
        "Use analog, binary, counter, AnOPInt16, AnOPInt32, AnOPF32 or CROB.";
    ComponentId "config.component_id" Warning
        "A component has no id: modbus_client refuses the file, gcom_modbus_client publishes it as `noId`."
        "Give the component an id.";
    MissingId "config.missing_id" Alarm
        "A config has no `system.id`, without which its process refuses it."
        "Add an id, unique on this host.";
    HeartbeatUnresolved "config.heartbeat_unresolved" Alarm
        "A heartbeat is switched on and names a point that does not exist: modbus_client refuses to start, gcom_modbus_client never sees it change."
        "Write the id of a point of the same component, or switch the heartbeat off.";
    HeartbeatDisabled "config.heartbeat_disabled" Info
        "A heartbeat is configured but not switched on (`heartbeat_enabled` must be true)."
        "Switch it on, or delete it.";
    HeartbeatRegister "config.heartbeat_register" Warning
        "A heartbeat names a register of a table that cannot serve: a read one is Holding or Input, a written one Holding."
        "Name a point of the right table.";
    HeartbeatOffset "config.heartbeat_offset" Warning
        "The point of a heartbeat has no offset that a request can carry: none at all, one above 65535, or 0 with `off_by_one`, which takes one away."
        "Correct the point's `offset`, or `off_by_one`.";
    HeartbeatTimeout "config.heartbeat_timeout" Warning
        "`component_heartbeat_timeout_ms` is shorter than the poll period (`frequency`): modbus_client refuses the file."
        "Write a timeout of at least twice the poll period.";
    HeartbeatNotWritten "config.heartbeat_not_written" Alarm
        "A heartbeat is to be written, and gcom_modbus_client writes one only where there is one to read too."
        "Add `component_heartbeat_read_uri`; it may name the same point.";
    ListedFileMissing "config.listed_file_missing" Warning
        "A DNP3 file list names a file that is not among those scanned."
        "Correct the path; it is relative to the working directory of the process.";
    ListedFileOverridden "config.listed_file_overridden" Info
        "A DNP3 file has another address or port than the first file of its list or command line, which opens the channel for all."
        "Nothing, if one channel is meant; otherwise start the files as processes of their own.";
    NotStarted "config.not_started" Info
        "A config that nothing starts: no systemd unit, no list of processes and no running process names it."
        "Nothing, if it is a spare; otherwise enable its process, or name the file in the list of processes.";
    StartedMissing "config.started_missing" Alarm
        "Something starts a process with a config file that does not exist; the process restarts every few seconds."
        "Put the file where the command line looks for it, or mend the name there.";
    StartedTwice "config.started_twice" Warning
        "Two processes use one config, so both poll the same device or listen on the same port."
        "Stop one of them; look whether both systemd and the list of processes start it.";
    StartedUnusable "config.started_unusable" Alarm
        "A process is started with a file that is no config of its kind; it refuses the file and restarts every few seconds."
        "Look for a misspelt key in the file, or start the process that the file is for.";
    PathCut "config.path_cut" Warning
        "The legacy Modbus server cuts the path of its config at the first dot, so it opens another file than the one given."
        "Take the dots out of the file's name and its folders, and start the server with the new name.";
    OverrideIgnored "config.override_ignored" Warning
        "A command line has settings behind the file that only gcom_modbus_client takes; for this process the file alone counts."
        "Move the value into the file, or take it off the command line.";
    VariableUnknown "config.variable_unknown" Warning
        "The command of a systemd unit has a variable that neither the unit nor a readable environment file sets; what it adds is not known."
        "Set it with `Environment=`, or make the file of `EnvironmentFile=` readable; while the process runs, its own command line tells.";
    Overridden "config.overridden" Warning
        "A command line overrides what the file says, so the file alone misleads; the topology follows the command line."
        "Move the value into the file if it is meant to stay.";
    ConfigFromBus "config.from_bus" Info
        "A process gets its config over the bus; what it talks to is not in any file."
        "Get the config from the uri to see it; `extra_endpoints` makes netdiag test the endpoint.";
    WildcardBind "config.wildcard_bind" Info
        "A server listens on all addresses of a host that is in more than one network, so it can be reached from each of them."
        "Bind it to the address of the network that it is meant for, or see to it that a firewall does.";
    NoRoute "config.no_route" Alarm
        "This host has no way to send to the configured address."
        "Check the address, the interface's own address and prefix, and the routes (`ip route get`).";
    InterfaceDown "config.interface_down" Alarm
        "The interface by which an endpoint is reached is off or has no carrier."
        "Check the cable and the switch port, and that the interface is switched on (`ip link`).";
    ListenerConflict "config.listener_conflict" Alarm
        "Two configs listen on the same port: Modbus servers then share the connections at random, other processes fail."
        "Give each server a port of its own.";
    SerialConflict "config.serial_conflict" Alarm
        "Several configs use one serial line; their requests garble each other."
        "Put all that is on one line into one config.";
    LinkAddressTwice "config.link_address_twice" Warning
        "Two DNP3 configs use one channel with the same link addresses."
        "Give each session its own pair of addresses, or remove one config.";
    SameServerId "config.same_server_id" Warning
        "Several servers have the same `system.id`, and so the same name and uris on the bus."
        "Give each server an id of its own.";
    SameComponentId "config.same_component_id" Warning
        "Several components have the same id, and publish over each other on the bus."
        "Give each component an id of its own.";
    NoListener "config.no_listener" Warning
        "A client's target is on this host, where no config listens on that port."
        "Check the address and port, or the server's config.";
    ListenerWithoutClient "config.listener_without_client" Info
        "A server to which no client of the scanned configs connects; its clients are elsewhere, or there are none."
        "Nothing, if the client is another site's or a device; otherwise check the client's address and port.";
    ProtocolMismatch "config.protocol_mismatch" Alarm
        "What listens where a client connects speaks another protocol, or only one of the two uses TLS: they never understand each other."
        "Make protocol, port and `conn_type` of the two configs agree.";
    BindAddress "config.bind_address" Alarm
        "A server's bind address is none of this host's: it cannot listen."
        "Use an address of this host, or 0.0.0.0.";
    UnitMismatch "config.unit_mismatch" Warning
        "A client asks units that the server at the other end does not have; it works only because some servers ignore the unit."
        "Make the unit ids of the two configs agree.";
    LinkAddressMismatch "config.link_address_mismatch" Alarm
        "The DNP3 link addresses of a master and its outstation do not mirror each other: no frame will be accepted."
        "Make `master_address` and `station_address` of the two configs agree.";
}

impl ProblemCode {
    /// The code that is written so, if there is one.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.code() == code)
    }

    /// A problem of this code about a file.
    pub(super) fn at(self, path: &str, message: impl Into<String>) -> Problem {
        Problem {
            code: self.code().to_owned(),
            severity: self.severity(),
            path: Some(path.to_owned()),
            line: None,
            column: None,
            endpoint_id: None,
            message: message.into(),
        }
    }
}

/// The catalogue as a page of the documentation.
pub fn markdown() -> String {
    let mut page = String::from(
        "# What can be wrong with configs\n\nEvery problem that a [topology](topology.md) tells has one of these codes, usually with this severity; \
         what is seen on the wire has its [own](findings.md). `netdiag explain CODE` says the same.\n\n| code | severity | what it \
         means | what to do |\n|---|---|---|---|\n",
    );
    for problem in ProblemCode::ALL {
        let severity = match problem.severity() {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Alarm => "alarm",
        };
        page.extend([&format!("| `{}` | {severity} | ", problem.code()), problem.meaning(), " | ", problem.advice(), " |\n"]);
    }
    page
}

/// A text from outside, in back quotes and cut to a length that a sentence can hold.
pub(super) fn quote(text: &str) -> String {
    format!("`{}`", clip(text, 80))
}

/// At most `limit` characters of a text, with an ellipsis where some are missing.
pub(super) fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_found_again() {
        let codes: BTreeSet<&str> = ProblemCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes.len(), ProblemCode::ALL.len());
        for &code in ProblemCode::ALL {
            assert_eq!(ProblemCode::from_code(code.code()), Some(code));
            assert!(code.meaning().ends_with('.') && code.advice().ends_with('.'), "{}", code.code());
        }
    }

    /// Run with `UPDATE_DOCS=1` to write the page anew.
    #[test]
    fn the_printed_page_of_problems_is_this_catalogue() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config-problems.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), markdown(), "run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(clip("äöü", 2), "äö…");
        assert_eq!(clip("äöü", 3), "äöü");
    }
}
