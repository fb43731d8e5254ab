//! What each finding means, what usually causes it, and what to check first. `docs/findings.md` is this catalogue in print.

use std::fmt::Write as _;

/// One kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stable code.
    pub code: &'static str,
    /// The finding in a few words.
    pub title: &'static str,
    /// What was seen, and what that means.
    pub meaning: &'static str,
    /// What usually causes it, the most frequent first.
    pub causes: &'static [&'static str],
    /// What to look at, in this order.
    pub check: &'static [&'static str],
}

/// The entry of a code; `None` for a code that does not exist.
pub fn explain(code: &str) -> Option<&'static Entry> {
    ENTRIES.iter().copied().find(|entry| entry.code == code)
}

/// The catalogue as `docs/findings.md` has it.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Findings\n\nWhat netdiag can find on the wire, by code. `netdiag explain CODE` prints one of these. Codes are stable: programs may rely on \
         them.\n",
    );
    for entry in ENTRIES {
        let _ = write!(page, "\n## `{}`: {}\n\n{}\n\nUsual causes:\n\n", entry.code, entry.title, entry.meaning);
        for cause in entry.causes {
            let _ = writeln!(page, "- {cause}");
        }
        page.push_str("\nCheck first:\n\n");
        for (number, check) in (1..).zip(entry.check) {
            let _ = writeln!(page, "{number}. {check}");
        }
    }
    page
}

/// Each entry as a constant, and all of them as [`ENTRIES`]: no code without an explanation.
macro_rules! catalogue {
    ($($name:ident = $code:literal, $title:literal, $meaning:literal, [$($cause:literal),+ $(,)?], [$($check:literal),+ $(,)?];)+) => {
        $(
            #[doc = $title]
            pub const $name: &Entry =
                &Entry { code: $code, title: $title, meaning: $meaning, causes: &[$($cause),+], check: &[$($check),+] };
        )+

        /// All entries, in the order of their rooms: TCP, ARP, ICMP, Modbus, DNP3, the capture itself.
        pub const ENTRIES: &[&Entry] = &[$($name),+];
    };
}

catalogue! {
    TCP_SYN_UNANSWERED = "tcp.syn_unanswered", "connection attempts without any answer",
        "SYNs were sent to the server's port and nothing came back: no acceptance, no reset, no ICMP message. The network delivered nothing, or the server stays silent on purpose.",
        [
            "A firewall drops the packets.",
            "The device is off, restarting, or hangs, and its ARP entry is still known.",
            "The device has reached its limit of connections and does not answer further ones.",
            "The way back is wrong: the device has no route, or a wrong gateway, to this controller.",
        ],
        [
            "Whether other connections to the same port are open: then the device has probably no free connection left.",
            "Whether the address answers to ping or ARP: if so the host is up, and a firewall or the service itself is to blame.",
            "Gateway and netmask in the device, and the firewall rules for this port.",
        ];
    TCP_SYN_RETRIED = "tcp.syn_retried", "connection attempts had to be repeated",
        "A SYN was sent again because the first one was not answered within about a second; the attempt was accepted in the end, or is still open.",
        ["Packets are lost on the way.", "The device was busy, or was just starting.", "An ARP entry had to be resolved first, by a slow device."],
        ["Whether retransmissions were found too: then packets are lost.", "The load of the device and how many clients it has."];
    TCP_REFUSED = "tcp.refused", "connection refused",
        "The host answered a SYN with a reset: it is up and reachable, and nothing listens on this port.",
        ["The service is not running or is switched off in the device.", "The port in the config is wrong.", "The device takes connections from certain addresses only."],
        ["The port in the config against the device's settings.", "Whether the service (Modbus TCP server, DNP3 outstation) is switched on.", "The list of allowed clients in the device."];
    TCP_RESET = "tcp.reset", "open connections were reset",
        "A connection that was open, or of which only the middle was seen, was torn down by a reset instead of being closed.",
        [
            "The process or the device restarted and knows nothing of the connection any more.",
            "The device threw one client out to take another.",
            "A firewall or gateway between the two dropped its state.",
            "A program closes without reading what was sent to it.",
        ],
        ["Which side sent the reset (the packets named here).", "The logs of that side at that time.", "How many clients are connected to the device."];
    TCP_ANSWER_FROM_ELSEWHERE = "tcp.answer_from_elsewhere", "another address answered",
        "A SYN to one address was accepted from another one, with the right port and number. The client does not take it for an answer, so the connection does not open.",
        ["The device has several addresses or interfaces, and answers with the wrong one.", "Address translation on the way translates the one direction only.", "The device was given a new address and something still forwards the old one to it."],
        ["The addresses and routes in the device: the answer must leave by the address that was asked.", "Address translation rules on routers and firewalls between."];
    TCP_RECONNECTS = "tcp.reconnects", "connections were made anew",
        "A client connected again after its earlier connection to the same server had ended. Connections that are open side by side are none of these.",
        ["The device or the client restarts, or gives up after missing answers.", "Somebody else connects, and the device drops the connection it had.", "A firewall forgets connections that are idle."],
        ["What ended the connection before: a reset, a close, or unanswered requests.", "How regular the times are: a timer in a device or a firewall is behind a period."];
    TCP_HALF_OPEN = "tcp.half_open", "connections that only one side still had",
        "One side held a connection that the other did not have. Either the server accepted it and the client never sent anything on it, not even the last step of the handshake; or a side answered what the other sent with a reset that shows that it knew nothing of the connection; or a side sent the same again and again, for more than ten seconds, and nothing came back.",
        ["The device restarted or lost power without closing its connections.", "A firewall or a router on the way dropped its state.", "The way between the two loses packets, or goes another way than the capture sees.", "Something scans ports without finishing the handshake."],
        ["Which of the three it was, and who the client is.", "The device's own log: a restart just before.", "Keep-alives and time-outs of the client: without them it holds a dead connection for many minutes."];
    TCP_SEGMENTS_LOST = "tcp.segments_lost", "payload was lost on the way",
        "Later bytes of a stream came and the ones before them did not. The receiver went on saying that it waits for them, and nobody sent them again before the connection or the capture ended: the network lost them.",
        ["Packets are lost: a bad cable, a duplex mismatch, an overloaded or wireless link.", "The sender restarted, or gave the connection up."],
        ["Error counters of the switch ports and interfaces on the way.", "Whether retransmissions were found too, and in which direction.", "What became of the sender at that time."];
    TCP_ZERO_WINDOW = "tcp.zero_window", "a side stopped taking bytes",
        "A side announced a window of zero: its buffer is full, because the program behind it does not read.",
        ["The program hangs or is overloaded.", "More is asked than the device can work off."],
        ["Which side it was: the packets named here are its own.", "The load of the device or process at that time."];
    HOST_SILENT = "host.silent", "a server that talked has gone silent",
        "A server answered and then nothing came from it any more, not even acknowledgements, while clients went on sending to it; or it used to speak by itself, as an outstation with unsolicited reports does, and stopped. It is a warning when the server came back in the same capture. Between one snapshot of the monitor and the next also: it talked before, and in this whole snapshot it says nothing, whether it is asked or not.",
        ["The device lost power, hangs, or restarts.", "A cable, a switch port or a radio link on the way failed.", "Nobody asks it any more: the process that did has ended, or waits long before it connects again."],
        ["Whether other ports and addresses behind the same switch went silent at the same time.", "The device's own log at the time given."];
    HOST_STALLED = "host.stalled", "several ports of one host stopped answering together",
        "For longer than the response time-out, two or more ports of one address answered nothing at the same time, although they were asked: the host or the network stalled, not one service. What follows from it (late answers, resets, connections made anew) is told with it and listed as information only.",
        ["The host was overloaded or paused, as a virtual machine may be.", "The network between was interrupted for a moment."],
        ["Other conversations on the same way at that time.", "The host's own log: load, backups, snapshots, restarts."];
    TCP_RETRANSMISSIONS = "tcp.retransmissions", "payload was sent again",
        "A range of bytes with payload was sent more than once, because its acknowledgement did not come in time. Keep-alives, pure acknowledgements and copies made by a mirror port are not counted.",
        ["Packets are lost: a bad cable, a duplex mismatch, an overloaded or wireless link.", "The receiver is so slow that its acknowledgement comes too late."],
        ["Error counters of the switch ports and interfaces on the way.", "Whether all endpoints behind one switch or link show it.", "Which side repeats: losses are often in one direction only."];
    ARP_UNANSWERED = "arp.unanswered", "nobody answered for the address",
        "Hosts asked for the hardware address of an address (ARP, or neighbour discovery for IPv6) and nobody answered: no device with this address is on this network.",
        ["The device is off, or its cable or switch port is down.", "The address in the config or in the device is wrong.", "The device is in another network or VLAN, so that the question never reaches it."],
        ["Power and link light of the device.", "The address in the device against the config.", "The VLAN of the switch port; netmask and gateway of this controller."];
    ARP_TWO_MACS = "arp.two_macs", "two hardware addresses claim one address",
        "More than one hardware address said that it has this address. Traffic goes now to the one, now to the other.",
        ["Two devices are configured with the same address, often after one was replaced or copied.", "Redundant devices that share an address have switched over (then once, not again and again)."],
        ["The makers' parts of the hardware addresses, to find the two devices.", "Whether one of them is a spare or a newly installed one.", "The address tables of the switches, for the ports of both."];
    ICMP_UNREACHABLE = "icmp.unreachable", "a router or host says that it cannot be reached",
        "Packets to the endpoint were answered by an ICMP message that names the reason and comes from whoever gave up on them.",
        ["A firewall or access list rejects the packets (administratively prohibited).", "The router in question has no route, or gets no ARP answer from the device (host unreachable).", "Nothing listens on the port (port unreachable)."],
        ["The sender of the message: that is the box to look at.", "The code: prohibited means a rule, host unreachable a missing device, network unreachable a missing route."];
    MODBUS_UNANSWERED = "modbus.unanswered", "Modbus requests without an answer",
        "Requests were delivered on an open connection, and no response with their transaction id and unit came within the response time-out. Requests at the end of the capture are not counted.",
        ["The device or the gateway hangs or is overloaded.", "The unit behind a gateway does not exist or does not answer.", "The server answers with another transaction id or unit id than it was asked with."],
        ["Whether all units or only one are concerned: one points to a serial device behind a gateway.", "Whether other connections to the same host stalled at the same time: then it is the host or the network, not the service.", "Unit ids in the config against the device."];
    MODBUS_LATE = "modbus.late", "Modbus answers after the time-out",
        "Responses came, but later than the response time-out: a client has given up by then and may take the answer for that to a later request.",
        ["The device or its gateway stalls from time to time.", "Too many clients, or polling that is faster than the device can answer."],
        ["Whether several endpoints on one host stalled at the same moment.", "The poll rate and the number of clients."];
    MODBUS_SLOW = "modbus.slow", "slow Modbus answers",
        "Responses took longer than the threshold for slow answers, but came within the time-out.",
        ["A gateway with a slow serial line, or many units behind it.", "A device near its limits.", "A slow or congested network."],
        ["Whether the handshake of TCP is slow too: then it is the network.", "Poll rate, number of registers per request, number of clients."];
    MODBUS_EXCEPTIONS = "modbus.exceptions", "Modbus exceptions",
        "The device answered requests with an exception: it understood the frame and refuses or cannot do what it asks. The same query failing at every poll is a fault of the config.",
        [
            "The register map in the config does not fit the device or its firmware (exception 2, illegal data address).",
            "A value outside the allowed range was written (exception 3, illegal data value).",
            "The function is not supported (exception 1).",
            "A gateway does not reach the unit (exceptions 10 and 11).",
        ],
        ["The query that the finding names, against the device's register list: offset (one off?), count, function.", "The unit id, when the exception is 10 or 11.", "The firmware version of the device."];
    MODBUS_UNEXPECTED = "modbus.unexpected", "Modbus answers to no request",
        "Responses came that belong to no request that was seen: another transaction id, unit or function, or a second answer.",
        ["The server counts transaction ids by itself instead of repeating the client's.", "It answers twice, or so late that the request was forgotten.", "The capture missed the requests."],
        ["Whether unanswered requests were found too: then the ids do not match.", "Whether the capture lost packets or shows one direction only."];
    MODBUS_DUPLICATE = "modbus.duplicate", "Modbus answers that came twice",
        "A second answer came to a request that had been answered already.",
        ["A gateway that repeats, or two devices behind it with the same unit id.", "A client that sends a request twice with one transaction id."],
        ["The unit ids behind the gateway.", "Whether the request was on the wire twice as well."];
    MODBUS_WRONG_ID = "modbus.wrong_transaction_id", "Modbus answers with another transaction id",
        "An answer fits a request that waits in unit and function, but carries another transaction id. A client that checks it throws the answer away.",
        ["A device that does not give the transaction id back.", "A gateway that mixes up the requests of several clients.", "An answer to a request that the capture does not have."],
        ["Whether the client complains of missing answers.", "Firmware of the device or gateway; whether it takes one client only."];
    MODBUS_WRONG_UNIT = "modbus.wrong_unit_id", "Modbus answers with another unit id",
        "An answer has the transaction id of a request that waits, but another unit id.",
        ["A device that answers with its own unit id whatever it is asked for."],
        ["The unit id in the config against that of the device."];
    HEARTBEAT_FROZEN = "heartbeat.frozen", "a heartbeat does not change",
        "A register that must change was seen again and again with the same value.",
        ["The program in the device that counts it has stopped, although its Modbus server still answers.", "The register is the wrong one.", "The other side does not write its own heartbeat, and the device stops in answer."],
        ["The device's state and log.", "The register in the device's manual against the config."];
    HEARTBEAT_NOT_SEEN = "heartbeat.not_seen", "a heartbeat that nobody reads or writes",
        "The config names a heartbeat register, and no request in the capture covers it, or none does any more; or nobody speaks Modbus with its server at all.",
        ["The process has its heartbeat switched off, or could not resolve it.", "The capture is shorter than the period of the heartbeat.", "Offset or unit id of the config differ from what is asked."],
        ["`netdiag topology` on the config: is the heartbeat enabled and resolved?", "The queries that are on the wire."];
    MODBUS_MALFORMED = "modbus.malformed", "bytes that are no Modbus TCP frame",
        "Where a frame should begin, the protocol id is not 0 or the length is impossible; or a frame is not as long as its function and its own byte count say.",
        ["Another protocol is spoken on this port.", "Modbus RTU frames are sent over TCP without the TCP header (a transparent serial server).", "A faulty device or gateway."],
        ["The mode of the gateway or serial server: Modbus TCP, not RTU over TCP.", "The bytes, in Wireshark at the packets named here."];
    MODBUS_MISFIT = "modbus.misfit", "Modbus answers that do not fit their request",
        "An answer carries the transaction id and function of a request, but not as many registers or coils as were asked for, or another offset.",
        ["A device or gateway that answers with what it has and not with what was asked for.", "An answer to an earlier request, taken for that to a later one with the same transaction id."],
        ["The query that the finding names, and its answer, in Wireshark.", "Whether the client uses a new transaction id for each request."];
    DNP3_UNANSWERED = "dnp3.unanswered", "DNP3 requests without an answer",
        "Requests of the master had no response with their sequence number within the response time-out. Requests at the end of the capture are not counted.",
        ["The outstation hangs or restarts.", "The link addresses of master or outstation are wrong: frames for another address are ignored.", "Two masters with the same address talk to one outstation."],
        ["Link addresses in the config against the outstation.", "Whether check sum errors were found.", "Whether other masters are connected."];
    DNP3_LATE = "dnp3.late", "DNP3 answers after the time-out",
        "Responses came, but later than the response time-out; a master may have given up by then.",
        ["An outstation near its limits, or one that collects data from a slow line first.", "Large responses over a slow link."],
        ["What is asked for: all of class 0 takes longest.", "The time-out of the master against the response times."];
    DNP3_SLOW = "dnp3.slow", "slow DNP3 answers",
        "Responses took longer than the threshold for slow answers, but came within the time-out.",
        ["An outstation near its limits.", "Large responses over a slow link."],
        ["Poll rates, and what is polled.", "Whether the handshake of TCP is slow too: then it is the network."];
    DNP3_UNEXPECTED = "dnp3.unexpected", "DNP3 responses to no request",
        "Responses came whose sequence number belongs to no request that was seen, or a second one for the same request.",
        ["The outstation answers so late that the master has gone on.", "Two masters share one connection or one address.", "The capture missed the requests."],
        ["Whether unanswered requests were found too.", "Whether the capture lost packets or shows one direction only."];
    DNP3_WRONG_ADDRESS = "dnp3.wrong_address", "DNP3 responses from another link address",
        "A response fits a request that waits in master and sequence, but comes from another link address than the one that was asked. A master ignores it.",
        ["The outstation's own link address is set otherwise than the master has it.", "Two outstations behind one converter, of which the wrong one answers."],
        ["The link address in the outstation against the master's config.", "What else is connected behind the same converter."];
    DNP3_LINK_UNACKNOWLEDGED = "dnp3.link_unacknowledged", "DNP3 link frames that nobody acknowledged",
        "Frames with user data asked the other side's link layer for an acknowledgement, and none came. The sender repeats them and, after some tries, gives the link up.",
        ["One side uses link confirmation and the other does not support it; over TCP it should be off.", "A converter or the device loses frames."],
        ["Link confirmation (data link confirm) in the settings of both sides: off.", "Whether check sum errors were found."];
    DNP3_UNCONFIRMED = "dnp3.unconfirmed", "DNP3 messages that nobody confirmed",
        "An outstation asked to have a response or an unsolicited report confirmed, and the master did not. The outstation keeps the events and sends them again until its buffer overflows.",
        ["The master does not take unsolicited reports from this outstation, or not from this address.", "The master has stopped, or another one is connected in its place."],
        ["Whether the master is set to enable unsolicited reports.", "The link addresses on both sides."];
    DNP3_CRC_ERRORS = "dnp3.crc_errors", "DNP3 check sum errors",
        "Frames came with a wrong check sum. Over TCP, whose own check sum guards the way, the damage was done before: on a serial line or in the device.",
        ["A serial line behind a converter: noise, wrong speed, missing termination.", "A serial server that mixes the bytes of two clients.", "A faulty device."],
        ["The serial line behind the converter and its settings.", "Whether more than one client is connected to the serial server."];
    DNP3_SEGMENTS_LOST = "dnp3.segments_lost", "DNP3 transport segments missing",
        "The segments of a message do not follow on one another: a part of it is missing and the message is lost.",
        ["A serial line behind a converter loses frames.", "Two masters share one connection or one address.", "The capture lost packets."],
        ["Whether the capture itself lost packets.", "Whether check sum errors were found."];
    DNP3_DEVICE_RESTART = "dnp3.device_restart", "the outstation reports a restart",
        "The outstation sets the bit *device restart* in its responses: it restarted, and no master has cleared the bit since. When the bit stays set, the master does not clear it.",
        ["The outstation lost power or was restarted.", "The master does not write the restart bit to zero, or is not allowed to."],
        ["Whether the restart was intended.", "Whether the bit is still set at the end: then the master's settings (clear restart, disable or enable unsolicited)."];
    DNP3_NEED_TIME = "dnp3.need_time", "the outstation wants its clock set",
        "The outstation sets the bit *need time* in its responses. Its time stamps are not to be trusted until a master sets its clock.",
        ["The master is not set to synchronise time.", "The outstation restarted, or its clock source (GPS, NTP) failed."],
        ["Time synchronisation in the master's settings.", "The outstation's own clock source."];
    DNP3_DEVICE_TROUBLE = "dnp3.device_trouble", "the outstation reports trouble",
        "The outstation sets the bit *device trouble*: something is wrong with the device itself.",
        ["A fault of the hardware, or of a device behind the outstation."],
        ["The outstation's own display or log."];
    DNP3_EVENTS_LOST = "dnp3.event_buffer_overflow", "the outstation lost events",
        "The outstation sets the bit *event buffer overflow*: events were lost because nobody fetched them in time.",
        ["No master polls the events, or too rarely.", "Unsolicited reports are not confirmed.", "A value that changes all the time fills the buffer: its deadband is too small."],
        ["Event polls (classes 1, 2, 3) and unsolicited reports in the master's settings.", "Deadbands and the size of the buffer in the outstation."];
    DNP3_CONFIG_CORRUPT = "dnp3.config_corrupt", "the outstation's configuration is corrupt",
        "The outstation sets the bit *configuration corrupt*.",
        ["An interrupted download of its configuration, or a fault of its memory."],
        ["The outstation's configuration, by the maker's tool."];
    DNP3_REFUSED = "dnp3.request_refused", "the outstation refuses requests",
        "The outstation answered that it does not support a function, does not know an object, or finds a parameter wrong.",
        ["The master asks for points or object groups that the outstation does not have.", "The point maps of the two sides differ."],
        ["The point list of the master against that of the outstation.", "The request before the responses named here."];
    DNP3_TWO_MASTERS = "dnp3.two_masters", "two masters with one address",
        "Two hosts, or two connections of one host, ask an outstation in turn as the same master. The outstation cannot tell them apart; confirms and sequence numbers mix, and events go to one of them only.",
        ["A second master, or a test tool, runs with a copied config.", "A redundant pair of masters that are both active."],
        ["Which of the hosts should ask; stop the other.", "The link addresses in both configs."];
    DNP3_LINK_RESET = "dnp3.link_reset", "the link was reset",
        "A master reset the link states of the outstation, as it does when it begins anew.",
        ["The master started, or connected again."],
        ["Whether it happens again and again: then the connection does not stay."];
    SITE_UNKNOWN_SERVER = "site.unknown_server", "a server that no config names",
        "Modbus or DNP3 is spoken, or tried in vain, with a server that is in none of the configs that were given. When a config listens on all addresses of its host, and it is not known which these are, the server may be that host.",
        ["A config is missing, or lies in a directory that was not given.", "A test tool or another program is at work.", "The capture is of another site."],
        ["Who the client is.", "The config directories that were given."];
    SITE_UNKNOWN_CLIENT = "site.unknown_client", "a client that no config names",
        "A configured device is asked by an address that is none of those that the configs are for, or by more clients than there are configs of it.",
        ["A test tool or another program is at work.", "A second controller whose configs were not given, or whose stand-by asks too.", "A program of another firm has access to the device."],
        ["Who the client is.", "How many connections the device can take: each client takes one."];
    SITE_NEVER_SEEN = "site.never_seen", "a configured endpoint that was not seen",
        "A config names this endpoint and not one packet to or from it is in the capture. It is a warning when the capture is a minute long or more, and in the monitor when a process runs with that config; a shorter one need not show every endpoint.",
        ["Its process does not run.", "The capture was taken on another interface, or with a filter that leaves it out."],
        ["Whether the process runs (`netdiag topology`).", "Interface and filter of the capture."];
    SITE_DEVICE_ELSEWHERE = "site.device_elsewhere", "a configured device speaks at another address",
        "Nobody answers at the address that a config names for a DNP3 outstation, and its link address speaks at an address that no config names. Of a Modbus device: the only server that no config names answers on the same port for its unit ids.",
        ["The device was given another address, or was replaced, and the config was not changed.", "Two outstations have the same link address."],
        ["The address in the device against the config.", "Who the client of the other address is, and by which config."];
    SITE_UNIT_UNKNOWN = "site.unit_unknown", "requests for a unit id that no config names",
        "A device is asked for a unit id that the configs of its endpoint do not have.",
        ["The process runs with another config, or with a default unit id.", "Another program asks too."],
        ["Who asks: the client's address.", "Unit ids in the config, component by component."];
    SITE_LINK_UNKNOWN = "site.link_unknown", "DNP3 addresses that no config names",
        "Link addresses are on the wire that the configs of the endpoint do not have.",
        ["Master or outstation run with another config than the one that was read."],
        ["`master_address` and `station_address` on both sides."];
    LINK_TOPOLOGY_CHANGE = "link.topology_change", "the spanning tree changed",
        "Bridges announced a change of their topology. For a moment the network floods or blocks, and devices can be unreachable for seconds.",
        ["A switch or a link between switches went down or came up.", "A port to a device is not configured as an edge port, so that each restart of the device changes the tree."],
        ["The logs of the switches at the times given.", "Edge port (portfast) settings of the ports with devices."];
    LINK_BROADCAST_STORM = "link.broadcast_storm", "a storm of broadcasts",
        "More frames to all were on the network within a second than any site needs. Devices with little power stop answering under such a load.",
        ["A loop in the network.", "A device that is faulty."],
        ["The sources of the broadcasts, in Wireshark.", "Recently plugged cables; spanning tree on all switches."];
    ICMP_REDIRECT = "icmp.redirect", "a router says that another one is nearer",
        "A router forwarded packets and told the sender of a better next hop.",
        ["Two routers on one network, and a route or gateway set to the wrong one."],
        ["Gateway and routes of the sender."];
    CAPTURE_EMPTY = "capture.empty", "a capture without a packet",
        "The file is a capture and holds not one packet, so that nothing can be said of the network.",
        ["The filter of the capture lets nothing through.", "It was taken on the wrong interface, or on one without a cable.", "The recorder was stopped before anything passed."],
        ["Filter and interface of the capture.", "Whether the mirror port or the tap is switched on."];
    CAPTURE_LOST_SEGMENTS = "capture.lost_segments", "bytes that the capture does not have",
        "A receiver acknowledged bytes that are not in the capture: they were on the wire, and the capture missed them. Transactions in them were not seen.",
        ["The recording host was too slow, or the mirror port dropped packets."],
        ["Drop counts of the capture and of the mirror port."];
    CAPTURE_DROPPED = "capture.dropped", "the recording host lost packets",
        "The capture file says that packets were dropped while it was recorded. What seems missing may have been on the wire.",
        ["Too much traffic for the buffer or the disk."],
        ["A larger buffer, a filter, or a shorter snap length."];
    CAPTURE_INTERFACE_LOST = "capture.interface_lost", "an interface was not recorded all the time",
        "While the monitor recorded, an interface that leads to endpoints was down, gone or not to be opened. What passed then is missing from the capture, and so is what could not pass.",
        ["A cable was pulled, or the switch at its other end restarted.", "Somebody switched the interface off, or the system renamed or removed it.", "The settings name an interface that this host does not have."],
        ["The link: cable, switch port, link lights.", "The system's log at that time.", "The names in the monitor's `interfaces`."];
    CAPTURE_ONE_SIDED = "capture.one_sided", "only one direction was captured",
        "Of some connections only one side's packets are in the capture, so that answers, or requests, are missing from it and not from the wire: the side that is there acknowledges bytes of the other, or goes on after its SYN. What came of requests on them is not judged.",
        ["A mirror port that copies one direction only.", "The two directions take different ways."],
        ["The settings of the mirror port.", "Where the capture was taken."];
    CAPTURE_CLOCK = "capture.clock_set_back", "the clock of the capture was set back",
        "A packet is earlier than the one before it by a second or more.",
        ["The recording host's clock was corrected.", "Files were joined in the wrong order."],
        ["The time service of the recording host."];
    CAPTURE_UNDECODABLE = "capture.undecodable", "packets that could not be decoded",
        "Packets whose headers break a rule (impossible lengths, unknown link type) were left out.",
        ["Damaged packets or a damaged capture file.", "An unknown kind of link."],
        ["The packets, in Wireshark.", "The error counters of the interface."];
    CAPTURE_CUT = "capture.cut", "packets were cut by the snap length",
        "The capture kept only the beginning of some packets. Frames in what is missing could not be read.",
        ["A snap length smaller than the packets."],
        ["The snap length of the capture (0 or 262144 keeps all)."];
    CAPTURE_COPIES = "capture.copies", "packets were captured twice",
        "The same packets are in the capture more than once: alike within a fraction of a millisecond, or with the same number in their IPv4 header, or where that has none (IPv6) the same time stamp of TCP, within a tenth of a second, as when a mirror port or an interface and its bridge are captured together. Copies are left out of all counts.",
        ["A mirror port that copies both ingress and egress.", "Several interfaces captured on which the same packet passes."],
        ["The settings of the mirror port; capture one interface only."];
    CAPTURE_FORGOTTEN = "capture.forgotten", "more was going on than could be remembered",
        "The analysis keeps a bounded number of connections, addresses and requests in mind; the ones that were silent longest were forgotten, so that counts may be too low. Connections that were over are none of these.",
        ["A scan of many addresses or ports is in the capture.", "More is open at once than the analysis keeps in mind (32,768 connections, 4,096 addresses)."],
        ["Whether a scan is going on.", "A capture of less at once: with a filter, or over a shorter time."];
    KERNEL_SESSION_LOST = "kernel.session_lost", "a session went away while the test ran",
        "A connection that this host's sockets showed as established when a connectivity test began was gone when the endpoint was judged.",
        [
            "The device takes one connection only and dropped the old one for the test's own, as old DNP3 outstations do.",
            "The device, or the local process, restarted or closed the connection just then.",
        ],
        [
            "Whether the test connected to this port: then repeat it without (`connect: false`, `dnp3_connect: false`).",
            "Whether the session is back: the local process connects again by itself.",
        ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, fs, path::Path};

    #[test]
    fn every_code_is_explained_once() {
        let codes: HashSet<_> = ENTRIES.iter().map(|entry| entry.code).collect();
        assert_eq!(codes.len(), ENTRIES.len());
        for entry in ENTRIES {
            assert_eq!(explain(entry.code), Some(*entry));
            assert!(entry.code.split_once('.').is_some_and(|(room, name)| !room.is_empty() && !name.is_empty()), "{}", entry.code);
        }
        assert_eq!(explain("tcp.nonsense"), None);
    }

    /// Run with `UPDATE_DOCS=1` to write the page anew.
    #[test]
    fn the_printed_catalogue_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/findings.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, markdown()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), markdown(), "run this test with UPDATE_DOCS=1");
    }
}
