//! How long a PDU must be, and what an answer says of the request that it belongs to.

use super::{Query, words::EXCEPTION_FLAG};

fn word(pdu: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*pdu.get(at)?, *pdu.get(at + 1)?]))
}

/// The length of a PDU that tells at byte `at` how many bytes follow.
fn counted(pdu: &[u8], at: usize) -> Option<usize> {
    pdu.get(at).map(|&count| at + 1 + usize::from(count))
}

/// How many bytes that many coils take.
fn coil_bytes(coils: u16) -> usize {
    usize::from(coils).div_ceil(8)
}

/// Whether a request is as long as its function and its own byte count say. Of functions that leave the length open, any is.
pub fn request_is_whole(pdu: &[u8]) -> bool {
    let Some(&function) = pdu.first() else { return false };
    let count = || word(pdu, 3).unwrap_or(0);
    let bytes = || pdu.get(5).map_or(0, |&bytes| usize::from(bytes));
    match function {
        1..=6 => pdu.len() == 5,
        7 | 11 | 12 | 17 => pdu.len() == 1,
        15 => Some(pdu.len()) == counted(pdu, 5) && bytes() == coil_bytes(count()),
        16 => Some(pdu.len()) == counted(pdu, 5) && bytes() == 2 * usize::from(count()),
        20 | 21 => Some(pdu.len()) == counted(pdu, 1),
        22 => pdu.len() == 7,
        23 => Some(pdu.len()) == counted(pdu, 9),
        24 => pdu.len() == 3,
        _ => true,
    }
}

/// Whether a response is as long as its function and its own byte count say. Of functions that leave the length open, any is.
pub fn response_is_whole(pdu: &[u8]) -> bool {
    let Some(&function) = pdu.first() else { return false };
    match function {
        1..=4 | 12 | 17 | 20 | 21 | 23 => Some(pdu.len()) == counted(pdu, 1),
        5 | 6 | 11 | 15 | 16 => pdu.len() == 5,
        7 => pdu.len() == 2,
        22 => pdu.len() == 7,
        24 => word(pdu, 1).is_some_and(|count| pdu.len() == 3 + usize::from(count)),
        function if function & EXCEPTION_FLAG != 0 => pdu.len() == 2,
        _ => true,
    }
}

/// What an answer says of the request that it belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Echo {
    /// Nothing.
    #[default]
    Nothing,
    /// How many bytes of values were read.
    Bytes(u8),
    /// The coil or register that was written ...
    Offset(u16),
    /// ... or the first of several, and how many.
    Range(u16, u16),
}

impl Echo {
    /// Reads a response's PDU, or as much of its beginning as there is.
    pub fn of_response(pdu: &[u8]) -> Self {
        let said = match pdu.first() {
            Some(1..=4 | 23) => pdu.get(1).map(|&bytes| Self::Bytes(bytes)),
            Some(5 | 6 | 22) => word(pdu, 1).map(Self::Offset),
            Some(15 | 16) => word(pdu, 1).zip(word(pdu, 3)).map(|(offset, count)| Self::Range(offset, count)),
            _ => None,
        };
        said.unwrap_or_default()
    }

    /// Whether an answer that says this can belong to a query of the same function.
    pub fn fits(&self, query: &Query) -> bool {
        let (is_offset, is_count) =
            (|offset| query.offset.is_none_or(|asked| asked == offset), |count| query.count.is_none_or(|asked| asked == count));
        match *self {
            Self::Nothing => true,
            Self::Bytes(bytes) => query.count.is_none_or(|count| {
                usize::from(bytes) == if query.function <= 2 { coil_bytes(count) } else { 2 * usize::from(count) }
            }),
            Self::Offset(offset) => is_offset(offset),
            Self::Range(offset, count) => is_offset(offset) && is_count(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_by_function() {
        let requests: [&[u8]; 9] = [
            &[3, 0, 107, 0, 3],
            &[5, 0, 172, 0xFF, 0],
            &[15, 0, 19, 0, 10, 2, 0xCD, 1],
            &[16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
            &[22, 0, 4, 0, 0xF2, 0, 0x25],
            &[23, 0, 3, 0, 6, 0, 14, 0, 1, 2, 0, 255],
            &[24, 4, 0xDE],
            &[17],
            &[43, 14, 1, 0],
        ];
        let responses: [&[u8]; 9] = [
            &[1, 3, 0xCD, 0x6B, 5],
            &[3, 6, 2, 0x2B, 0, 0, 0, 0x64],
            &[6, 0, 1, 0, 3],
            &[16, 0, 1, 0, 2],
            &[0x83, 2],
            &[24, 0, 6, 0, 2, 1, 0xB8, 0x12, 0x84],
            &[7, 0x6D],
            &[8, 0, 0, 0xA5, 0x37],
            &[100, 1, 2, 3],
        ];
        assert!(requests.into_iter().all(request_is_whole) && responses.into_iter().all(response_is_whole));
        for wrong in [&requests[0][..4], &requests[2][..7], &requests[3][..9], &[16, 0, 1, 0, 2, 2, 0, 10], &[17, 0], &[]] {
            assert!(!request_is_whole(wrong), "{wrong:?}");
        }
        // The byte count says 20, and 6 bytes are there.
        for wrong in [&[3, 20, 0, 0, 0, 0, 0, 0][..], &responses[0][..4], &[0x83], &[0x83, 2, 0], &[16, 0, 1, 0], &[]] {
            assert!(!response_is_whole(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_fits_the_query_whose_size_and_place_it_repeats() {
        let fits = |request: &[u8], response: &[u8]| Echo::of_response(response).fits(&Query::of_request(1, request));
        assert!(fits(&[3, 0, 0, 0, 10], &[3, 20]) && !fits(&[3, 0, 0, 0, 10], &[3, 8]));
        assert!(fits(&[1, 0, 0, 0, 19], &[1, 3]) && !fits(&[1, 0, 0, 0, 19], &[1, 2]));
        assert!(fits(&[6, 0, 9, 0, 1], &[6, 0, 9, 0, 1]) && !fits(&[6, 0, 9, 0, 1], &[6, 0, 8, 0, 1]));
        assert!(fits(&[16, 0, 1, 0, 2], &[16, 0, 1, 0, 2]) && !fits(&[16, 0, 1, 0, 2], &[16, 0, 1, 0, 3]));
        assert!(fits(&[3, 0, 0, 0, 10], &[0x83, 2]), "an exception says nothing of it");
        assert!(fits(&[3, 0, 0, 0, 10], &[3]) && fits(&[3, 0], &[3, 8]), "what was cut says nothing of it");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(request in prop::collection::vec(any::<u8>(), 0..300), response in prop::collection::vec(any::<u8>(), 0..300)) {
            request_is_whole(&request);
            response_is_whole(&response);
            Echo::of_response(&response).fits(&Query::of_request(1, &request));
        }
    }
}
