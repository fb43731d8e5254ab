//! Which protocol is spoken on a port that nobody named: told by the first bytes, and only when they leave little doubt.

use super::stream::Arrival;
use crate::{
    api::Protocol,
    protocol::{
        Step, dnp3,
        modbus::{self, Adu, EXCEPTION_FLAG},
    },
};

/// Segments with payload that are looked at before the connection is left alone.
const MAX_SEGMENTS: u8 = 6;
/// Bytes of a segment that are kept: several frames of either protocol.
const MAX_BYTES: usize = 1_024;

/// Bytes that are to be read once the protocol is known.
#[derive(Debug)]
pub(super) struct Piece {
    pub from_server: bool,
    pub bytes: Box<[u8]>,
    pub arrival: Arrival,
}

/// What was recognised, and what came until then.
#[derive(Debug)]
pub(super) struct Recognised {
    pub protocol: Protocol,
    /// Whether the side that was taken for the server asks.
    pub server_asks: bool,
    pub pieces: Vec<Piece>,
}

/// What was seen of a connection whose protocol is not known.
#[derive(Debug, Default)]
pub(super) struct Guess {
    segments: u8,
    pieces: Vec<Piece>,
}

impl Guess {
    /// Takes the payload of a segment in order.
    pub fn look(&mut self, from_server: bool, bytes: &[u8], arrival: Arrival) -> Option<Recognised> {
        if self.segments >= MAX_SEGMENTS || bytes.is_empty() {
            return None;
        }
        self.segments += 1;
        if bytes.len() > MAX_BYTES {
            self.pieces.retain(|piece| piece.from_server != from_server);
            return None;
        }
        self.pieces.push(Piece { from_server, bytes: bytes.into(), arrival });
        let mut stream = self.bytes_of(from_server);
        if !is_possible(&stream) {
            // What came before may be the end of a frame that is entered in the middle; this may begin one.
            stream = bytes.to_vec();
            self.pieces.retain(|piece| piece.from_server != from_server || piece.arrival.stamp == arrival.stamp);
        }
        if !is_possible(&stream) {
            self.pieces.retain(|piece| piece.from_server != from_server);
            return None;
        }
        let recognised = |protocol, server_asks| Recognised { protocol, server_asks, pieces: Vec::new() };
        let told = match dnp3_master(&stream) {
            Some(from_master) => recognised(Protocol::Dnp3, from_master == from_server),
            None => {
                let other = self.bytes_of(!from_server);
                // The answer must be among what came now: a request behind it is not its own.
                let before = stream.len() - bytes.len();
                let mut answered = adus(&stream).filter(|(_, end)| *end > before).map(|(answer, _)| answer);
                let is_answered =
                    answered.any(|answer| adus(&other).any(|(request, _)| is_request(&request) && answers(&request, &answer)));
                if !is_answered {
                    if self.segments == MAX_SEGMENTS {
                        self.pieces = Vec::new();
                    }
                    return None;
                }
                recognised(Protocol::Modbus, !from_server)
            }
        };
        Some(Recognised { pieces: std::mem::take(&mut self.pieces), ..told })
    }

    fn bytes_of(&self, from_server: bool) -> Vec<u8> {
        let of_side = self.pieces.iter().filter(|piece| piece.from_server == from_server);
        of_side.flat_map(|piece| piece.bytes.iter().copied()).collect()
    }
}

/// Whether these bytes may begin with a frame of either protocol.
fn is_possible(bytes: &[u8]) -> bool {
    let is_modbus = || modbus::decode(bytes).is_ok() && modbus::looks_like_adu(bytes);
    match bytes {
        [0x05] => true,
        [0x05, 0x64, ..] => !matches!(dnp3::step(bytes), Step::Skip { .. }) || is_modbus(),
        _ => is_modbus(),
    }
}

/// Whether a master sent the whole DNP3 frame with right check sums that these bytes begin with.
pub(super) fn dnp3_master(bytes: &[u8]) -> Option<bool> {
    if !bytes.starts_with(&dnp3::START) {
        return None;
    }
    if let Step::Frame { frame, .. } = dnp3::step(bytes) { Some(frame.header.control.from_master) } else { None }
}

/// The whole Modbus frames that these bytes begin with, and where each ends.
fn adus(bytes: &[u8]) -> impl Iterator<Item = (Adu<'_>, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let (adu, length) = modbus::decode(rest).ok()??;
        at += length;
        modbus::looks_like_adu(rest).then_some((adu, at))
    })
}

/// Whether it has the form of one of the functions that devices are polled and set by, or asked what they are.
fn is_request(adu: &Adu<'_>) -> bool {
    match (adu.function(), adu.pdu) {
        (1..=4, [_, _, _, high, low]) => (1..=2000).contains(&u16::from_be_bytes([*high, *low])),
        (5 | 6, pdu) => pdu.len() == 5,
        (15 | 16, [_, _, _, _, _, bytes, values @ ..]) => usize::from(*bytes) == values.len(),
        (22, pdu) => pdu.len() == 7,
        (23, [_, _, _, _, _, _, _, _, _, bytes, values @ ..]) => usize::from(*bytes) == values.len(),
        // Read device identification: all of a category, or one object.
        (43, [_, 14, category, _]) => (1..=4).contains(category),
        _ => false,
    }
}

fn answers(request: &Adu<'_>, response: &Adu<'_>) -> bool {
    (request.transaction_id, request.unit_id, request.function())
        == (response.transaction_id, response.unit_id, response.function() & !EXCEPTION_FLAG)
        && match (response.function(), response.pdu) {
            (1..=4 | 23, [_, count, values @ ..]) => usize::from(*count) == values.len(),
            (5 | 6 | 15 | 16, pdu) => pdu.len() == 5,
            (22, pdu) => pdu.len() == 7,
            (43, [_, 14, category, ..]) => (1..=4).contains(category),
            (function, [_, code]) if function & EXCEPTION_FLAG != 0 => modbus::exception_name(*code).is_some(),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::tally::Stamp;

    const REQUEST: [u8; 12] = [0, 9, 0, 0, 0, 6, 1, 3, 0, 100, 0, 1];
    const RESPONSE: [u8; 11] = [0, 9, 0, 0, 0, 5, 1, 3, 2, 0, 7];

    fn at() -> Arrival {
        Arrival { stamp: Stamp { number: 1, at: 0 }, seq_end: 0, ack: None }
    }

    /// What the segments of client (`false`) and server tell, and how many of them are kept.
    fn told(segments: &[(bool, &[u8])]) -> Option<(Protocol, bool, usize)> {
        let mut guess = Guess::default();
        let mut number = 0;
        segments.iter().find_map(|(from_server, bytes)| {
            number += 1;
            let told = guess.look(*from_server, bytes, Arrival { stamp: Stamp { number, at: 0 }, ..at() })?;
            Some((told.protocol, told.server_asks, told.pieces.len()))
        })
    }

    #[test]
    fn a_request_and_its_answer_are_modbus_however_they_are_cut() {
        let next = [&REQUEST[..], &[0, 10, 0, 0, 0, 6, 1, 3, 0, 100, 0, 1]].concat();
        assert_eq!(told(&[(true, &REQUEST), (false, &RESPONSE)]), Some((Protocol::Modbus, true, 2)));
        assert_eq!(told(&[(false, &next), (true, &RESPONSE)]), Some((Protocol::Modbus, false, 2)), "two requests at once");
        for cut in 1..REQUEST.len() {
            let segments = [(false, &REQUEST[..cut]), (false, &REQUEST[cut..]), (true, &RESPONSE)];
            assert_eq!(told(&segments), Some((Protocol::Modbus, false, 3)), "cut at {cut}");
        }
        // Entered in the middle of a frame, and with an answer first.
        assert_eq!(told(&[(false, &[9, 9, 9, 9]), (false, &REQUEST), (true, &RESPONSE)]), Some((Protocol::Modbus, false, 2)));
        assert_eq!(told(&[(true, &RESPONSE), (false, &REQUEST), (true, &RESPONSE)]).map(|told| told.0), Some(Protocol::Modbus));
    }

    #[test]
    fn who_asks_a_device_what_it_is_speaks_modbus() {
        let request = [0, 1, 0, 0, 0, 5, 1, 43, 14, 1, 0];
        let response = [0, 1, 0, 0, 0, 11, 1, 43, 14, 1, 1, 0, 0, 1, 0, 1, b'x'];
        assert_eq!(told(&[(false, &request), (true, &response)]), Some((Protocol::Modbus, false, 2)));
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        let mut other_id = RESPONSE;
        other_id[1] = 8;
        for (first, second, from_server) in
            [(&REQUEST[..], &other_id[..], true), (&REQUEST, &RESPONSE, false), (&RESPONSE, &REQUEST, true)]
        {
            let mut guess = Guess::default();
            assert!(guess.look(false, first, at()).is_none());
            assert!(guess.look(from_server, second, at()).is_none());
        }
        let mut late = Guess::default();
        for _ in 0..MAX_SEGMENTS {
            assert!(late.look(false, b"GET / HTTP/1.1\r\n", at()).is_none());
        }
        late.look(false, &REQUEST, at());
        assert!(late.look(true, &RESPONSE, at()).is_none(), "looked at the beginning only");
    }

    #[test]
    fn a_frame_with_right_check_sums_is_dnp3() {
        let frame =
            dnp3::frames(dnp3::LinkHeader::from_master(dnp3::LinkFunction::UnconfirmedUserData, 10, 1), 0, &[0xC0, 1, 60, 1, 6]);
        assert_eq!(told(&[(false, &frame)]), Some((Protocol::Dnp3, false, 1)));
        assert_eq!(told(&[(false, &frame[..7]), (false, &frame[7..])]), Some((Protocol::Dnp3, false, 2)));
        assert_eq!(told(&[(true, &frame)]), Some((Protocol::Dnp3, true, 1)), "the side that accepted is the master");
        let mut damaged = frame;
        damaged[8] ^= 1;
        assert!(Guess::default().look(false, &damaged, at()).is_none());
    }
}
