//! When a server answered nothing although it was asked: what several ports of one host may have in common.

use super::tally::Stamp;
use std::collections::VecDeque;

/// Spells that are remembered for each server, the latest ones.
const MAX_SPELLS: usize = 16;

/// A time in which a server that had answered before was asked, and answered nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spell {
    /// The first request of it.
    pub from: Stamp,
    /// The answer that ended it, or the latest request.
    pub to: Stamp,
    /// The requests in it.
    pub requests: u64,
    /// Whether it was ended by an answer.
    pub is_over: bool,
}

impl Spell {
    /// How long it lasted; one that is not over lasts until `now`.
    pub fn ns(&self, now: i64) -> i64 {
        self.end(now).saturating_sub(self.from.at)
    }

    /// When it ended, or `now`.
    pub fn end(&self, now: i64) -> i64 {
        if self.is_over { self.to.at } else { now }
    }
}

/// The spells of one server.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// The first and the latest request since the latest answer, and how many there were.
    asked: Option<(Stamp, Stamp, u64)>,
    has_answered: bool,
    spells: VecDeque<Spell>,
}

impl Quiet {
    /// Somebody asks.
    pub fn asked(&mut self, stamp: Stamp) {
        match &mut self.asked {
            Some((_, latest, requests)) => (*latest, *requests) = (stamp, *requests + 1),
            None => self.asked = Some((stamp, stamp, 1)),
        }
    }

    /// The server answers, whatever and whomever.
    pub fn answered(&mut self, stamp: Stamp, timeout_ns: i64) {
        if let Some((from, _, requests)) = self.asked.take()
            && self.has_answered
            && stamp.at.saturating_sub(from.at) > timeout_ns
        {
            if self.spells.len() == MAX_SPELLS {
                self.spells.pop_front();
            }
            self.spells.push_back(Spell { from, to: stamp, requests, is_over: true });
        }
        self.has_answered = true;
    }

    /// The spells that lasted longer than the time-out, the one that lasts included.
    pub fn spells(&self, now: i64, timeout_ns: i64) -> impl Iterator<Item = Spell> + '_ {
        let open = self.asked.filter(|(from, ..)| self.has_answered && now.saturating_sub(from.at) > timeout_ns);
        let open = open.map(|(from, to, requests)| Spell { from, to, requests, is_over: false });
        self.spells.iter().copied().chain(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: i64) -> Stamp {
        Stamp { number: 1, at }
    }

    #[test]
    fn a_spell_is_without_any_answer_and_a_single_loss_between_answers_is_none() {
        let mut quiet = Quiet::default();
        quiet.asked(at(0));
        assert_eq!(quiet.spells(99, 20).count(), 0, "it never answered, so it has not stopped");
        quiet.answered(at(100), 20);
        // The first of these is lost, and the next one answered.
        [110, 120].into_iter().for_each(|ms| quiet.asked(at(ms)));
        quiet.answered(at(121), 20);
        [130, 140, 150].into_iter().for_each(|ms| quiet.asked(at(ms)));
        quiet.answered(at(155), 20);
        let over = Spell { from: at(130), to: at(155), requests: 3, is_over: true };
        assert_eq!(quiet.spells(160, 20).collect::<Vec<_>>(), [over]);
        quiet.asked(at(160));
        assert_eq!(quiet.spells(180, 20).count(), 1, "there is still time");
        let open = quiet.spells(181, 20).last().unwrap();
        assert_eq!((open.ns(181), over.ns(999)), (21, 25));
    }

    #[test]
    fn memory_is_bounded() {
        let mut quiet = Quiet::default();
        for round in 0..1_000 {
            quiet.asked(at(round * 100));
            quiet.answered(at(round * 100 + 50), 20);
        }
        assert_eq!(quiet.spells.len(), MAX_SPELLS);
    }
}
