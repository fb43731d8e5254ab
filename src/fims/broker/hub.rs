//! The clients of a broker, and what happens to a packet of one of them.

use super::routes::{ClientId, Routes};
use super::{BrokerCounters, MAX_CLIENTS};
use crate::fims::codec::Packet;
use crate::fims::socket::try_send;
use crate::fims::subscription::{BROKER_NAME, INVALID_URI, METHOD, NO_DATA, NO_URIS, SUCCESS, decode};
use crate::fims::{Cipher, uri};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_seqpacket::UnixSeqpacket;

/// What the tasks of all clients share.
#[derive(Debug)]
pub(crate) struct Hub {
    cipher: Cipher,
    clients: RwLock<Clients>,
    messages: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    malformed: AtomicU64,
}

#[derive(Debug, Default)]
struct Clients {
    connected: HashMap<ClientId, Arc<Connected>>,
    routes: Routes,
    next_id: ClientId,
}

#[derive(Debug)]
struct Connected {
    socket: Arc<UnixSeqpacket>,
    name: String,
    /// Messages that it did not read in time.
    dropped: AtomicU64,
}

/// A client's place in the hub; given up when dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    hub: Arc<Hub>,
    id: ClientId,
}

impl Hub {
    pub(crate) fn new(cipher: Cipher) -> Self {
        Hub {
            cipher,
            clients: RwLock::default(),
            messages: AtomicU64::default(),
            delivered: AtomicU64::default(),
            dropped: AtomicU64::default(),
            malformed: AtomicU64::default(),
        }
    }

    pub(crate) fn counters(&self) -> BrokerCounters {
        BrokerCounters {
            clients: self.read().connected.len() as u64,
            messages: self.messages.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
        }
    }

    pub(crate) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Clients> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Clients> {
        self.clients.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the packet, as it came, to all who want it. Nobody is waited for.
    fn forward(&self, sender: ClientId, packet: &Packet<'_>, bytes: &[u8]) {
        let receivers: Vec<Arc<Connected>> = {
            let clients = self.read();
            let ids = clients.routes.receivers(sender, packet.method, packet.uri);
            ids.iter().filter_map(|id| clients.connected.get(id).cloned()).collect()
        };
        self.messages.fetch_add(1, Relaxed);
        for receiver in receivers {
            match try_send(&receiver.socket, bytes) {
                Ok(()) => {
                    self.delivered.fetch_add(1, Relaxed);
                }
                Err(error) => self.note_undelivered(&receiver, bytes.len(), &error),
            }
        }
    }

    fn note_undelivered(&self, receiver: &Connected, len: usize, error: &io::Error) {
        self.dropped.fetch_add(1, Relaxed);
        let dropped = receiver.dropped.fetch_add(1, Relaxed) + 1;
        // The first, the second, the fourth, …: seldom enough for a log, whatever the rate.
        if dropped.is_power_of_two() {
            tracing::warn!(client = receiver.name, dropped, len, %error, "message dropped: the receiver did not take it");
        }
    }

    /// Makes the subscription that a packet asks for, and answers.
    fn subscribe(&self, client: ClientId, socket: &UnixSeqpacket, packet: &Packet<'_>) {
        let body = if packet.body.is_empty() { None } else { self.cipher.open(packet.body).ok() };
        let Some(asked) = body.as_deref().and_then(decode) else { return self.answer(socket, NO_DATA) };
        if asked.is_empty() {
            return self.answer(socket, NO_URIS);
        }
        if let Some(invalid) = asked.iter().find(|asked| !uri::is_valid_subscription(asked.uri)) {
            return self.answer(socket, &[INVALID_URI, invalid.uri].concat());
        }
        // The answer goes first and no message can come between: programs on a site take whatever follows a subscribe for its answer.
        let mut clients = self.write();
        self.answer(socket, SUCCESS);
        clients.routes.replace(client, &asked);
    }

    fn answer(&self, socket: &UnixSeqpacket, body: &[u8]) {
        let body: Cow<'_, [u8]> = self.cipher.seal(body);
        let packet = Packet { process_name: BROKER_NAME.as_bytes(), body: &body, ..Packet::default() };
        let sent = packet.encode().map_err(io::Error::other).and_then(|bytes| try_send(socket, &bytes));
        if let Err(error) = sent {
            tracing::debug!(%error, "a subscribe could not be answered");
        }
    }
}

impl Membership {
    /// Takes a client in, if there is a place.
    pub(crate) fn join(hub: &Arc<Hub>, socket: Arc<UnixSeqpacket>, name: String) -> Option<Self> {
        let mut clients = hub.write();
        if clients.connected.len() >= MAX_CLIENTS {
            return None;
        }
        let id = clients.next_id;
        clients.next_id += 1;
        tracing::debug!(client = name, id, "client connected");
        clients.connected.insert(id, Arc::new(Connected { socket, name, dropped: AtomicU64::default() }));
        drop(clients);
        Some(Membership { hub: hub.clone(), id })
    }

    /// Deals with one packet of this client. What breaks the rules is dropped; the client stays.
    pub(crate) fn handle(&self, bytes: &[u8]) {
        match Packet::decode(bytes) {
            Ok(packet) if packet.method.is_empty() || packet.process_name.is_empty() => self.hub.count_malformed(),
            Ok(packet) if packet.method.starts_with(METHOD.as_bytes()) => {
                let connected = self.hub.read().connected.get(&self.id).cloned();
                if let Some(connected) = connected {
                    self.hub.subscribe(self.id, &connected.socket, &packet);
                }
            }
            Ok(packet) if packet.uri.is_empty() => self.hub.count_malformed(),
            Ok(packet) => self.hub.forward(self.id, &packet, bytes),
            Err(error) => {
                self.hub.count_malformed();
                tracing::debug!(%error, id = self.id, "packet not understood");
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut clients = self.hub.write();
        clients.routes.remove(self.id);
        if let Some(gone) = clients.connected.remove(&self.id) {
            tracing::debug!(client = gone.name, id = self.id, dropped = gone.dropped.load(Relaxed), "client gone");
        }
    }
}
