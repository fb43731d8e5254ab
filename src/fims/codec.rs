//! A message as bytes: a 12-byte header of lengths, then the sections with nothing between them.
//!
//! | header offset | field | section |
//! |---|---|---|
//! | 0 | `u8` length | method |
//! | 1 | `u8` length | uri |
//! | 2 | `u8` length | replyto |
//! | 3 | `u8` length | process name of the sender |
//! | 4 | `u8` length | username |
//! | 5..8 | padding | |
//! | 8 | `u32` length, little-endian | body |
//!
//! The header is the in-memory form of a C structure on x86-64, so the padding may hold anything when it comes from other programs;
//! it is ignored on the way in and zero on the way out.

use std::fmt;

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 12;

/// The longest packet on the bus, header included, in bytes.
pub const MAX_PACKET_LEN: usize = 924_288;

/// The longest of the five texts, in bytes.
pub const MAX_TEXT_LEN: usize = 255;

/// The five texts of a message, in wire order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What to do: `get`, `set`, `pub`, `post`, `del`, `sub`.
    Method,
    /// Whom it is for.
    Uri,
    /// Where the answer goes.
    Replyto,
    /// Who sends it.
    ProcessName,
    /// On whose behalf.
    Username,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Method => "method",
            Section::Uri => "uri",
            Section::Replyto => "replyto",
            Section::ProcessName => "process name",
            Section::Username => "username",
        })
    }
}

/// Why bytes are no packet, or a packet has no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than a header has.
    #[error("a packet of {len} bytes is shorter than its header of {HEADER_LEN}")]
    ShortHeader {
        /// Bytes given.
        len: usize,
    },
    /// The lengths in the header do not add up to the packet.
    #[error("the header promises {declared} bytes but the packet has {len}")]
    LengthMismatch {
        /// Header plus all the lengths in it.
        declared: u64,
        /// Bytes given.
        len: usize,
    },
    /// More bytes than a packet may have.
    #[error("a packet of {len} bytes is longer than the {MAX_PACKET_LEN} that the bus carries")]
    TooLarge {
        /// Bytes given, or needed.
        len: usize,
    },
    /// A text does not fit its one-byte length.
    #[error("a {section} of {len} bytes is longer than the {MAX_TEXT_LEN} that the bus carries")]
    TextTooLong {
        /// Which.
        section: Section,
        /// Its length in bytes.
        len: usize,
    },
}

/// The sections of one packet, borrowed. An absent section is empty: the wire cannot tell the two apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What to do; empty in the broker's answer to a subscribe.
    pub method: &'a [u8],
    /// Whom it is for; empty in a subscribe.
    pub uri: &'a [u8],
    /// Where the answer goes.
    pub replyto: &'a [u8],
    /// Who sends it.
    pub process_name: &'a [u8],
    /// On whose behalf.
    pub username: &'a [u8],
    /// The body as it is on the wire: cipher text on an encrypted bus.
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a whole packet. Every length is checked against the bytes that are there; nothing is allocated.
    ///
    /// # Errors
    /// When a length is not that of the bytes, or over the limits.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let len = bytes.len();
        if len > MAX_PACKET_LEN {
            return Err(CodecError::TooLarge { len });
        }
        let Some((header, sections)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(CodecError::ShortHeader { len });
        };
        let [method, uri, replyto, process_name, username, _, _, _, b0, b1, b2, b3] = *header;
        let texts = [method, uri, replyto, process_name, username].map(usize::from);
        let body = u32::from_le_bytes([b0, b1, b2, b3]);
        let declared = HEADER_LEN as u64 + texts.iter().sum::<usize>() as u64 + u64::from(body);
        let mismatch = CodecError::LengthMismatch { declared, len };
        if declared != len as u64 {
            return Err(mismatch);
        }
        let mut rest = sections;
        let mut take = |count: usize| -> Result<&'a [u8], CodecError> {
            let (section, after) = rest.split_at_checked(count).ok_or(mismatch)?;
            rest = after;
            Ok(section)
        };
        let [method, uri, replyto, process_name, username] = texts;
        Ok(Packet {
            method: take(method)?,
            uri: take(uri)?,
            replyto: take(replyto)?,
            process_name: take(process_name)?,
            username: take(username)?,
            body: rest,
        })
    }

    /// Writes the packet. The limits are checked before anything is allocated.
    ///
    /// # Errors
    /// When a text or the whole packet is over the limits.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let texts = [
            (Section::Method, self.method),
            (Section::Uri, self.uri),
            (Section::Replyto, self.replyto),
            (Section::ProcessName, self.process_name),
            (Section::Username, self.username),
        ];
        let mut header = [0; HEADER_LEN];
        let mut len = HEADER_LEN;
        for (place, (section, text)) in header.iter_mut().zip(texts) {
            *place = u8::try_from(text.len()).map_err(|_| CodecError::TextTooLong { section, len: text.len() })?;
            len += text.len();
        }
        len = len.saturating_add(self.body.len());
        let too_large = CodecError::TooLarge { len };
        if len > MAX_PACKET_LEN {
            return Err(too_large);
        }
        let body_len = u32::try_from(self.body.len()).map_err(|_| too_large)?;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&header[..HEADER_LEN - 4]);
        bytes.extend_from_slice(&body_len.to_le_bytes());
        for (_, text) in texts {
            bytes.extend_from_slice(text);
        }
        bytes.extend_from_slice(self.body);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SET_WITH_REPLYTO: &[u8] = b"\x03\x13\x10\x09\x00\x00\x00\x00\x0d\x00\x00\x00\
        set/netdiag/test/start/netdiag_reply/1fims_send{\"ping\":true}";

    #[test]
    fn a_set_is_byte_exact_with_what_fims_send_sends() {
        let packet = Packet {
            method: b"set",
            uri: b"/netdiag/test/start",
            replyto: b"/netdiag_reply/1",
            process_name: b"fims_send",
            username: b"",
            body: b"{\"ping\":true}",
        };
        assert_eq!(packet.encode().unwrap(), SET_WITH_REPLYTO);
        assert_eq!(Packet::decode(SET_WITH_REPLYTO).unwrap(), packet);
    }

    #[test]
    fn padding_may_hold_anything() {
        let mut bytes = SET_WITH_REPLYTO.to_vec();
        bytes[5..8].copy_from_slice(&[0xde, 0xad, 0xbe]);
        assert_eq!(Packet::decode(&bytes), Packet::decode(SET_WITH_REPLYTO));
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        for len in 0..SET_WITH_REPLYTO.len() {
            assert!(Packet::decode(&SET_WITH_REPLYTO[..len]).is_err(), "cut to {len}");
        }
        let longer = [SET_WITH_REPLYTO, b"x"].concat();
        assert_eq!(Packet::decode(&longer), Err(CodecError::LengthMismatch { declared: 72, len: 73 }));
    }

    #[test]
    fn a_header_that_promises_4_gigabytes_is_refused() {
        let mut bytes = [0xff; HEADER_LEN];
        assert!(matches!(Packet::decode(&bytes), Err(CodecError::LengthMismatch { .. })));
        bytes[..5].fill(0);
        assert_eq!(Packet::decode(&bytes), Err(CodecError::LengthMismatch { declared: 4_294_967_307, len: 12 }));
    }

    #[test]
    fn the_largest_packet_passes_and_one_byte_more_does_not() {
        let body = vec![b'x'; MAX_PACKET_LEN - HEADER_LEN + 1];
        let largest = Packet { body: &body[1..], ..Packet::default() };
        let bytes = largest.encode().unwrap();
        assert_eq!(bytes.len(), MAX_PACKET_LEN);
        assert_eq!(Packet::decode(&bytes).unwrap(), largest);
        let over = Packet { body: &body, ..Packet::default() };
        assert_eq!(over.encode(), Err(CodecError::TooLarge { len: MAX_PACKET_LEN + 1 }));
        assert!(matches!(Packet::decode(&vec![0; MAX_PACKET_LEN + 1]), Err(CodecError::TooLarge { .. })));
    }

    #[test]
    fn a_text_of_256_bytes_is_refused_by_name() {
        let text = [b'a'; 256];
        let packet = Packet { method: b"set", replyto: &text, ..Packet::default() };
        assert_eq!(packet.encode(), Err(CodecError::TextTooLong { section: Section::Replyto, len: 256 }));
        let fits = Packet { method: b"set", replyto: &text[..255], ..Packet::default() };
        assert!(fits.encode().is_ok());
    }

    proptest! {
        #[test]
        fn any_packet_round_trips(
            texts in prop::array::uniform5(prop::collection::vec(any::<u8>(), 0..=255)),
            body in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let [method, uri, replyto, process_name, username] = &texts;
            let packet = Packet { method, uri, replyto, process_name, username, body: &body };
            let bytes = packet.encode().unwrap();
            prop_assert_eq!(Packet::decode(&bytes).unwrap(), packet);
        }

        #[test]
        fn no_bytes_crash_the_decoder_and_what_decodes_is_the_same_bytes(
            mut bytes in prop::collection::vec(any::<u8>(), 0..1500),
            consistent in any::<bool>(),
        ) {
            // Random bytes almost never add up, so half the cases get a body length that does.
            if consistent && bytes.len() >= HEADER_LEN {
                let texts: usize = bytes[..5].iter().map(|&len| usize::from(len)).sum();
                let body = bytes.len().saturating_sub(HEADER_LEN + texts) as u32;
                bytes[8..12].copy_from_slice(&body.to_le_bytes());
            }
            if let Ok(packet) = Packet::decode(&bytes) {
                let encoded = packet.encode().unwrap(); bytes[5..8].fill(0);
                prop_assert_eq!(encoded, bytes);
            }
        }
    }
}
