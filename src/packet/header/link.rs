//! Link headers: Ethernet and its VLAN tags, Linux cooked capture, BSD loopback, raw IP.

use super::{at_most, from, u16_at};
use crate::packet::{LinkType, MacAddr, Reject};
use pnet::packet::vlan::VlanPacket;

/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// EtherTypes begin here; below it the field is an 802.3 length.
const SMALLEST_ETHERTYPE: u16 = 0x0600;
/// Cooked capture's protocol numbers for frames that begin with an LLC header.
const SLL_LLC: [u16; 2] = [0x0001, 0x0004];

/// A frame without its link header.
pub struct Frame<'a> {
    /// The id of the outermost VLAN tag.
    pub vlan: Option<u16>,
    /// The sender on this link.
    pub src_mac: Option<MacAddr>,
    /// The receiver on this link.
    pub dst_mac: Option<MacAddr>,
    /// What `payload` is; none when it begins with an LLC header.
    pub ethertype: Option<u16>,
    /// What follows the link header.
    pub payload: &'a [u8],
}

/// Takes the link header off.
///
/// # Errors
/// Why the header was not understood.
#[inline(always)]
pub fn decode(link_type: LinkType, data: &[u8]) -> Result<Frame<'_>, Reject> {
    match link_type {
        LinkType::ETHERNET => ethernet(data),
        LinkType::LINUX_SLL => cooked(data),
        LinkType::LINUX_SLL2 => cooked_2(data),
        LinkType::NULL | LinkType::LOOP => loopback(data),
        // 12 and 14 are raw IP as some systems number it, 228 and 229 raw IPv4 and IPv6.
        LinkType::RAW | LinkType(12 | 14 | 228 | 229) => raw_ip(data),
        _ => Err(Reject::LinkType),
    }
}

/// Destination, source, and EtherType or length (IEEE 802.3). Taken as one array, for each packet comes by here: one look whether it is
/// there does for all.
#[inline(always)]
fn ethernet(data: &[u8]) -> Result<Frame<'_>, Reject> {
    let (header, payload) = data.split_first_chunk::<14>().ok_or(Reject::LinkHeader)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, high, low] = *header;
    let frame = Frame {
        vlan: None,
        src_mac: Some(MacAddr::new(g, h, i, j, k, l)),
        dst_mac: Some(MacAddr::new(a, b, c, d, e, f)),
        ethertype: None,
        payload,
    };
    tagged(frame, u16::from_be_bytes([high, low]))
}

/// Whether a tag stands before the real EtherType: 802.1Q, 802.1ad and the numbers in use before it was written.
fn is_vlan_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100 | 0x9200)
}

/// Takes VLAN tags off and tells an EtherType from an 802.3 length.
#[inline(always)]
fn tagged(mut frame: Frame<'_>, mut ethertype: u16) -> Result<Frame<'_>, Reject> {
    while is_vlan_tag(ethertype) {
        let tag = VlanPacket::new(frame.payload).ok_or(Reject::VlanTag)?;
        frame.vlan = frame.vlan.or(Some(tag.get_vlan_identifier()));
        ethertype = tag.get_ethertype().0;
        frame.payload = from(frame.payload, VlanPacket::minimum_packet_size());
    }
    if ethertype < SMALLEST_ETHERTYPE {
        return Ok(llc(Frame { payload: at_most(frame.payload, usize::from(ethertype)), ..frame }));
    }
    frame.ethertype = Some(ethertype);
    Ok(frame)
}

/// An LLC frame, unless its SNAP header says that it carries an EtherType after all (RFC 1042).
fn llc(frame: Frame<'_>) -> Frame<'_> {
    match frame.payload {
        [0xaa, 0xaa, 0x03, 0, 0, 0, high, low, payload @ ..] => {
            Frame { ethertype: Some(u16::from_be_bytes([*high, *low])), payload, ..frame }
        }
        _ => Frame { ethertype: None, ..frame },
    }
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>
fn cooked(data: &[u8]) -> Result<Frame<'_>, Reject> {
    let (header, payload) = data.split_first_chunk::<16>().ok_or(Reject::LinkHeader)?;
    let address_len = u16_at(header, 4).unwrap_or(0);
    let protocol = u16_at(header, 14).unwrap_or(0);
    after_cooked(protocol, sender(usize::from(address_len), from(header, 6)), payload)
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>
fn cooked_2(data: &[u8]) -> Result<Frame<'_>, Reject> {
    let (header, payload) = data.split_first_chunk::<20>().ok_or(Reject::LinkHeader)?;
    let protocol = u16_at(header, 0).unwrap_or(0);
    after_cooked(protocol, sender(usize::from(header[11]), from(header, 12)), payload)
}

fn after_cooked(protocol: u16, src_mac: Option<MacAddr>, payload: &[u8]) -> Result<Frame<'_>, Reject> {
    let frame = Frame { vlan: None, src_mac, dst_mac: None, ethertype: Some(protocol), payload };
    if SLL_LLC.contains(&protocol) {
        return Ok(llc(frame));
    }
    if protocol < SMALLEST_ETHERTYPE { Ok(frame) } else { tagged(frame, protocol) }
}

/// The sender's address of a cooked header, if it is as long as a MAC address.
fn sender(address_len: usize, address: &[u8]) -> Option<MacAddr> {
    (address_len == 6).then(|| address.first_chunk::<6>().map(|mac| MacAddr::from(*mac)))?
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_NULL.html>: the family is in the byte order of the host that captured.
fn loopback(data: &[u8]) -> Result<Frame<'_>, Reject> {
    let (family, payload) = data.split_first_chunk::<4>().ok_or(Reject::LinkHeader)?;
    let family = u32::from_be_bytes(*family);
    let family = if family > 0xffff { family.swap_bytes() } else { family };
    let ethertype = match family {
        2 => ETHERTYPE_IPV4,
        // AF_INET6 as Linux, NetBSD, FreeBSD and macOS number it.
        10 | 24 | 28 | 30 => ETHERTYPE_IPV6,
        _ => return Err(Reject::LinkHeader),
    };
    Ok(Frame { vlan: None, src_mac: None, dst_mac: None, ethertype: Some(ethertype), payload })
}

fn raw_ip(data: &[u8]) -> Result<Frame<'_>, Reject> {
    let ethertype = match data.first().ok_or(Reject::IpHeader)? >> 4 {
        4 => ETHERTYPE_IPV4,
        6 => ETHERTYPE_IPV6,
        _ => return Err(Reject::IpVersion),
    };
    Ok(Frame { vlan: None, src_mac: None, dst_mac: None, ethertype: Some(ethertype), payload: data })
}
