//! The bus: codec (pure), cipher, client and broker.
//!
//! FIMS is the message bus of a site controller: a broker on a Unix `SOCK_SEQPACKET` socket, one packet per message, no
//! acknowledgements, no retries. A message has a method (`get`, `set`, `pub`, …), a uri, perhaps a uri to reply to, and a body.
//!
//! From the bytes up:
//!
//! - [`codec`] gives a packet its sections and back, [`handshake`] the two greetings, [`subscription`] the body of a subscribe,
//!   [`uri`] the rules for uris, [`Cipher`] the encryption of bodies. All of these are plain functions over bytes.
//! - [`Message`] is what a program sends and receives.
//! - [`connect`] gives a [`Client`] to send with and an [`Incoming`] to receive from. One task owns the socket; it connects again
//!   by itself, and what is lost is counted.
//! - [`Requester`] asks a question and waits for the answer.
//! - [`Broker`] is the other end, for machines that have no `fims_server`.

mod backoff;
pub mod broker;
mod cipher;
pub mod client;
pub mod codec;
pub mod handshake;
mod lane;
mod message;
mod requester;
mod socket;
pub mod subscription;
pub mod uri;

pub use broker::{Broker, BrokerCounters, BrokerError};
pub use cipher::{Cipher, CipherError};
pub use client::{Client, ClientOptions, ConnectError, ConnectionState, Incoming, SendError, SubscribeError, connect};
pub use codec::MAX_PACKET_LEN;
pub use message::{Message, MessageError};
pub use requester::{RequestError, Requester};
pub use subscription::Subscription;

/// Where the broker of a site listens.
pub const DEFAULT_SOCKET: &str = "/tmp/FlexGen_FIMS_Server.socket";

/// Where a site keeps its key. If the file exists, every body on the bus is encrypted with it.
pub const DEFAULT_KEY_FILE: &str = "/usr/local/etc/config/fims_aes";
