//! From where on traffic is not as it should be. A connectivity test and the monitor's health go by the same, so that they agree.

/// How much of what goes wrong an endpoint bears before it is degraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DegradedFrom {
    /// One exception in so many responses is too many.
    pub exceptions_one_in: u64,
    /// One slow response in so many is too many.
    pub slow_one_in: u64,
    /// So many segments sent again are no accident, ...
    pub retransmissions_min: u64,
    /// ... if they are at least one in so many packets.
    pub retransmissions_one_in: u64,
}

impl Default for DegradedFrom {
    fn default() -> Self {
        Self { exceptions_one_in: 10, slow_one_in: 20, retransmissions_min: 3, retransmissions_one_in: 50 }
    }
}

impl DegradedFrom {
    /// Whether so many of the responses are exceptions that something is wrong.
    pub fn too_many_exceptions(&self, exceptions: u64, responses: u64) -> bool {
        is_one_in(exceptions, self.exceptions_one_in, responses)
    }

    /// Whether so many of the responses are slow that something is wrong.
    pub fn too_many_slow(&self, slow: u64, responses: u64) -> bool {
        is_one_in(slow, self.slow_one_in, responses)
    }

    /// Whether so many segments were sent again that something is wrong.
    pub fn too_many_retransmissions(&self, retransmissions: u64, packets: u64) -> bool {
        retransmissions >= self.retransmissions_min && is_one_in(retransmissions, self.retransmissions_one_in, packets)
    }
}

/// Whether `part` is one in `one_in` of `all`, or more.
pub fn is_one_in(part: u64, one_in: u64, all: u64) -> bool {
    part > 0 && part.saturating_mul(one_in) >= all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_in_many_are_none_too_many() {
        let usual = DegradedFrom::default();
        assert!(!usual.too_many_exceptions(0, 0) && !usual.too_many_exceptions(1, 11) && usual.too_many_exceptions(1, 10));
        assert!(!usual.too_many_slow(0, 0) && !usual.too_many_slow(1, 21) && usual.too_many_slow(1, 20));
        assert!(!usual.too_many_retransmissions(2, 10));
        assert!(!usual.too_many_retransmissions(3, 151) && usual.too_many_retransmissions(3, 150));
    }

    #[test]
    fn what_is_too_many_is_for_the_site_to_say() {
        let strict =
            DegradedFrom { exceptions_one_in: 1000, slow_one_in: 1000, retransmissions_min: 1, retransmissions_one_in: 1000 };
        assert!(strict.too_many_exceptions(1, 1000) && strict.too_many_slow(1, 1000) && strict.too_many_retransmissions(1, 1000));
        let lenient = DegradedFrom { exceptions_one_in: 1, slow_one_in: 1, retransmissions_min: 100, retransmissions_one_in: 1 };
        assert!(!lenient.too_many_exceptions(9, 10) && !lenient.too_many_slow(9, 10) && !lenient.too_many_retransmissions(99, 99));
    }
}
