//! How long to wait before connecting again: twice as long each time, up to a limit.

use std::time::Duration;

/// The first wait.
pub(super) const FIRST: Duration = Duration::from_millis(100);

/// The longest wait.
pub(super) const LONGEST: Duration = Duration::from_secs(5);

/// The waits between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// How long to wait now. A connection that had held for longer than the longest wait starts the row anew; a shorter one does
    /// not, so that a broker that hangs up at once is not asked ten times a second.
    pub(super) fn after(&mut self, connected_for: Duration) -> Duration {
        if connected_for >= LONGEST {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_anew_after_a_good_connection() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> = (0..8).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(Duration::from_millis(4999)), LONGEST);
        assert_eq!(backoff.after(Duration::from_secs(60)), FIRST);
    }
}
