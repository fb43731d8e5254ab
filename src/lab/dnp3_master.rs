//! A DNP3 master's end of a live session.

use super::{
    client::PollOutcome,
    dnp3_link::Link,
    dnp3_outstation::{
        CLEAR_RESTART, CONFIRM, ENABLE_UNSOLICITED, PLEASE_CONFIRM, READ, RESPONSE, RESTARTED, SEQUENCE, UNSOLICITED,
        UNSOLICITED_RESPONSE, WHOLE, WRITE,
    },
};
use std::{io, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// The last fragment of a response.
const FINAL: u8 = 0x40;
/// Event classes 1 to 3, all of them.
const EVENT_CLASSES: [u8; 9] = [60, 2, 0x06, 60, 3, 0x06, 60, 4, 0x06];
/// Class 0: what is so now.
const STATIC_DATA: [u8; 3] = [60, 1, 0x06];

/// A connection to an outstation.
#[derive(Debug)]
pub(super) struct Dnp3Session {
    link: Link<TcpStream>,
    sequence: u8,
    outstation_restarted: bool,
}

impl Dnp3Session {
    /// A session over a fresh connection.
    pub(super) fn new(stream: TcpStream, master: u16, station: u16) -> Self {
        Self { link: Link::new(stream, true, master, station), sequence: 0, outstation_restarted: false }
    }

    /// Reads all classes; afterwards takes note of a restart, as a master must.
    pub(super) async fn integrity_poll(&mut self, limit: Duration) -> io::Result<PollOutcome> {
        let outcome = self.request(READ, &[EVENT_CLASSES.as_slice(), &STATIC_DATA].concat(), limit).await?;
        if self.outstation_restarted && outcome == PollOutcome::Answer {
            self.request(WRITE, &CLEAR_RESTART, limit).await?;
        }
        Ok(outcome)
    }

    /// Allows the outstation to report unasked.
    pub(super) async fn enable_unsolicited(&mut self, limit: Duration) -> io::Result<PollOutcome> {
        self.request(ENABLE_UNSOLICITED, &EVENT_CLASSES, limit).await
    }

    /// Takes in what comes unasked for this long, and asks for the link status at its end, which keeps the connection in use.
    pub(super) async fn listen(&mut self, duration: Duration) -> io::Result<()> {
        match timeout(duration, self.take_reports()).await {
            Ok(ended) => ended,
            Err(_) => self.link.request_link_status().await,
        }
    }

    async fn take_reports(&mut self) -> io::Result<()> {
        loop {
            let fragment = self.link.receive().await?;
            self.take(&fragment).await?;
        }
    }

    async fn request(&mut self, function: u8, objects: &[u8], limit: Duration) -> io::Result<PollOutcome> {
        self.sequence = self.sequence.wrapping_add(1) & SEQUENCE;
        self.link.send(&[&[WHOLE | self.sequence, function], objects].concat()).await?;
        match timeout(limit, self.answer()).await {
            Err(_) => Ok(PollOutcome::Timeout),
            Ok(answered) => answered.map(|()| PollOutcome::Answer),
        }
    }

    /// Waits for the last fragment of the answer to the present request.
    async fn answer(&mut self) -> io::Result<()> {
        loop {
            let fragment = self.link.receive().await?;
            let is_answer = self.take(&fragment).await?;
            if is_answer {
                return Ok(());
            }
        }
    }

    /// Takes a fragment in and confirms it where that is asked for; whether it ends the answer to the present request.
    async fn take(&mut self, fragment: &[u8]) -> io::Result<bool> {
        let [control, function @ (RESPONSE | UNSOLICITED_RESPONSE), indications, ..] = *fragment else {
            return Ok(false);
        };
        self.outstation_restarted = indications & RESTARTED != 0;
        if control & PLEASE_CONFIRM != 0 {
            self.link.send(&[WHOLE | control & (UNSOLICITED | SEQUENCE), CONFIRM]).await?;
        }
        Ok(function == RESPONSE && control & SEQUENCE == self.sequence && control & FINAL != 0)
    }
}
