//! Any bytes as what a server says to whoever connects: the judgement never depends on how the bytes came in pieces, and nothing is
//! shown that could move a cursor.
//!
//! The first byte chooses the service and the place of a cut.

use netdiag::probe::Service;

/// The longest line that is shown.
const MAX_SHOWN: usize = 120;

pub fn run(bytes: &[u8]) {
    let Some((choice, received)) = bytes.split_first() else { return };
    let service = if choice & 1 == 0 { Service::Ssh } else { Service::Http };
    let cut = usize::from(choice >> 1) * received.len() / 128;
    let (before, open) = (service.judge(&received[..cut], false), service.judge(received, false));
    let closed = service.judge(received, true);
    assert!(closed.is_some(), "who has closed is judged");
    for (_, text) in [&before, &open, &closed].into_iter().flatten() {
        let text = text.as_deref().unwrap_or_default();
        assert!(text.chars().count() <= MAX_SHOWN && !text.chars().any(char::is_control), "{text:?}");
    }
    if before.is_some() {
        assert_eq!(before, open, "more bytes change nothing");
    }
    if open.is_some() {
        assert_eq!(open, closed, "nor does the end");
    }
}
