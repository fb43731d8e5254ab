//! Which protocol is spoken on a port that nobody named: told by the first bytes, and only when they leave little doubt.

use super::stream::Arrival;
use crate::protocol::{
    Step, dnp3,
    modbus::{self, Adu, EXCEPTION_FLAG},
};

/// Segments with payload that are looked at before the connection is left alone.
const MAX_SEGMENTS: u8 = 6;

/// What was recognised.
#[derive(Debug)]
pub(super) enum Recognised {
    /// Modbus: a request and its answer. The request came before, from the server if it is the side that asks.
    Modbus {
        /// The request's bytes ...
        request: Box<[u8]>,
        /// ... and when they came.
        arrival: Arrival,
        /// Whether the side that accepted the connection asks.
        server_asks: bool,
    },
    /// DNP3: a whole frame with right check sums.
    Dnp3,
}

/// What was seen of a connection whose protocol is not known.
#[derive(Debug, Default)]
pub(super) struct Guess {
    segments: u8,
    /// A segment that is exactly one Modbus request, who sent it, and when.
    request: Option<(Box<[u8]>, bool, Arrival)>,
}

impl Guess {
    /// Takes the payload of a segment in order.
    pub fn look(&mut self, from_server: bool, bytes: &[u8], arrival: Arrival) -> Option<Recognised> {
        if self.segments >= MAX_SEGMENTS || bytes.is_empty() {
            return None;
        }
        self.segments += 1;
        if bytes.starts_with(&dnp3::START) {
            return matches!(dnp3::step(bytes), Step::Frame { .. }).then_some(Recognised::Dnp3);
        }
        let Ok(Some((adu, length))) = modbus::decode(bytes) else { return None };
        if length != bytes.len() || !modbus::looks_like_adu(bytes) {
            return None;
        }
        if let Some((request, server_asks, asked)) = &self.request
            && *server_asks != from_server
            && modbus::decode(request).is_ok_and(|asked| asked.is_some_and(|(asked, _)| answers(&asked, &adu)))
        {
            return Some(Recognised::Modbus { request: request.clone(), arrival: *asked, server_asks: *server_asks });
        }
        if is_request(&adu) {
            self.request = Some((bytes.into(), from_server, arrival));
        }
        None
    }
}

/// Whether it has the form of one of the eight functions that devices are polled and set by.
fn is_request(adu: &Adu<'_>) -> bool {
    match (adu.function(), adu.pdu) {
        (1..=4, [_, _, _, high, low]) => (1..=2000).contains(&u16::from_be_bytes([*high, *low])),
        (5 | 6, pdu) => pdu.len() == 5,
        (15 | 16, [_, _, _, _, _, bytes, values @ ..]) => usize::from(*bytes) == values.len(),
        _ => false,
    }
}

fn answers(request: &Adu<'_>, response: &Adu<'_>) -> bool {
    (request.transaction_id, request.unit_id, request.function())
        == (response.transaction_id, response.unit_id, response.function() & !EXCEPTION_FLAG)
        && match (response.function(), response.pdu) {
            (1..=4, [_, count, values @ ..]) => usize::from(*count) == values.len(),
            (5 | 6 | 15 | 16, pdu) => pdu.len() == 5,
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

    #[test]
    fn a_request_and_its_answer_are_modbus() {
        let mut guess = Guess::default();
        assert!(guess.look(true, &REQUEST, at()).is_none());
        let Some(Recognised::Modbus { request, server_asks: true, .. }) = guess.look(false, &RESPONSE, at()) else {
            panic!("not seen")
        };
        assert_eq!(*request, REQUEST);
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
        assert!(matches!(Guess::default().look(false, &frame, at()), Some(Recognised::Dnp3)));
        let mut damaged = frame;
        damaged[8] ^= 1;
        assert!(Guess::default().look(false, &damaged, at()).is_none());
    }
}
