//! What the clerk, the thread that files, is asked to do beside that. It comes to him past those who record and judge, so that neither waits
//! for the other; and it waits for him when he breaks off.

use super::lock;
use crate::api::{ApiError, ErrorCode};
use std::{
    collections::VecDeque,
    sync::Mutex,
    thread::{self, Thread},
};

/// So many errands may wait.
const MAX_ERRANDS: usize = 64;

/// What is done between snapshots.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Pin a snapshot, or let it go.
    Pin(String, bool),
    /// Delete a snapshot.
    Delete(String),
}

/// What waits to be done, and who does it.
#[derive(Debug, Default)]
pub(super) struct Errands {
    waiting: Mutex<VecDeque<Errand>>,
    clerk: Mutex<Option<Thread>>,
}

impl Errands {
    /// Has something done.
    ///
    /// # Errors
    /// `busy` when too much waits.
    pub fn ask(&self, errand: Errand) -> Result<(), ApiError> {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= MAX_ERRANDS {
            return Err(ApiError::new(ErrorCode::Busy, "the monitor has much to do; try again in a moment"));
        }
        waiting.push_back(errand);
        drop(waiting);
        self.call();
        Ok(())
    }

    /// What is to be done next.
    pub fn next(&self) -> Option<Errand> {
        lock(&self.waiting).pop_front()
    }

    /// From now on it is this thread that is called.
    pub fn are_done_here(&self) {
        *lock(&self.clerk) = Some(thread::current());
    }

    /// The clerk looks what there is to do, now or when he is done with what he does.
    pub fn call(&self) {
        if let Some(clerk) = &*lock(&self.clerk) {
            clerk.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_done_in_its_order_and_too_much_is_refused() {
        let errands = Errands::default();
        let errand = |number: usize| Errand::Delete(number.to_string());
        for number in 0..MAX_ERRANDS {
            errands.ask(errand(number)).unwrap();
        }
        assert_eq!(errands.ask(errand(0)).unwrap_err().code, ErrorCode::Busy);
        for number in 0..MAX_ERRANDS {
            assert_eq!(errands.next(), Some(errand(number)));
        }
        assert_eq!(errands.next(), None);
    }
}
