//! Any packets through the whole analysis, set in any way: never a panic, an answer at any time, and figures that fit each other.
//!
//! The input is a setup of a fixed length, and then a row of packets: two bytes of length, one of link type and of what is asked after
//! it, three of time to the packet before, then the bytes.

use super::{
    analysis_checks as checks,
    analysis_setup::{SETUP_BYTES, Setup, setup},
};
use netdiag::{
    analysis::{Analysis, Counters, Meter},
    api::{AnalysisReport, Dnp3View, Finding, ModbusView, Protocol, Severity, TrafficFigures, Transaction, TransactionOutcome},
    packet::{LinkType, Packet, PacketSink},
};

pub fn run(data: &[u8]) {
    let (head, mut rest) = data.split_at(data.len().min(SETUP_BYTES));
    let Setup { mut analysis, settings, endpoint_ids, max_servers, records, recognises } = setup(head);
    let mut look = Look { endpoint_ids, meters: recognises.then(Vec::new), ..Look::default() };
    let mut unix_ns = 0_i64;
    for number in 1.. {
        let Some(([low, high, choice, time @ ..], after)) = rest.split_first_chunk::<6>() else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high]) % 2048).min(after.len());
        let (bytes, next) = after.split_at(length);
        unix_ns += i64::from(i32::from_le_bytes([0, time[0], time[1], time[2]]));
        let link_type = link_type(*choice);
        analysis.packet(&Packet { number, unix_ns, interface: 0, link_type, wire_len: length as u32, data: bytes });
        look.packets = number;
        look.after(&mut analysis, choice >> 3);
        rest = next;
    }
    look.whole(&analysis);
    analysis.finish();
    look.whole(&analysis);
    let counters = analysis.counters();
    assert!(counters.flows <= settings.max_flows as u64);
    let report = analysis.report();
    assert!(report.servers_total <= max_servers as u64, "{} servers of {max_servers}", report.servers_total);
    look.taken.extend(analysis.take_transactions(true));
    if records {
        transactions(&look.taken, &counters);
    }
}

fn link_type(choice: u8) -> LinkType {
    match choice & 7 {
        0 => LinkType::NULL,
        1 => LinkType::RAW,
        2 => LinkType::LINUX_SLL,
        3 => LinkType::LINUX_SLL2,
        _ => LinkType::ETHERNET,
    }
}

/// Whoever asks in mid-stream, and what was answered so far.
#[derive(Default)]
struct Look {
    endpoint_ids: Vec<String>,
    packets: u64,
    /// The latest reading of the meters; `None`: connections may move from one server to another, and their figures with them.
    meters: Option<Vec<(String, Meter)>>,
    taken: Vec<Transaction>,
}

impl Look {
    /// Asks one thing of what can be asked at any time, or nothing.
    fn after(&mut self, analysis: &mut Analysis, choice: u8) {
        match choice {
            1 => checks::report(&self.report(analysis)),
            2 => self.whole(analysis),
            3 => self.taken.extend(analysis.take_transactions(false)),
            4 => analysis.remark(remark(self.packets)),
            5 => self.evidence(analysis),
            6 => self.meters(analysis),
            7 => analysis.set_dropped(self.packets),
            8 => analysis.finish(),
            _ => {}
        }
    }

    /// Asks all there is.
    fn whole(&mut self, analysis: &Analysis) {
        let report = self.report(analysis);
        checks::report(&report);
        let counters = analysis.counters();
        assert_eq!((report.packets, report.undecodable, report.cut), (counters.packets, counters.undecodable, counters.cut));
        assert_eq!(report.servers.iter().map(|server| server.packets).sum::<u64>(), counters.wire.packets);
        let requests = report.servers.iter().filter_map(|server| Some(server.modbus.as_ref()?.requests)).sum::<u64>();
        assert_eq!(requests, counters.wire.modbus.as_ref().map_or(0, |modbus| modbus.requests), "{report:?}");
        checks::worst_first(&analysis.findings());
        self.evidence(analysis);
        self.meters(analysis);
    }

    fn report(&self, analysis: &Analysis) -> AnalysisReport {
        let report = analysis.report();
        assert_eq!(report.packets, self.packets);
        report
    }

    fn evidence(&self, analysis: &Analysis) {
        for endpoint_id in &self.endpoint_ids {
            let evidence = analysis.evidence(endpoint_id, &[([10, 0, 0, 1], 40_000).into()]).unwrap();
            checks::worst_first(&evidence.findings);
            assert!(evidence.wire.packets <= self.packets);
        }
        assert!(analysis.evidence("nobody", &[]).is_none());
    }

    /// The meters only grow. But what was overdue may turn out to be answered: by bytes that waited behind a gap, or when the capture's clock is
    /// set back, and then the latest packet is not the one with the latest time, either.
    fn meters(&mut self, analysis: &Analysis) {
        let now = analysis.meters();
        let certain = |figures: TrafficFigures| TrafficFigures { unanswered: None, connects_failed: 0, ..figures };
        let Some(before) = &mut self.meters else { return };
        for ((_, earlier), (endpoint_id, later)) in before.iter().zip(&now) {
            let mut sum = earlier.clone();
            sum.add(&later.since(earlier));
            for protocol in [Protocol::Modbus, Protocol::Dnp3] {
                let (sum, later) = (sum.figures(protocol), later.figures(protocol));
                assert_eq!(certain(sum), certain(later), "{endpoint_id}");
                assert!(sum.unanswered >= later.unanswered && sum.connects_failed >= later.connects_failed, "{endpoint_id}");
            }
            assert!(sum.last_seen_ns() >= later.last_seen_ns(), "{endpoint_id}");
        }
        *before = now;
    }
}

/// What whoever records may know.
fn remark(number: u64) -> Finding {
    Finding {
        code: "kernel.session_lost".to_owned(),
        severity: if number.is_multiple_of(2) { Severity::Alarm } else { Severity::Info },
        count: 1,
        first_at: None,
        last_at: None,
        endpoint_id: (number.is_multiple_of(3)).then(|| "endpoint_0".to_owned()),
        message: "the session was lost".to_owned(),
        packets: Vec::new(),
    }
}

/// There is one transaction for each request, and an answer is one answer.
fn transactions(taken: &[Transaction], counters: &Counters) {
    let modbus = counters.wire.modbus.clone().unwrap_or_default();
    let dnp3 = counters.wire.dnp3.clone().unwrap_or_default();
    let (ModbusView { requests, responses, .. }, Dnp3View { requests: of_dnp3, responses: by_dnp3, .. }) = (modbus, dnp3);
    assert_eq!(taken.len() as u64, requests + of_dnp3);
    let is_answer =
        |outcome| matches!(outcome, TransactionOutcome::Answered | TransactionOutcome::Exception | TransactionOutcome::Late);
    let answers = taken.iter().filter(|transaction| is_answer(transaction.outcome)).count() as u64;
    assert_eq!(answers, responses + by_dnp3);
    for transaction in taken {
        assert_eq!(is_answer(transaction.outcome), transaction.response_packet.is_some(), "{transaction:?}");
        assert!(serde_json::to_vec(transaction).is_ok());
    }
}
