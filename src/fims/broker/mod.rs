//! The broker: takes messages and gives each to whoever subscribed to its uri or to a parent of it.
//!
//! It keeps the rules of the usual `fims_server`, so that programs cannot tell the two apart, and is harder to upset: every length is
//! checked, a client that stalls in the greeting holds up nobody, and a client that does not read loses its own messages only.
//!
//! One task per client reads packets and hands each to the `hub`, which looks up the receivers in the `routes` and
//! sends to each without waiting. There is no queue but the kernel's, one per client, which the size of a send buffer bounds; what
//! does not fit there is dropped and counted, as on a real site.

pub(crate) mod hub;
pub(crate) mod routes;
mod socket_file;

use super::Cipher;
use super::codec::MAX_TEXT_LEN;
use super::handshake::Handshake;
use super::socket::{PacketReader, Received, grow_send_buffer, try_send};
use hub::{Hub, Membership};
use socket_file::SocketFile;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};
use tokio_util::sync::CancellationToken;

/// The most clients at a time.
pub const MAX_CLIENTS: usize = 512;

/// How long a client may take over each step of the greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// How many clients may be in the greeting at a time. A further one is hung up on at once, so that those who stall there cannot use
/// up the file descriptors.
const MAX_GREETINGS: usize = 128;

/// How long to wait before accepting again when the kernel has no file descriptor for us.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another broker listens there.
    #[error("another broker listens at {path}; stop it first, or choose another socket", path = .0.display())]
    InUse(PathBuf),
    /// Something that is no socket is in the way; it is left alone.
    #[error("{path} is in the way: it is no socket; remove it, or choose another path", path = .0.display())]
    NotASocket(PathBuf),
    /// The socket could not be made.
    #[error("cannot listen at {path}: {source}", path = path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What a broker has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerCounters {
    /// Clients connected now.
    pub clients: u64,
    /// Messages taken that could be routed.
    pub messages: u64,
    /// Copies of messages given to receivers.
    pub delivered: u64,
    /// Copies dropped because the receiver did not read.
    pub dropped: u64,
    /// Packets that were no message, or one without method, process name or uri.
    pub malformed: u64,
}

/// A broker that listens but does not serve yet; see [`Broker::run`].
#[derive(Debug)]
pub struct Broker {
    listener: UnixSeqpacketListener,
    file: SocketFile,
    hub: Arc<Hub>,
}

/// A way to see how a running broker does.
#[derive(Debug, Clone)]
pub struct BrokerWatch {
    hub: Arc<Hub>,
}

impl BrokerWatch {
    /// What the broker has done so far.
    pub fn counters(&self) -> BrokerCounters {
        self.hub.counters()
    }
}

impl Broker {
    /// Listens at a path. A socket file that a dead broker left there is replaced; one that somebody listens on is not. Must be called
    /// within a tokio runtime.
    ///
    /// Every user of the machine may connect, since programs of a site run as different users and whoever may not write to the socket
    /// cannot connect.
    ///
    /// # Errors
    /// When another broker listens there, or the socket cannot be made.
    pub fn bind(path: impl AsRef<Path>, cipher: Cipher) -> Result<Self, BrokerError> {
        let path = path.as_ref();
        socket_file::remove_stale(path)?;
        let listen = |source| BrokerError::Listen { path: path.to_owned(), source };
        let listener = UnixSeqpacketListener::bind(path).map_err(listen)?;
        let file = SocketFile::adopt(path).map_err(listen)?;
        Ok(Broker { listener, file, hub: Arc::new(Hub::new(cipher)) })
    }

    /// A way to see how it does while it runs.
    pub fn watch(&self) -> BrokerWatch {
        BrokerWatch { hub: self.hub.clone() }
    }

    /// Serves until told to stop; then hangs up on every client and removes the socket file.
    pub async fn run(self, stop: CancellationToken) {
        let Broker { mut listener, file, hub } = self;
        let greetings = Arc::new(Semaphore::new(MAX_GREETINGS));
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = clients.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(socket) => match greetings.clone().try_acquire_owned() {
                    Ok(permit) => drop(clients.spawn(serve(hub.clone(), socket, permit))),
                    Err(_) => tracing::warn!("hung up on a new client: {MAX_GREETINGS} others are still in the greeting"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(file);
        drop(listener);
        clients.shutdown().await;
    }
}

/// Serves one client from the greeting to the end.
async fn serve(hub: Arc<Hub>, socket: UnixSeqpacket, permit: OwnedSemaphorePermit) {
    let mut reader = PacketReader::default();
    let Some(name) = greet(&socket, &mut reader).await else {
        tracing::debug!("a client did not greet properly");
        return;
    };
    drop(permit);
    let socket = Arc::new(socket);
    let Some(membership) = Membership::join(&hub, socket.clone(), name) else {
        tracing::warn!("hung up on a client: {MAX_CLIENTS} are connected");
        return;
    };
    loop {
        match reader.receive(&socket).await {
            Ok(Received::Packet(packet)) => membership.handle(packet),
            Ok(Received::TooLong(_)) => hub.count_malformed(),
            Ok(Received::Closed) => break,
            Err(error) => {
                tracing::debug!(%error, "a client is lost");
                break;
            }
        }
        // A client that floods must not keep this thread from the others.
        tokio::task::consume_budget().await;
    }
}

/// The greeting; returns the client's name.
async fn greet(socket: &UnixSeqpacket, reader: &mut PacketReader) -> Option<String> {
    let limit = grow_send_buffer(socket).ok()?;
    tracing::trace!(limit, "a client connects");
    try_send(socket, &Handshake::OURS.encode()).ok()?;
    let ours = match tokio::time::timeout(GREETING_TIMEOUT, reader.receive(socket)).await {
        Ok(Ok(Received::Packet(bytes))) => Handshake::decode(bytes) == Some(Handshake::OURS),
        _ => false,
    };
    if !ours {
        return None;
    }
    match tokio::time::timeout(GREETING_TIMEOUT, reader.receive(socket)).await {
        Ok(Ok(Received::Packet(name))) => Some(String::from_utf8_lossy(name.get(..MAX_TEXT_LEN).unwrap_or(name)).into_owned()),
        _ => None,
    }
}
