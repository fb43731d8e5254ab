//! The site's own clients: live sessions that must not be disturbed. They poll a device again and again and count what happens.

use super::dnp3_master::Dnp3Session;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_modbus::{
    Slave,
    client::{Client, Context, Reader, tcp},
    prelude::SlaveContext,
};

/// What a Modbus client reads: first offset and number of each block of holding registers.
const BLOCKS: [(u16, u16); 2] = [(0, 4), (20, 2)];

/// How a client polls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollSettings {
    /// From the end of one round of polls to the next.
    pub period: Duration,
    /// How long it waits for a connection, and for an answer.
    pub timeout: Duration,
    /// How long it waits after a failed or lost connection.
    pub reconnect_after: Duration,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self { period: Duration::from_millis(500), timeout: Duration::from_secs(3), reconnect_after: Duration::from_secs(1) }
    }
}

/// What a client has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Connections that were opened.
    pub connects: u64,
    /// Attempts that failed.
    pub failed_connects: u64,
    /// Connections that were lost after they had been open.
    pub disconnects: u64,
    /// Whether there is one now.
    pub connected: bool,
    /// The local port of the present or the last connection.
    pub local_port: Option<u16>,
    /// Requests that were sent.
    pub polls: u64,
    /// Answers that came in time, exceptions included.
    pub answers: u64,
    /// Answers that were exceptions.
    pub exceptions: u64,
    /// Requests that nobody answered in time.
    pub timeouts: u64,
}

/// A client's counters, shared between its task and whoever asks.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedStats(Arc<Mutex<ClientStats>>);

impl SharedStats {
    pub(super) fn get(&self) -> ClientStats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut ClientStats)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a client asks of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Polls {
    /// Two blocks of holding registers of each unit.
    Modbus { unit_ids: Vec<u8> },
    /// Everything, by an integrity poll.
    /// With `reports`, after allowing the outstation to report unasked.
    Dnp3 { master: u16, station: u16, reports: bool },
}

/// How one request went; a lost connection is an error beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PollOutcome {
    Answer,
    Exception,
    Timeout,
}

/// Polls for ever, and connects again when the connection is lost.
pub(super) async fn poll_for_ever(target: SocketAddr, polls: Polls, settings: PollSettings, stats: SharedStats) {
    loop {
        match timeout(settings.timeout, tokio::net::TcpStream::connect(target)).await {
            Ok(Ok(stream)) => {
                let local_port = stream.local_addr().ok().map(|address| address.port());
                stats.update(|stats| {
                    stats.connects += 1;
                    stats.connected = true;
                    stats.local_port = local_port;
                });
                let lost = match &polls {
                    Polls::Modbus { unit_ids } => modbus_session(stream, unit_ids, &settings, &stats).await,
                    Polls::Dnp3 { master, station, reports } => {
                        dnp3_session(Dnp3Session::new(stream, *master, *station), *reports, &settings, &stats).await
                    }
                };
                tracing::debug!(%target, error = %lost, "a client of the lab lost its connection");
                stats.update(|stats| {
                    stats.disconnects += 1;
                    stats.connected = false;
                });
            }
            Ok(Err(_)) | Err(_) => stats.update(|stats| stats.failed_connects += 1),
        }
        sleep(settings.reconnect_after).await;
    }
}

async fn modbus_session(stream: tokio::net::TcpStream, unit_ids: &[u8], settings: &PollSettings, stats: &SharedStats) -> io::Error {
    let mut context = tcp::attach(stream);
    loop {
        for (unit_id, (from, count)) in unit_ids.iter().flat_map(|unit_id| BLOCKS.map(|block| (unit_id, block))) {
            context.set_slave(Slave(*unit_id));
            stats.update(|stats| stats.polls += 1);
            match modbus_poll(&mut context, from, count, settings.timeout).await {
                Ok(outcome) => record(outcome, stats),
                Err(error) => {
                    // The connection is lost anyhow; closing it can say nothing new.
                    let _ = context.disconnect().await;
                    return error;
                }
            }
        }
        sleep(settings.period).await;
    }
}

async fn modbus_poll(context: &mut Context, from: u16, count: u16, limit: Duration) -> io::Result<PollOutcome> {
    match timeout(limit, context.read_holding_registers(from, count)).await {
        Err(_) => Ok(PollOutcome::Timeout),
        Ok(Ok(Ok(_))) => Ok(PollOutcome::Answer),
        Ok(Ok(Err(_))) => Ok(PollOutcome::Exception),
        Ok(Err(tokio_modbus::Error::Transport(error))) => Err(error),
        Ok(Err(tokio_modbus::Error::Protocol(error))) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

async fn dnp3_session(mut session: Dnp3Session, reports: bool, settings: &PollSettings, stats: &SharedStats) -> io::Error {
    let mut allowed = !reports;
    loop {
        stats.update(|stats| stats.polls += 1);
        let polled = session.integrity_poll(settings.timeout).await;
        let outcome = match polled {
            Ok(PollOutcome::Answer) if !allowed => {
                allowed = true;
                session.enable_unsolicited(settings.timeout).await
            }
            polled => polled,
        };
        match outcome {
            Ok(outcome) => record(outcome, stats),
            Err(error) => return error,
        }
        // What comes unasked in between must be confirmed, and a close must be seen at once.
        if let Err(error) = session.listen(settings.period).await {
            return error;
        }
    }
}

fn record(outcome: PollOutcome, stats: &SharedStats) {
    stats.update(|stats| match outcome {
        PollOutcome::Answer => stats.answers += 1,
        PollOutcome::Exception => {
            stats.answers += 1;
            stats.exceptions += 1;
        }
        PollOutcome::Timeout => stats.timeouts += 1,
    });
}
