//! A message as programs use it: owned, with texts as text and the body readable.

use super::cipher::{Cipher, CipherError};
use super::codec::{CodecError, HEADER_LEN, MAX_PACKET_LEN, Packet, Section};
use std::borrow::Cow;

/// One message.
///
/// An absent section is empty on the wire, so `Some("")` arrives as `None`. For the body that holds on a plain bus only; on an
/// encrypted one an empty body has a length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// What to do: by convention `get`, `set`, `pub`, `post` or `del`.
    pub method: String,
    /// Whom it is for: whoever subscribed to this uri or to a parent of it.
    pub uri: String,
    /// The uri that the answer should be `set` to, if one is wanted.
    pub replyto: Option<String>,
    /// Who sends it. Left empty, the client puts its own name.
    pub process_name: String,
    /// On whose behalf; an unproven claim.
    pub username: Option<String>,
    /// The body, mostly JSON; `None` is no body, which is neither `""` nor `null`.
    pub body: Option<Vec<u8>>,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not a packet.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A body that the key does not open.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// A uri or method that is no text, so that it could not be answered as it was written.
    #[error("the {section} is not UTF-8")]
    NotText {
        /// Which.
        section: Section,
    },
}

impl Message {
    /// A message with no body.
    pub fn new(method: impl Into<String>, uri: impl Into<String>) -> Self {
        Message { method: method.into(), uri: uri.into(), ..Message::default() }
    }

    /// The same with this body.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The same, to be answered at this uri.
    pub fn with_replyto(mut self, uri: impl Into<String>) -> Self {
        self.replyto = Some(uri.into());
        self
    }

    /// The answer to this message: a `set` to its replyto, with no replyto of its own. `None` if no answer is wanted.
    pub fn reply(&self, body: impl Into<Vec<u8>>) -> Option<Message> {
        let uri = self.replyto.as_deref().filter(|uri| !uri.is_empty())?;
        Some(Message::new("set", uri).with_body(body))
    }

    /// The body as text, whatever it is; `None` if there is no body.
    pub fn body_text(&self) -> Option<Cow<'_, str>> {
        self.body.as_deref().map(String::from_utf8_lossy)
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        let texts = self.method.len() + self.uri.len() + self.process_name.len();
        let optional = self.replyto.as_ref().map_or(0, String::len) + self.username.as_ref().map_or(0, String::len);
        size_of::<Self>() + texts + optional + self.body.as_ref().map_or(0, Vec::len)
    }

    /// The packet. All limits are checked before anything is encrypted or allocated.
    ///
    /// # Errors
    /// When a text or the whole packet is over the limits.
    pub fn encode(&self, cipher: &Cipher) -> Result<Vec<u8>, CodecError> {
        let mut packet = Packet {
            method: self.method.as_bytes(),
            uri: self.uri.as_bytes(),
            replyto: self.replyto.as_deref().unwrap_or_default().as_bytes(),
            process_name: self.process_name.as_bytes(),
            username: self.username.as_deref().unwrap_or_default().as_bytes(),
            body: &[],
        };
        let Some(body) = &self.body else { return packet.encode() };
        let texts = [packet.method, packet.uri, packet.replyto, packet.process_name, packet.username];
        let len = texts.iter().fold(HEADER_LEN, |len, text| len + text.len()).saturating_add(cipher.sealed_len(body.len()));
        if len > MAX_PACKET_LEN {
            return Err(CodecError::TooLarge { len });
        }
        let sealed = cipher.seal(body);
        packet.body = &sealed;
        packet.encode()
    }

    /// Reads a packet. Names that are no UTF-8 are made readable; a method or uri that is none is an error.
    ///
    /// # Errors
    /// When it is no packet, its body cannot be decrypted, or its method or uri is no text.
    pub fn decode(bytes: &[u8], cipher: &Cipher) -> Result<Self, MessageError> {
        let packet = Packet::decode(bytes)?;
        let text = |section, bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(MessageError::NotText { section }),
        };
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Message {
            method: text(Section::Method, packet.method)?,
            uri: text(Section::Uri, packet.uri)?,
            replyto: Some(text(Section::Replyto, packet.replyto)?).filter(|uri| !uri.is_empty()),
            process_name: name(packet.process_name),
            username: Some(name(packet.username)).filter(|name| !name.is_empty()),
            body: match packet.body {
                [] => None,
                body => Some(cipher.open(body)?.into_owned()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> Cipher {
        Cipher::from_key_text(b"a key")
    }

    #[test]
    fn no_body_stays_no_body_with_and_without_a_key() {
        for cipher in [Cipher::PLAIN, key()] {
            let message = Message::new("get", "/a");
            assert_eq!(Message::decode(&message.encode(&cipher).unwrap(), &cipher).unwrap().body, None);
        }
    }

    #[test]
    fn an_empty_body_is_kept_where_the_wire_can_say_so() {
        let message = Message::new("set", "/a").with_body("");
        assert_eq!(Message::decode(&message.encode(&Cipher::PLAIN).unwrap(), &Cipher::PLAIN).unwrap().body, None);
        assert_eq!(Message::decode(&message.encode(&key()).unwrap(), &key()).unwrap().body, Some(vec![]));
    }

    #[test]
    fn only_the_body_is_encrypted() {
        let bytes = Message::new("set", "/some/uri").with_body("a secret").encode(&key()).unwrap();
        let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(contains(b"/some/uri") && !contains(b"secret"));
        assert!(matches!(Message::decode(&bytes, &Cipher::from_key_text(b"other")), Err(MessageError::Cipher(_))));
    }

    #[test]
    fn encryption_counts_towards_the_limit() {
        let room = MAX_PACKET_LEN - HEADER_LEN - "set/a".len();
        let message = Message::new("set", "/a").with_body(vec![0; room]);
        assert_eq!(message.encode(&Cipher::PLAIN).unwrap().len(), MAX_PACKET_LEN);
        assert!(matches!(message.encode(&key()), Err(CodecError::TooLarge { len }) if len > MAX_PACKET_LEN));
    }

    #[test]
    fn a_reply_goes_to_the_replyto_and_wants_no_answer() {
        let request = Message::new("get", "/a").with_replyto("/b/1");
        assert_eq!(request.reply("5"), Some(Message::new("set", "/b/1").with_body("5")));
        assert_eq!(Message::new("get", "/a").reply("5"), None);
    }

    #[test]
    fn a_uri_that_is_no_text_is_refused_and_a_name_made_readable() {
        let packet = Packet { method: b"set", uri: b"/\xff", ..Packet::default() };
        let error = Message::decode(&packet.encode().unwrap(), &Cipher::PLAIN).unwrap_err();
        assert!(matches!(error, MessageError::NotText { section: Section::Uri }));
        let packet = Packet { method: b"set", uri: b"/a", username: b"J\xfcrgen", ..Packet::default() };
        let message = Message::decode(&packet.encode().unwrap(), &Cipher::PLAIN).unwrap();
        assert_eq!(message.username.as_deref(), Some("J\u{fffd}rgen"));
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let text = ".{0,60}";
        let optional = prop::option::of(".{1,60}");
        let body = prop::option::of(prop::collection::vec(any::<u8>(), 1..3000));
        (text, text, optional.clone(), text, optional, body).prop_map(|(method, uri, replyto, process_name, username, body)| {
            Message { method, uri, replyto, process_name, username, body }
        })
    }

    proptest! {
        #[test]
        fn any_message_round_trips(message in any_message(), encrypted in any::<bool>()) {
            let cipher = if encrypted { key() } else { Cipher::PLAIN };
            let bytes = message.encode(&cipher).unwrap();
            prop_assert_eq!(Message::decode(&bytes, &cipher).unwrap(), message);
        }

        #[test]
        fn no_bytes_crash_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..600), encrypted in any::<bool>()) {
            let cipher = if encrypted { key() } else { Cipher::PLAIN };
            let _ = Message::decode(&bytes, &cipher);
        }
    }
}
