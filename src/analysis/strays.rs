//! Answers to no request that was seen, by what is wrong with them.

use super::tally::{Stamp, Tally};

/// What an answer to no request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stray {
    /// Its request may have been sent before the capture began.
    BeforeCapture,
    /// A second answer to one request.
    Duplicate,
    /// It fits a request that waits, but for the transaction id ...
    WrongId,
    /// ... or but for the address (unit id, link address) that it comes from.
    WrongAddress,
    /// None of these.
    #[default]
    Unexpected,
}

/// Answers to no request that was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strays {
    pub before_capture: Tally,
    pub duplicates: Tally,
    pub wrong_id: Tally,
    pub wrong_address: Tally,
    pub unexpected: Tally,
}

impl Strays {
    fn of(&mut self, stray: Stray) -> &mut Tally {
        match stray {
            Stray::BeforeCapture => &mut self.before_capture,
            Stray::Duplicate => &mut self.duplicates,
            Stray::WrongId => &mut self.wrong_id,
            Stray::WrongAddress => &mut self.wrong_address,
            Stray::Unexpected => &mut self.unexpected,
        }
    }

    pub fn add(&mut self, stray: Stray, stamp: Stamp) {
        self.of(stray).add(stamp);
    }

    /// One of them was no stray after all: the capture has its request behind it.
    pub fn take_back(&mut self, stray: Stray) {
        let tally = self.of(stray);
        tally.count = tally.count.saturating_sub(1);
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { before_capture, duplicates, wrong_id, wrong_address, unexpected } = self;
        [before_capture, duplicates, wrong_id, wrong_address, unexpected].iter().map(|tally| tally.count).sum()
    }
}
