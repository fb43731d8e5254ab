//! Which port a process makes of its config.

use super::{
    problem::{ProblemCode, quote},
    process::Process,
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

/// The port of a Modbus client or server, and where it comes from.
pub(super) fn modbus_port(section: &Section<'_>, services: &Services, process: Option<Process>) -> (u16, PortSource) {
    let written = match section.value("port") {
        None => (MODBUS_PORT, PortSource::Default),
        Some(value) => match section.integer("port").map(u16::try_from) {
            Some(Ok(port)) if port > 0 => (port, PortSource::Explicit),
            Some(_) => invalid(section, "it is no number from 1 to 65535", process),
            None => invalid(section, &format!("it is {}", value.type_name()), process),
        },
    };
    let Some(service) = section.text("service") else { return written };
    match services.tcp_port(service) {
        Some(port) => (port, PortSource::Service),
        None => {
            let (port, _) = written;
            let message = format!("the service {} is unknown; port {port} is taken", quote(service));
            section.tell("service", ProblemCode::ServiceUnknown, message);
            written
        }
    }
}

fn invalid(section: &Section<'_>, why: &str, process: Option<Process>) -> (u16, PortSource) {
    let outcome = match process {
        Some(Process::ModbusClient) => "modbus_client refuses the file",
        Some(Process::GcomModbusClient) => "gcom_modbus_client takes 502 instead",
        Some(Process::ModbusServer | Process::GcomModbusServer) => "the server takes 502 instead, or refuses a number out of range",
        _ => "the process refuses the file or takes 502 instead",
    };
    let message = format!("`port` in {} cannot be used: {why}, and {outcome}", section.name);
    section.tell("port", ProblemCode::PortInvalid, message);
    (MODBUS_PORT, PortSource::Invalid)
}

/// The port of a DNP3 process. Anything but a number becomes 0 there, and a number out of range is cut to 16 bits.
pub(super) fn dnp3_port(section: &Section<'_>) -> (u16, PortSource) {
    let Some(value) = section.value("port") else { return (DNP3_PORT, PortSource::Default) };
    let number = section.integer("port");
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
    use crate::topology::{json::first_value, notes::Notes, section::Keys};

    fn port(text: &str) -> (u16, PortSource) {
        let (root, _) = first_value(text).unwrap();
        let notes = Notes::new("a.json", "");
        let services = Services::parse("# names\nmodbus-alt 1700/tcp mbalt # other\nmodbus-alt 9/udp\nbroken\nx y/tcp\n");
        modbus_port(&Section::new("connection", &root, Keys::Exact, &notes), &services, None)
    }

    #[test]
    fn a_service_overrides_the_port_where_it_is_known() {
        assert_eq!(port(r#"{"port": 700, "service": "modbus-alt"}"#), (1700, PortSource::Service));
        assert_eq!(port(r#"{"service": "mbalt"}"#), (1700, PortSource::Service));
        assert_eq!(port(r#"{"port": 700, "service": "nobody"}"#), (700, PortSource::Explicit));
    }

    #[test]
    fn an_unusable_port_becomes_what_the_process_makes_of_it() {
        for text in [r#"{"port": "1502"}"#, r#"{"port": 1502.0}"#, r#"{"port": 70000}"#, r#"{"port": -1}"#, r#"{"port": null}"#] {
            assert_eq!(port(text), (502, PortSource::Invalid), "{text}");
        }
        assert_eq!(port("{}"), (502, PortSource::Default));
        let dnp3 = |text: &str| {
            let (root, _) = first_value(text).unwrap();
            let notes = Notes::new("a.json", "");
            dnp3_port(&Section::new("system", &root, Keys::AnyCase, &notes))
        };
        assert_eq!(dnp3("{}"), (20000, PortSource::Default));
        assert_eq!(dnp3(r#"{"port": 20002.0}"#), (20002, PortSource::Explicit));
        assert_eq!(dnp3(r#"{"port": "20010"}"#), (0, PortSource::Invalid));
        assert_eq!(dnp3(r#"{"port": 65537}"#), (1, PortSource::Invalid));
    }
}
