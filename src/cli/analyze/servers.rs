//! Servers: a line of a table each, as far as the screen is wide, and their details.

use super::show::{Screen, many};
use crate::{
    api::{ClientReport, ResponseTimes, ServerReport, Severity},
    cli::text::{cut, wrap},
};
use std::{fmt::Write as _, net::SocketAddr};

/// Characters before the first column: two spaces, a mark, a space.
const MARGIN: usize = 4;
/// The names of a server's endpoints take so many characters at most.
const NAMES: usize = 40;

/// One column of the table.
struct Column {
    title: &'static str,
    /// Columns with a higher number go first when the screen is narrow.
    dispensable: u8,
    is_text: bool,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(String::as_str).chain([self.title]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// The servers as a table, with its head, in lines that fit the screen: what does not fit is left out, and so is what is nowhere.
pub(super) fn table(servers: &[ServerReport], screen: &Screen) -> Vec<String> {
    let mut columns = columns(servers);
    let width = |columns: &[Column]| MARGIN + columns.iter().map(|column| column.width() + 2).sum::<usize>() - 2;
    while columns.len() > 1 && width(&columns) > screen.width {
        let worst = (0..columns.len()).max_by_key(|&index| (columns.get(index).map_or(0, |column| column.dispensable), index));
        columns.remove(worst.unwrap_or(0));
    }
    let line = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().map(|column| {
            let (cell, width) = (cell(column), column.width());
            if column.is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        cut(line.trim_end(), screen.width - MARGIN)
    };
    let paint = screen.paint;
    let head = format!("    {}", paint.faint(&line(&|column| column.title.to_owned())));
    let rows = servers.iter().enumerate().map(|(row, server)| {
        let mark = match server.worst {
            Some(Severity::Alarm) => paint.bad("!"),
            Some(Severity::Warning) => paint.doubtful("!"),
            _ => " ".to_owned(),
        };
        format!("  {mark} {}", line(&|column| column.cells.get(row).cloned().unwrap_or_default()))
    });
    [head].into_iter().chain(rows).collect()
}

pub(super) fn name(server: &ServerReport) -> String {
    match (server.address, server.port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        _ => "all others".to_owned(),
    }
}

fn columns(servers: &[ServerReport]) -> Vec<Column> {
    let text = |title, dispensable, cell: &dyn Fn(&ServerReport) -> String| Column {
        title,
        dispensable,
        is_text: true,
        cells: servers.iter().map(cell).collect(),
    };
    let time = |title, dispensable, of: &dyn Fn(&ResponseTimes) -> Option<f64>| {
        let cell = |server: &ServerReport| times(server).and_then(of).map_or_else(String::new, |ms| format!("{ms:.1}"));
        Column { title, dispensable, is_text: false, cells: servers.iter().map(cell).collect() }
    };
    let count = |title, dispensable, of: &dyn Fn(&ServerReport) -> u64| Column {
        title,
        dispensable,
        is_text: false,
        // A table of zeros tells less than one with gaps.
        cells: servers
            .iter()
            .map(|server| Some(of(server)).filter(|count| *count > 0).map_or_else(String::new, |count| count.to_string()))
            .collect(),
    };
    let modbus = |server: &ServerReport, of: &dyn Fn(&crate::api::ModbusReport) -> u64| server.modbus.as_ref().map_or(0, of);
    let dnp3 = |server: &ServerReport, of: &dyn Fn(&crate::api::Dnp3Report) -> u64| server.dnp3.as_ref().map_or(0, of);
    let columns = vec![
        text("server", 0, &name),
        text("speaks", 9, &|server| server.protocol.map_or("", |protocol| protocol.as_str()).to_owned()),
        count("requests", 2, &|server| modbus(server, &|modbus| modbus.requests) + dnp3(server, &|dnp3| dnp3.requests)),
        count("unanswered", 1, &|server| modbus(server, &|modbus| modbus.unanswered) + dnp3(server, &|dnp3| dnp3.unanswered)),
        count("exceptions", 1, &|server| modbus(server, &|modbus| modbus.exceptions)),
        count("late", 3, &|server| modbus(server, &|modbus| modbus.late) + dnp3(server, &|dnp3| dnp3.late)),
        count("malformed", 4, &|server| modbus(server, &|modbus| modbus.malformed)),
        count("unconfirmed", 4, &|server| dnp3(server, &|dnp3| dnp3.unconfirmed)),
        count("crc errors", 4, &|server| dnp3(server, &|dnp3| dnp3.crc_errors)),
        time("median", 6, &|times| times.median),
        time("95 %", 5, &|times| times.p95),
        time("max ms", 3, &|times| Some(times.max)),
        count("refused", 3, &|server| server.tcp.refused),
        count("no SYN-ACK", 3, &|server| server.tcp.unanswered),
        count("resets", 4, &|server| server.tcp.resets_by_client + server.tcp.resets_by_server),
        count("sent again", 5, &|server| server.tcp.retransmissions),
        count("reconnects", 6, &|server| server.tcp.reconnects),
        count("clients", 10, &|server| server.clients.len() as u64),
        count("packets", 8, &|server| server.packets),
        text("endpoint", 7, &|server| cut(&server.endpoint_ids.join(", "), NAMES)),
    ];
    columns.into_iter().filter(|column| column.cells.iter().any(|cell| !cell.is_empty())).collect()
}

fn times(server: &ServerReport) -> Option<&ResponseTimes> {
    let of_modbus = server.modbus.as_ref().and_then(|modbus| modbus.response_ms.as_ref());
    of_modbus.or_else(|| server.dnp3.as_ref().and_then(|dnp3| dnp3.response_ms.as_ref()))
}

/// `median 4.2, 95 % 8.0, at most 12.5 ms`.
fn spread(times: &ResponseTimes) -> String {
    match (times.median, times.p95) {
        (Some(median), Some(p95)) => format!("median {median:.3}, 95 % {p95:.3}, at most {:.3} ms", times.max),
        _ => format!("mean {:.3}, at most {:.3} ms", times.mean, times.max),
    }
}

/// `3 requests, 2 answered`; of answers whose requests the capture does not have, that.
fn asked(requests: u64, responses: u64) -> String {
    match requests {
        0 => "no request seen".to_owned(),
        _ => format!("{}, {responses} answered", many(requests, "request")),
    }
}

/// All that is known of a server.
pub(super) fn in_detail(server: &ServerReport, screen: &Screen) -> Vec<String> {
    let mark = match server.worst {
        Some(Severity::Alarm) => screen.paint.bad("!"),
        Some(Severity::Warning) => screen.paint.doubtful("!"),
        _ => " ".to_owned(),
    };
    let protocol = server.protocol.map_or_else(String::new, |protocol| format!("  {}", protocol.as_str()));
    let mut lines = vec![format!("  {mark} {}", screen.paint.bold(&format!("{}{protocol}", name(server))))];
    let mut text = String::new();
    if !server.endpoint_ids.is_empty() {
        let _ = writeln!(text, "{}", server.endpoint_ids.join(", "));
    }
    figures(&mut text, server);
    for client in &server.clients {
        conversation(&mut text, client, server.clients.len() > 1);
    }
    details(&mut text, server);
    for line in text.lines() {
        let mut parts = wrap(line, screen.width.saturating_sub(8)).into_iter();
        lines.extend(parts.next().map(|first| format!("      {first}")));
        lines.extend(parts.map(|rest| format!("        {rest}")));
    }
    lines
}

fn figures(text: &mut String, server: &ServerReport) {
    let mut parts = vec![format!("{} from {}", many(server.packets, "packet"), many(server.clients.len() as u64, "client"))];
    if let Some(modbus) = &server.modbus {
        parts.push(asked(modbus.requests, modbus.responses));
        let figures = [
            (modbus.exceptions, "exception"),
            (modbus.unanswered, "unanswered"),
            (modbus.late, "late"),
            (modbus.malformed, "malformed"),
        ];
        parts.extend(counted(&figures));
        parts.extend(modbus.response_ms.as_ref().map(spread));
    }
    if let Some(dnp3) = &server.dnp3 {
        parts.push(format!("{}, {} unsolicited", asked(dnp3.requests, dnp3.responses), dnp3.unsolicited));
        let figures = [(dnp3.unanswered, "unanswered"), (dnp3.unconfirmed, "unconfirmed"), (dnp3.crc_errors, "check sum error")];
        parts.extend(counted(&figures));
        parts.extend(dnp3.response_ms.as_ref().map(spread));
    }
    let tcp = &server.tcp;
    let figures = [
        (tcp.refused, "refused"),
        (tcp.unanswered, "unanswered attempt"),
        (tcp.resets_by_client + tcp.resets_by_server, "reset"),
        (tcp.retransmissions, "sent again"),
        (tcp.reconnects, "reconnect"),
        (tcp.half_open, "half-open"),
        (tcp.lost_on_the_way, "gaps never filled"),
    ];
    parts.extend(counted(&figures));
    let _ = writeln!(text, "{}", parts.join(", "));
}

/// Those that are not zero, in words: things in singular and plural, what was done as it is.
fn counted<'a>(figures: &'a [(u64, &'a str)]) -> impl Iterator<Item = String> + 'a {
    const THINGS: [&str; 5] = ["exception", "check sum error", "unanswered attempt", "reset", "reconnect"];
    figures.iter().filter(|(count, _)| *count > 0).map(|&(count, what)| match THINGS.contains(&what) {
        true => many(count, what),
        false => format!("{count} {what}"),
    })
}

/// What came of what a client asked, and how long it waited, unless that is said of the server.
fn conversation(text: &mut String, client: &ClientReport, is_one_of_several: bool) {
    let address = client.address.map_or_else(|| "others".to_owned(), |address| address.to_string());
    let mut parts =
        vec![many(client.packets, "packet"), many(client.connections, "connection"), many(client.reconnects, "reconnect")];
    if client.requests > 0 {
        parts.push(asked(client.requests, client.responses));
    }
    let figures = [
        (client.exceptions, "exception"),
        (client.unanswered, "unanswered"),
        (client.retransmissions, "sent again"),
        (client.resets, "reset"),
    ];
    parts.extend(counted(&figures));
    parts.extend(client.response_ms.as_ref().filter(|_| is_one_of_several).map(spread));
    let _ = writeln!(text, "client {address}: {}", parts.join(", "));
}

fn details(text: &mut String, server: &ServerReport) {
    for reconnect in &server.tcp.latest_reconnects {
        let (client, at) = (reconnect.client, reconnect.at.to_millis());
        let gap_s = reconnect.gap_ms / 1e3;
        let _ = writeln!(text, "{client} connected anew at {at}, {gap_s:.3} s after an end (packet {})", reconnect.packet);
    }
    if let Some(times) = &server.tcp.handshake_ms {
        let _ = writeln!(text, "handshake: mean {:.3}, at most {:.3} ms", times.mean, times.max);
    }
    if let Some(modbus) = &server.modbus {
        for function in &modbus.functions {
            let _ = writeln!(text, "{} (function {}): {}", function.name, function.function, many(function.requests, "request"));
        }
        for exception in &modbus.exception_codes {
            let _ = writeln!(text, "{}: {}, {}", exception.text, many(exception.count, "time"), exception.queries);
        }
        for unit in &modbus.units {
            let times = unit.response_ms.as_ref().map_or_else(String::new, |times| format!(", {}", spread(times)));
            let (exceptions, unanswered) = (many(unit.exceptions, "exception"), unit.unanswered);
            let asked = asked(unit.requests, unit.responses);
            let _ = writeln!(text, "unit {}: {asked}, {exceptions}, {unanswered} unanswered{times}", unit.unit_id);
        }
        for poll in &modbus.polls {
            let _ = writeln!(
                text,
                "{} every {} ms (± {}, at most {}): {}",
                poll.client, poll.period_ms, poll.jitter_ms, poll.longest_ms, poll.query
            );
        }
        if modbus.polls_left_out > 0 {
            let _ = writeln!(text, "and {} more", many(modbus.polls_left_out, "poll"));
        }
        if modbus.polls_not_measured > 0 {
            let requests = many(modbus.polls_not_measured, "request");
            let _ = writeln!(text, "and {requests} whose period was not measured: too many different queries");
        }
    }
    if let Some(dnp3) = &server.dnp3 {
        for [master, outstation] in &dnp3.links {
            let _ = writeln!(text, "master {master} to outstation {outstation}");
        }
        for bit in &dnp3.indications {
            let still = if bit.still_set { ", still set at the end" } else { "" };
            let _ = writeln!(text, "{} in {}{still}", bit.indication, many(bit.responses, "response"));
        }
    }
}
