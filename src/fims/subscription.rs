//! The body of a subscribe, and what the broker answers.
//!
//! The body: `u8 count`, then `count` times (`u8 pub_only`, `u8 uri_len`), then the uris with nothing between. A subscribe replaces
//! the whole list that the client had before.

use super::codec::MAX_TEXT_LEN;
use super::uri;

/// The method of a subscribe. The broker takes any method that begins so.
pub const METHOD: &str = "sub";

/// The body of the answer when the subscription is made.
pub const SUCCESS: &[u8] = b"SUCCESS";

/// The answer to a subscribe without a body that can be read.
pub const NO_DATA: &[u8] = b"Subscribe did not have data.";

/// The answer to a subscribe to nothing.
pub const NO_URIS: &[u8] = b"No uris to subscribe to.";

/// The answer to a subscribe to more uris than the broker holds. One byte counts them, so no client can ask for that many.
pub const TOO_MANY: &[u8] = b"Too many Uri's to subscribe.";

/// What the answer to an invalid uri begins with; the uri follows.
pub const INVALID_URI: &[u8] = b"Invalid Uri: ";

/// The process name of the broker in its answers.
pub const BROKER_NAME: &str = "fims_server";

/// The most uris that one client can subscribe to: one byte counts them.
pub const MAX_SUBSCRIPTIONS: usize = 255;

/// A wish to receive what is sent to a uri or to anything under it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// The uri, such as `/netdiag`; `/` is everything.
    pub uri: String,
    /// Only messages whose method begins with `pub`.
    pub pub_only: bool,
}

impl Subscription {
    /// All messages to the uri and under it.
    pub fn all(uri: impl Into<String>) -> Self {
        Subscription { uri: uri.into(), pub_only: false }
    }

    /// Only publications (methods that begin with `pub`) to the uri and under it.
    pub fn publications(uri: impl Into<String>) -> Self {
        Subscription { uri: uri.into(), pub_only: true }
    }
}

/// Why a list of subscriptions cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// None, or more than one byte can count.
    #[error("{count} subscriptions; there must be 1 to {MAX_SUBSCRIPTIONS}")]
    Count {
        /// How many.
        count: usize,
    },
    /// A uri does not fit its one-byte length.
    #[error("the subscription uri {uri:?} has {} bytes; at most {MAX_TEXT_LEN} fit", uri.len())]
    TooLong {
        /// Which.
        uri: String,
    },
    /// A uri that the broker would refuse.
    #[error("{uri:?} cannot be subscribed to: a uri begins with / and holds only - . / 0-9 A-Z _ a-z")]
    Invalid {
        /// Which.
        uri: String,
    },
}

/// Writes the body of a subscribe, after checking all that the broker would check.
///
/// # Errors
/// When there is no uri, there are too many, or one is none that can be subscribed to.
pub fn encode(subscriptions: &[Subscription]) -> Result<Vec<u8>, SubscriptionError> {
    let count = match u8::try_from(subscriptions.len()) {
        Ok(count) if count > 0 => count,
        _ => return Err(SubscriptionError::Count { count: subscriptions.len() }),
    };
    let mut body = vec![count];
    for Subscription { uri, pub_only } in subscriptions {
        let len = u8::try_from(uri.len()).map_err(|_| SubscriptionError::TooLong { uri: uri.clone() })?;
        if !uri::is_valid_subscription(uri.as_bytes()) {
            return Err(SubscriptionError::Invalid { uri: uri.clone() });
        }
        body.extend([u8::from(*pub_only), len]);
    }
    for subscription in subscriptions {
        body.extend_from_slice(subscription.uri.as_bytes());
    }
    Ok(body)
}

/// One uri of a subscribe as it stands in the body; not yet known to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedUri<'a> {
    /// Only publications.
    pub pub_only: bool,
    /// The uri, any bytes.
    pub uri: &'a [u8],
}

/// Reads the body of a subscribe; `None` if it is shorter than it says. Bytes after the last uri are ignored, as the usual broker
/// does.
pub fn decode(body: &[u8]) -> Option<Vec<RequestedUri<'_>>> {
    let (&count, rest) = body.split_first()?;
    let (entries, mut uris) = rest.split_at_checked(usize::from(count) * 2)?;
    let mut requested = Vec::with_capacity(usize::from(count));
    for entry in entries.chunks_exact(2) {
        let &[pub_only, len] = entry else { return None };
        let (uri, after) = uris.split_at_checked(usize::from(len))?;
        uris = after;
        requested.push(RequestedUri { pub_only: pub_only != 0, uri });
    }
    Some(requested)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fims::codec::Packet;
    use proptest::prelude::*;

    #[test]
    fn a_subscribe_is_byte_exact_with_what_fims_send_sends() {
        let golden = b"\x03\x00\x00\x09\x00\x00\x00\x00\x13\x00\x00\x00subfims_send\x01\x00\x10/netdiag_reply/1";
        let body = encode(&[Subscription::all("/netdiag_reply/1")]).unwrap();
        let packet = Packet { method: METHOD.as_bytes(), process_name: b"fims_send", body: &body, ..Packet::default() };
        assert_eq!(packet.encode().unwrap(), golden);
        assert_eq!(
            decode(Packet::decode(golden).unwrap().body).unwrap(),
            [RequestedUri { pub_only: false, uri: b"/netdiag_reply/1" }]
        );
    }

    #[test]
    fn the_answer_is_byte_exact_with_what_the_server_sends() {
        let golden = b"\x00\x00\x00\x0b\x00\x00\x00\x00\x07\x00\x00\x00fims_serverSUCCESS";
        let packet = Packet { process_name: BROKER_NAME.as_bytes(), body: SUCCESS, ..Packet::default() };
        assert_eq!(packet.encode().unwrap(), golden);
        assert_eq!(Packet::decode(golden).unwrap(), packet);
    }

    #[test]
    fn a_body_that_promises_more_than_it_has_is_refused() {
        let body = encode(&[Subscription::all("/a"), Subscription::publications("/b/c")]).unwrap();
        for len in 0..body.len() {
            assert_eq!(decode(&body[..len]), None, "cut to {len}");
        }
        assert_eq!(decode(&[body.as_slice(), b"/more"].concat()).unwrap().len(), 2);
    }

    #[test]
    fn what_the_broker_would_refuse_is_not_sent() {
        assert_eq!(encode(&[]), Err(SubscriptionError::Count { count: 0 }));
        assert_eq!(encode(&vec![Subscription::all("/"); 256]), Err(SubscriptionError::Count { count: 256 }));
        assert!(encode(&vec![Subscription::all("/"); 255]).is_ok());
        assert!(matches!(encode(&[Subscription::all("/bad uri")]), Err(SubscriptionError::Invalid { .. })));
        assert!(matches!(encode(&[Subscription::all("/a".repeat(128))]), Err(SubscriptionError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn any_list_round_trips(list in prop::collection::vec(("/[-./0-9A-Z_a-z]{0,60}", any::<bool>()), 1..=255)) {
            let list: Vec<_> = list.into_iter().map(|(uri, pub_only)| Subscription { uri, pub_only }).collect();
            let body = encode(&list).unwrap();
            let read: Vec<_> = decode(&body).unwrap().into_iter()
                .map(|asked| Subscription { uri: String::from_utf8(asked.uri.to_vec()).unwrap(), pub_only: asked.pub_only }).collect();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn no_bytes_crash_the_decoder(body in prop::collection::vec(any::<u8>(), 0..1200)) {
            if let Some(asked) = decode(&body) {
                prop_assert_eq!(asked.len(), usize::from(body[0]));
            }
        }
    }
}
