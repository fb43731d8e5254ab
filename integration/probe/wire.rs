//! What really passes over a link, packet by packet.

use crate::namespace::Namespace;
use pnet::{
    datalink::{self, Channel, Config, DataLinkReceiver},
    packet::{
        Packet,
        ethernet::{EtherTypes, EthernetPacket},
        ipv4::Ipv4Packet,
        tcp::{TcpFlags, TcpPacket},
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A TCP segment over IPv4.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    flags: u8,
}

impl Segment {
    pub fn syn(&self) -> bool {
        self.flags & TcpFlags::SYN != 0 && self.flags & TcpFlags::ACK == 0
    }
    pub fn fin(&self) -> bool {
        self.flags & TcpFlags::FIN != 0
    }
    pub fn rst(&self) -> bool {
        self.flags & TcpFlags::RST != 0
    }
}

/// Listens on a link until it is asked what it heard.
pub struct Wire {
    stop: Arc<AtomicBool>,
    listener: JoinHandle<Vec<Segment>>,
}

impl Wire {
    pub fn listen(namespace: &Namespace, link: &'static str) -> Self {
        let mut packets: Box<dyn DataLinkReceiver> = namespace.run(move || {
            let interface = datalink::interfaces().into_iter().find(|interface| interface.name == link).expect("the link");
            let config = Config { read_timeout: Some(Duration::from_millis(20)), ..Config::default() };
            match datalink::channel(&interface, config).expect("a packet socket") {
                Channel::Ethernet(_, packets) => packets,
                _ => panic!("not an Ethernet link"),
            }
        });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let listener = thread::spawn(move || {
            let mut segments = Vec::new();
            loop {
                match packets.next() {
                    Ok(packet) => segments.extend(segment(packet)),
                    Err(_) if stopped.load(Ordering::Relaxed) => return segments,
                    Err(_) => {}
                }
            }
        });
        Self { stop, listener }
    }

    /// The segments of the connection that has this end, after a moment in which late ones may come.
    pub fn heard(self, end: SocketAddr) -> Vec<Segment> {
        thread::sleep(Duration::from_millis(100));
        self.stop.store(true, Ordering::Relaxed);
        let mut segments = self.listener.join().expect("the listener");
        segments.retain(|segment| segment.source == end || segment.destination == end);
        segments
    }
}

fn segment(packet: &[u8]) -> Option<Segment> {
    let ethernet = EthernetPacket::new(packet)?;
    if ethernet.get_ethertype() != EtherTypes::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new(ethernet.payload())?;
    let tcp = TcpPacket::new(ip.payload())?;
    Some(Segment {
        source: SocketAddr::new(IpAddr::V4(ip.get_source()), tcp.get_source()),
        destination: SocketAddr::new(IpAddr::V4(ip.get_destination()), tcp.get_destination()),
        flags: tcp.get_flags(),
    })
}
