//! Live capture through libpcap: the only file that knows it.

use super::{OpenError, error::OpenSettings, filter::without_vlan_part, lane::Losses, rights};
use crate::packet::LinkType;
use nix::net::if_::if_nametoindex;
use pcap::{Active, BpfProgram, Capture, Dead, Inactive, Linktype, Precision, Stat};
use std::os::fd::{AsFd, BorrowedFd};

/// What captures here, or why nothing does.
pub const LIBRARY: Result<&str, &str> = Ok("libpcap");

/// The name under which Linux gives all interfaces at once.
const ALL_INTERFACES: &str = "any";
/// The number of raw IP in the kernel's headers, where capture files have [`LinkType::RAW`].
const RAW_IP: i32 = 12;
const OPTIMIZE: bool = true;

/// An open interface.
pub struct Live {
    capture: Capture<Active>,
    link_type: LinkType,
    /// The kernel's counters as they were last read; they are 32 bits wide and begin anew.
    read: Stat,
    losses: Losses,
}

impl Live {
    /// Begins to capture. Promiscuous mode stays off: what is for others is none of our concern.
    pub fn open(interface: &str, settings: &OpenSettings<'_>) -> Result<Self, OpenError> {
        if interface != ALL_INTERFACES && if_nametoindex(interface).is_err() {
            return Err(OpenError::NoSuchInterface);
        }
        let other = |error: pcap::Error| OpenError::Other(words(&error));
        let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let capture = Capture::<Inactive>::from_device(interface)
            .map_err(other)?
            .promisc(false)
            .snaplen(signed(settings.snaplen))
            .buffer_size(signed(settings.buffer_bytes))
            .timeout(signed(u32::try_from(settings.hold.as_millis()).unwrap_or(u32::MAX)))
            .precision(Precision::Nano)
            .open()
            .map_err(|error| activation_error(&error))?;
        // With the handle non-blocking, an idle link holds nobody up: the thread waits on the descriptor instead.
        let mut capture = capture.setnonblock().map_err(other)?;
        set_filter(&mut capture, settings.filter)?;
        let link_type = match capture.get_datalink().0 {
            // Raw IP, which the kernel's headers and capture files number differently.
            12 | 14 => LinkType::RAW,
            other => LinkType(u16::try_from(other).unwrap_or(u16::MAX)),
        };
        let read = Stat { received: 0, dropped: 0, if_dropped: 0 };
        Ok(Self { capture, link_type, read, losses: Losses::default() })
    }

    pub fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// Becomes readable when there are packets.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }

    /// Gives up to `most` packets that are here (time in nanoseconds since 1970, length on the wire, bytes) without waiting, and
    /// tells how many. An error says in words why the interface is of no more use.
    pub fn dispatch(&mut self, most: usize, mut take: impl FnMut(i64, u32, &[u8])) -> Result<usize, String> {
        self.capture
            .dispatch(Some(most), |packet| {
                // With nanosecond precision, the field for microseconds holds nanoseconds.
                let unix_ns = packet.header.ts.tv_sec.saturating_mul(1_000_000_000).saturating_add(packet.header.ts.tv_usec);
                take(unix_ns, packet.header.len, packet.data);
            })
            .map_err(|error| words(&error))
    }

    /// Lets through what this expression says from now on; what came before is not lost.
    pub fn set_filter(&mut self, filter: &str) -> Result<(), OpenError> {
        set_filter(&mut self.capture, filter)
    }

    /// What was received and lost since it was opened.
    pub fn losses(&mut self) -> Losses {
        if let Ok(now) = self.capture.stats() {
            self.losses.received += u64::from(now.received.wrapping_sub(self.read.received));
            self.losses.kernel_dropped += u64::from(now.dropped.wrapping_sub(self.read.dropped));
            self.losses.interface_dropped += u64::from(now.if_dropped.wrapping_sub(self.read.if_dropped));
            self.read = now;
        }
        self.losses
    }
}

/// A filter for packets that are here already.
pub struct Screen(BpfProgram);

impl Screen {
    /// Lets through, of packets of this link type, what the BPF expression says.
    pub fn new(link_type: LinkType, filter: &str) -> Result<Self, OpenError> {
        let number = if link_type == LinkType::RAW { RAW_IP } else { i32::from(link_type.0) };
        let dead = Capture::<Dead>::dead(Linktype(number)).map_err(|error| OpenError::Other(words(&error)))?;
        let compiled = dead.compile(filter, OPTIMIZE).or_else(|error| match without_vlan_part(filter) {
            untagged if untagged != filter => dead.compile(untagged, OPTIMIZE),
            _ => Err(error),
        });
        compiled.map(Self).map_err(|error| OpenError::Filter { filter: filter.into(), reason: words(&error) })
    }

    /// Whether it lets the packet through.
    pub fn passes(&self, data: &[u8]) -> bool {
        self.0.filter(data)
    }
}

/// Whether a BPF expression compiles for Ethernet. It may name hosts, which are then looked up: this may block.
///
/// # Errors
/// [`OpenError::Filter`], with libpcap's words.
pub fn check_filter(filter: &str) -> Result<(), OpenError> {
    Screen::new(LinkType::ETHERNET, filter).map(drop)
}

fn set_filter(capture: &mut Capture<Active>, filter: &str) -> Result<(), OpenError> {
    let Err(error) = capture.filter(filter, OPTIMIZE) else { return Ok(()) };
    let untagged = without_vlan_part(filter);
    if untagged != filter && capture.filter(untagged, OPTIMIZE).is_ok() {
        return Ok(());
    }
    Err(OpenError::Filter { filter: filter.into(), reason: words(&error) })
}

/// libpcap tells only in words why it could not begin, so the two causes that a person can mend are looked up.
fn activation_error(error: &pcap::Error) -> OpenError {
    if let Some(reason) = rights::missing_right() {
        return OpenError::NoRight(reason);
    }
    match words(error) {
        text if text.contains("not up") || text.contains("Network is down") => OpenError::Down,
        text => OpenError::Other(text),
    }
}

fn words(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) if text.is_empty() => "libpcap failed without a word".into(),
        pcap::Error::PcapError(text) => text.trim_start_matches("libpcap error: ").to_owned(),
        other => other.to_string(),
    }
}
