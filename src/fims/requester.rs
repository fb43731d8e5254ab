//! Asking over the bus: a request with a replyto of its own, and the answer to it.

use super::client::{Client, ClientOptions, ConnectError, Incoming, SendError, connect};
use super::{Cipher, Message, Subscription};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Asks and matches the answers. Cloning is cheap; many requests may be under way at once.
#[derive(Debug, Clone)]
pub struct Requester {
    client: Client,
    base: Arc<str>,
    next: Arc<AtomicU64>,
    waiting: Waiting,
}

/// The requests under way, by replyto.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Message>>>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no bus.
    #[error(transparent)]
    NoBus(#[from] ConnectError),
    /// The request was not sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// Nobody answered in time.
    #[error("no answer to {method} {uri} within {} s", waited.as_secs_f64())]
    NoAnswer {
        /// The method of the request.
        method: String,
        /// The uri of the request.
        uri: String,
        /// How long was waited.
        waited: Duration,
    },
}

impl Requester {
    /// Connects to the bus, subscribed to a uri that nobody else uses. `patience` is how long to wait for a broker that is not there;
    /// none: one attempt.
    ///
    /// # Errors
    /// When there is no connection by then, or none can be.
    pub async fn open(
        socket: impl Into<PathBuf>,
        process_name: impl Into<String>,
        cipher: Cipher,
        patience: Duration,
    ) -> Result<Self, RequestError> {
        let base = format!("/netdiag_reply/{}", uuid::Uuid::now_v7());
        let mut options = ClientOptions::new(socket, process_name);
        options.cipher = cipher;
        options.subscriptions = vec![Subscription::all(base.as_str())];
        let (client, incoming) = connect(options);
        client.ready(patience).await?;
        let waiting = Waiting::default();
        tokio::spawn(hand_out(incoming, waiting.clone()));
        Ok(Requester { client, base: base.into(), next: Arc::default(), waiting })
    }

    /// Sends a request and waits for its answer, at most `within`. The replyto of the message is replaced by one of our own.
    ///
    /// # Errors
    /// When it cannot be sent, or the answer does not come in time.
    pub async fn request(&self, request: Message, within: Duration) -> Result<Message, RequestError> {
        let replyto = format!("{}/{}", self.base, self.next.fetch_add(1, Ordering::Relaxed));
        let (method, uri) = (request.method.clone(), request.uri.clone());
        let (sender, answer) = oneshot::channel();
        locked(&self.waiting).insert(replyto.clone(), sender);
        // However this ends, also when it is cancelled, nobody waits any longer.
        let _forget = Forget { waiting: &self.waiting, replyto: &replyto };
        self.client.send(request.with_replyto(replyto.as_str()))?;
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(RequestError::NoAnswer { method, uri, waited: within }),
        }
    }

    /// `get` of a uri.
    ///
    /// # Errors
    /// As [`Requester::request`].
    pub async fn get(&self, uri: &str, within: Duration) -> Result<Message, RequestError> {
        self.request(Message::new("get", uri), within).await
    }

    /// `set` of a uri to a body.
    ///
    /// # Errors
    /// As [`Requester::request`].
    pub async fn set(&self, uri: &str, body: impl Into<Vec<u8>>, within: Duration) -> Result<Message, RequestError> {
        self.request(Message::new("set", uri).with_body(body), within).await
    }

    /// The client it asks through, for messages that want no answer.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Takes leave of the bus; see [`Client::close`].
    pub async fn close(self) {
        self.client.close().await;
    }
}

struct Forget<'a> {
    waiting: &'a Waiting,
    replyto: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        locked(self.waiting).remove(self.replyto);
    }
}

async fn hand_out(mut incoming: Incoming, waiting: Waiting) {
    while let Some(message) = incoming.recv().await {
        let asked = locked(&waiting).remove(&message.uri);
        match asked {
            // The one who asked may have given up.
            Some(sender) => drop(sender.send(message)),
            None => tracing::debug!(uri = message.uri, "an answer that nobody waits for"),
        }
    }
}

fn locked(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Message>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
