//! The greeting: the broker says how it lays out messages and how long one may be, the client says the same back, and then its name.
//!
//! Eight bytes, the in-memory form of a C structure: `u16` layout version, two bytes of padding, `u32` largest message,
//! little-endian. The name that follows is 1..=255 bytes in a packet of its own.

use super::codec::MAX_PACKET_LEN;

/// The only layout of messages there is so far.
pub const LAYOUT_VERSION: u16 = 1;

/// Length of the greeting, in bytes.
pub const HANDSHAKE_LEN: usize = 8;

/// What both sides must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// How messages are laid out.
    pub layout_version: u16,
    /// The longest message, header included, in bytes.
    pub max_message_size: u32,
}

impl Handshake {
    /// What this program speaks.
    pub const OURS: Handshake = Handshake { layout_version: LAYOUT_VERSION, max_message_size: MAX_PACKET_LEN as u32 };

    /// Reads a greeting; `None` if it has not the right length. The padding is ignored.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [v0, v1, _, _, m0, m1, m2, m3] = *<&[u8; HANDSHAKE_LEN]>::try_from(bytes).ok()?;
        Some(Handshake { layout_version: u16::from_le_bytes([v0, v1]), max_message_size: u32::from_le_bytes([m0, m1, m2, m3]) })
    }

    /// Writes a greeting, with zero padding.
    pub fn encode(self) -> [u8; HANDSHAKE_LEN] {
        let [v0, v1] = self.layout_version.to_le_bytes();
        let [m0, m1, m2, m3] = self.max_message_size.to_le_bytes();
        [v0, v1, 0, 0, m0, m1, m2, m3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; 8] = [0x01, 0x00, 0x00, 0x00, 0x80, 0x1a, 0x0e, 0x00];

    #[test]
    fn the_greeting_is_byte_exact() {
        assert_eq!(Handshake::OURS.encode(), GOLDEN);
        assert_eq!(Handshake::decode(&GOLDEN), Some(Handshake::OURS));
    }

    #[test]
    fn other_lengths_are_no_greeting() {
        for len in 0..GOLDEN.len() {
            assert_eq!(Handshake::decode(&GOLDEN[..len]), None);
        }
        assert_eq!(Handshake::decode(&[0; 9]), None);
    }
}
