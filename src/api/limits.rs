//! From where on traffic is not as it should be. A connectivity test and the monitor's health go by the same, so that they agree.

/// One exception in so many responses is too many.
const EXCEPTIONS_ONE_IN: u64 = 10;
/// One slow response in so many is too many.
const SLOW_ONE_IN: u64 = 20;
/// So many segments sent again are no accident, ...
const RETRANSMISSIONS_MIN: u64 = 3;
/// ... if they are at least one in so many packets.
const RETRANSMISSIONS_ONE_IN: u64 = 50;

/// Whether so many of the responses are exceptions that something is wrong.
pub fn too_many_exceptions(exceptions: u64, responses: u64) -> bool {
    exceptions > 0 && exceptions.saturating_mul(EXCEPTIONS_ONE_IN) >= responses
}

/// Whether so many of the responses are slow that something is wrong.
pub fn too_many_slow(slow: u64, responses: u64) -> bool {
    slow > 0 && slow.saturating_mul(SLOW_ONE_IN) >= responses
}

/// Whether so many segments were sent again that something is wrong.
pub fn too_many_retransmissions(retransmissions: u64, packets: u64) -> bool {
    retransmissions >= RETRANSMISSIONS_MIN && retransmissions.saturating_mul(RETRANSMISSIONS_ONE_IN) >= packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_in_many_are_none_too_many() {
        assert!(!too_many_exceptions(0, 0) && !too_many_exceptions(1, 11) && too_many_exceptions(1, 10));
        assert!(!too_many_slow(0, 0) && !too_many_slow(1, 21) && too_many_slow(1, 20));
        assert!(!too_many_retransmissions(2, 10) && !too_many_retransmissions(3, 151) && too_many_retransmissions(3, 150));
    }
}
