//! Two networks, and between them a cable that loses, delays, swaps and doubles TCP segments.
//!
//! Both ends of the cable lead into a third network, where two packet sockets carry frame after frame from one to the other.

use crate::namespace::Namespace;
use pnet::{
    datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender},
    packet::{
        MutablePacket as _, Packet as _,
        ethernet::{EtherTypes, MutableEthernetPacket},
        ip::IpNextHeaderProtocols,
        ipv4::MutableIpv4Packet,
        tcp::{MutableTcpPacket, TcpFlags, ipv4_checksum},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The interface of client and server.
pub const LINK: &str = "cable";
pub const SERVER: &str = "10.9.0.2";

/// Each segment of the handshake waits so long. `tshark` takes what fills a gap within the round trip of the handshake for swapped, and
/// what fills it later for sent again: so a moment in which the cable is not given the processor must be short beside it.
const HANDSHAKE_TAKES: Duration = Duration::from_millis(60);

/// What happens to a segment.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    Lost,
    /// It comes once more, after a while.
    Again(Duration),
    /// It comes after the next segment with payload.
    BehindNext,
    /// It waits, and what comes after it goes by.
    Delayed(Duration),
    /// It waits, and so does all that comes after it.
    Stalled(Duration),
}

/// The fates of segments with payload, counted from 0; those that are sent again count too. All others pass.
pub type Fates = Vec<(usize, Fate)>;

pub struct Path {
    pub client: Namespace,
    pub server: Namespace,
    _middle: Namespace,
    stop: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

impl Path {
    pub fn new(to_server: Fates, to_client: Fates) -> Self {
        let (client, server, middle) = (Namespace::new(), Namespace::new(), Namespace::new());
        client.link_to(&middle, LINK, "10.9.0.1/24", "192.0.2.1/32");
        // The names must differ in the middle.
        middle.ip(&format!("link set {LINK} down"));
        middle.ip(&format!("link set {LINK} name client"));
        middle.ip("link set client up");
        server.link_to(&middle, LINK, &format!("{SERVER}/24"), "192.0.2.2/32");
        for namespace in [&client, &server] {
            // With selective acknowledgements Linux sends a segment again as soon as a later one has come for certain, or by chance
            // does not. Without them it waits for the classical three acknowledgements, as small devices do.
            namespace.set("ipv4/tcp_sack", "0");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let ((client_sender, client_receiver), (server_sender, server_receiver)) = (ends(&middle, "client"), ends(&middle, LINK));
        let carry = |from, to, fates| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                Carrier { to, fates, payloads: 0, waiting: Vec::new(), behind: None, stalled: None }.run(from, &stop)
            })
        };
        let carriers = vec![carry(client_receiver, server_sender, to_server), carry(server_receiver, client_sender, to_client)];
        Self { client, server, _middle: middle, stop, carriers }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            let ended = carrier.join();
            assert!(ended.is_ok() || thread::panicking(), "the cable broke");
        }
    }
}

fn ends(namespace: &Namespace, link: &'static str) -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    namespace.run(move || {
        let interface = datalink::interfaces().into_iter().find(|interface| interface.name == link).expect("the link");
        let config = Config { read_timeout: Some(Duration::from_millis(2)), ..Config::default() };
        match datalink::channel(&interface, config).expect("a packet socket") {
            Channel::Ethernet(sender, receiver) => (sender, receiver),
            _ => panic!("not an Ethernet link"),
        }
    })
}

/// One direction.
struct Carrier {
    to: Box<dyn DataLinkSender>,
    fates: Fates,
    /// How many segments with payload came.
    payloads: usize,
    /// Frames with the time at which they go on.
    waiting: Vec<(Instant, Vec<u8>)>,
    behind: Option<Vec<u8>>,
    stalled: Option<Instant>,
}

impl Carrier {
    fn run(mut self, mut from: Box<dyn DataLinkReceiver>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let frame = from.next().ok().map(<[u8]>::to_vec);
            let now = Instant::now();
            for (_, frame) in self.waiting.extract_if(.., |(at, _)| *at <= now) {
                send(&mut *self.to, &frame);
            }
            self.stalled.take_if(|until| *until <= now);
            if let Some(mut frame) = frame {
                match complete(&mut frame) {
                    Kind::Handshake => self.waiting.push((now + HANDSHAKE_TAKES, frame)),
                    kind => self.take(frame, kind == Kind::Payload, now),
                }
            }
        }
    }

    fn take(&mut self, frame: Vec<u8>, has_payload: bool, now: Instant) {
        let fate =
            if has_payload { self.fates.iter().find(|(number, _)| *number == self.payloads).map(|(_, fate)| *fate) } else { None };
        self.payloads += usize::from(has_payload);
        match fate {
            Some(Fate::Lost) => return,
            Some(Fate::BehindNext) => {
                self.behind = Some(frame);
                return;
            }
            Some(Fate::Delayed(duration)) => {
                self.waiting.push((now + duration, frame));
                return;
            }
            Some(Fate::Stalled(duration)) => self.stalled = Some(now + duration),
            Some(Fate::Again(after)) => {
                send(&mut *self.to, &frame);
                if after.is_zero() {
                    send(&mut *self.to, &frame);
                } else {
                    self.waiting.push((now + after, frame));
                }
                return;
            }
            None => {}
        }
        match self.stalled {
            Some(until) => self.waiting.push((until, frame)),
            None => send(&mut *self.to, &frame),
        }
        if has_payload && let Some(behind) = self.behind.take() {
            send(&mut *self.to, &behind);
        }
    }
}

fn send(to: &mut dyn DataLinkSender, frame: &[u8]) {
    to.send_to(frame, None).expect("room for the frame").expect("the link is up");
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A TCP segment with SYN, ...
    Handshake,
    /// ... or with payload.
    Payload,
    Other,
}

/// Fills in the check sum of a TCP segment, which the sender leaves to the link.
fn complete(frame: &mut [u8]) -> Kind {
    let mut ethernet = MutableEthernetPacket::new(frame).expect("an Ethernet frame");
    if ethernet.get_ethertype() != EtherTypes::Ipv4 {
        return Kind::Other;
    }
    let mut ip = MutableIpv4Packet::new(ethernet.payload_mut()).expect("an IPv4 packet");
    if ip.get_next_level_protocol() != IpNextHeaderProtocols::Tcp {
        return Kind::Other;
    }
    let (source, destination) = (ip.get_source(), ip.get_destination());
    let mut tcp = MutableTcpPacket::new(ip.payload_mut()).expect("a TCP segment");
    let sum = ipv4_checksum(&tcp.to_immutable(), &source, &destination);
    tcp.set_checksum(sum);
    match (tcp.get_flags() & TcpFlags::SYN, tcp.payload()) {
        (0, []) => Kind::Other,
        (0, _) => Kind::Payload,
        _ => Kind::Handshake,
    }
}
