//! The task that owns the socket: connects, carries messages both ways, and connects again.

use super::incoming::Sorter;
use super::{ClientOptions, ConnectError, ConnectionState, Outgoing, Shared, SubscribeCommand, SubscribeError, retry_delay};
use crate::fims::backoff::Backoff;
use crate::fims::codec::{MAX_PACKET_LEN, MAX_TEXT_LEN};
use crate::fims::handshake::{Handshake, LAYOUT_VERSION};
use crate::fims::lane::{LaneReceiver, LaneSender};
use crate::fims::socket::{PacketReader, Received, grow_send_buffer, send_within};
use crate::fims::subscription::{self, METHOD, SUCCESS, Subscription};
use crate::fims::{Message, MessageError};
use std::io;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_seqpacket::UnixSeqpacket;

/// How long the broker may take to greet and to answer a subscribe.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a closing client goes on sending what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a closing client waits for the broker to have read everything.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Where the broker's answer to the subscribe under way goes, if one is.
type AwaitedAnswer = Mutex<Option<oneshot::Sender<Vec<u8>>>>;

pub(super) struct Owner {
    options: ClientOptions,
    shared: Arc<Shared>,
    outgoing: Outgoing<LaneReceiver<Vec<u8>>>,
    commands: mpsc::Receiver<SubscribeCommand>,
    /// The change of subscriptions that the broker has not answered yet. It outlives the connection on which it was asked for.
    asked: Option<SubscribeCommand>,
    sorter: Sorter,
}

/// Why carrying messages ended.
enum End {
    /// The client is closed; all is sent.
    Closed,
    /// The connection broke, or was never good.
    Lost(ConnectError),
}

impl Owner {
    pub(super) fn new(
        options: ClientOptions,
        shared: Arc<Shared>,
        outgoing: Outgoing<LaneReceiver<Vec<u8>>>,
        commands: mpsc::Receiver<SubscribeCommand>,
        normal: LaneSender<Message>,
        urgent: LaneSender<Message>,
    ) -> Self {
        let sorter = Sorter { shared: shared.clone(), normal, urgent, overflow_reply: options.overflow_reply.clone() };
        Owner { options, shared, outgoing, commands, asked: None, sorter }
    }

    pub(super) async fn run(mut self) {
        let ended = self.shared.ended.clone().drop_guard();
        let stop = self.shared.stop.clone();
        let mut backoff = Backoff::new();
        let mut connections: u64 = 0;
        loop {
            let established = tokio::select! {
                () = stop.cancelled() => break,
                established = establish(&self.options) => established,
            };
            let (error, connected_for) = match established {
                Err(error) => (error, Duration::ZERO),
                Ok((socket, packet_limit)) => {
                    self.shared.packet_limit.store(packet_limit, Ordering::Release);
                    let mut connected_at = None;
                    match self.carry(&socket, &mut connections, &mut connected_at).await {
                        End::Closed => break,
                        End::Lost(error) => (error, connected_at.map_or(Duration::ZERO, |at| at.elapsed())),
                    }
                }
            };
            let delay = retry_delay(&error, &mut backoff, connected_for);
            self.note(&error, delay);
            self.shared.set_state(ConnectionState::Disconnected(error));
            self.outgoing.discard(&self.shared);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(delay) => {}
            }
        }
        self.shared.set_state(ConnectionState::Closed);
        self.outgoing.discard(&self.shared);
        drop(ended);
    }

    /// One line per change of state: a broker that stays away is not news.
    fn note(&self, error: &ConnectError, delay: Duration) {
        let known = matches!(&*self.shared.state.borrow(), ConnectionState::Disconnected(last) if last == error);
        if known {
            tracing::debug!(%error, ?delay, "still no connection to the bus");
        } else {
            tracing::warn!(%error, ?delay, "no connection to the bus; trying again");
        }
    }

    /// Subscribes and then carries messages, until the connection breaks or the client is closed.
    async fn carry(&mut self, socket: &UnixSeqpacket, connections: &mut u64, connected_at: &mut Option<Instant>) -> End {
        let awaited = AwaitedAnswer::default();
        let mut reader = PacketReader::default();
        let sorter = &self.sorter;
        let mut writer = Writer {
            socket,
            shared: &self.shared,
            outgoing: &mut self.outgoing,
            commands: &mut self.commands,
            asked: &mut self.asked,
            accepted: &mut self.options.subscriptions,
            patience: self.options.send_patience,
            awaited: &awaited,
        };
        let write = async {
            writer.subscribe_at_start().await?;
            // A message that slipped into the queue as the last connection broke is not for this one.
            writer.outgoing.discard(writer.shared);
            if *connections > 0 {
                writer.shared.counters.reconnected();
            }
            *connections += 1;
            *connected_at = Some(Instant::now());
            tracing::info!("connected to the bus");
            writer.shared.set_state(ConnectionState::Connected);
            writer.write().await
        };
        let stop = &self.shared.stop;
        let end = tokio::select! {
            error = read(socket, &mut reader, sorter, &awaited) => End::Lost(error),
            written = write => match written {
                Ok(()) => End::Closed,
                Err(error) => End::Lost(error),
            },
        };
        if stop.is_cancelled() && matches!(end, End::Closed) {
            // The broker sees the end of what we sent, reads all of it, and hangs up. Closing at once could lose it.
            let _ = socket.shutdown(Shutdown::Write);
            let _ = timeout(LEAVE_TIMEOUT, read(socket, &mut reader, sorter, &awaited)).await;
        }
        end
    }
}

/// Connects and greets; returns the socket and the longest packet that it can send.
async fn establish(options: &ClientOptions) -> Result<(UnixSeqpacket, usize), ConnectError> {
    let name = options.process_name.as_bytes();
    if name.is_empty() || name.len() > MAX_TEXT_LEN {
        return Err(ConnectError::ProcessName { len: name.len() });
    }
    let unreachable = |error: io::Error| ConnectError::Unreachable { path: options.socket.clone(), reason: error.to_string() };
    let socket = UnixSeqpacket::connect(&options.socket).await.map_err(unreachable)?;
    let socket_limit = grow_send_buffer(&socket).map_err(unreachable)?;
    if socket_limit < MAX_PACKET_LEN {
        tracing::warn!(
            limit_bytes = socket_limit,
            "messages over this size cannot be sent; raise net.core.wmem_max to {MAX_PACKET_LEN} or more"
        );
    }
    let mut reader = PacketReader::default();
    let greeting = match timeout(ANSWER_TIMEOUT, reader.receive(&socket)).await {
        Err(_elapsed) => return Err(ConnectError::NoGreeting { waited: ANSWER_TIMEOUT }),
        Ok(Err(error)) => return Err(lost(&error)),
        Ok(Ok(Received::Packet(bytes))) => Handshake::decode(bytes).ok_or(ConnectError::NotFims { len: bytes.len() })?,
        Ok(Ok(Received::TooLong(len))) => return Err(ConnectError::NotFims { len }),
        Ok(Ok(Received::Closed)) => return Err(hung_up()),
    };
    if greeting.layout_version != LAYOUT_VERSION {
        return Err(ConnectError::LayoutVersion { found: greeting.layout_version });
    }
    for packet in [greeting.encode().as_slice(), name] {
        send_within(&socket, packet, ANSWER_TIMEOUT).await.map_err(|error| lost(&error))?;
    }
    let broker_limit = usize::try_from(greeting.max_message_size).unwrap_or(MAX_PACKET_LEN);
    Ok((socket, socket_limit.min(broker_limit)))
}

/// Takes packets from the socket until it breaks.
async fn read(socket: &UnixSeqpacket, reader: &mut PacketReader, sorter: &Sorter, awaited: &AwaitedAnswer) -> ConnectError {
    let shared = &sorter.shared;
    loop {
        match reader.receive(socket).await {
            Ok(Received::Packet(bytes)) => match Message::decode(bytes, &shared.cipher) {
                // Only the broker itself can send a message with no method, so a message that overtook the answer is not taken for it.
                Ok(message) if message.method.is_empty() => match take(awaited) {
                    Some(answer) => {
                        let _ = answer.send(message.body.unwrap_or_default());
                    }
                    None => shared.counters.undecodable(),
                },
                Ok(message) => sorter.put(message),
                Err(error) => unreadable(shared, &error),
            },
            Ok(Received::TooLong(len)) => unreadable(shared, &crate::fims::codec::CodecError::TooLarge { len }.into()),
            Ok(Received::Closed) => return hung_up(),
            Err(error) => return lost(&error),
        }
        // A broker that floods must not keep this thread from the other tasks.
        tokio::task::consume_budget().await;
    }
}

fn unreadable(shared: &Shared, error: &MessageError) {
    shared.counters.undecodable();
    tracing::debug!(%error, "packet not understood");
}

fn take(awaited: &AwaitedAnswer) -> Option<oneshot::Sender<Vec<u8>>> {
    awaited.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn lost(error: &io::Error) -> ConnectError {
    ConnectError::Lost { reason: error.to_string() }
}

fn hung_up() -> ConnectError {
    ConnectError::Lost { reason: "the broker hung up".into() }
}

impl Outgoing<LaneReceiver<Vec<u8>>> {
    /// The packet to be sent next, if one waits.
    fn try_recv(&mut self) -> Option<Vec<u8>> {
        self.urgent.try_recv().or_else(|| self.normal.try_recv())
    }

    /// What could not be sent is lost, and counted.
    fn discard(&mut self, shared: &Shared) {
        while self.try_recv().is_some() {
            shared.counters.send_dropped(1);
        }
    }
}

/// The side of a connection that sends.
struct Writer<'a> {
    socket: &'a UnixSeqpacket,
    shared: &'a Shared,
    outgoing: &'a mut Outgoing<LaneReceiver<Vec<u8>>>,
    commands: &'a mut mpsc::Receiver<SubscribeCommand>,
    asked: &'a mut Option<SubscribeCommand>,
    /// What to subscribe to at each connection, unless something newer is asked for.
    accepted: &'a mut Vec<Subscription>,
    patience: Duration,
    awaited: &'a AwaitedAnswer,
}

impl Writer<'_> {
    /// Subscribes to what was asked for last; to what held before if the broker refuses that.
    async fn subscribe_at_start(&mut self) -> Result<(), ConnectError> {
        if self.change_subscriptions().await? || self.accepted.is_empty() {
            return Ok(());
        }
        let answer = self.ask(self.accepted).await?;
        if answer == SUCCESS {
            Ok(())
        } else {
            Err(ConnectError::Refused { answer: String::from_utf8_lossy(&answer).into_owned() })
        }
    }

    /// Sends until the client is closed; then sends what is left.
    async fn write(&mut self) -> Result<(), ConnectError> {
        loop {
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => break,
                Some(command) = self.commands.recv() => {
                    *self.asked = Some(command);
                    self.change_subscriptions().await?;
                }
                Some(packet) = self.outgoing.urgent.recv() => self.send(&packet).await?,
                Some(packet) = self.outgoing.normal.recv() => self.send(&packet).await?,
            }
        }
        let flush = async {
            while let Some(packet) = self.outgoing.try_recv() {
                self.send(&packet).await?;
            }
            Ok(())
        };
        timeout(FLUSH_TIMEOUT, flush).await.unwrap_or(Ok(()))
    }

    /// Sends one packet. An error means that the connection is gone; a full queue is only counted.
    async fn send(&self, packet: &[u8]) -> Result<(), ConnectError> {
        let unsent = Unsent(self.shared);
        match send_within(self.socket, packet, self.patience).await {
            Ok(()) => {
                unsent.sent();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::debug!("message given up: the broker does not read");
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => {
                tracing::warn!(len = packet.len(), "message over the size that this socket can send; raise net.core.wmem_max");
                Ok(())
            }
            Err(error) => Err(lost(&error)),
        }
    }

    /// Asks the broker for the subscriptions that are asked of us, and says whether they hold now. If the connection breaks before the
    /// answer, they stay asked for.
    async fn change_subscriptions(&mut self) -> Result<bool, ConnectError> {
        let Some(asked) = self.asked.as_ref() else { return Ok(false) };
        let outcome = match self.ask(&asked.subscriptions).await {
            Ok(answer) if answer == SUCCESS => Ok(()),
            Ok(answer) => Err(SubscribeError::Refused { answer: String::from_utf8_lossy(&answer).into_owned() }),
            Err(ConnectError::Subscription(error)) => Err(error.into()),
            Err(lost) => return Err(lost),
        };
        let holds = outcome.is_ok();
        if let Some(SubscribeCommand { subscriptions, done }) = self.asked.take() {
            if holds {
                *self.accepted = subscriptions;
            }
            let _ = done.send(outcome);
        }
        Ok(holds)
    }

    /// Sends a subscribe and waits for the broker's answer, which the reading side passes on.
    async fn ask(&self, subscriptions: &[Subscription]) -> Result<Vec<u8>, ConnectError> {
        let message = Message {
            method: METHOD.into(),
            process_name: self.shared.process_name.clone(),
            body: Some(subscription::encode(subscriptions)?),
            ..Message::default()
        };
        let packet = message.encode(&self.shared.cipher).map_err(|error| ConnectError::Lost { reason: error.to_string() })?;
        let (sender, answer) = oneshot::channel();
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        send_within(self.socket, &packet, ANSWER_TIMEOUT).await.map_err(|error| lost(&error))?;
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(ConnectError::NoAnswer { waited: ANSWER_TIMEOUT }),
        }
    }
}

/// A message taken from the queue counts as lost, even when the sending is cut off, unless it is said to be sent.
struct Unsent<'a>(&'a Shared);

impl Unsent<'_> {
    fn sent(self) {
        self.0.counters.sent();
        std::mem::forget(self);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.0.counters.send_dropped(1);
    }
}
