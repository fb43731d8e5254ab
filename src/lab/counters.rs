//! What a device of the lab counts of those who talk to it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What a device has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Connections that it accepted.
    pub connections: u64,
    /// How many of them are open now.
    pub open: u64,
    /// How many the other end closed (FIN).
    pub closed_by_peer: u64,
    /// How many the other end reset (RST), or that broke in another way.
    pub broken: u64,
    /// How many the device itself closed because another came: an outstation of one connection does that.
    pub thrown_out: u64,
    /// Requests that came.
    pub requests: u64,
}

/// The same, being counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    open: AtomicU64,
    closed_by_peer: AtomicU64,
    broken: AtomicU64,
    thrown_out: AtomicU64,
    requests: AtomicU64,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    ClosedByPeer,
    Broken,
    ThrownOut,
}

impl Counters {
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn count_ending(&self, ending: Ending) {
        let counter = match ending {
            Ending::ClosedByPeer => &self.closed_by_peer,
            Ending::Broken => &self.broken,
            Ending::ThrownOut => &self.thrown_out,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts a connection that was accepted, and from then on watches how it ends.
    pub(super) fn watch(self: &Arc<Self>, stream: TcpStream) -> WatchedStream {
        self.connections.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        WatchedStream { stream, counters: Arc::clone(self), ended: false }
    }

    pub(super) fn stats(&self) -> DeviceStats {
        DeviceStats {
            connections: self.connections.load(Relaxed),
            open: self.open.load(Relaxed),
            closed_by_peer: self.closed_by_peer.load(Relaxed),
            broken: self.broken.load(Relaxed),
            thrown_out: self.thrown_out.load(Relaxed),
            requests: self.requests.load(Relaxed),
        }
    }
}

/// An accepted connection that counts how it ended: by the other end's close, or broken.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: TcpStream,
    counters: Arc<Counters>,
    ended: bool,
}

impl WatchedStream {
    /// Counts the ending, the first that is seen only.
    pub(super) fn ended(&mut self, ending: Ending) {
        if !self.ended {
            self.ended = true;
            self.counters.count_ending(ending);
        }
    }

    fn watch<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|_| self.ended(Ending::Broken))
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (room, before) = (buffer.remaining(), buffer.filled().len());
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if outcome.is_ok() && room > 0 && buffer.filled().len() == before {
            self.ended(Ending::ClosedByPeer);
        }
        Poll::Ready(self.watch(outcome))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.watch(outcome))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
