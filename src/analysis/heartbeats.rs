//! Registers that must change: read out of the answers and the writes that cover them.

use super::tally::Stamp;
use crate::{
    api::{Endpoint, Heartbeat, HeartbeatKind, RegisterType},
    protocol::modbus::Query,
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The largest value that is looked at: eight registers.
const MAX_SIZE: u16 = 8;

/// The function that writes registers and reads others.
const READ_AND_WRITE: u8 = 23;
/// A register that was seen in a pace is missed after so many times that pace.
const PACES: i64 = 3;

/// A register that is to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatWatch {
    /// Its name: the point of the config, or the key of a definitions file.
    pub id: String,
    /// The component or the pair it belongs to.
    pub component: String,
    /// Read from the device, or written to it.
    pub kind: HeartbeatKind,
    /// Who reads or writes it; `None` for anybody.
    pub client: Option<IpAddr>,
    /// The server that holds the register.
    pub server: SocketAddr,
    /// The unit id; `None` for any.
    pub unit_id: Option<u8>,
    /// The Modbus table: holding or input registers.
    pub register_type: RegisterType,
    /// The offset as it stands in a request.
    pub wire_offset: u16,
    /// How many registers.
    pub size: u16,
    /// Unchanged for this long it is frozen; `None` leaves it to the settings.
    pub timeout: Option<Duration>,
}

impl HeartbeatWatch {
    /// The configured heartbeats that are switched on and resolved, each at the server of its endpoint.
    pub fn of_topology(heartbeats: &[Heartbeat], endpoints: &[Endpoint]) -> Vec<Self> {
        let watch = |heartbeat: &Heartbeat| {
            let endpoint = endpoints.iter().find(|endpoint| endpoint.endpoint_id == heartbeat.endpoint_id)?;
            Some(Self {
                id: heartbeat.id.clone(),
                component: heartbeat.component.clone(),
                kind: heartbeat.kind,
                client: None,
                server: SocketAddr::new(endpoint.address?.to_canonical(), endpoint.port?),
                unit_id: heartbeat.unit_id,
                register_type: heartbeat.register_type?,
                wire_offset: u16::try_from(heartbeat.wire_offset?).ok()?,
                size: heartbeat.size.unwrap_or(1),
                timeout: heartbeat.timeout_ms.map(Duration::from_millis),
            })
        };
        heartbeats.iter().filter(|heartbeat| heartbeat.enabled && heartbeat.resolved).filter_map(watch).collect()
    }
}

/// One entry of a definitions file.
#[derive(Debug, Deserialize)]
struct Definition {
    /// `client->server:port`.
    pair_id: String,
    /// 3 holding registers, 4 input registers.
    hb_reg_type: u8,
    hb_dev_id: Option<u8>,
    /// The register; the block in which it is polled (`hb_start`, `hb_size`) does not matter here.
    hb_reg: u16,
}

/// Reads a definitions file: an object of `{"pair_id": "192.168.112.5->192.168.112.10:502", "hb_reg_type": 3, "hb_dev_id": 255,
/// "hb_start": 768, "hb_reg": 768, "hb_size": 20}` by name.
///
/// # Errors
/// What is wrong, with the name of the entry, and what would be right.
pub fn read_heartbeat_definitions(text: &[u8]) -> Result<Vec<HeartbeatWatch>, String> {
    let definitions: BTreeMap<String, Definition> =
        serde_json::from_slice(text).map_err(|error| format!("these are no heartbeat definitions: {error}"))?;
    let watch = |(id, definition): (String, Definition)| {
        let server = definition.pair_id.rsplit("->").next().unwrap_or_default().trim();
        let server = server
            .parse()
            .map_err(|_| format!("`pair_id` of {id} is `{}`; it should be like 10.0.0.1->10.0.0.2:502", definition.pair_id))?;
        // Some write a name there, or nothing: then it is anybody.
        let client = definition.pair_id.split_once("->").and_then(|(client, _)| {
            let client = client.trim();
            client.parse().ok().or_else(|| Some(client.parse::<SocketAddr>().ok()?.ip()))
        });
        let register_type = match definition.hb_reg_type {
            3 => RegisterType::Holding,
            4 => RegisterType::Input,
            other => return Err(format!("`hb_reg_type` of {id} is {other}; it should be 3 (holding) or 4 (input registers)")),
        };
        Ok(HeartbeatWatch {
            id,
            component: definition.pair_id,
            kind: HeartbeatKind::Read,
            client,
            server,
            unit_id: definition.hb_dev_id,
            register_type,
            wire_offset: definition.hb_reg,
            size: 1,
            timeout: None,
        })
    };
    definitions.into_iter().map(watch).collect()
}

/// What was seen of a watched register.
#[derive(Debug)]
pub(super) struct HeartbeatState {
    pub watch: HeartbeatWatch,
    value: Option<[u8; 2 * MAX_SIZE as usize]>,
    /// How often its value was seen, and how often it differed from the one before.
    pub seen: u64,
    pub changes: u64,
    pub first: Option<Stamp>,
    pub latest: Option<Stamp>,
    /// Since when the value is what it is.
    pub since: Option<Stamp>,
}

impl HeartbeatState {
    pub fn new(watch: HeartbeatWatch) -> Self {
        Self { watch, value: None, seen: 0, changes: 0, first: None, latest: None, since: None }
    }

    fn is_asked_by(&self, client: IpAddr) -> bool {
        self.watch.client.is_none_or(|watched| watched.to_canonical() == client)
    }

    /// An answer to a read of this client.
    pub fn answered(&mut self, client: IpAddr, query: &Query, pdu: &[u8], stamp: Stamp) {
        let function = match self.watch.register_type {
            RegisterType::Holding => 3,
            RegisterType::Input => 4,
            RegisterType::Coil | RegisterType::DiscreteInput => return,
        };
        let is_read = query.function == function || (query.function == READ_AND_WRITE && function == 3);
        if self.watch.kind != HeartbeatKind::Write && is_read && self.is_asked_by(client) {
            // Function and number of bytes come before the values.
            self.take(query, pdu.get(2..), stamp);
        }
    }

    /// A write of this client.
    pub fn written(&mut self, client: IpAddr, query: &Query, pdu: &[u8], stamp: Stamp) {
        if !self.is_asked_by(client) {
            return;
        }
        if self.watch.kind == HeartbeatKind::Write && self.watch.register_type == RegisterType::Holding {
            match query.function {
                6 => self.take(query, pdu.get(3..), stamp),
                16 => self.take(query, pdu.get(6..), stamp),
                READ_AND_WRITE => {
                    // What is to be read stands before what is written: offset, count, number of bytes, values.
                    let word = |at: usize| Some(u16::from_be_bytes([*pdu.get(at)?, *pdu.get(at + 1)?]));
                    self.take(&Query { offset: word(5), count: word(7), ..*query }, pdu.get(10..), stamp);
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, query: &Query, values: Option<&[u8]>, stamp: Stamp) {
        let (Some(offset), Some(count), Some(values)) = (query.offset, query.count, values) else { return };
        if self.watch.unit_id.is_some_and(|unit_id| unit_id != query.unit_id) {
            return;
        }
        let Some(at) = self.watch.wire_offset.checked_sub(offset).filter(|at| *at < count) else { return };
        let begin = usize::from(at) * 2;
        let size = usize::from(self.watch.size.clamp(1, MAX_SIZE)) * 2;
        let Some(bytes) = values.get(begin..begin + size) else { return };
        let mut value = [0; 2 * MAX_SIZE as usize];
        value.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.seen += 1;
        self.first.get_or_insert(stamp);
        self.latest = Some(stamp);
        if self.value != Some(value) {
            self.changes += u64::from(self.value.is_some());
            self.value = Some(value);
            self.since = Some(stamp);
        }
    }

    /// The latest value as a number: registers with the highest first, as far as 64 bits go.
    pub fn value(&self) -> Option<u64> {
        let size = usize::from(self.watch.size.clamp(1, MAX_SIZE)) * 2;
        let bytes = self.value.as_ref()?.get(..size)?;
        Some(bytes.iter().rev().take(8).rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// When it was seen last, if nobody has asked for it any more for too long: longer than it may stay the same, and than was usual.
    pub fn stopped_at(&self, now: i64, default_timeout_ns: i64) -> Option<Stamp> {
        let (first, latest) = (self.first?, self.latest?);
        let timeout = self.watch.timeout.map_or(default_timeout_ns, super::settings::ns);
        let pace = latest.at.saturating_sub(first.at) / i64::try_from(self.seen.saturating_sub(1).max(1)).unwrap_or(i64::MAX);
        let is_missed = now.saturating_sub(latest.at) > timeout.max(pace.saturating_mul(PACES));
        // Once seen tells no pace.
        (self.seen >= 2 && is_missed).then_some(latest)
    }

    /// Since when the value has not changed, if that is longer than it may be. `now` is the time of the latest packet.
    pub fn frozen_since(&self, default_timeout_ns: i64) -> Option<Stamp> {
        let (since, latest) = (self.since?, self.latest?);
        let timeout = self.watch.timeout.map_or(default_timeout_ns, super::settings::ns);
        // Seen at least three times, so that a slow poll is no frozen register.
        (self.seen >= 3 && since.number != latest.number && latest.at.saturating_sub(since.at) > timeout).then_some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn state(kind: HeartbeatKind, size: u16) -> HeartbeatState {
        HeartbeatState::new(HeartbeatWatch {
            id: "life".to_owned(),
            component: "bms".to_owned(),
            kind,
            client: None,
            server: "10.0.0.2:502".parse().unwrap(),
            unit_id: Some(1),
            register_type: RegisterType::Holding,
            wire_offset: 102,
            size,
            timeout: None,
        })
    }

    fn stamp(seconds: i64) -> Stamp {
        Stamp { number: seconds as u64 + 1, at: seconds * SECOND }
    }

    fn read(offset: u16, count: u16) -> Query {
        Query { unit_id: 1, function: 3, offset: Some(offset), count: Some(count) }
    }

    #[test]
    fn a_value_is_read_out_of_the_block_that_covers_it() {
        let mut life = state(HeartbeatKind::Read, 2);
        let pdu = [3, 10, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 9, 9];
        life.answered(CLIENT, &read(100, 5), &pdu, stamp(0));
        assert_eq!((life.value(), life.seen), (Some(0x1234_5678), 1));
        for (query, pdu) in [
            (read(103, 5), &pdu[..]),
            (read(90, 5), &pdu),
            (read(100, 5), &pdu[..8]),
            (Query { unit_id: 2, ..read(100, 5) }, &pdu),
            (Query { function: 4, ..read(100, 5) }, &pdu),
        ] {
            life.answered(CLIENT, &query, pdu, stamp(1));
        }
        assert_eq!(life.seen, 1, "what does not cover it says nothing");
    }

    #[test]
    fn writes_count_for_a_value_that_is_written() {
        let mut life = state(HeartbeatKind::Write, 1);
        life.written(CLIENT, &Query { unit_id: 1, function: 6, offset: Some(102), count: Some(1) }, &[6, 0, 102, 0, 7], stamp(0));
        assert_eq!(life.value(), Some(7));
        let several = Query { unit_id: 1, function: 16, offset: Some(101), count: Some(2) };
        life.written(CLIENT, &several, &[16, 0, 101, 0, 2, 4, 0, 1, 0, 8], stamp(1));
        assert_eq!((life.value(), life.changes), (Some(8), 1));
        life.answered(CLIENT, &read(100, 5), &[3, 10, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], stamp(2));
        assert_eq!(life.seen, 2);
    }

    #[test]
    fn frozen_is_what_is_seen_and_stays_the_same_for_too_long() {
        let mut life = state(HeartbeatKind::Read, 1);
        let mut see = |value: u8, at: i64| {
            life.answered(CLIENT, &read(102, 1), &[3, 2, 0, value], stamp(at));
            life.frozen_since(5 * SECOND).map(|since| since.at / SECOND)
        };
        assert_eq!([see(1, 0), see(2, 1), see(3, 2)], [None; 3]);
        assert_eq!([see(3, 4), see(3, 7), see(3, 8)], [None, None, Some(2)]);
        assert_eq!(see(4, 9), None, "it changes again");
    }

    #[test]
    fn one_function_writes_and_reads() {
        let query = Query { unit_id: 1, function: 23, offset: Some(100), count: Some(3) };
        let mut life = state(HeartbeatKind::Write, 1);
        life.written(CLIENT, &query, &[23, 0, 100, 0, 3, 0, 101, 0, 2, 4, 0, 9, 0, 8], stamp(0));
        assert_eq!(life.value(), Some(8));
        let mut life = state(HeartbeatKind::Read, 1);
        life.answered(CLIENT, &query, &[23, 6, 0, 1, 0, 2, 0, 3], stamp(0));
        assert_eq!(life.value(), Some(3));
    }

    #[test]
    fn a_pair_is_a_client_too() {
        let definitions = |client: &str| {
            let pair = format!("{client}->10.0.0.2:502");
            let text = format!(r#"{{"life": {{"pair_id": "{pair}", "hb_reg_type": 3, "hb_dev_id": 1, "hb_reg": 102}}}}"#);
            read_heartbeat_definitions(text.as_bytes()).unwrap().remove(0)
        };
        for (client, counts) in [("10.0.0.1", true), ("10.0.0.1:4000", true), ("10.0.0.9", false), ("any", true)] {
            let mut life = HeartbeatState::new(definitions(client));
            life.answered(CLIENT, &read(102, 1), &[3, 2, 0, 7], stamp(0));
            assert_eq!(life.seen, u64::from(counts), "{client}");
        }
    }

    #[test]
    fn what_nobody_asks_for_any_more_has_stopped() {
        let mut life = state(HeartbeatKind::Read, 1);
        (0..5).for_each(|round| life.answered(CLIENT, &read(102, 1), &[3, 2, 0, round], stamp(i64::from(round) * 20)));
        assert_eq!(life.stopped_at(140 * SECOND, 10 * SECOND), None, "a slow pace is one");
        assert_eq!(life.stopped_at(141 * SECOND, 10 * SECOND), life.latest);
    }

    proptest! {
        #[test]
        fn a_damaged_definitions_file_is_told_and_never_a_panic(at: prop::sample::Index, byte: u8, any: Vec<u8>) {
            let mut text = br#"{"life": {"pair_id": "10.0.0.1->10.0.0.2:502", "hb_reg_type": 3, "hb_dev_id": 1, "hb_reg": 102}}"#.to_vec();
            let place = at.index(text.len());
            text[place] = byte;
            for text in [&text, &any] {
                if let Err(problem) = read_heartbeat_definitions(text) {
                    prop_assert!(!problem.is_empty());
                }
            }
        }
    }
}
