//! Where an endpoint is: an address and port, or a serial line.

use super::{
    address::{HostText, classify},
    problem::{ProblemCode, clip, quote},
    reading::Reading,
    section::Section,
};
use crate::api::{Activity, Direction, Endpoint, PortSource, Protocol, SerialLine, Severity, Transport, endpoint_id};
use std::net::IpAddr;

/// Where an endpoint is.
pub(super) enum Place {
    /// On the network.
    Network { host: String, address: Option<IpAddr>, port: u16, port_source: PortSource },
    /// On a serial line.
    Serial(SerialLine),
}

/// The address or host name of a config, and the address where it needs no name service; `None` where there is none to talk to,
/// which is told.
pub(super) fn host(section: &Section<'_>, direction: Direction) -> Option<(String, Option<IpAddr>)> {
    let text = section.text("ip_address").unwrap_or_default();
    let tell = |code: ProblemCode, message: String| section.tell("ip_address", code, message);
    let written = format!("`ip_address` in {} is {}", section.name, quote(text));
    match classify(text) {
        HostText::Address(address) => {
            if address.is_ipv6() {
                tell(ProblemCode::Ipv6Unsupported, format!("{written}; the installed processes know IPv4 only"));
            }
            if address.is_unspecified() && direction == Direction::Outbound {
                let message = format!("{written}, which as a target means this host itself");
                section.tell_as("ip_address", Severity::Warning, ProblemCode::AddressInvalid, message);
            }
            return Some((clip(text, 64), Some(address)));
        }
        HostText::Name => return Some((text.to_owned(), None)),
        HostText::Missing => {
            tell(ProblemCode::MissingAddress, format!("{} has no `ip_address` and no serial device", section.name))
        }
        HostText::Template => tell(ProblemCode::Template, format!("{written}, a template's token that nothing has replaced")),
        HostText::Placeholder => tell(ProblemCode::PlaceholderAddress, format!("{written}, which stands for an address")),
        HostText::Invalid(why) => tell(ProblemCode::AddressInvalid, format!("{written}, which is no address: {why}")),
    }
    None
}

impl Place {
    /// An endpoint at this place, of which nothing else is known yet.
    pub fn endpoint(self, protocol: Protocol, direction: Direction, name: Option<String>, reading: &Reading<'_>) -> Endpoint {
        let mut endpoint = Endpoint {
            endpoint_id: String::new(),
            protocol,
            direction,
            transport: Transport::Tcp,
            name,
            host: None,
            address: None,
            port: None,
            port_source: PortSource::Default,
            unit_ids: Vec::new(),
            uses_default_unit: false,
            accepts_any_unit: false,
            dnp3_addresses: Vec::new(),
            serial: None,
            config_files: vec![reading.path.to_owned()],
            activity: Activity::Unknown,
            process: reading.process.map(|process| process.to_string()),
            controller: None,
            components: Vec::new(),
            max_connections: None,
            fims_uris: Vec::new(),
            interface: None,
            source_address: None,
            gateway: None,
        };
        match self {
            Self::Network { host, address, port, port_source } => {
                let shown = address.map_or_else(|| host.clone(), |address| address.to_string());
                endpoint.endpoint_id = endpoint_id(protocol, direction, &shown, Some(port));
                (endpoint.host, endpoint.address) = (Some(host), address);
                (endpoint.port, endpoint.port_source) = (Some(port), port_source);
            }
            Self::Serial(line) => {
                endpoint.endpoint_id = endpoint_id(protocol, direction, &line.device, None);
                endpoint.transport = Transport::Rtu;
                endpoint.serial = Some(line);
            }
        }
        endpoint
    }
}
