//! UDP (RFC 768).

use super::{at_most, from, ip::Carried};
use crate::packet::Reject;
use pnet::packet::udp::UdpPacket;

/// One UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<'a> {
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// The payload, as far as it is here.
    pub payload: &'a [u8],
    /// The payload's length on the wire, in bytes; of a first fragment, that of the whole datagram.
    pub payload_len: u32,
}

impl<'a> Udp<'a> {
    pub(super) const HEADER_LEN: usize = 8;

    pub(super) fn decode(carried: Carried<'a>) -> Result<Self, Reject> {
        let header = UdpPacket::new(carried.data).ok_or(Reject::UdpHeader)?;
        let len = match usize::from(header.get_length()) {
            // Longer than 65,535 bytes (RFC 2675), or for the network card to cut.
            0 => carried.len,
            len if len > carried.len && !carried.first_fragment => return Err(Reject::UdpLength),
            len => len,
        };
        let payload_len = len.checked_sub(Self::HEADER_LEN).ok_or(Reject::UdpLength)?;
        Ok(Self {
            src_port: header.get_source(),
            dst_port: header.get_destination(),
            payload: at_most(from(carried.data, Self::HEADER_LEN), payload_len),
            payload_len: u32::try_from(payload_len).unwrap_or(u32::MAX),
        })
    }
}
