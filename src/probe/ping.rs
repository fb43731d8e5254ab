//! Echo requests, many at a time through one socket per address family, and what may be called an answer to them.
//!
//! With a raw socket the kernel hands every ICMP message of the host to the client, and `surge-ping` gives each to the ping that
//! waits for its address, identifier and sequence number. An ICMP error quotes the request that it is about, so it reaches the right
//! ping, whoever sent it: a router, or this host's own kernel when nobody answered ARP (about three seconds after the request). It
//! comes back as a success, like a reply, so the type and the source are looked at here. Kernels and routers send only a small
//! burst of such errors and then hold back: of many dead addresses asked at once, most end in [`PingOutcome::NoAnswer`] (and
//! connects in a time-out), and only a capture shows why.
//!
//! With a datagram socket, the way without `CAP_NET_RAW`, errors are not seen at all.

use super::{
    PingOutcome,
    words::{When, errno, explain},
};
use crate::api::Capability;
use nix::{
    errno::Errno,
    sys::socket::{
        setsockopt,
        sockopt::{RcvBufForce, SndBufForce},
    },
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};
use tokio::time::{Instant, sleep, timeout_at};

/// What an echo request carries, so that whoever sees it in a capture knows where it comes from.
const PAYLOAD: &[u8] = b"netdiag connectivity test";

/// Room for the replies of thousands of devices that come at once, and for the requests that wait for ARP answers that never come:
/// each holds its place in the send buffer until then.
const BUFFER_BYTES: usize = 4 << 20;

/// How much later than the time-out a ping may end. It is needed only where the request waits for room in the send buffer.
const SEND_GRACE: Duration = Duration::from_millis(500);

/// How long to wait before sending again when the kernel is out of buffers.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How often a request is sent again because something that is no answer took its place.
const MAX_REPEATS: u32 = 3;

/// Distinguishes the probers of this process from each other, and from those of other processes by its random start.
static NEXT_IDENTIFIER: LazyLock<AtomicU16> = LazyLock::new(|| {
    let bytes = RandomState::new().hash_one("identifier").to_ne_bytes();
    AtomicU16::new(u16::from_ne_bytes([bytes[0], bytes[1]]))
});

/// The sockets of one prober, opened when they are first needed.
pub(super) struct Ping {
    identifier: PingIdentifier,
    v4: Mutex<Option<Client>>,
    v6: Mutex<Option<Client>>,
}

impl Ping {
    pub(super) fn new() -> Self {
        let identifier = PingIdentifier(NEXT_IDENTIFIER.fetch_add(1, Ordering::Relaxed));
        Self { identifier, v4: Mutex::default(), v6: Mutex::default() }
    }

    /// Sends one request to `address` and waits for what comes of it. It must run within a tokio runtime, always the same one.
    pub(super) async fn ping(&self, address: IpAddr, sequence: u16, timeout: Duration) -> PingOutcome {
        let client = match self.client(address) {
            Ok(client) => client,
            Err(error) => return PingOutcome::Error(format!("no ICMP socket: {}", advice(&error))),
        };
        let deadline = Instant::now() + timeout;
        let mut pinger = client.pinger(address, self.identifier).await;
        let mut repeats = 0;
        loop {
            let began = Instant::now();
            pinger.timeout(deadline - began);
            match timeout_at(deadline + SEND_GRACE, pinger.ping(PingSequence(sequence), PAYLOAD)).await {
                Ok(Ok((packet, rtt))) => {
                    // On a fast link the reply is there before the library starts its clock.
                    let rtt = if rtt.is_zero() { began.elapsed() } else { rtt };
                    if let Some(outcome) = judge(address, &Message::from(&packet), rtt) {
                        return outcome;
                    }
                    repeats += 1;
                    if repeats > MAX_REPEATS {
                        return PingOutcome::NoAnswer;
                    }
                }
                Ok(Err(SurgeError::Timeout { .. })) => return PingOutcome::NoAnswer,
                Ok(Err(SurgeError::IOError(error))) => {
                    let out_of_buffers = errno(&error) == Some(Errno::ENOBUFS);
                    if !out_of_buffers || Instant::now() + RETRY_PAUSE >= deadline {
                        return PingOutcome::Error(explain(&error, When::BeforeSending));
                    }
                    sleep(RETRY_PAUSE).await;
                }
                Ok(Err(SurgeError::IdenticalRequests { .. })) => {
                    return PingOutcome::Error(format!("a ping to {address} with sequence number {sequence} is waiting already"));
                }
                Ok(Err(error)) => return PingOutcome::Error(error.to_string()),
                Err(_) => {
                    return PingOutcome::Error(
                        "it could not be sent in time: the socket's buffer is full of requests that wait for an ARP answer; lower the \
                         rate, or raise net.core.wmem_max"
                            .into(),
                    );
                }
            }
        }
    }

    /// Whether pings can be sent, and by which kind of socket; if not, what to do about it.
    pub(super) fn capability(&self) -> Capability {
        let v4 = self.kind(&self.v4, Domain::IPV4, Protocol::ICMPV4);
        let v6 = self.kind(&self.v6, Domain::IPV6, Protocol::ICMPV6);
        let (available, reason) = match (&v4, &v6) {
            (Ok(v4), Ok(_)) => (true, describe(*v4)),
            (Ok(v4), Err(error)) => (true, format!("{}; not over IPv6: {}", describe(*v4), advice(error))),
            (Err(error), Ok(v6)) => (true, format!("{}; not over IPv4: {}", describe(*v6), advice(error))),
            (Err(error), Err(_)) => (false, advice(error)),
        };
        Capability { available, reason: Some(reason) }
    }

    fn client(&self, address: IpAddr) -> io::Result<Client> {
        let (slot, kind) = match address {
            IpAddr::V4(_) => (&self.v4, ICMP::V4),
            IpAddr::V6(_) => (&self.v6, ICMP::V6),
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let client = Client::new(&Config::builder().kind(kind).sock_type_hint(Type::RAW).build())?;
        enlarge_buffers(&client);
        Ok(slot.insert(client).clone())
    }

    /// The kind of socket in use; before the first ping, the kind that would be used.
    fn kind(&self, slot: &Mutex<Option<Client>>, domain: Domain, protocol: Protocol) -> io::Result<Type> {
        if let Some(client) = &*slot.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(client.get_socket().get_type());
        }
        let open = |kind| Socket::new(domain, kind, Some(protocol)).map(|_| kind);
        open(Type::RAW).or_else(|error| open(Type::DGRAM).map_err(|_| error))
    }
}

fn describe(kind: Type) -> String {
    if kind == Type::RAW {
        "raw ICMP socket".into()
    } else {
        "datagram ICMP socket: replies are seen, but ICMP errors are not; give the process CAP_NET_RAW to see them too".into()
    }
}

/// Why there is no ICMP socket, and what to do about it.
fn advice(error: &io::Error) -> String {
    match errno(error) {
        Some(Errno::EPERM | Errno::EACCES) => format!(
            "this process has no right to ping ({error}); give it CAP_NET_RAW (AmbientCapabilities=CAP_NET_RAW in its unit, or setcap \
             cap_net_raw+ep on the program), or let its group in by net.ipv4.ping_group_range"
        ),
        _ => explain(error, When::BeforeSending),
    }
}

/// Beyond what an ordinary process may have where `CAP_NET_ADMIN` allows it, else as far as `net.core.rmem_max` and `wmem_max` go.
/// Small buffers are no error: pings wait for room, and replies that find none look like no answer.
fn enlarge_buffers(client: &Client) {
    let socket = client.get_socket();
    let fd = borrow(&socket);
    let socket = SockRef::from(&fd);
    let receive = setsockopt(&fd, RcvBufForce, &BUFFER_BYTES).or_else(|_| socket.set_recv_buffer_size(BUFFER_BYTES));
    let send = setsockopt(&fd, SndBufForce, &BUFFER_BYTES).or_else(|_| socket.set_send_buffer_size(BUFFER_BYTES));
    if let Err(error) = receive.and(send) {
        tracing::debug!(%error, "the buffers of the ICMP socket stay as they are");
    }
}

/// The library gives out its socket only as a number.
#[allow(unsafe_code)]
fn borrow(socket: &surge_ping::AsyncSocket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to `socket`, which closes it only when it is dropped and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(socket.get_native_sock()) }
}

/// What an ICMP message says that was handed to a ping.
struct Message {
    from: IpAddr,
    icmp_type: u8,
    icmp_code: u8,
}

impl From<&IcmpPacket> for Message {
    fn from(packet: &IcmpPacket) -> Self {
        match packet {
            IcmpPacket::V4(packet) => {
                Self { from: packet.get_source().into(), icmp_type: packet.get_icmp_type().0, icmp_code: packet.get_icmp_code().0 }
            }
            IcmpPacket::V6(packet) => Self {
                from: packet.get_source().into(),
                icmp_type: packet.get_icmpv6_type().0,
                icmp_code: packet.get_icmpv6_code().0,
            },
        }
    }
}

/// What a message means for a ping to `address`; `None` if it is no answer: a router that advises a better way (redirect), or one
/// that asks for less (source quench), has still forwarded the request. The library stops waiting nevertheless, so it must be sent again.
fn judge(address: IpAddr, message: &Message, rtt: Duration) -> Option<PingOutcome> {
    let Message { from, icmp_type, icmp_code } = *message;
    let (reply, errors): (u8, &[u8]) = match address {
        IpAddr::V4(_) => (0, &[3, 11, 12]),
        IpAddr::V6(_) => (129, &[1, 2, 3, 4]),
    };
    if icmp_type == reply && from == address {
        Some(PingOutcome::Reply { rtt })
    } else if errors.contains(&icmp_type) {
        Some(PingOutcome::Unreachable { from, icmp_type, icmp_code })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(3);

    fn judged(address: &str, from: &str, icmp_type: u8, icmp_code: u8) -> Option<PingOutcome> {
        judge(address.parse().unwrap(), &Message { from: from.parse().unwrap(), icmp_type, icmp_code }, RTT)
    }

    #[test]
    fn only_an_echo_reply_of_the_address_itself_is_a_reply() {
        assert_eq!(judged("192.0.2.7", "192.0.2.7", 0, 0), Some(PingOutcome::Reply { rtt: RTT }));
        assert_eq!(judged("2001:db8::7", "2001:db8::7", 129, 0), Some(PingOutcome::Reply { rtt: RTT }));
        assert_eq!(judged("192.0.2.7", "192.0.2.8", 0, 0), None, "of another address");
        assert_eq!(judged("192.0.2.7", "192.0.2.7", 129, 0), None, "a type of the other family");
        assert_eq!(judged("2001:db8::7", "2001:db8::7", 0, 0), None);
    }

    #[test]
    fn errors_keep_their_sender_type_and_code() {
        for (address, from, icmp_type, icmp_code) in [
            ("192.0.2.7", "192.0.2.1", 3, 13),
            ("192.0.2.7", "192.0.2.7", 3, 1),
            ("192.0.2.7", "192.0.2.1", 11, 0),
            ("2001:db8::7", "2001:db8::1", 1, 3),
        ] {
            let expected = PingOutcome::Unreachable { from: from.parse().unwrap(), icmp_type, icmp_code };
            assert_eq!(judged(address, from, icmp_type, icmp_code), Some(expected));
        }
    }

    #[test]
    fn advice_of_a_router_is_no_answer() {
        assert_eq!(judged("192.0.2.7", "192.0.2.1", 5, 1), None, "redirect");
        assert_eq!(judged("192.0.2.7", "192.0.2.1", 4, 0), None, "source quench");
        assert_eq!(judged("2001:db8::7", "2001:db8::1", 137, 0), None, "redirect");
    }

    #[test]
    fn each_prober_has_an_identifier_of_its_own() {
        assert_ne!(Ping::new().identifier, Ping::new().identifier);
    }

    #[test]
    fn a_missing_right_comes_with_what_to_do() {
        let text = advice(&io::Error::from_raw_os_error(Errno::EPERM as i32));
        assert!(text.contains("CAP_NET_RAW") && text.contains("ping_group_range"), "{text}");
    }
}
