//! The receiving side: two lanes, and what happens when one is full.

use super::Shared;
use crate::fims::Message;
use crate::fims::lane::{LaneError, LaneReceiver, LaneSender};
use std::sync::Arc;

/// The messages that came, the urgent ones first.
#[derive(Debug)]
pub struct Incoming {
    normal: LaneReceiver<Message>,
    urgent: LaneReceiver<Message>,
}

impl Incoming {
    pub(super) fn new(normal: LaneReceiver<Message>, urgent: LaneReceiver<Message>) -> Self {
        Incoming { normal, urgent }
    }

    /// The next message: an urgent one if there is any. `None` once the client has ended and all is received. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Message> {
        tokio::select! {
            biased;
            Some(message) = self.urgent.recv() => Some(message),
            Some(message) = self.normal.recv() => Some(message),
            else => None,
        }
    }
}

/// Puts each message into its lane.
#[derive(Debug)]
pub(super) struct Sorter {
    pub(super) shared: Arc<Shared>,
    pub(super) normal: LaneSender<Message>,
    pub(super) urgent: LaneSender<Message>,
    pub(super) overflow_reply: Option<Vec<u8>>,
}

impl Sorter {
    pub(super) fn put(&self, message: Message) {
        self.shared.counters.received();
        let lane = if self.shared.is_urgent(&message.uri) { &self.urgent } else { &self.normal };
        let size = message.size();
        match lane.try_send(message, size) {
            Ok(()) => {}
            Err(LaneError::Full(message)) => {
                self.shared.counters.receive_dropped();
                self.answer_overflow(&message);
            }
            // Nobody wants to receive; the client still sends.
            Err(LaneError::Closed) => {}
        }
    }

    fn answer_overflow(&self, message: &Message) {
        if let Some(body) = &self.overflow_reply {
            // An error is counted where it arises.
            let _ = self.shared.reply(message, body.clone());
        }
    }
}
