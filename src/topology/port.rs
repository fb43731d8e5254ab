//! Which port a process makes of its config.

use super::{
    outcome::{self, Does},
    problem::{ProblemCode, quote},
    reading::Reading,
    section::Section,
};
use crate::api::PortSource;
use std::collections::HashMap;

/// The default port of the Modbus processes.
pub(super) const MODBUS_PORT: u16 = 502;
/// The default port of the DNP3 processes.
pub(super) const DNP3_PORT: u16 = 20000;

/// TCP service names and their ports, as `/etc/services` has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services(HashMap<String, u16>);

impl Services {
    /// Reads the text of a services file (`name port/protocol aliases… # comment`); lines of another shape are passed over.
    pub fn parse(text: &str) -> Self {
        let mut services = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
            let Some(Ok(port)) = port.strip_suffix("/tcp").map(str::parse::<u16>) else { continue };
            for name in std::iter::once(name).chain(words) {
                services.entry(name.to_owned()).or_insert(port);
            }
        }
        Self(services)
    }

    /// The TCP port of a service.
    pub fn tcp_port(&self, name: &str) -> Option<u16> {
        self.0.get(name).copied()
    }
}

/// The port of a Modbus client, and where it comes from.
pub(super) fn client_port(section: &Section<'_>, reading: &Reading<'_>) -> (u16, PortSource) {
    let written = match written_port(section) {
        Written::Absent => (MODBUS_PORT, PortSource::Default),
        Written::Port(port) => (port, PortSource::Explicit),
        Written::Unusable(why) | Written::OutOfRange(why) => {
            let (_, does) = outcome::of_client(reading.process, Does::Refuses, Does::GoesOn("takes 502 instead"));
            invalid(section, &why, &does.unwrap_or_default());
            (MODBUS_PORT, PortSource::Invalid)
        }
    };
    service_port(section, reading).unwrap_or_else(|unknown| {
        if let Some(mistake) = unknown {
            let keeps = format!("takes port {}", written.0);
            section.tell_of_client("service", ProblemCode::ServiceUnknown, &mistake, Does::GoesOn(&keeps), Does::Refuses);
        }
        written
    })
}

/// The port of a Modbus server, and where it comes from; `None` where the server does not start, which is told.
pub(super) fn server_port(section: &Section<'_>, reading: &Reading<'_>) -> Option<(u16, PortSource)> {
    let written = match written_port(section) {
        Written::Absent => (MODBUS_PORT, PortSource::Default),
        Written::Port(port) => (port, PortSource::Explicit),
        Written::Unusable(why) => {
            invalid(section, &why, "the server listens on 502 instead");
            (MODBUS_PORT, PortSource::Invalid)
        }
        Written::OutOfRange(why) => {
            invalid(section, &why, &outcome::refuses("the server"));
            return None;
        }
    };
    Some(service_port(section, reading).unwrap_or_else(|unknown| {
        if let Some(mistake) = unknown {
            section.tell("service", ProblemCode::ServiceUnknown, format!("{mistake}; the server takes port {}", written.0));
        }
        written
    }))
}

/// What stands where the port of a Modbus config should.
enum Written {
    Absent,
    Port(u16),
    /// No number, with what it is.
    Unusable(String),
    /// A number that is no port.
    OutOfRange(String),
}

fn written_port(section: &Section<'_>) -> Written {
    let Some(value) = section.value("port") else { return Written::Absent };
    match section.whole_number(value).map(|number| (number, u16::try_from(number))) {
        Some((_, Ok(port))) if port > 0 => Written::Port(port),
        Some((number, _)) => Written::OutOfRange(format!("it is {number}, which is not from 1 to 65535")),
        None => Written::Unusable(format!("it is {}", value.type_name())),
    }
}

fn invalid(section: &Section<'_>, why: &str, does: &str) {
    section.tell("port", ProblemCode::PortInvalid, format!("`port` in {} cannot be used: {why}; {does}", section.name));
}

/// The port that the service named in a config has; without a known one, what is to be told about it.
fn service_port(section: &Section<'_>, reading: &Reading<'_>) -> Result<(u16, PortSource), Option<String>> {
    let service = section.text("service").ok_or(None)?;
    let port = reading.services.tcp_port(service).ok_or_else(|| Some(format!("the service {} is unknown", quote(service))))?;
    Ok((port, PortSource::Service))
}

/// The port of a DNP3 process. Anything but a number becomes 0 there, and a number out of range is cut to 16 bits.
pub(super) fn dnp3_port(section: &Section<'_>) -> (u16, PortSource) {
    let Some(value) = section.value("port") else { return (DNP3_PORT, PortSource::Default) };
    let number = section.whole_number(value);
    if let Some(Ok(port)) = number.map(u16::try_from)
        && port > 0
    {
        return (port, PortSource::Explicit);
    }
    let port = number.map_or(0, |number| (number & 0xffff) as u16);
    let found = number.map_or_else(|| value.type_name().to_owned(), |number| number.to_string());
    let message = format!("`port` in {} is {found}; the process makes {port} of it", section.name);
    section.tell("port", ProblemCode::PortInvalid, message);
    (port, PortSource::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Problem, Severity},
        topology::{Process, json::first_value, notes::Notes, section::Keys},
    };

    /// What a reader makes of a section, and what it tells.
    fn read<T>(
        text: &str,
        keys: Keys,
        process: Option<Process>,
        read: impl Fn(&Section<'_>, &Reading<'_>) -> T,
    ) -> (T, Vec<Problem>) {
        let (root, _) = first_value(text).unwrap();
        let notes = Notes::new("a.json", "");
        let services = Services::parse("# names\nmodbus-alt 1700/tcp mbalt # other\nmodbus-alt 9/udp\nbroken\nx y/tcp\n");
        let reading = Reading { path: "a.json", process, overrides: &[], services: &services, notes: &notes };
        let read = read(&Section::new("connection", &root, keys, &reading), &reading);
        (read, notes.into_problems())
    }

    fn client(text: &str, process: Option<Process>) -> ((u16, PortSource), Vec<Problem>) {
        read(text, Keys::Exact, process, client_port)
    }

    fn server(text: &str) -> (Option<(u16, PortSource)>, Vec<Problem>) {
        read(text, Keys::AnyCase, Some(Process::ModbusServer), server_port)
    }

    #[test]
    fn a_service_overrides_the_port_where_it_is_known() {
        assert_eq!(client(r#"{"port": 700, "service": "modbus-alt"}"#, None).0, (1700, PortSource::Service));
        assert_eq!(server(r#"{"service": "mbalt"}"#).0, Some((1700, PortSource::Service)));
        let unknown = r#"{"port": 700, "service": "nobody"}"#;
        for (process, severity, does) in [
            (Some(Process::ModbusClient), Severity::Warning, "modbus_client takes port 700"),
            (Some(Process::GcomModbusClient), Severity::Alarm, "gcom_modbus_client refuses this file and is restarted every 10 s"),
            (None, Severity::Warning, "modbus_client takes port 700, gcom_modbus_client refuses the file"),
        ] {
            let (port, problems) = client(unknown, process);
            assert_eq!((port, problems.len(), problems[0].severity), ((700, PortSource::Explicit), 1, severity));
            assert_eq!(problems[0].message, format!("the service `nobody` is unknown; {does}"));
        }
        let (port, problems) = server(unknown);
        assert_eq!((port, problems[0].severity), (Some((700, PortSource::Explicit)), Severity::Warning));
    }

    #[test]
    fn an_unusable_port_becomes_what_the_process_makes_of_it_and_is_told_once() {
        for text in [r#"{"port": "1502"}"#, r#"{"port": 1502.0}"#, r#"{"port": 70000}"#, r#"{"port": -1}"#, r#"{"port": null}"#] {
            let (port, problems) = client(text, None);
            assert_eq!((port, problems.len()), ((502, PortSource::Invalid), 1), "{text}");
        }
        assert_eq!(client("{}", None).0, (502, PortSource::Default));
        let dnp3 = |text: &str| read(text, Keys::AnyCase, None, |section, _| dnp3_port(section));
        assert_eq!(dnp3("{}").0, (20000, PortSource::Default));
        assert_eq!(dnp3(r#"{"port": 20002.0}"#).0, (20002, PortSource::Explicit));
        for (text, expected) in [(r#"{"port": "20010"}"#, 0), (r#"{"port": 65537}"#, 1)] {
            let (port, problems) = dnp3(text);
            assert_eq!((port, problems.len()), ((expected, PortSource::Invalid), 1), "{text}");
        }
    }

    #[test]
    fn a_server_listens_on_502_in_place_of_a_text_and_not_at_all_on_a_port_out_of_range() {
        let (port, problems) = server(r#"{"port": "1502"}"#);
        assert_eq!((port, problems.len()), (Some((502, PortSource::Invalid)), 1));
        for text in [r#"{"port": 70000}"#, r#"{"port": -1}"#, r#"{"port": 70000, "service": "mbalt"}"#] {
            let (port, problems) = server(text);
            assert_eq!((port, problems.len(), problems[0].severity), (None, 1, Severity::Alarm), "{text}");
            assert!(problems[0].message.ends_with("the server refuses this file and is restarted every 10 s"));
        }
    }
}
