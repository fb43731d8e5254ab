//! The client: a handle that any task may clone and send with, an end that receives, and one task that owns the socket.
//!
//! [`connect`] returns at once. The task connects, greets, subscribes, and from then on carries messages both ways. When the
//! connection breaks, it connects again (after 100 ms, then twice as long each time, up to 5 s) and subscribes again to all uris.
//!
//! Nothing here blocks a caller and no queue grows without bound. The bus has no acknowledgements, so a message that cannot be sent
//! is gone; the caller is told ([`SendError`]) and it is counted ([`Client::counters`]):
//!
//! ```text
//!        reply() to what was urgent                     recv()
//!   callers ─────────► urgent ──────┐     ┌─► urgent ────────────► Incoming
//!      │       send()               │     │   (uris under ClientOptions::urgent)
//!      └─────────────► normal ────┐ │     │
//!             bounded by items    │ │     │
//!             and bytes;          ▼ ▼     │
//!             full: counted       owner ──┴─► normal ────────────►
//!                                   ▲           full: counted, and the sender of a request is
//!                                   ▼           answered with ClientOptions::overflow_reply
//!                                 broker
//! ```
//!
//! What is urgent overtakes in both directions: an answer waits at most for the one message that is being sent.

mod counters;
mod incoming;
mod owner;

pub use incoming::Incoming;

use super::backoff;
use super::cipher::Cipher;
use super::codec::{CodecError, HEADER_LEN, MAX_PACKET_LEN, MAX_TEXT_LEN};
use super::lane::{LaneError, LaneSender, lane};
use super::message::Message;
use super::subscription::{self, Subscription, SubscriptionError};
use super::uri;
use crate::api::BusCounters;
use counters::Counters;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The sections of a message besides its body: method, uri, replyto, process name, user name.
const TEXTS: usize = 5;

/// How to take part in the bus.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where the broker listens.
    pub socket: PathBuf,
    /// The name that the broker and the receivers of messages see, 1..=255 bytes.
    pub process_name: String,
    /// What to receive; may be empty for a client that only sends.
    pub subscriptions: Vec<Subscription>,
    /// How bodies are encrypted.
    pub cipher: Cipher,
    /// Messages to these uris, or under them, overtake all others in the incoming queue, and the answers to them
    /// ([`Client::reply`]) all others in the outgoing one.
    pub urgent: Vec<String>,
    /// How many messages may wait to be received.
    pub incoming_messages: usize,
    /// How many bytes they may hold together.
    pub incoming_bytes: usize,
    /// How many urgent messages may wait to be received, and how many answers to them to be sent.
    pub urgent_messages: usize,
    /// How many bytes they may hold together, in each direction.
    pub urgent_bytes: usize,
    /// How many messages may wait to be sent.
    pub outgoing_messages: usize,
    /// How many bytes they may hold together.
    pub outgoing_bytes: usize,
    /// What is answered at once to a request that comes when the incoming queue is full, so that every request is answered.
    pub overflow_reply: Option<Vec<u8>>,
    /// How long a message waits for room in the socket before it is given up.
    pub send_patience: Duration,
}

impl ClientOptions {
    /// The usual limits, no subscription, no encryption.
    pub fn new(socket: impl Into<PathBuf>, process_name: impl Into<String>) -> Self {
        ClientOptions {
            socket: socket.into(),
            process_name: process_name.into(),
            subscriptions: Vec::new(),
            cipher: Cipher::PLAIN,
            urgent: Vec::new(),
            incoming_messages: 1024,
            incoming_bytes: 32 << 20,
            urgent_messages: 256,
            urgent_bytes: 4 << 20,
            outgoing_messages: 1024,
            outgoing_bytes: 16 << 20,
            overflow_reply: None,
            send_patience: Duration::from_millis(200),
        }
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The broker would drop it.
    #[error("a message needs a {missing}")]
    Incomplete {
        /// What it has not: a method or a uri.
        missing: &'static str,
    },
    /// It does not fit a packet.
    #[error(transparent)]
    TooLarge(#[from] CodecError),
    /// It would fit a packet, but not the send buffer that the kernel gave us.
    #[error(
        "a packet of {len} bytes is over the {limit} that this socket can send; raise net.core.wmem_max to {MAX_PACKET_LEN} or more"
    )]
    OverSocketLimit {
        /// Length of the packet in bytes.
        len: usize,
        /// The longest that can be sent now.
        limit: usize,
    },
    /// There is no connection now.
    #[error("not connected to the bus")]
    NotConnected,
    /// Too many messages, or too many bytes, wait to be sent.
    #[error("too many messages wait to be sent")]
    QueueFull,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there, or we may not connect.
    #[error("cannot connect to the bus at {path}: {reason}", path = path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        reason: String,
    },
    /// The name is empty or too long.
    #[error("a process name has 1 to 255 bytes, this one has {len}")]
    ProcessName {
        /// Its length in bytes.
        len: usize,
    },
    /// The other end did not greet in time.
    #[error("the broker did not greet within {} s", waited.as_secs())]
    NoGreeting {
        /// How long was waited.
        waited: Duration,
    },
    /// The greeting has the wrong length, so this is not a FIMS broker.
    #[error("the greeting is none of FIMS: {len} bytes")]
    NotFims {
        /// Its length in bytes.
        len: usize,
    },
    /// The broker lays out messages in another way, which we cannot read.
    #[error("the broker speaks layout version {found}; this program speaks version {}", super::handshake::LAYOUT_VERSION)]
    LayoutVersion {
        /// The version of the broker.
        found: u16,
    },
    /// The subscriptions cannot be sent.
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    /// The broker refused the subscriptions.
    #[error("the broker refused the subscription: {answer}")]
    Refused {
        /// What it said.
        answer: String,
    },
    /// The broker did not answer the subscribe in time.
    #[error("the broker did not answer the subscription within {} s", waited.as_secs())]
    NoAnswer {
        /// How long was waited.
        waited: Duration,
    },
    /// There was a connection, and it broke.
    #[error("the connection to the bus broke: {reason}")]
    Lost {
        /// How.
        reason: String,
    },
}

impl ConnectError {
    /// Whether trying again soon is of no use: only another broker or other options can help.
    pub fn is_lasting(&self) -> bool {
        use ConnectError::*;
        matches!(self, ProcessName { .. } | NotFims { .. } | LayoutVersion { .. } | Subscription(_) | Refused { .. })
    }
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first attempt is under way.
    Connecting,
    /// Greeted and subscribed.
    Connected,
    /// Not connected, for this reason; another attempt will follow.
    Disconnected(ConnectError),
    /// The client was closed.
    Closed,
}

/// Why a change of subscriptions is not made; the old ones hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The list cannot be sent.
    #[error(transparent)]
    Invalid(#[from] SubscriptionError),
    /// The broker said no.
    #[error("the broker refused the subscription: {answer}")]
    Refused {
        /// What it said.
        answer: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// The handle to send with. Cloning is cheap; when the last clone is dropped, what is queued is sent and the task ends.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What the clones share and the owner does not, so that the last clone can be told.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    control: mpsc::Sender<SubscribeCommand>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// What the handles share with the owner of the socket.
#[derive(Debug)]
struct Shared {
    process_name: String,
    cipher: Cipher,
    counters: Counters,
    outgoing: Outgoing<LaneSender<Vec<u8>>>,
    /// Whose answers are urgent.
    urgent_uris: Vec<String>,
    /// The longest packet that the present socket can send.
    packet_limit: AtomicUsize,
    connected: watch::Sender<bool>,
    state: watch::Sender<ConnectionState>,
    /// Says that the client is to end.
    stop: CancellationToken,
    /// Says that it has ended.
    ended: CancellationToken,
}

/// The two lanes of packets that wait to be sent.
#[derive(Debug)]
struct Outgoing<L> {
    urgent: L,
    normal: L,
}

/// A new list of subscriptions, and where to say how it went.
#[derive(Debug)]
struct SubscribeCommand {
    subscriptions: Vec<Subscription>,
    done: oneshot::Sender<Result<(), SubscribeError>>,
}

/// Starts a client. Must be called within a tokio runtime; returns at once, whether or not there is a broker.
pub fn connect(options: ClientOptions) -> (Client, Incoming) {
    let (normal_out, normal_to_send) = lane(options.outgoing_messages, options.outgoing_bytes);
    let (urgent_out, urgent_to_send) = lane(options.urgent_messages, options.urgent_bytes);
    let to_send = Outgoing { urgent: urgent_to_send, normal: normal_to_send };
    let (normal, normal_received) = lane(options.incoming_messages, options.incoming_bytes);
    let (urgent, urgent_received) = lane(options.urgent_messages, options.urgent_bytes);
    let (control, commands) = mpsc::channel(8);
    let shared = Arc::new(Shared {
        process_name: options.process_name.clone(),
        cipher: options.cipher.clone(),
        counters: Counters::default(),
        outgoing: Outgoing { urgent: urgent_out, normal: normal_out },
        urgent_uris: options.urgent.clone(),
        packet_limit: AtomicUsize::new(MAX_PACKET_LEN),
        connected: watch::Sender::new(false),
        state: watch::Sender::new(ConnectionState::Connecting),
        stop: CancellationToken::new(),
        ended: CancellationToken::new(),
    });
    tokio::spawn(owner::Owner::new(options, shared.clone(), to_send, commands, normal, urgent).run());
    (Client { handle: Arc::new(Handle { shared, control }) }, Incoming::new(normal_received, urgent_received))
}

impl Client {
    /// Sends a message, or rather queues it for the owner of the socket: never blocks. An empty process name becomes the client's
    /// own. Every error is counted; while there is no connection the message is not kept.
    ///
    /// # Errors
    /// When there is no connection or no room, or the message cannot be sent as it is.
    pub fn send(&self, message: Message) -> Result<(), SendError> {
        self.handle.shared.send(message, false)
    }

    /// The longest packet that can be sent now, in bytes: what the bus carries, or less if the kernel gave the socket a small send
    /// buffer. See [`Client::largest_body`].
    pub fn packet_limit(&self) -> usize {
        self.handle.shared.packet_limit.load(Ordering::Acquire)
    }

    /// The longest body that can be sent now, in bytes, whatever the method, the uris and the names of its message.
    pub fn largest_body(&self) -> usize {
        const BLOCK: usize = 16;
        let room = self.packet_limit().saturating_sub(HEADER_LEN + TEXTS * MAX_TEXT_LEN);
        // A cipher pads to whole blocks, by one byte at least.
        if self.handle.shared.cipher.is_encrypting() { (room / BLOCK * BLOCK).saturating_sub(1) } else { room }
    }

    /// Answers a request, an urgent one before all others; does nothing if it wants no answer.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn reply(&self, request: &Message, body: impl Into<Vec<u8>>) -> Result<(), SendError> {
        self.handle.shared.reply(request, body)
    }

    /// Replaces the whole list of subscriptions, now and at each connection to come. Waits XX for the old subscriptions that come meanwhile are received as ever.
    ///
    /// # Errors
    /// When the list is no list of subscriptions, when the broker refuses it, or when the client is closed.
    pub async fn subscribe(&self, subscriptions: Vec<Subscription>) -> Result<(), SubscribeError> {
        subscription::encode(&subscriptions)?;
        let (done, answer) = oneshot::channel();
        let command = SubscribeCommand { subscriptions, done };
        self.handle.control.send(command).await.map_err(|_| SubscribeError::Closed)?;
        answer.await.unwrap_or(Err(SubscribeError::Closed))
    }

    /// What passed so far and what was lost.
    pub fn counters(&self) -> BusCounters {
        self.handle.shared.counters.read()
    }

    /// Whether the client is connected and subscribed, now and as it changes.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.handle.shared.connected.subscribe()
    }

    /// How the connection is and why, now and as it changes.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.handle.shared.state.subscribe()
    }

    /// Waits until connected and subscribed. If attempts fail, keeps waiting for as long as `patience` and then says why they do;
    /// with no patience, tells the outcome of the first attempt. An error that no waiting can cure is told at once.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn ready(&self, patience: Duration) -> Result<(), ConnectError> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut state = self.state();
        loop {
            let last_error = match state.borrow_and_update().clone() {
                ConnectionState::Connected => return Ok(()),
                ConnectionState::Connecting => None,
                ConnectionState::Disconnected(error) if error.is_lasting() || patience.is_zero() => return Err(error),
                ConnectionState::Disconnected(error) => Some(error),
                ConnectionState::Closed => return Err(ConnectError::Lost { reason: "the client was closed".into() }),
            };
            let changed = state.changed();
            let closed = match last_error {
                None => changed.await.is_err(),
                Some(error) => match tokio::time::timeout_at(deadline, changed).await {
                    Ok(changed) => changed.is_err(),
                    Err(_elapsed) => return Err(error),
                },
            };
            if closed {
                return Err(ConnectError::Lost { reason: "the client has ended".into() });
            }
        }
    }

    /// Sends what is queued (for at most 2 s), takes leave of the broker and ends, for all clones of this handle.
    pub async fn close(self) {
        self.handle.shared.stop.cancel();
        self.handle.shared.ended.cancelled().await;
    }
}

impl Shared {
    /// Whether a message to this uri, or the answer to it, overtakes others.
    fn is_urgent(&self, uri: &str) -> bool {
        self.urgent_uris.iter().any(|parent| uri::is_under(uri.as_bytes(), parent.as_bytes()))
    }

    fn reply(&self, request: &Message, body: impl Into<Vec<u8>>) -> Result<(), SendError> {
        request.reply(body).map_or(Ok(()), |reply| self.send(reply, self.is_urgent(&request.uri)))
    }

    fn send(&self, message: Message, urgent: bool) -> Result<(), SendError> {
        self.queue(message, urgent).inspect_err(|error| {
            self.counters.send_dropped(1);
            tracing::debug!(%error, "message not sent");
        })
    }

    fn queue(&self, mut message: Message, urgent: bool) -> Result<(), SendError> {
        if self.stop.is_cancelled() {
            return Err(SendError::Closed);
        }
        if message.method.is_empty() || message.uri.is_empty() {
            return Err(SendError::Incomplete { missing: if message.method.is_empty() { "method" } else { "uri" } });
        }
        if message.process_name.is_empty() {
            message.process_name.clone_from(&self.process_name);
        }
        if !*self.connected.borrow() {
            return Err(SendError::NotConnected);
        }
        let packet = message.encode(&self.cipher)?;
        let (len, limit) = (packet.len(), self.packet_limit.load(Ordering::Acquire));
        if len > limit {
            return Err(SendError::OverSocketLimit { len, limit });
        }
        let lane = if urgent { &self.outgoing.urgent } else { &self.outgoing.normal };
        lane.try_send(packet, len).map_err(|error| match error {
            LaneError::Full(_) => SendError::QueueFull,
            LaneError::Closed => SendError::Closed,
        })
    }

    fn set_state(&self, state: ConnectionState) {
        // Whoever saw the one change finds the other changed too: up, messages are taken before it is told; down, it is told first.
        let connected = state == ConnectionState::Connected;
        if connected {
            self.connected.send_replace(true);
        }
        self.state.send_replace(state);
        if !connected {
            self.connected.send_replace(false);
        }
    }
}

/// The wait before the next attempt.
fn retry_delay(error: &ConnectError, backoff: &mut backoff::Backoff, connected_for: Duration) -> Duration {
    let delay = backoff.after(connected_for);
    if error.is_lasting() { backoff::LONGEST } else { delay }
}
