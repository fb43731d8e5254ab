//! The devices of the demo, what is wrong with each, and the verdict that it must get.

use super::Compared;
use crate::{
    api::{ConnectState, ConnectivityResult, EndpointResult, Verdict},
    lab::{Behaviour, DeviceSpec, InboundSpec, Rejection, Site},
};

/// What an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Device(DeviceSpec),
    Inbound(InboundSpec),
}

/// One endpoint, and what must be said of it.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) part: Part,
    pub(super) story: &'static str,
    verdict: Verdict,
    /// A word that the reason must hold.
    because: &'static str,
    /// What can be said without a capture, where that is less.
    without_capture: Option<(Verdict, &'static str)>,
    /// What is to be said on the loopback, where that is different: there the sockets of the devices are this host's own.
    on_loopback: Option<(Verdict, &'static str)>,
}

impl Role {
    pub(super) fn device(&self) -> Option<DeviceSpec> {
        match &self.part {
            Part::Device(device) => Some(device.clone()),
            Part::Inbound(_) => None,
        }
    }

    pub(super) fn inbound(&self) -> Option<InboundSpec> {
        match &self.part {
            Part::Inbound(server) => Some(server.clone()),
            Part::Device(_) => None,
        }
    }

    pub(super) fn name(&self) -> &str {
        match &self.part {
            Part::Device(device) => &device.name,
            Part::Inbound(server) => &server.name,
        }
    }

    fn but_on_loopback(mut self, verdict: Verdict, because: &'static str) -> Self {
        self.on_loopback = Some((verdict, because));
        self
    }

    fn but_without_capture(mut self, verdict: Verdict, because: &'static str) -> Self {
        self.without_capture = Some((verdict, because));
        self
    }
}

/// All endpoints of the demo.
pub(super) fn cast() -> Vec<Role> {
    let device = |device, story, verdict, because| Role {
        part: Part::Device(device),
        story,
        verdict,
        because,
        without_capture: None,
        on_loopback: None,
    };
    let server = |server, story, verdict, because| Role {
        part: Part::Inbound(server),
        story,
        verdict,
        because,
        without_capture: None,
        on_loopback: None,
    };
    let modbus = DeviceSpec::modbus;
    vec![
        device(
            modbus("bms_1", Behaviour::Healthy).with_units([1, 2]).with_session(),
            "a healthy battery, two units",
            Verdict::Ok,
            "opens",
        ),
        device(modbus("bms_2", Behaviour::RefusesPort), "its Modbus server is not running", Verdict::Failed, "refused"),
        device(modbus("pcs_1", Behaviour::DropsConnections), "it takes no more connections", Verdict::Failed, "SYN")
            .but_without_capture(Verdict::Failed, "no answer")
            .but_on_loopback(Verdict::Degraded, "a further connection failed"),
        device(modbus("pcs_2", Behaviour::NoArp), "it is switched off", Verdict::Failed, "ARP")
            .but_without_capture(Verdict::Failed, "unreachable"),
        device(
            modbus("meter_1", Behaviour::BlocksPing).with_session(),
            "it blocks ping, and works",
            Verdict::Ok,
            "ping is not answered",
        ),
        device(
            modbus("meter_2", Behaviour::Rejected(Rejection::Prohibited)),
            "a router forbids the way",
            Verdict::Failed,
            "router",
        )
        .but_without_capture(Verdict::Failed, "unreachable"),
        device(
            modbus("chiller_1", Behaviour::Exceptions { registers: 20..=29, code: 2 }).with_session(),
            "half of its registers do not exist",
            Verdict::Degraded,
            "exceptions",
        )
        .but_without_capture(Verdict::Ok, "opens"),
        device(
            modbus("hvac_1", Behaviour::NeverAnswers).with_session(),
            "it accepts connections and answers nothing",
            Verdict::Degraded,
            "no response",
        )
        .but_without_capture(Verdict::Ok, "opens"),
        device(modbus("gateway_1", Behaviour::ResetsOnAccept), "it resets whoever connects", Verdict::Failed, "reset"),
        device(
            DeviceSpec::dnp3("relay_1", Behaviour::Healthy).with_session(),
            "an outstation with a live master",
            Verdict::Ok,
            "live traffic",
        )
        .but_without_capture(Verdict::Ok, "session"),
        device(
            DeviceSpec::dnp3("relay_2", Behaviour::Healthy),
            "an outstation whose master is not running",
            Verdict::Unknown,
            "no session",
        ),
        server(InboundSpec::modbus("fleet_manager", 2502), "a server of ours, polled from outside", Verdict::Ok, "connected"),
        server(
            InboundSpec::modbus("scada", 2503).not_started(),
            "a server of ours that is not running",
            Verdict::Failed,
            "not running",
        ),
    ]
}

/// Compares what was said of each endpoint with what must be said of it.
pub(super) fn compare(cast: &[Role], site: &Site, result: &ConnectivityResult) -> Vec<Compared> {
    let captured = result.capture.as_ref().is_some_and(|capture| capture.packets > 0);
    let on_loopback = !site.left_out().is_empty();
    let present = cast.iter().filter(|role| !site.left_out().iter().any(|left_out| left_out.name == role.name()));
    present
        .map(|role| {
            let told = result.endpoints.iter().find(|endpoint| endpoint.name.as_deref() == Some(role.name()));
            let mismatch = match told {
                None => Some("it is missing from the result".to_owned()),
                Some(told) => verdict_mismatch(role, told, captured, on_loopback).or_else(|| disturbance(role, site, told)),
            };
            Compared { name: role.name().to_owned(), story: role.story.to_owned(), mismatch }
        })
        .collect()
}

fn verdict_mismatch(role: &Role, told: &EndpointResult, captured: bool, on_loopback: bool) -> Option<String> {
    let (verdict, because) = match (role.without_capture, role.on_loopback) {
        (_, Some(expected)) if on_loopback => expected,
        (Some(expected), _) if !captured => expected,
        _ => (role.verdict, role.because),
    };
    let right = told.verdict == verdict && told.reason.contains(because);
    (!right).then(|| format!("expected {verdict:?} because of `{because}`"))
}

/// A DNP3 outstation that was connected to, or whose master was thrown out.
fn disturbance(role: &Role, site: &Site, told: &EndpointResult) -> Option<String> {
    let device = site.device(role.name()).filter(|device| device.spec().speaks.protocol() == crate::api::Protocol::Dnp3)?;
    let stats = device.stats();
    let expected_connections = u64::from(device.spec().session);
    (told.connect.state != ConnectState::Skipped || stats.thrown_out > 0 || stats.connections != expected_connections)
        .then(|| format!("the outstation was disturbed: {stats:?}"))
}
