//! Whether a server that talked says nothing any more: although it is asked, or although it used to speak by itself.

use super::tally::{Stamp, Times};

/// One packet that is sent in vain may be lost, and the one before an answer is answered by it.
const ASKED_AT_LEAST: u64 = 3;
/// What comes so long after the latest packet that asks is no answer to it.
const UNASKED_NS: i64 = 500_000_000;
/// A server that spoke by itself so often has a pace.
const SPOKE_AT_LEAST: u64 = 10;
/// A server that spoke by itself has fallen silent after so many times its longest pause.
const PAUSES: i64 = 4;

/// A time without any packet of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spell {
    /// The server's packet before it.
    pub from: Stamp,
    /// The server's packet behind it, or the latest in vain.
    pub to: Stamp,
    /// How often the server was asked in it.
    pub asked: u64,
}

/// The silences of a server that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub count: u64,
    /// The server's packet before the first of them.
    pub from: Stamp,
    /// The server's packet behind the latest of them.
    pub to: Stamp,
    pub longest: Spell,
}

/// What is known of a server's silence.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The first and the latest packets since the server's latest that ask something, and how many there were.
    asked: Option<(Stamp, Stamp, u64)>,
    over: Option<Over>,
    asked_at: Option<i64>,
    /// From one message to the next that the server sent without being asked, and its latest message.
    pauses: Times,
    spoke: u64,
    latest: Option<Stamp>,
}

impl Silence {
    /// A packet that asks something.
    pub fn asked(&mut self, stamp: Stamp) {
        self.asked_at = Some(stamp.at);
        match &mut self.asked {
            Some((_, latest, times)) => (*latest, *times) = (stamp, *times + 1),
            None => self.asked = Some((stamp, stamp, 1)),
        }
    }

    /// A packet of the server, with payload or not, whose packet before was `last`.
    pub fn ended(&mut self, last: Option<Stamp>, payload: bool, stamp: Stamp, silence_ns: i64) {
        let asked = self.asked.take();
        if let (Some(from), Some((first, _, asked))) = (last, asked)
            && asked >= ASKED_AT_LEAST
            && stamp.at.saturating_sub(first.at) > silence_ns
        {
            let spell = Spell { from, to: stamp, asked };
            let ns = |spell: &Spell| spell.to.at.saturating_sub(spell.from.at);
            let over = self.over.get_or_insert(Over { count: 0, from, to: stamp, longest: spell });
            (over.count, over.to) = (over.count + 1, stamp);
            if ns(&spell) > ns(&over.longest) {
                over.longest = spell;
            }
        }
        if payload {
            let is_unasked = self.asked_at.is_none_or(|asked| stamp.at.saturating_sub(asked) > UNASKED_NS);
            if let Some(latest) = self.latest.filter(|_| is_unasked) {
                self.pauses.add(stamp.at.saturating_sub(latest.at));
                self.spoke += 1;
            }
            self.latest = Some(stamp);
        }
    }

    /// The silences that ended, if there were any.
    pub fn over(&self) -> Option<Over> {
        self.over
    }

    /// The silence that lasts since the server's packet `last`, if it is asked in vain for long enough.
    pub fn lasting(&self, last: Option<Stamp>, now: i64, silence_ns: i64) -> Option<Spell> {
        let (from, (first, latest, asked)) = (last?, self.asked?);
        (asked + 1 >= ASKED_AT_LEAST && now.saturating_sub(first.at) > silence_ns).then_some(Spell { from, to: latest, asked })
    }

    /// The latest message of a server that used to speak by itself and has not for much longer than it ever paused, and its longest pause.
    pub fn fell_silent(&self, now: i64, silence_ns: i64) -> Option<(Stamp, i64)> {
        let latest = self.latest.filter(|_| self.spoke >= SPOKE_AT_LEAST && self.asked.is_none_or(|(.., asked)| asked <= 1))?;
        let pause = self.pauses.max_ns();
        (now.saturating_sub(latest.at) > silence_ns.max(pause.saturating_mul(PAUSES))).then_some((latest, pause))
    }
}
