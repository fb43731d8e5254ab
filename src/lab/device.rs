//! What devices a site has, and what is wrong with each.

use super::{LabError, wiring::Rejection};
use crate::api::Protocol;
use std::{ops::RangeInclusive, time::Duration};

/// What a device speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaks {
    /// Modbus TCP, for these unit ids.
    Modbus {
        /// The unit ids, at least one.
        unit_ids: Vec<u8>,
    },
    /// DNP3, as an outstation.
    Dnp3 {
        /// The link address of the master that it talks to.
        master: u16,
        /// Its own link address.
        station: u16,
        /// How often it reports without being asked, if it does.
        unsolicited: Option<Duration>,
    },
}

impl Speaks {
    /// The protocol.
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Modbus { .. } => Protocol::Modbus,
            Self::Dnp3 { .. } => Protocol::Dnp3,
        }
    }

    /// The port on which this is usual.
    pub const fn usual_port(&self) -> u16 {
        match self {
            Self::Modbus { .. } => 502,
            Self::Dnp3 { .. } => 20_000,
        }
    }
}

/// What a device does when it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// All is well.
    Healthy,
    /// It answers each request only after this long.
    Slow(Duration),
    /// It answers with a Modbus exception when certain holding or input registers, or bits, are asked for.
    Exceptions {
        /// Their offsets.
        registers: RangeInclusive<u16>,
        /// The exception code, for instance 4 (server device failure).
        code: u8,
    },
    /// It accepts connections and answers no request.
    NeverAnswers,
    /// Nothing listens on its port.
    RefusesPort,
    /// Connection attempts to its port get no answer, though ping and ARP do.
    DropsConnections,
    /// It accepts connections and resets them at once.
    ResetsOnAccept,
    /// Nobody has its address.
    NoArp,
    /// It serves, and does not answer pings.
    BlocksPing,
    /// There is only its host, with its address; who serves there is started in its namespace by the caller.
    Hosted,
    /// It is behind the router, which rejects what is sent to it.
    Rejected(Rejection),
}

impl Behaviour {
    /// What is so about the device, in words that go after its name: "nothing listens on its port".
    pub fn describe(&self) -> String {
        match self {
            Self::Healthy => "all is well".to_owned(),
            Self::Slow(delay) => format!("answers after {} ms", delay.as_millis()),
            Self::Exceptions { registers, code } => {
                format!("answers with exception {code} for registers {} to {}", registers.start(), registers.end())
            }
            Self::NeverAnswers => "accepts connections, answers no request".to_owned(),
            Self::RefusesPort => "nothing listens on its port".to_owned(),
            Self::DropsConnections => "drops connection attempts".to_owned(),
            Self::ResetsOnAccept => "resets every connection at once".to_owned(),
            Self::NoArp => "nobody has this address".to_owned(),
            Self::BlocksPing => "serves, but answers no ping".to_owned(),
            Self::Hosted => "a host on which something else serves".to_owned(),
            Self::Rejected(Rejection::HostUnreachable) => "behind a router that says host unreachable".to_owned(),
            Self::Rejected(Rejection::Prohibited) => "behind a router that prohibits it".to_owned(),
            Self::Rejected(Rejection::Blackhole) => "behind a router that swallows what is sent to it".to_owned(),
        }
    }

    /// Whether this can be had on the loopback of one host, without a network of its own.
    pub(super) const fn exists_on_loopback(&self) -> bool {
        !matches!(self, Self::NoArp | Self::BlocksPing | Self::Rejected(_))
    }

    /// Whether there is a host with that address.
    pub(super) const fn has_host(&self) -> bool {
        !matches!(self, Self::NoArp | Self::Rejected(_))
    }

    /// Whether the lab itself puts something on the device's port.
    pub(super) const fn takes_port(&self) -> bool {
        self.has_host() && !matches!(self, Self::Hosted)
    }
}

/// A device of the site, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its name, which becomes the name of its connection in the config and of its config file: letters, digits, `_` and `-`.
    pub name: String,
    /// What it speaks.
    pub speaks: Speaks,
    /// What it does.
    pub behaviour: Behaviour,
    /// Its port; on loopback, 10000 is added to those below 1024.
    pub port: u16,
    /// Whether the site has a live session with it.
    pub session: bool,
    /// Whether it is in the network behind the router.
    pub routed: bool,
    /// How many connections it takes at a time; attempts at one more get no answer. `None`: as many as come.
    pub most_connections: Option<u32>,
}

impl DeviceSpec {
    /// A Modbus device of one unit, 1, on port 502, with no session.
    pub fn modbus(name: impl Into<String>, behaviour: Behaviour) -> Self {
        Self::new(name.into(), Speaks::Modbus { unit_ids: vec![1] }, behaviour)
    }

    /// A DNP3 outstation with the link address 10, for a master with the link address 1, on port 20000, with no session.
    pub fn dnp3(name: impl Into<String>, behaviour: Behaviour) -> Self {
        Self::new(name.into(), Speaks::Dnp3 { master: 1, station: 10, unsolicited: None }, behaviour)
    }

    fn new(name: String, speaks: Speaks, behaviour: Behaviour) -> Self {
        let (port, routed) = (speaks.usual_port(), matches!(behaviour, Behaviour::Rejected(_)));
        Self { name, speaks, behaviour, port, session: false, routed, most_connections: None }
    }

    /// The same on another port.
    pub fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The same with a live session of the site: a client in the controller polls it all the time.
    pub fn with_session(mut self) -> Self {
        self.session = true;
        self
    }

    /// The same with room for so many connections at a time: it never answers attempts at one more.
    pub fn with_room_for(mut self, connections: u32) -> Self {
        self.most_connections = Some(connections);
        self
    }

    /// The same in the network behind the router.
    pub fn behind_router(mut self) -> Self {
        self.routed = true;
        self
    }

    /// The same with these unit ids, if it is a Modbus device.
    pub fn with_units(mut self, units: impl IntoIterator<Item = u8>) -> Self {
        if let Speaks::Modbus { unit_ids } = &mut self.speaks {
            *unit_ids = units.into_iter().collect();
        }
        self
    }

    /// The same reporting unasked this often, if it is a DNP3 outstation.
    pub fn reporting_every(mut self, period: Duration) -> Self {
        if let Speaks::Dnp3 { unsolicited, .. } = &mut self.speaks {
            *unsolicited = Some(period);
        }
        self
    }

    /// Refuses what cannot be.
    pub(super) fn check(&self) -> Result<(), LabError> {
        check_name(&self.name)?;
        let wrong = |reason: &str| Err(LabError::Spec { device: self.name.clone(), reason: reason.to_owned() });
        match (&self.speaks, &self.behaviour) {
            _ if self.most_connections == Some(0) => wrong("a device has room for one connection at least"),
            (Speaks::Dnp3 { .. }, _) if self.most_connections.is_some() => {
                wrong("a DNP3 device takes one connection at a time, and throws it out for another")
            }
            (Speaks::Modbus { unit_ids }, _) if unit_ids.is_empty() => wrong("a Modbus device has at least one unit id"),
            (Speaks::Dnp3 { .. }, Behaviour::Exceptions { .. }) => wrong("exceptions are of Modbus; a DNP3 device has none"),
            _ => Ok(()),
        }
    }
}

/// A server on the controller itself, and the remote client that uses it: an inbound endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundSpec {
    /// The name of the server, and of its config file.
    pub name: String,
    /// What it speaks.
    pub speaks: Speaks,
    /// The port that the config says it listens on.
    pub port: u16,
    /// Whether it really listens.
    pub listening: bool,
    /// Whether a remote client polls it.
    pub polled: bool,
}

impl InboundSpec {
    /// A Modbus server of unit 1 that listens and is polled.
    pub fn modbus(name: impl Into<String>, port: u16) -> Self {
        Self { name: name.into(), speaks: Speaks::Modbus { unit_ids: vec![1] }, port, listening: true, polled: true }
    }

    /// A DNP3 outstation on this controller that listens and is polled.
    pub fn dnp3(name: impl Into<String>, port: u16) -> Self {
        let speaks = Speaks::Dnp3 { master: 1, station: 10, unsolicited: None };
        Self { name: name.into(), speaks, port, listening: true, polled: true }
    }

    /// The same without a remote client.
    pub fn unused(mut self) -> Self {
        self.polled = false;
        self
    }

    /// The same without a server: the config says so, but nothing listens.
    pub fn not_started(mut self) -> Self {
        self.listening = false;
        self
    }

    pub(super) fn check(&self) -> Result<(), LabError> {
        check_name(&self.name)?;
        match &self.speaks {
            Speaks::Modbus { unit_ids } if unit_ids.is_empty() => {
                Err(LabError::Spec { device: self.name.clone(), reason: "a Modbus server has at least one unit id".to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), LabError> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Ok(());
    }
    let reason = "a name is letters, digits, `_` and `-`, for it becomes a file name".to_owned();
    Err(LabError::Spec { device: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let exceptions = Behaviour::Exceptions { registers: 0..=9, code: 4 };
        assert!(DeviceSpec::modbus("bms_1", exceptions.clone()).check().is_ok());
        let refused = DeviceSpec::dnp3("relay_1", exceptions).check().unwrap_err().to_string();
        assert!(refused.contains("relay_1") && refused.contains("Modbus"), "{refused}");
        assert!(DeviceSpec::modbus("../bms", Behaviour::Healthy).check().is_err());
        assert!(DeviceSpec::modbus("bms", Behaviour::Healthy).with_units([]).check().is_err());
        assert!(DeviceSpec::modbus("bms", Behaviour::Healthy).with_room_for(2).check().is_ok());
        assert!(DeviceSpec::modbus("bms", Behaviour::Healthy).with_room_for(0).check().is_err());
        assert!(DeviceSpec::dnp3("relay_1", Behaviour::Healthy).with_room_for(2).check().is_err());
    }
}
