//! ARP for IPv4 over Ethernet (RFC 826).

use crate::packet::{MacAddr, Reject};
use pnet::packet::arp::ArpPacket;
use std::net::Ipv4Addr;

/// What an ARP message does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArpOperation {
    /// Asks who has `target_ip`.
    Request,
    /// Answers that `sender_ip` is at `sender_mac`.
    Reply,
    /// Anything else, by number.
    Other(u16),
}

/// One ARP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arp {
    /// What it does.
    pub operation: ArpOperation,
    /// The sender's MAC address.
    pub sender_mac: MacAddr,
    /// The sender's IP address; all zero in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The MAC address that is asked for (then it means nothing) or answered to.
    pub target_mac: MacAddr,
    /// The IP address that is asked for or answered to; the sender's own in a gratuitous ARP.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    pub(crate) fn decode(data: &[u8]) -> Result<Self, Reject> {
        let message = ArpPacket::new(data).ok_or(Reject::ArpHeader)?;
        let format = (message.get_hardware_type().0, message.get_protocol_type().0);
        if format != (1, 0x0800) || message.get_hw_addr_len() != 6 || message.get_proto_addr_len() != 4 {
            return Err(Reject::ArpFormat);
        }
        Ok(Self {
            operation: match message.get_operation().0 {
                1 => ArpOperation::Request,
                2 => ArpOperation::Reply,
                other => ArpOperation::Other(other),
            },
            sender_mac: message.get_sender_hw_addr(),
            sender_ip: message.get_sender_proto_addr(),
            target_mac: message.get_target_hw_addr(),
            target_ip: message.get_target_proto_addr(),
        })
    }
}
