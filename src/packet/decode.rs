//! The bytes of one packet, decoded in one pass without copying.

use super::{
    LinkType, MacAddr, Reject,
    header::{
        arp::Arp,
        ip::Ip,
        link::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6},
    },
};

/// One packet's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The id of the outermost VLAN tag.
    pub vlan: Option<u16>,
    /// Who sent the frame on this link, where the link type tells.
    pub src_mac: Option<MacAddr>,
    /// Whom the frame was sent to on this link, where the link type tells.
    pub dst_mac: Option<MacAddr>,
    /// Whether the IP header announces more bytes than are here: the snap length cut the packet.
    pub cut: bool,
    /// What the frame carries.
    pub net: Net<'a>,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net<'a> {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip<'a>),
    /// An 802.3 frame: the bytes from its LLC header on, without padding. Spanning tree is one of these.
    Llc(&'a [u8]),
    /// Anything else.
    Other {
        /// The EtherType.
        ethertype: u16,
        /// The bytes that follow it.
        payload: &'a [u8],
    },
}

/// Decodes one packet. `data` begins with the link header that `link_type` names and holds what the snap length left of the packet.
///
/// # Errors
/// Why the packet was not understood.
// Its one caller is the loop over packets, and what comes out is large: inlined, it is not copied.
#[inline(always)]
pub fn decode(link_type: LinkType, data: &[u8]) -> Result<Decoded<'_>, Reject> {
    let frame = link::decode(link_type, data)?;
    let (net, cut) = match frame.ethertype {
        None => (Net::Llc(frame.payload), false),
        Some(ETHERTYPE_IPV4) => {
            let (ip, cut) = Ip::decode_v4(frame.payload)?;
            (Net::Ip(ip), cut)
        }
        Some(ETHERTYPE_IPV6) => {
            let (ip, cut) = Ip::decode_v6(frame.payload)?;
            (Net::Ip(ip), cut)
        }
        Some(ETHERTYPE_ARP) => (Net::Arp(Arp::decode(frame.payload)?), false),
        Some(ethertype) => (Net::Other { ethertype, payload: frame.payload }, false),
    };
    Ok(Decoded { vlan: frame.vlan, src_mac: frame.src_mac, dst_mac: frame.dst_mac, cut, net })
}
