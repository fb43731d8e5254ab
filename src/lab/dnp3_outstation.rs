//! A DNP3 outstation that takes one connection at a time and, like the old ones, closes it when a second one comes.

use super::{
    counters::{Counters, Ending, WatchedStream},
    dnp3_link::Link,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, sleep_until},
};

/// Application control: first and last fragment, please confirm, unsolicited.
pub(super) const WHOLE: u8 = 0xC0;
pub(super) const PLEASE_CONFIRM: u8 = 0x20;
pub(super) const UNSOLICITED: u8 = 0x10;
pub(super) const SEQUENCE: u8 = 0x0F;

/// Function codes.
pub(super) const CONFIRM: u8 = 0;
pub(super) const READ: u8 = 1;
pub(super) const WRITE: u8 = 2;
pub(super) const ENABLE_UNSOLICITED: u8 = 20;
pub(super) const DISABLE_UNSOLICITED: u8 = 21;
pub(super) const RESPONSE: u8 = 129;
pub(super) const UNSOLICITED_RESPONSE: u8 = 130;

/// Internal indications, first byte: the device has restarted.
pub(super) const RESTARTED: u8 = 0x80;
/// Second byte: no such function; no such object.
const NO_SUCH_FUNCTION: u8 = 0x01;
const NO_SUCH_OBJECT: u8 = 0x02;

/// The bit "restart" of the internal indications, being written 0: group 80 variation 1, index 7 to 7.
pub(super) const CLEAR_RESTART: [u8; 6] = [80, 1, 0x00, 7, 7, 0];

/// How many analog inputs it has.
const POINTS: u8 = 4;
/// A point is online.
const ONLINE: u8 = 0x01;

/// An outstation.
#[derive(Debug, Clone)]
pub(super) struct Outstation {
    /// The link address of its master.
    pub(super) master: u16,
    /// Its own link address.
    pub(super) station: u16,
    /// How often it reports unasked, once the master has allowed it.
    pub(super) unsolicited: Option<Duration>,
    /// How long it takes to answer; `None`: it never does.
    pub(super) answers_after: Option<Duration>,
}

/// Serves one master at a time until its future is dropped.
pub(super) async fn serve(listener: TcpListener, outstation: Outstation, counters: Arc<Counters>) -> io::Result<()> {
    let mut state = State::new();
    let (mut stream, _) = listener.accept().await?;
    loop {
        let link = Link::new(counters.watch(stream), false, outstation.station, outstation.master);
        let mut session = Session { link, outstation: &outstation, state: &mut state, counters: &counters };
        stream = tokio::select! {
            // A connection that has ended is not thrown out, even if the next one is there already.
            biased;
            // A lost connection has been counted by the stream; the next one is waited for.
            _ = session.run() => listener.accept().await?.0,
            another = listener.accept() => {
                session.link.stream_mut().ended(Ending::ThrownOut);
                another?.0
            }
        };
    }
}

/// What an outstation remembers over its connections.
#[derive(Debug)]
struct State {
    started: Instant,
    restarted: bool,
    may_report: bool,
    next_report: u8,
}

impl State {
    fn new() -> Self {
        Self { started: Instant::now(), restarted: true, may_report: false, next_report: 0 }
    }

    /// The answer to a request, or nothing for what is not answered.
    fn answer(&mut self, request: &[u8], can_report: bool) -> Option<Vec<u8>> {
        let [control, function, objects @ ..] = request else { return None };
        let mut indications = 0;
        let mut data = Vec::new();
        match *function {
            CONFIRM => return None,
            READ => match asks_for_static_data(objects) {
                Some(true) => data = self.analog_inputs(),
                Some(false) => {}
                None => indications = NO_SUCH_OBJECT,
            },
            WRITE if objects == CLEAR_RESTART => self.restarted = false,
            WRITE => indications = NO_SUCH_OBJECT,
            ENABLE_UNSOLICITED if can_report => self.may_report = true,
            DISABLE_UNSOLICITED if can_report => self.may_report = false,
            _ => indications = NO_SUCH_FUNCTION,
        }
        let mut answer = vec![WHOLE | control & SEQUENCE, RESPONSE, self.restart_bit(), indications];
        answer.append(&mut data);
        Some(answer)
    }

    /// All analog inputs: group 30 variation 1 (32 bits with flag), by first and last index.
    fn analog_inputs(&self) -> Vec<u8> {
        let mut objects = vec![30, 1, 0x00, 0, POINTS - 1];
        objects.extend((0..POINTS).flat_map(|index| self.analog_input(index)));
        objects
    }

    fn analog_input(&self, index: u8) -> [u8; 5] {
        // The first one counts the seconds; the others stand still. Values are 32 bits.
        let seconds = i32::try_from(self.started.elapsed().as_secs()).unwrap_or(i32::MAX);
        let value = if index == 0 { seconds } else { i32::from(index) * 1000 };
        let [a, b, c, d] = value.to_le_bytes();
        [ONLINE, a, b, c, d]
    }

    /// A report that nobody asked for: an event of the first analog input (group 32 variation 1), or, before the master has allowed
    /// reports, only the news of the restart.
    fn report(&mut self) -> Vec<u8> {
        let control = WHOLE | PLEASE_CONFIRM | UNSOLICITED | self.next_report & SEQUENCE;
        self.next_report = self.next_report.wrapping_add(1);
        let mut report = vec![control, UNSOLICITED_RESPONSE, self.restart_bit(), 0];
        if self.may_report {
            report.extend([32, 1, 0x17, 1, 0]);
            report.extend(self.analog_input(0));
        }
        report
    }

    fn restart_bit(&self) -> u8 {
        if self.restarted { RESTARTED } else { 0 }
    }
}

/// Whether a read asks for class 0 or for analog inputs, all of them; `None` if it asks for what there is not.
fn asks_for_static_data(objects: &[u8]) -> Option<bool> {
    let (headers, []) = objects.as_chunks::<3>() else { return None };
    headers.iter().try_fold(false, |asked, header| match header {
        [60, 1, 0x06] | [30, 0 | 1, 0x06] => Some(true),
        [60, 2..=4, 0x06] => Some(asked),
        _ => None,
    })
}

/// One master's connection.
struct Session<'a> {
    link: Link<WatchedStream>,
    outstation: &'a Outstation,
    state: &'a mut State,
    counters: &'a Counters,
}

impl Session<'_> {
    async fn run(&mut self) -> io::Result<()> {
        let answers = self.outstation.answers_after.is_some();
        let period = self.outstation.unsolicited.filter(|_| answers);
        if period.is_some() {
            self.link.send(&self.state.report()).await?;
        }
        let mut next_report = period.map(|period| Instant::now() + period);
        loop {
            tokio::select! {
                request = self.link.receive() => self.answer(&request?).await?,
                () = sleep_until(next_report.unwrap_or_else(Instant::now)), if next_report.is_some() => {
                    if self.state.may_report {
                        self.link.send(&self.state.report()).await?;
                    }
                    next_report = period.map(|period| Instant::now() + period);
                }
            }
        }
    }

    async fn answer(&mut self, request: &[u8]) -> io::Result<()> {
        if request.get(1).is_some_and(|function| *function != CONFIRM) {
            self.counters.count_request();
        }
        let Some(delay) = self.outstation.answers_after else { return Ok(()) };
        let Some(answer) = self.state.answer(request, self.outstation.unsolicited.is_some()) else { return Ok(()) };
        sleep(delay).await;
        self.link.send(&answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEGRITY_POLL: [u8; 14] = [0xC3, READ, 60, 2, 6, 60, 3, 6, 60, 4, 6, 60, 1, 6];

    #[tokio::test]
    async fn an_integrity_poll_brings_every_point_and_the_restart_bit_until_it_is_cleared() {
        let mut state = State::new();
        let answer = state.answer(&INTEGRITY_POLL, false).unwrap();
        assert_eq!(answer[..9], [0xC3, RESPONSE, RESTARTED, 0, 30, 1, 0, 0, 3]);
        assert_eq!(answer.len(), 9 + 4 * 5);
        let cleared = state.answer(&[&[0xC4, WRITE], CLEAR_RESTART.as_slice()].concat(), false);
        assert_eq!(cleared.unwrap(), [0xC4, RESPONSE, 0, 0]);
        assert_eq!(state.answer(&[0xC5, READ, 60, 2, 6], false).unwrap(), [0xC5, RESPONSE, 0, 0]);
    }

    #[tokio::test]
    async fn what_it_cannot_do_it_says() {
        let mut state = State::new();
        assert_eq!(state.answer(&[0xC1, ENABLE_UNSOLICITED, 60, 2, 6], false).unwrap()[3], NO_SUCH_FUNCTION);
        assert_eq!(state.answer(&[0xC1, ENABLE_UNSOLICITED, 60, 2, 6], true).unwrap()[3], 0);
        assert_eq!(state.answer(&[0xC1, READ, 110, 0, 6], false).unwrap()[3], NO_SUCH_OBJECT);
        assert_eq!(state.answer(&[0xC1, READ, 60, 1], false).unwrap()[3], NO_SUCH_OBJECT);
        assert_eq!(state.answer(&[0xC1, CONFIRM], false), None);
        assert_eq!(state.answer(&[0xC1], false), None);
    }
}
