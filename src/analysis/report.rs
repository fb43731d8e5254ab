//! The whole first look: one verdict, the findings, and the figures of each server.

use super::{
    Analysis,
    clients::Asked,
    dnp3::Dnp3Service,
    expected::{Ours, listens_on_all},
    findings::{self, many},
    flow::{Flow, unanswered_attempts},
    modbus::{ModbusService, is_acknowledged},
    polls,
    rank::{lines, worst_first},
    seam::Told,
    service::Service,
    settings::Watch,
    shared::Shared,
    spread::{Durations, ms_of},
    stats::FlowStats,
    tally::Times,
};
use crate::{
    api::{
        AnalysisReport, AnalysisVerdict, ClientReport, Direction, Dnp3Report, ExceptionCount, Finding, FunctionCount,
        HeartbeatCondition, HeartbeatReport, IndicationCount, LinkFunctionCount, ModbusReport, PollReport, ReconnectReport,
        ResponseTimes, ServerReport, Severity, TcpReport, UnitReport, UtcTime,
    },
    protocol::modbus,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

/// Servers that a report holds at most.
const MAX_SERVERS: usize = 1_000;
/// Reasons that a report names at most.
const MAX_REASONS: usize = 20;
/// Things that its text tells at most.
const MAX_TOLD: usize = 5;
/// Polls that a report names for each server.
const MAX_POLLS: usize = 32;

/// What was found of a server, or of no server.
struct Looked<'a> {
    of: Option<(&'a Service, Vec<&'a Watch>)>,
    found: Vec<Finding>,
}

impl Analysis {
    /// All that was found so far, of watched endpoints and of others.
    pub fn report(&self) -> AnalysisReport {
        self.report_after(&[])
    }

    /// The same without what earlier analyses that overlap with this one have told: see [`Self::mark_seam`].
    pub fn report_after(&self, told: &[Told]) -> AnalysisReport {
        let mut looked = self.look();
        let mut own = self.own(told, looked.iter().flat_map(|looked| &looked.found));
        if let Some(own) = &mut own {
            for looked in &mut looked {
                looked.found = std::mem::take(&mut looked.found).into_iter().filter_map(|finding| own.take(finding)).collect();
            }
        }
        let (mut servers, mut found) = (Vec::new(), Vec::new());
        for Looked { of, found: of_it } in looked {
            if let Some((service, watches)) = of {
                let worst = of_it.iter().map(|finding| finding.severity).max();
                servers.push((worst, service, watches));
            }
            found.extend(of_it);
        }
        let is_remarked = |found: &Finding| {
            self.remarks.iter().any(|remark| remark.code == found.code && remark.endpoint_id == found.endpoint_id)
        };
        found.retain(|found| !is_remarked(found));
        found.extend(self.remarks.iter().cloned());
        let servers_total = servers.len() as u64;
        // The worst first, and of equals the busiest.
        servers.sort_by_key(|(worst, service, _)| std::cmp::Reverse((*worst, service.packets)));
        servers.truncate(MAX_SERVERS);
        let servers = servers.iter().map(|(worst, service, watches)| self.server(service, watches, *worst)).collect();
        let mut report = self.assembled(worst_first(found), servers, servers_total);
        if let Some(left) = own.and_then(|own| own.in_words()) {
            report.text.push_str("; ");
            report.text.push_str(&left);
        }
        report
    }

    /// All findings, in no order.
    pub(super) fn all_found(&self) -> impl Iterator<Item = Finding> {
        self.look().into_iter().flat_map(|looked| looked.found)
    }

    fn look(&self) -> Vec<Looked<'_>> {
        let ours = self.ours();
        let watches = self.watches_of(&ours);
        let listeners = self.listeners(&watches, &ours);
        let stalls = self.stalls(|_| true);
        let (mut looked, mut found) = (Vec::new(), Vec::new());
        for service in self.services.iter().filter(|service| service.is_talked_to() || service.icmp.tally.count > 0) {
            let of_service = service.address.and_then(|address| watches.get(&address)).map(Vec::as_slice).unwrap_or_default();
            let may_be_ours = service.address.filter(|_| !of_service.is_empty() && may_listen(of_service));
            let listeners = may_be_ours.and_then(|address| listeners.get(&address.port())).copied().unwrap_or(0);
            // Of several that may be the one that is configured, none is called so.
            let of_service = if listeners > 1 { &[] } else { of_service };
            let server = findings::label(service, self.name_of(of_service));
            let mut of_server = findings::of_service(service, &server, self.flows_of(service), &self.shared);
            of_server.extend(self.expectations.of_server(service, of_service, &server, &ours, listeners));
            of_server.extend(service.address.into_iter().flat_map(|address| self.elsewhere.findings(|asked| asked == address)));
            for finding in &mut of_server {
                finding.endpoint_id = id_of(of_service);
                let of_host = |address: SocketAddr| stalls.iter().for_each(|stall| stall.takes(address.ip(), finding));
                service.address.into_iter().for_each(of_host);
            }
            looked.push(Looked { of: Some((service, of_service.to_vec())), found: of_server });
        }
        for service in self.services.iter() {
            let of_service = service.address.and_then(|address| watches.get(&address)).map(Vec::as_slice).unwrap_or_default();
            let server = findings::label(service, self.name_of(of_service));
            let of_nobody = self.around.span.and_then(|span| findings::heartbeats_of_nobody(service, &server, &self.shared, span));
            found.extend(of_nobody.map(|of_nobody| Finding { endpoint_id: id_of(of_service), ..of_nobody }));
        }
        found.extend(stalls.into_iter().map(|stall| stall.finding));
        found.extend(self.of_hosts());
        found.extend(self.of_capture());
        let is_stranger = |service: &Service| {
            service.address.is_none_or(|address| watches.get(&address).is_none_or(|watches| may_listen(watches)))
        };
        for (index, watch) in self.watches.iter().enumerate() {
            // Those of a listener on all addresses that are known to be of another host are not its own.
            let is_its_own = |service: &&Service| {
                let of_service = service.address.and_then(|address| watches.get(&address));
                of_service.is_some_and(|of_service| of_service.iter().any(|known| std::ptr::eq(*known, watch)))
            };
            let of_watch = || self.services.of_watch(index).filter(is_its_own);
            found.extend(self.expectations.moved(watch, of_watch(), self.services.iter(), is_stranger));
            if !of_watch().any(Service::is_talked_to) {
                let span = (self.around.span, self.shared.limits.never_seen_after);
                found.extend(self.expectations.never_seen(watch, self.looks_at, span));
            }
        }
        looked.push(Looked { of: None, found });
        looked
    }

    /// What the config calls the endpoint of these watches.
    fn name_of(&self, watches: &[&Watch]) -> Option<&str> {
        watches.iter().find_map(|watch| self.expectations.name(&watch.endpoint_id))
    }

    /// Which addresses the configs are for.
    fn ours(&self) -> Ours {
        let watches = self.watches.iter().enumerate().filter(|(_, watch)| watch.direction == Direction::Outbound);
        let asks = watches.flat_map(|(index, watch)| self.services.of_watch(index).map(move |service| (watch, service)));
        Ours::new(
            self.services.local(),
            asks.map(|(watch, service)| (watch, service.clients.iter().filter_map(|(address, _)| address).collect())),
        )
    }

    /// The watches on each server. A watch on all addresses is on those only that are not known to be of another host.
    fn watches_of(&self, ours: &Ours) -> HashMap<SocketAddr, Vec<&Watch>> {
        let mut watches: HashMap<SocketAddr, Vec<&Watch>> = HashMap::new();
        for (index, watch) in self.watches.iter().enumerate() {
            for address in self.services.of_watch(index).filter_map(|service| service.address) {
                if !listens_on_all(watch) || ours.has(address.ip()) != Some(false) {
                    watches.entry(address).or_default().push(watch);
                }
            }
        }
        watches
    }

    /// How many servers of a port a watch on all addresses may mean, where it is not known which of them is ours.
    fn listeners(&self, watches: &HashMap<SocketAddr, Vec<&Watch>>, ours: &Ours) -> HashMap<u16, usize> {
        let mut listeners: HashMap<u16, usize> = HashMap::new();
        for (address, of_service) in watches {
            if may_listen(of_service) && ours.has(address.ip()).is_none() {
                *listeners.entry(address.port()).or_default() += 1;
            }
        }
        listeners
    }

    fn assembled(&self, found: Vec<Finding>, servers: Vec<ServerReport>, servers_total: u64) -> AnalysisReport {
        let counters = self.counters();
        let suspicious = || found.iter().filter(|finding| finding.severity >= Severity::Warning);
        let verdict = if suspicious().next().is_some() { AnalysisVerdict::Suspect } else { AnalysisVerdict::Clean };
        let reasons: Vec<String> = suspicious().take(MAX_REASONS).map(|finding| finding.message.clone()).collect();
        let time = |ns| UtcTime::from_unix_ns(ns);
        let duration_s = self.around.span.map(|(first, last)| last.saturating_sub(first) as f64 / 1e9);
        let what = format!(
            "{} to and from {}{}",
            many(counters.packets, "packet"),
            many(servers_total, "server"),
            duration_s.map_or_else(String::new, |seconds| format!(" in {seconds:.1} s"))
        );
        let entries = lines(suspicious());
        let text = match entries.len() {
            0 if counters.packets == 0 => format!("{} holds no packets, so nothing can be said", self.looks_at),
            0 => format!("nothing suspicious in {what}"),
            1 => format!("one thing to look at in {what}: {}", entries.join("")),
            several => {
                let told: Vec<_> = entries.iter().take(MAX_TOLD).map(String::as_str).collect();
                let more = match several.saturating_sub(MAX_TOLD) {
                    0 => String::new(),
                    more => format!(". And {more} more"),
                };
                format!("{several} things to look at in {what}, the worst first: {}{more}", told.join(". "))
            }
        };
        AnalysisReport {
            verdict,
            text,
            reasons,
            file: None,
            damage: None,
            packets: counters.packets,
            undecodable: counters.undecodable,
            cut: counters.cut,
            dropped: self.around.dropped,
            forgotten: counters.flows_evicted + counters.hosts_evicted + counters.requests_evicted,
            first_at: self.around.span.map(|(first, _)| time(first)),
            last_at: self.around.span.map(|(_, last)| time(last)),
            duration_s,
            servers_total,
            servers,
            heartbeats: self.services.iter().flat_map(|service| heartbeats(service, &self.shared)).collect(),
            findings_total: found.len() as u64,
            findings: found,
            left_out: None,
        }
    }

    fn server(&self, service: &Service, watches: &[&Watch], worst: Option<Severity>) -> ServerReport {
        let flows = || self.flows_of(service);
        let time = |ns| Some(UtcTime::from_unix_ns(ns));
        let mut asked: Vec<Asked> = service.clients.iter().map(|(_, client)| client.asked).collect();
        for flow in flows() {
            let of_client = asked.get_mut(usize::from(flow.client_place()));
            of_client.into_iter().for_each(|asked| asked.merge(&flow.asked(&self.shared)));
        }
        // What is asked by two protocols has no percentiles of both.
        let spread = |client: IpAddr| match (&service.modbus, &service.dnp3) {
            (Some(modbus), None) => modbus.client_times.of(client, &modbus.times)?.response_times(),
            (None, Some(dnp3)) => dnp3.client_times.of(client, &dnp3.times)?.response_times(),
            _ => None,
        };
        let clients = service.clients.iter().zip(asked).map(|((address, client), asked)| ClientReport {
            address,
            packets: client.packets,
            connections: client.connections,
            reconnects: client.reconnects.count,
            resets: client.resets,
            retransmissions: client.retransmissions,
            requests: asked.requests,
            responses: asked.responses,
            exceptions: asked.exceptions,
            unanswered: asked.unanswered,
            response_ms: address.and_then(spread).or_else(|| times(&asked.times)),
            first_at: time(client.first.at),
            last_at: time(client.latest.at),
        });
        ServerReport {
            address: service.address.map(|address| address.ip()),
            port: service.address.map(|address| address.port()),
            protocol: service.protocol,
            endpoint_ids: watches.iter().map(|watch| watch.endpoint_id.clone()).collect(),
            worst,
            packets: service.packets,
            clients: clients.collect(),
            tcp: self.tcp_report(service),
            modbus: service
                .modbus
                .as_ref()
                .filter(|modbus| modbus.is_seen())
                .map(|modbus| modbus_report(modbus, flows(), &self.shared)),
            dnp3: service.dnp3.as_ref().map(|dnp3| dnp3_report(dnp3, flows(), &self.shared)),
        }
    }

    fn tcp_report(&self, service: &Service) -> TcpReport {
        let mut stats = FlowStats::default();
        let (retired, past) = service.retired();
        retired.for_each(|(_, retired)| stats.merge(retired));
        stats.merge(past);
        self.flows_of(service).for_each(|flow| stats.merge(&flow.stats(&self.shared)));
        let mut unanswered = service.syn_unanswered;
        unanswered.merge(&unanswered_attempts(self.flows_of(service), &self.shared));
        let mut half_open = service.half_open;
        self.flows_of(service).filter_map(|flow| flow.half_open(&self.shared)).for_each(|found| half_open.add(found));
        let mut closed = service.zero_window_times;
        self.flows_of(service).flat_map(|flow| flow.closed_windows(self.shared.now)).for_each(|(ns, _)| closed.add(ns));
        let (reconnects, gaps, _) = service.clients.reconnects();
        let latest_reconnects = service.clients.latest_reconnects().map(|(client, reconnect)| ReconnectReport {
            client,
            at: UtcTime::from_unix_ns(reconnect.stamp.at),
            packet: reconnect.stamp.number,
            gap_ms: ms_of(reconnect.gap_ns),
        });
        TcpReport {
            attempts: service.syn,
            accepted: service.accepted,
            refused: service.refused.count,
            unanswered: unanswered.count,
            syn_retries: service.syn_retries.count,
            handshake_ms: times(&service.handshakes),
            resets_by_client: stats.reset_client,
            resets_by_server: stats.reset_server,
            half_open: half_open.total().count,
            reconnects: reconnects.count,
            reconnect_gap_ms: times(&gaps),
            latest_reconnects: latest_reconnects.collect(),
            retransmissions: service.retransmissions.count,
            fast_retransmissions: service.fast_retransmissions,
            timeout_retransmissions: service.timeout_retransmissions(),
            spurious_retransmissions: service.spurious_retransmissions,
            out_of_order: service.out_of_order,
            duplicate_acks: service.duplicate_acks.count,
            lost_segments: service.lost_segments.count,
            lost_on_the_way: service.lost_on_the_way.count,
            zero_windows: service.zero_windows.count,
            zero_window_max_ms: closed.min_mean_max_ms().map(|(_, _, max)| max),
            keep_alives: service.keep_alives,
        }
    }

    /// What ARP and ICMP say of addresses, those of watched endpoints included.
    fn of_hosts(&self) -> Vec<Finding> {
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for (address, host) in self.watched_hosts.iter().chain(self.other_hosts.iter()) {
            let unanswered = host.unanswered(&self.shared);
            if unanswered.count > 0 {
                silent.push((*address, unanswered));
            }
            findings::icmp(&host.other_errors.list(|_| true), &host.other_errors.tally, &address.to_string(), &mut found);
            found.extend(host.conflict().map(|conflict| findings::two_macs(*address, conflict)));
        }
        found.extend(findings::arp_of_many(&mut silent));
        found.sort_by(|a, b| a.message.cmp(&b.message));
        found
    }
}

fn id_of(watches: &[&Watch]) -> Option<String> {
    watches.first().map(|watch| watch.endpoint_id.clone())
}

/// Whether these watches are on no address that a config names.
fn may_listen(watches: &[&Watch]) -> bool {
    watches.iter().all(|watch| listens_on_all(watch))
}

fn times(times: &Times) -> Option<ResponseTimes> {
    times.min_mean_max_ms().map(|(min, mean, max)| ResponseTimes { min, mean, max, ..ResponseTimes::default() })
}

fn modbus_report<'a>(service: &ModbusService, flows: impl Iterator<Item = &'a Flow> + Clone, shared: &Shared) -> ModbusReport {
    let (mut unanswered, mut acknowledged) = (service.unanswered.count(), service.unanswered_acknowledged);
    let mut units: BTreeMap<u8, _> = service.units.iter().cloned().collect();
    let mut all_polls = service.polls.clone();
    for (flow, reader) in flows.filter_map(|flow| Some((flow, flow.modbus()?))) {
        all_polls.add(flow.asker(), reader.polls());
        for (query, arrival) in reader.overdue(shared) {
            unanswered += 1;
            acknowledged += u64::from(is_acknowledged(&arrival, flow.acknowledged()));
            if let Some(unit) = units.get_mut(&query.unit_id) {
                unit.unanswered += 1;
            }
        }
    }
    let repeated = all_polls.repeated();
    let mut functions: Vec<FunctionCount> = service
        .functions
        .iter()
        .map(|&(function, requests)| FunctionCount {
            function,
            name: modbus::function_name(function).unwrap_or("unknown").to_owned(),
            requests,
        })
        .collect();
    functions.sort_by_key(|function| function.function);
    let mut exception_codes: Vec<ExceptionCount> = service
        .exceptions
        .iter()
        .map(|(code, queries)| ExceptionCount {
            code: *code,
            text: modbus::exception_text(*code),
            count: queries.count(),
            queries: queries.in_words(),
        })
        .collect();
    exception_codes.sort_by_key(|exception| exception.code);
    let poll = |(client, poll): &(IpAddr, polls::Poll)| {
        let (period_ms, jitter_ms, longest_ms) = poll.period_ms();
        PollReport {
            client: *client,
            query: poll.query.to_string(),
            repeats: poll.intervals,
            period_ms,
            jitter_ms,
            longest_ms: ms_of_ms(longest_ms),
        }
    };
    ModbusReport {
        requests: service.requests,
        responses: service.responses,
        exceptions: service.exception_count,
        unanswered,
        unanswered_acknowledged: acknowledged,
        late: service.late.count(),
        duplicate: service.strays.duplicates.count,
        unexpected: service.strays.unexpected.count,
        wrong_transaction_id: service.strays.wrong_id.count,
        wrong_unit_id: service.strays.wrong_address.count,
        malformed: service.malformed.count + service.wrong_length.count,
        misfits: service.misfits.count(),
        response_ms: service.times.response_times(),
        functions,
        exception_codes,
        units: units
            .into_iter()
            .map(|(unit_id, unit)| UnitReport {
                unit_id,
                requests: unit.requests,
                responses: unit.responses,
                exceptions: unit.exceptions,
                unanswered: unit.unanswered,
                response_ms: service.times_of(&unit).response_times(),
            })
            .collect(),
        polls: repeated.iter().take(MAX_POLLS).map(poll).collect(),
        polls_left_out: repeated.len().saturating_sub(MAX_POLLS) as u64,
        polls_not_measured: all_polls.not_measured,
    }
}

/// Milliseconds with three digits behind the point.
fn ms_of_ms(ms: f64) -> f64 {
    ms_of((ms * 1e6) as i64)
}

fn dnp3_report<'a>(service: &Dnp3Service, flows: impl Iterator<Item = &'a Flow>, shared: &Shared) -> Dnp3Report {
    let (mut unanswered, mut unconfirmed) = (service.unanswered.count(), service.unconfirmed.count());
    let mut link_unacknowledged = service.link_unacknowledged.count;
    for flow in flows.filter_map(Flow::dnp3) {
        unanswered += flow.overdue(shared).count() as u64;
        unconfirmed += flow.unconfirmed(shared).count() as u64;
        link_unacknowledged += flow.link_unacknowledged(shared).count;
    }
    let durations: &Durations = &service.times;
    Dnp3Report {
        frames: service.frames,
        link_functions: service
            .link_functions()
            .into_iter()
            .map(|((function, from_master), frames)| LinkFunctionCount { function: function.to_string(), from_master, frames })
            .collect(),
        requests: service.requests,
        responses: service.responses,
        unsolicited: service.unsolicited,
        unanswered,
        unconfirmed,
        late: service.late.count(),
        unexpected: service.strays.unexpected.count + service.strays.duplicates.count,
        wrong_address: service.strays.wrong_address.count,
        link_unacknowledged,
        crc_errors: service.header_crc_errors.count + service.data_crc_errors.count,
        segments_lost: service.segments_lost.count,
        link_resets: service.link_resets.count,
        restarts: service.restarts,
        response_ms: durations.response_times(),
        links: service.links.links().map(|(master, outstation)| [master, outstation]).collect(),
        indications: service
            .indications()
            .map(|(bit, responses)| IndicationCount {
                indication: bit.to_string(),
                responses,
                still_set: service.latest_indications.contains(bit),
            })
            .collect(),
    }
}

fn heartbeats<'a>(service: &'a Service, shared: &'a Shared) -> impl Iterator<Item = HeartbeatReport> + 'a {
    let states = service.modbus.iter().flat_map(|modbus| &modbus.heartbeats);
    states.map(|state| HeartbeatReport {
        id: state.watch.id.clone(),
        component: state.watch.component.clone(),
        kind: state.watch.kind,
        server: state.watch.server.to_string(),
        unit_id: state.watch.unit_id,
        wire_offset: state.watch.wire_offset,
        condition: match state.seen {
            0 => HeartbeatCondition::NotPolled,
            _ if state.frozen_since(shared.limits.heartbeat_timeout).is_some() => HeartbeatCondition::Frozen,
            _ if state.stopped_at(shared.now, shared.limits.heartbeat_timeout).is_some() => HeartbeatCondition::NotPolled,
            _ if state.changes > 0 => HeartbeatCondition::Changing,
            _ => HeartbeatCondition::Unknown,
        },
        seen: state.seen,
        changes: state.changes,
        value: state.value(),
        since: state.since.map(|stamp| UtcTime::from_unix_ns(stamp.at)),
    })
}
