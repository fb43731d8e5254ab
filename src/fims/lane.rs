//! A queue bounded twice: by items and by bytes, so that neither many small messages nor a few large ones fill the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Why an item was not taken; it is handed back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LaneError<T> {
    /// As many items or bytes as may wait are waiting.
    Full(T),
    /// Nobody will ever take items out.
    Closed,
}

/// The end that puts in.
#[derive(Debug)]
pub(super) struct LaneSender<T> {
    queue: mpsc::Sender<(T, usize)>,
    held_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// The end that takes out.
#[derive(Debug)]
pub(super) struct LaneReceiver<T> {
    queue: mpsc::Receiver<(T, usize)>,
    held_bytes: Arc<AtomicUsize>,
}

/// A queue of at most `max_items` items (at least one) that hold at most `max_bytes` bytes together. One item always fits into an
/// empty queue, however large.
pub(super) fn lane<T>(max_items: usize, max_bytes: usize) -> (LaneSender<T>, LaneReceiver<T>) {
    let (sender, receiver) = mpsc::channel(max_items.clamp(1, 1 << 20));
    let held_bytes = Arc::new(AtomicUsize::new(0));
    (LaneSender { queue: sender, held_bytes: held_bytes.clone(), max_bytes }, LaneReceiver { queue: receiver, held_bytes })
}

impl<T> LaneSender<T> {
    /// Puts an item of this size in, if there is room; never waits.
    pub(super) fn try_send(&self, item: T, bytes: usize) -> Result<(), LaneError<T>> {
        let fits = |held: usize| held.checked_add(bytes).filter(|&total| held == 0 || total <= self.max_bytes);
        if self.held_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_err() {
            return if self.queue.is_closed() { Err(LaneError::Closed) } else { Err(LaneError::Full(item)) };
        }
        self.queue.try_send((item, bytes)).map_err(|error| {
            self.held_bytes.fetch_sub(bytes, Ordering::AcqRel);
            match error {
                mpsc::error::TrySendError::Full((item, _)) => LaneError::Full(item),
                mpsc::error::TrySendError::Closed(_) => LaneError::Closed,
            }
        })
    }
}

impl<T> LaneReceiver<T> {
    /// Takes the oldest item, waiting for one; `None` once the other end is gone and all is taken. Safe to cancel.
    pub(super) async fn recv(&mut self) -> Option<T> {
        let (item, bytes) = self.queue.recv().await?;
        self.held_bytes.fetch_sub(bytes, Ordering::AcqRel);
        Some(item)
    }

    /// Takes the oldest item if there is one.
    pub(super) fn try_recv(&mut self) -> Option<T> {
        let (item, bytes) = self.queue.try_recv().ok()?;
        self.held_bytes.fetch_sub(bytes, Ordering::AcqRel);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_bounded() {
        let (sender, mut receiver) = lane(2, 100);
        sender.try_send('a', 1).unwrap();
        sender.try_send('b', 1).unwrap();
        assert_eq!(sender.try_send('c', 1), Err(LaneError::Full('c')));
        assert_eq!(receiver.try_recv(), Some('a'));
        sender.try_send('c', 1).unwrap();
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let (sender, mut receiver) = lane(10, 100);
        sender.try_send('a', 60).unwrap();
        assert_eq!(sender.try_send('b', 41), Err(LaneError::Full('b')));
        sender.try_send('c', 40).unwrap();
        assert_eq!(receiver.try_recv(), Some('a'));
        assert_eq!(sender.try_send('d', 61), Err(LaneError::Full('d')));
        sender.try_send('d', 60).unwrap();
    }

    #[test]
    fn one_item_always_fits_into_an_empty_queue() {
        let (sender, mut receiver) = lane(10, 100);
        sender.try_send('a', 1000).unwrap();
        assert_eq!(sender.try_send('b', 0), Err(LaneError::Full('b')));
        assert_eq!(receiver.try_recv(), Some('a'));
        sender.try_send('b', 1000).unwrap();
    }

    #[test]
    fn a_gone_receiver_is_not_a_full_queue() {
        let (sender, receiver) = lane(1, 1);
        drop(receiver);
        assert_eq!(sender.try_send('a', 1), Err(LaneError::Closed));
    }
}
