//! A queue that mostly holds one entry, which lies in it: no memory is asked for until there are two.

use std::collections::VecDeque;

/// Entries in the order in which they came.
#[derive(Debug)]
pub(super) struct Queue<T> {
    oldest: Option<T>,
    /// Those that came after the oldest; empty if there is none.
    later: VecDeque<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { oldest: None, later: VecDeque::new() }
    }
}

impl<T> Queue<T> {
    pub fn len(&self) -> usize {
        usize::from(self.oldest.is_some()) + self.later.len()
    }

    pub fn push(&mut self, entry: T) {
        match self.oldest {
            None => self.oldest = Some(entry),
            Some(_) => self.later.push_back(entry),
        }
    }

    /// The one that came first.
    pub fn oldest(&self) -> Option<&T> {
        self.oldest.as_ref()
    }

    /// Takes out the one that came first.
    pub fn pop_oldest(&mut self) -> Option<T> {
        let next = self.later.pop_front();
        std::mem::replace(&mut self.oldest, next)
    }

    /// Takes out the one at this place, counted from the oldest.
    pub fn remove(&mut self, at: usize) -> Option<T> {
        match at.checked_sub(1) {
            None => self.pop_oldest(),
            Some(at) => self.later.remove(at),
        }
    }

    /// The oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.oldest.iter().chain(&self.later)
    }

    /// The oldest first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.oldest.iter_mut().chain(&mut self.later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_one(steps in prop::collection::vec((0_u8..4, 0_usize..6), 0..100)) {
            let (mut queue, mut model) = (Queue::default(), VecDeque::new());
            for (step, (action, at)) in steps.into_iter().enumerate() {
                match action {
                    0 => prop_assert_eq!(queue.pop_oldest(), model.pop_front()),
                    1 => prop_assert_eq!(queue.remove(at), model.remove(at)),
                    _ => {
                        queue.push(step);
                        model.push_back(step);
                    }
                }
                queue.iter_mut().chain(&mut model).for_each(|entry| *entry += 1);
                prop_assert_eq!((queue.len(), queue.oldest()), (model.len(), model.front()));
                prop_assert!(queue.iter().eq(&model) && queue.iter().rev().eq(model.iter().rev()));
            }
        }
    }
}
