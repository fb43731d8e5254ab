//! Connections that only one of the two sides still has.

use super::{
    shared::Limits,
    tally::{Stamp, Tally},
};

/// So often a side sends again, or asks whether the other is still there, before that one is gone.
const REPEATED_AT_LEAST: u8 = 3;

/// How it shows that a connection is half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfOpen {
    /// The server accepted it and the client never came back.
    NeverUsed,
    /// A side knew nothing of it any more, and reset what the other one sent.
    Forgotten,
    /// A side sent again and again, and nothing came from the other one.
    Gone,
}

/// The half-open connections of a server, by how it showed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HalfOpens {
    pub never_used: Tally,
    pub forgotten: Tally,
    pub gone: Tally,
}

impl HalfOpens {
    pub fn add(&mut self, (kind, stamp): (HalfOpen, Stamp)) {
        match kind {
            HalfOpen::NeverUsed => self.never_used.add(stamp),
            HalfOpen::Forgotten => self.forgotten.add(stamp),
            HalfOpen::Gone => self.gone.add(stamp),
        }
    }

    /// All of them.
    pub fn total(&self) -> Tally {
        let mut total = self.never_used;
        total.merge(&self.forgotten);
        total.merge(&self.gone);
        total
    }

    /// In words, with the number of each kind if there are several.
    pub fn in_words(&self) -> String {
        let kinds = [
            (self.never_used.count, "accepted, and the client never came back"),
            (self.forgotten.count, "one side knew nothing of it any more and reset what the other sent"),
            (self.gone.count, "one side sent again and again and the other said nothing more"),
        ];
        let said: Vec<_> = kinds.into_iter().filter(|(count, _)| *count > 0).collect();
        match said.as_slice() {
            [(_, words)] => (*words).to_owned(),
            several => several.iter().map(|(count, words)| format!("{count} {words}")).collect::<Vec<_>>().join("; "),
        }
    }
}

/// What a side has sent since the other one was heard last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unheard {
    since: Option<Stamp>,
    again: u8,
}

impl Unheard {
    /// The side sends bytes, or asks whether the other one is still there.
    pub fn sent(&mut self, stamp: Stamp) {
        self.since.get_or_insert(stamp);
    }

    /// It does so again.
    pub fn again(&mut self) {
        self.again = self.again.saturating_add(1);
    }

    /// Whether something waits to be acknowledged.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Since when, if it has waited so long that the other side's TCP cannot be there any more.
    pub fn too_long(&self, now: i64, limits: &Limits) -> Option<Stamp> {
        self.since.filter(|since| now.saturating_sub(since.at) > limits.attempt_timeout)
    }

    /// Since when the other side is gone, if it is: it was asked often enough, and for long enough.
    pub fn gone(&self, now: i64, limits: &Limits) -> Option<Stamp> {
        self.since.filter(|since| self.again >= REPEATED_AT_LEAST && now.saturating_sub(since.at) > limits.silence)
    }
}
