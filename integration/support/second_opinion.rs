//! `tshark` as a second opinion on the Modbus and DNP3 of a capture file, field by field: what is counted, and each request with what
//! came of it.

use super::needs;
use netdiag::{
    analysis::{Analysis, AnalysisSettings},
    api::{Protocol, Transaction, TransactionOutcome},
    protocol::dnp3::{Control, Function, Indications, LinkControl},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    fs::File,
    ops::ControlFlow,
    path::Path,
    process::Command,
};

const FIELDS: [&str; 21] = [
    "frame.number",
    "frame.time_epoch",
    "tcp.dstport",
    "mbtcp.unit_id",
    "modbus.func_code",
    "modbus.exception_code",
    "modbus.reference_num",
    "modbus.word_cnt",
    "modbus.bit_cnt",
    "dnp3.ctl",
    "dnp3.src",
    "dnp3.dst",
    "dnp3.al.ctl",
    "dnp3.al.func",
    "dnp3.al.iin",
    "udp.dstport",
    "dnp3.al.seq",
    "mbtcp.trans_id",
    "mbtcp.prot_id",
    "modbus.read_reference_num",
    "modbus.read_word_cnt",
];

/// What `tshark` shows of a packet: the values of each field, in the order in which they came.
#[derive(Debug, Default)]
struct Row {
    time_s: f64,
    values: HashMap<&'static str, Vec<u64>>,
}

impl Row {
    fn of(&self, field: &'static str) -> &[u64] {
        self.values.get(field).map(Vec::as_slice).unwrap_or_default()
    }

    fn has(&self, field: &'static str, value: u64) -> bool {
        self.of(field).contains(&value)
    }
}

/// A number as `tshark` writes it, decimal or not; a flag is 1 or 0.
fn number(text: &str) -> u64 {
    match (text, text.strip_prefix("0x")) {
        (_, Some(hex)) => u64::from_str_radix(hex, 16).unwrap(),
        ("True", _) => 1,
        ("False", _) => 0,
        _ => text.parse().unwrap_or_else(|_| panic!("`{text}` is no number")),
    }
}

/// All packets by number, with segments put into their order or not; `None`, loudly, where `tshark` is not installed.
fn rows(file: &Path, settings: &AnalysisSettings, in_order: bool) -> Option<BTreeMap<u64, Row>> {
    let mut command = Command::new("tshark");
    command.arg("-o").arg(format!("tcp.reassemble_out_of_order:{}", if in_order { "TRUE" } else { "FALSE" }));
    command.args(["-n", "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"]);
    // By "decode as" it would read a request on another port, but not what is in it.
    for (ports, name) in [(&settings.modbus_ports, "mbtcp"), (&settings.dnp3_ports, "dnp3")] {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        command.arg("-o").arg(format!("{name}.tcp.port:{}", ports.join(",")));
    }
    command.args(FIELDS.map(|field| ["-e", field]).as_flattened()).arg("-r").arg(file);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            needs::missing(&format!("no second opinion, tshark: {error}"));
            return None;
        }
    };
    // Of a file that breaks off it shows what there is, and fails.
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| {
        let mut columns = line.split('\t');
        let mut row = Row::default();
        let number_of_packet = columns.next()?.parse().ok()?;
        row.time_s = columns.next()?.parse().ok()?;
        for (field, values) in FIELDS.into_iter().skip(2).zip(columns) {
            let values: Vec<u64> = values.split(',').filter(|value| !value.is_empty()).map(number).collect();
            if !values.is_empty() {
                row.values.insert(field, values);
            }
        }
        Some((number_of_packet, row))
    };
    Some(text.lines().filter_map(row).collect())
}

/// What was counted, by what it is.
type Counts = BTreeMap<String, u64>;

fn add(counts: &mut Counts, what: String, count: u64) {
    if count > 0 {
        *counts.entry(what).or_default() += count;
    }
}

/// What `tshark` counts.
fn their_counts(rows: &BTreeMap<u64, Row>, modbus_ports: &BTreeSet<u64>) -> Counts {
    let mut counts = Counts::new();
    for row in rows.values() {
        if row.of("tcp.dstport").iter().any(|port| modbus_ports.contains(port)) {
            row.of("modbus.func_code").iter().for_each(|function| add(&mut counts, format!("Modbus function {function}"), 1));
            row.of("mbtcp.unit_id").iter().for_each(|unit| add(&mut counts, format!("Modbus unit {unit}"), 1));
        }
        row.of("modbus.exception_code").iter().for_each(|code| add(&mut counts, format!("Modbus exception {code}"), 1));
        for control in row.of("dnp3.ctl") {
            let control = LinkControl::from_byte(*control as u8);
            add(&mut counts, link_function(&control.function.to_string(), control.from_master), 1);
        }
        for function in row.of("dnp3.al.func").iter().map(|function| Function(*function as u8)) {
            if function == Function::UNSOLICITED_RESPONSE {
                add(&mut counts, "DNP3 unsolicited".to_owned(), 1);
            } else if !function.is_response() && function != Function::CONFIRM {
                add(&mut counts, "DNP3 requests".to_owned(), 1);
            }
        }
        for indications in row.of("dnp3.al.iin") {
            for bit in (0..16).map(|bit| 1_u64 << bit).filter(|bit| indications & bit != 0) {
                // There, the first octet is the upper one.
                let [first, second] = (bit as u16).to_be_bytes();
                add(&mut counts, format!("DNP3 \"{}\"", Indications::from_bytes([first, second])), 1);
            }
        }
    }
    counts
}

fn link_function(function: &str, from_master: bool) -> String {
    format!("DNP3 link {function} of {}", if from_master { "a master" } else { "an outstation" })
}

/// What we count.
fn our_counts(analysis: &Analysis) -> Counts {
    let mut counts = Counts::new();
    for server in analysis.report().servers {
        if let Some(modbus) = server.modbus {
            modbus.functions.iter().for_each(|of| add(&mut counts, format!("Modbus function {}", of.function), of.requests));
            modbus.units.iter().for_each(|of| add(&mut counts, format!("Modbus unit {}", of.unit_id), of.requests));
            modbus.exception_codes.iter().for_each(|of| add(&mut counts, format!("Modbus exception {}", of.code), of.count));
        }
        if let Some(dnp3) = server.dnp3 {
            for of in &dnp3.link_functions {
                add(&mut counts, link_function(&of.function, of.from_master), of.frames);
            }
            add(&mut counts, "DNP3 requests".to_owned(), dnp3.requests);
            add(&mut counts, "DNP3 unsolicited".to_owned(), dnp3.unsolicited);
            dnp3.indications.iter().for_each(|of| add(&mut counts, format!("DNP3 \"{}\"", of.indication), of.responses));
        }
    }
    counts
}

/// The number behind a word of a request: `unit`, `offset`, `function`.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = &text[text.find(word)? + word.len()..];
    Some(rest.split(|char: char| !char.is_ascii_digit()).next().unwrap_or_default())
}

/// Where a request and what came of it differ from the packets in which they are said to be.
fn of_transaction(transaction: &Transaction, rows: &BTreeMap<u64, Row>) -> Vec<String> {
    let mut differ = Vec::new();
    let mut check = |holds: bool, what: &dyn Debug| {
        if !holds {
            differ.push(format!("packet {}, {}: {what:?}", transaction.request_packet, transaction.request));
        }
    };
    let none = Row::default();
    let row = |packet: u64| rows.get(&packet).unwrap_or(&none);
    let request = row(transaction.request_packet);
    let value = |word: &str| after(&transaction.request, word).and_then(|digits| digits.parse::<u64>().ok());
    match transaction.protocol {
        Protocol::Modbus => {
            for (word, field) in [("function ", "modbus.func_code"), ("unit ", "mbtcp.unit_id")] {
                check(value(word).is_none_or(|value| request.has(field, value)), &(field, request.of(field)));
            }
            let all = |fields: &[&'static str]| fields.iter().flat_map(|field| request.of(field)).copied().collect::<Vec<_>>();
            let offsets = all(&["modbus.reference_num", "modbus.read_reference_num"]);
            check(value("offset ").is_none_or(|offset| offsets.contains(&offset)), &("offset", offsets));
            let counts = all(&["modbus.word_cnt", "modbus.bit_cnt", "modbus.read_word_cnt"]);
            check(value("count ").is_none_or(|count| counts.contains(&count) || counts.is_empty()), &("count", counts));
        }
        _ => {
            let fields = [("function ", "dnp3.al.func"), ("master ", "dnp3.src"), ("outstation ", "dnp3.dst")];
            for (word, field) in fields {
                check(value(word).is_none_or(|value| request.has(field, value)), &(field, request.of(field)));
            }
        }
    }
    let Some(packet) = transaction.response_packet else { return differ };
    let response = row(packet);
    let ms = (response.time_s - request.time_s) * 1e3;
    // What is told in seconds since 1970 has about a microsecond.
    check(transaction.response_ms.is_some_and(|ours| (ours - ms).abs() < 0.003), &("response time", ms));
    match transaction.protocol {
        Protocol::Modbus => {
            let function = value("function ").unwrap_or(0);
            check(response.has("modbus.func_code", function), &("answered function", response.of("modbus.func_code")));
            check(response.has("mbtcp.unit_id", value("unit ").unwrap_or(0)), &("answering unit", response.of("mbtcp.unit_id")));
            let ids = [request, response].map(|row| row.of("mbtcp.trans_id").iter().copied().collect::<BTreeSet<_>>());
            check(!ids[0].is_disjoint(&ids[1]), &("transaction ids", ids.clone()));
            let code =
                transaction.detail.as_deref().and_then(|detail| after(detail, "exception ")).map(|digits| digits.parse().unwrap());
            match transaction.outcome {
                TransactionOutcome::Exception => {
                    check(code.is_some_and(|code| response.has("modbus.exception_code", code)), &("exception", code));
                }
                _ => {
                    // There may be another answer in the same packet.
                    let exceptions = response.of("modbus.exception_code").len();
                    check(exceptions < response.of("modbus.func_code").len(), &("no exception", exceptions));
                }
            }
        }
        _ => {
            check(response.of("dnp3.al.func").iter().any(|function| Function(*function as u8).is_response()), &"no response");
            check(response.has("dnp3.src", value("outstation ").unwrap_or(0)), &("who answers", response.of("dnp3.src")));
            check(response.has("dnp3.dst", value("master ").unwrap_or(0)), &("who is answered", response.of("dnp3.dst")));
            // The last of several fragments has a sequence of its own.
            let is_whole = |control: &u64| Control::from_byte(*control as u8).first;
            if response.of("dnp3.al.ctl").iter().all(is_whole) {
                let sequences = [request, response].map(|row| row.of("dnp3.al.seq").iter().copied().collect::<BTreeSet<_>>());
                check(!sequences[0].is_disjoint(&sequences[1]), &("sequences", sequences.clone()));
            }
        }
    }
    differ
}

/// What was compared, and where we differ.
#[derive(Debug, Clone, Default)]
pub struct Opinion {
    /// How many figures there were to compare, ...
    pub figures: usize,
    /// ... and how many requests, one by one, by what they are.
    pub requests: BTreeMap<&'static str, usize>,
    pub differ: Vec<String>,
}

/// The second opinion on a capture file; `None`, loudly, where `tshark` is not installed. It puts segments into their order and then loses
/// what follows one that was lost, or it does not and loses those that came late: the better of the two counts.
pub fn on(file: &Path, settings: &AnalysisSettings) -> Option<Opinion> {
    let mut analysis = Analysis::new(settings.clone(), Vec::new(), Vec::new());
    analysis.record_transactions();
    analysis.read_through(File::open(file).unwrap(), &mut |_, _| ControlFlow::Continue(())).unwrap();
    let (ours, transactions) = (our_counts(&analysis), analysis.take_transactions(true));
    let opinion = |in_order| Some(compared(&ours, &transactions, &rows(file, settings, in_order)?, settings));
    let in_order = opinion(true)?;
    if in_order.differ.is_empty() {
        return Some(in_order);
    }
    let as_it_came = opinion(false)?;
    Some(if as_it_came.differ.len() < in_order.differ.len() { as_it_came } else { in_order })
}

fn compared(ours: &Counts, transactions: &[Transaction], rows: &BTreeMap<u64, Row>, settings: &AnalysisSettings) -> Opinion {
    let modbus_ports = settings.modbus_ports.iter().map(|port| u64::from(*port)).collect();
    let theirs = their_counts(rows, &modbus_ports);
    let mut opinion = Opinion::default();
    for what in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        let [ours, theirs] = [ours, &theirs].map(|counts| counts.get(what).copied().unwrap_or(0));
        opinion.figures += 1;
        if ours != theirs {
            opinion.differ.push(format!("{what}: {ours}, tshark {theirs}"));
        }
    }
    for transaction in transactions {
        let what = match (transaction.protocol, transaction.outcome) {
            (Protocol::Dnp3, _) => "DNP3",
            (_, TransactionOutcome::Exception) => "Modbus exceptions",
            _ => "Modbus",
        };
        *opinion.requests.entry(what).or_default() += 1;
        opinion.differ.extend(of_transaction(transaction, rows));
    }
    opinion
}
