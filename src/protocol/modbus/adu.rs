//! The frame: transaction id, protocol id 0, length, unit id, function code and data.

use super::{super::Step, words::EXCEPTION_FLAG};

/// Bytes before the unit id: transaction id, protocol id and length.
pub const HEADER_LENGTH: usize = 6;
/// The longest frame: header, unit id and a PDU of 253 bytes.
pub const MAX_ADU_LENGTH: usize = HEADER_LENGTH + MAX_LENGTH_FIELD as usize;
/// The length field counts the unit id and at least a function code ...
const MIN_LENGTH_FIELD: u16 = 2;
/// ... and at most a PDU of 253 bytes.
const MAX_LENGTH_FIELD: u16 = 254;

/// One Modbus TCP frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adu<'a> {
    /// Chosen by the client and repeated by the server.
    pub transaction_id: u16,
    /// The unit behind the address; a gateway has many.
    pub unit_id: u8,
    /// Function code and data: 1 to 253 bytes.
    pub pdu: &'a [u8],
}

/// Why bytes are no Modbus TCP frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The third and fourth byte are not zero.
    #[error("the protocol id is {0}, where Modbus has 0")]
    ProtocolId(u16),
    /// The length field cannot be right.
    #[error("the length field is {0}, where Modbus has 2 to 254")]
    Length(u16),
    /// A PDU that would not fit a frame.
    #[error("a PDU of {0} bytes, where Modbus has 1 to 253")]
    PduLength(usize),
}

impl<'a> Adu<'a> {
    /// The function code, with the exception flag as it came.
    pub fn function(&self) -> u8 {
        self.pdu.first().copied().unwrap_or(0)
    }

    /// The exception code, when this is an exception response.
    pub fn exception(&self) -> Option<u8> {
        if self.function() & EXCEPTION_FLAG == 0 { None } else { self.pdu.get(1).copied() }
    }

    /// Appends the frame's bytes to `out`; nothing is appended when the PDU does not fit.
    ///
    /// # Errors
    /// When the PDU is empty or longer than a frame can hold.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let length = u16::try_from(self.pdu.len() + 1).ok().filter(|length| (MIN_LENGTH_FIELD..=MAX_LENGTH_FIELD).contains(length));
        let length = length.ok_or(FrameError::PduLength(self.pdu.len()))?;
        out.extend_from_slice(&self.transaction_id.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length.to_be_bytes());
        out.push(self.unit_id);
        out.extend_from_slice(self.pdu);
        Ok(())
    }
}

/// Reads the frame at the beginning of `bytes`, and how many bytes it takes; `Ok(None)` asks for more bytes. An error is told as
/// soon as the bytes that are there show it.
///
/// # Errors
/// When the bytes are no Modbus TCP frame.
pub fn decode(bytes: &[u8]) -> Result<Option<(Adu<'_>, usize)>, FrameError> {
    if let Some(&high) = bytes.get(2)
        && high != 0
    {
        return Err(FrameError::ProtocolId(u16::from_be_bytes([high, bytes.get(3).copied().unwrap_or(0)])));
    }
    let [transaction_high, transaction_low, protocol_high, protocol_low, rest @ ..] = bytes else { return Ok(None) };
    let protocol_id = u16::from_be_bytes([*protocol_high, *protocol_low]);
    if protocol_id != 0 {
        return Err(FrameError::ProtocolId(protocol_id));
    }
    let [length_high, length_low, rest @ ..] = rest else { return Ok(None) };
    let length = u16::from_be_bytes([*length_high, *length_low]);
    if !(MIN_LENGTH_FIELD..=MAX_LENGTH_FIELD).contains(&length) {
        return Err(FrameError::Length(length));
    }
    let Some((&unit_id, pdu)) = rest.get(..usize::from(length)).and_then(<[u8]>::split_first) else { return Ok(None) };
    let transaction_id = u16::from_be_bytes([*transaction_high, *transaction_low]);
    Ok(Some((Adu { transaction_id, unit_id, pdu }, HEADER_LENGTH + usize::from(length))))
}

/// The frame at the beginning of `bytes` of which the end is missing, with as much of its PDU as there is, and how many bytes the whole
/// takes; `None` when not even the function code is there.
pub fn head(bytes: &[u8]) -> Option<(Adu<'_>, usize)> {
    let ([high, low, _, _, length_high, length_low, unit_id], pdu) = bytes.split_first_chunk::<{ HEADER_LENGTH + 1 }>()?;
    // Told by its header alone, a whole frame and a piece of garbage are none of these.
    if pdu.is_empty() || decode(bytes) != Ok(None) {
        return None;
    }
    let length = HEADER_LENGTH + usize::from(u16::from_be_bytes([*length_high, *length_low]));
    Some((Adu { transaction_id: u16::from_be_bytes([*high, *low]), unit_id: *unit_id, pdu }, length))
}

/// Like [`decode`], but says after garbage how many bytes to skip to the next place where a frame can begin.
pub fn step(bytes: &[u8]) -> Step<Adu<'_>, FrameError> {
    match decode(bytes) {
        Ok(Some((frame, length))) => Step::Frame { frame, length },
        Ok(None) => Step::NeedMore,
        Err(error) => Step::Skip { length: next_start(bytes), error },
    }
}

/// How many bytes, at least one of those that are there, to the next place that [looks like](looks_like_adu) a frame's beginning.
pub fn next_start(bytes: &[u8]) -> usize {
    (1..bytes.len()).find(|&at| bytes.get(at..).is_some_and(looks_like_adu)).unwrap_or(bytes.len())
}

/// Whether `bytes` begin like a frame whose length fits its function code: a stronger check than [`decode`] makes, for a stream
/// that is entered in the middle. With less than eight bytes it looks at what is there.
pub fn looks_like_adu(bytes: &[u8]) -> bool {
    if decode(bytes).is_err() {
        return false;
    }
    let (Some(&length_high), Some(&length_low)) = (bytes.get(4), bytes.get(5)) else { return true };
    let Some(&function) = bytes.get(7) else { return true };
    let pdu_length = usize::from(u16::from_be_bytes([length_high, length_low])).saturating_sub(1);
    // Requests and responses of one function code differ in length; either will do.
    let counted = |at: usize, before: usize| bytes.get(7 + at).is_none_or(|&count| pdu_length == before + usize::from(count));
    match function {
        1..=4 => pdu_length == 5 || counted(1, 2),
        5 | 6 | 8 => pdu_length >= 5,
        7 | 11 | 12 | 17 => true,
        15 | 16 => pdu_length == 5 || counted(5, 6),
        20 | 21 => counted(1, 2),
        22 => pdu_length == 7,
        23 => counted(9, 10) || counted(1, 2),
        24 | 43 => true,
        function if function & EXCEPTION_FLAG != 0 => pdu_length == 2,
        // User-defined codes, and reserved ones that some devices use for their own.
        65..=72 | 90 | 100..=110 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Read holding registers, unit 17, offset 107, count 3.
    const REQUEST: [u8; 12] = [0x00, 0x01, 0x00, 0x00, 0x00, 0x06, 0x11, 0x03, 0x00, 0x6B, 0x00, 0x03];

    fn request() -> Adu<'static> {
        Adu { transaction_id: 1, unit_id: 0x11, pdu: &[0x03, 0x00, 0x6B, 0x00, 0x03] }
    }

    #[test]
    fn reads_a_request() {
        assert_eq!(decode(&REQUEST), Ok(Some((request(), 12))));
        assert_eq!(request().function(), 3);
        assert_eq!(request().exception(), None);
    }

    #[test]
    fn of_a_frame_that_was_cut_the_head_is_read() {
        for end in 0..=REQUEST.len() {
            let head = head(&REQUEST[..end]);
            let expected = (8..REQUEST.len()).contains(&end).then(|| (Adu { pdu: &request().pdu[..end - 7], ..request() }, 12));
            assert_eq!(head, expected, "{end} bytes");
        }
        assert_eq!(head(&[0, 1, 0, 9, 0, 6, 1, 3]), None);
    }

    #[test]
    fn reads_an_exception() {
        let bytes = [0x00, 0x01, 0x00, 0x00, 0x00, 0x03, 0x11, 0x83, 0x02];
        let (adu, length) = decode(&bytes).unwrap().unwrap();
        assert_eq!((adu.exception(), length), (Some(2), 9));
    }

    #[test]
    fn writes_what_it_reads() {
        let mut bytes = Vec::new();
        request().encode(&mut bytes).unwrap();
        assert_eq!(bytes, REQUEST);
    }

    #[test]
    fn any_part_of_a_frame_asks_for_more() {
        for end in 0..REQUEST.len() {
            assert_eq!(decode(&REQUEST[..end]), Ok(None), "{end} bytes");
            assert!(looks_like_adu(&REQUEST[..end]), "{end} bytes");
        }
    }

    #[test]
    fn refuses_what_no_modbus_header_has() {
        assert_eq!(decode(&[0, 1, 0, 1, 0, 6]), Err(FrameError::ProtocolId(1)));
        assert_eq!(decode(&[0, 1, 2]), Err(FrameError::ProtocolId(0x0200)));
        assert_eq!(decode(&[0, 1, 0, 0, 0, 1]), Err(FrameError::Length(1)));
        assert_eq!(decode(&[0, 1, 0, 0, 0, 255]), Err(FrameError::Length(255)));
        assert!(matches!(decode(&[0, 1, 0, 0, 0, 2]), Ok(None)));
        assert!(matches!(decode(&[0, 1, 0, 0, 0, 254]), Ok(None)));
    }

    #[test]
    fn a_pdu_that_does_not_fit_is_refused_and_nothing_written() {
        let mut out = Vec::new();
        let pdu = [0; 254];
        assert_eq!(Adu { transaction_id: 0, unit_id: 0, pdu: &pdu }.encode(&mut out), Err(FrameError::PduLength(254)));
        assert_eq!(Adu { transaction_id: 0, unit_id: 0, pdu: &[] }.encode(&mut out), Err(FrameError::PduLength(0)));
        assert!(out.is_empty());
    }

    #[test]
    fn finds_the_next_frame_after_garbage() {
        let mut bytes = vec![0xDE, 0xAD, 0xBE, 0xEF, 0x55];
        bytes.extend_from_slice(&REQUEST);
        let Step::Skip { length, .. } = step(&bytes) else { panic!("garbage taken for a frame") };
        assert_eq!(length, 5);
        assert_eq!(step(&bytes[length..]), Step::Frame { frame: request(), length: 12 });
    }

    #[test]
    fn a_middle_of_a_frame_does_not_look_like_one() {
        assert!(looks_like_adu(&REQUEST));
        for start in 1..REQUEST.len() - 4 {
            assert!(!looks_like_adu(&REQUEST[start..]), "from byte {start}");
        }
    }

    /// Takes frames as they come in pieces, like a reader of a stream does.
    fn frames(pieces: &[&[u8]]) -> Vec<(u16, u8, Vec<u8>)> {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match step(&buffer) {
                    Step::Frame { frame, length } => {
                        found.push((frame.transaction_id, frame.unit_id, frame.pdu.to_vec()));
                        buffer.drain(..length);
                    }
                    Step::Skip { length, .. } => {
                        assert!(length > 0);
                        buffer.drain(..length);
                    }
                    Step::NeedMore => break,
                }
                if buffer.is_empty() {
                    break;
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn frames_round_trip_whole_and_split_anywhere(
            sent in prop::collection::vec((any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 1..=253)), 1..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            for (transaction_id, unit_id, pdu) in &sent {
                Adu { transaction_id: *transaction_id, unit_id: *unit_id, pdu }.encode(&mut bytes).unwrap();
            }
            prop_assert_eq!(&frames(&[&bytes]), &sent);
            let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(&frames(&[left, right]), &sent);
        }

        #[test]
        fn garbage_never_panics_and_always_moves_on(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            frames(&[&bytes]);
            let _ = looks_like_adu(&bytes);
        }
    }
}
