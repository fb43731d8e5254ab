//! How an analysis is set before it takes any packet, read off the first bytes of an input.

use netdiag::{
    analysis::{Analysis, AnalysisSettings, Expectation, HeartbeatWatch, Watch},
    api::{Direction, HeartbeatKind, Protocol, RegisterType},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How many bytes the setup takes; what an input has less is zero.
pub const SETUP_BYTES: usize = 24;

/// The addresses that the made traffic has, so that watches meet it.
const ADDRESSES: [[u8; 4]; 4] = [[10, 0, 0, 5], [10, 0, 0, 1], [10, 0, 0, 2], [0, 0, 0, 0]];
const PORTS: [u16; 4] = [502, 20_000, 1502, 40_000];

/// Takes one byte after the other; zero where there are no more.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, most: usize) -> usize {
        usize::from(self.next()) % most
    }

    fn ms(&mut self, scale: u64) -> Duration {
        Duration::from_millis(u64::from(self.next()) * scale)
    }

    fn address(&mut self) -> IpAddr {
        ADDRESSES[self.below(ADDRESSES.len())].into()
    }

    fn port(&mut self) -> u16 {
        PORTS[self.below(PORTS.len())]
    }
}

/// What an input chose.
pub struct Setup {
    pub analysis: Analysis,
    pub settings: AnalysisSettings,
    /// The endpoints that are watched.
    pub endpoint_ids: Vec<String>,
    /// How many servers can be told apart at most.
    pub max_servers: usize,
    /// Whether transactions are recorded from the first packet on.
    pub records: bool,
    /// Whether connections may go from one server to another when they show what they are.
    pub recognises: bool,
}

/// Reads the setup; a first byte of zero leaves the default times and small limits.
pub fn setup(bytes: &[u8]) -> Setup {
    let mut bytes = Bytes::of(bytes);
    let flags = bytes.next();
    let has = |bit: u8| flags & (1 << bit) != 0;
    let mut settings = AnalysisSettings {
        recognise: !has(0),
        max_flows: 8 + bytes.below(32),
        max_services: 4 + bytes.below(16),
        max_hosts: 4 + bytes.below(16),
        max_pending: 16 + bytes.below(64),
        max_pending_per_flow: 1 + bytes.below(16),
        max_gap_bytes: 64 * bytes.below(64),
        max_gap_bytes_total: 64 * bytes.below(256),
        storm_per_s: 1 + u64::from(bytes.next()),
        ..AnalysisSettings::default()
    };
    let times = [bytes.ms(20), bytes.ms(10), bytes.ms(10), bytes.ms(1), bytes.ms(40), bytes.ms(100)];
    if has(1) {
        [settings.response_timeout, settings.slow_response, settings.attempt_timeout] = [times[0], times[1], times[2]];
        [settings.gap_patience, settings.heartbeat_timeout, settings.silence] = [times[3], times[4], times[5]];
    }
    if has(2) {
        settings.modbus_ports.push(bytes.port());
        settings.dnp3_ports.push(bytes.port());
    }
    let watches: Vec<Watch> = (0..bytes.below(4)).map(|number| watch(&mut bytes, number)).collect();
    let heartbeats: Vec<HeartbeatWatch> = (0..bytes.below(4)).map(|number| heartbeat(&mut bytes, number)).collect();
    let local: Vec<IpAddr> = if has(3) { vec![bytes.address()] } else { Vec::new() };
    let max_servers = settings.max_services + watches.len() + heartbeats.len() + 1;
    let endpoint_ids: Vec<String> = watches.iter().map(|watch| watch.endpoint_id.clone()).collect();
    let expectations = watches.iter().map(|watch| expectation(watch, &mut bytes)).collect();
    let mut analysis = Analysis::new(settings.clone(), watches, local.clone());
    if has(4) {
        analysis = analysis.with_listeners_at(&[bytes.address()]);
    }
    if has(5) {
        analysis = analysis.with_expectations(expectations);
    }
    analysis = analysis.with_heartbeats(heartbeats);
    let records = has(6);
    if records {
        analysis.record_transactions();
    }
    Setup { analysis, recognises: settings.recognise, settings, endpoint_ids, max_servers, records }
}

fn watch(bytes: &mut Bytes<'_>, number: usize) -> Watch {
    let choice = bytes.next();
    let direction = match choice & 3 {
        0 => Direction::Inbound,
        1 => Direction::Undetermined,
        _ => Direction::Outbound,
    };
    Watch {
        endpoint_id: format!("endpoint_{number}"),
        protocol: if choice & 4 == 0 { Protocol::Modbus } else { Protocol::Dnp3 },
        direction,
        address: (choice & 8 == 0).then(|| bytes.address()),
        port: (choice & 16 == 0).then(|| bytes.port()),
        gateway: (choice & 32 != 0).then(|| bytes.address()),
    }
}

fn heartbeat(bytes: &mut Bytes<'_>, number: usize) -> HeartbeatWatch {
    let choice = bytes.next();
    HeartbeatWatch {
        id: format!("heartbeat_{number}"),
        component: "component".to_owned(),
        kind: [HeartbeatKind::Read, HeartbeatKind::Write, HeartbeatKind::Watchdog][usize::from(choice & 3) % 3],
        client: (choice & 4 != 0).then(|| bytes.address()),
        server: SocketAddr::new(bytes.address(), bytes.port()),
        unit_id: (choice & 8 != 0).then(|| bytes.next()),
        register_type: if choice & 16 == 0 { RegisterType::Holding } else { RegisterType::Input },
        wire_offset: u16::from(bytes.next()),
        size: u16::from(choice >> 5),
        timeout: None,
    }
}

fn expectation(watch: &Watch, bytes: &mut Bytes<'_>) -> Expectation {
    let choice = bytes.next();
    Expectation {
        endpoint_id: watch.endpoint_id.clone(),
        name: (choice & 1 != 0).then(|| "bms_1".to_owned()),
        unit_ids: if choice & 2 != 0 { vec![choice >> 4] } else { Vec::new() },
        links: if choice & 4 != 0 { vec![(u16::from(choice >> 4), 1)] } else { Vec::new() },
        is_of_some_controller: choice & 8 != 0,
    }
}
