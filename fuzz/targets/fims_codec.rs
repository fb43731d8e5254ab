//! Any bytes as a packet of the bus, plain and encrypted, and as the body of a subscribe.

use netdiag::fims::{Cipher, Message, codec::Packet, subscription};

pub fn run(bytes: &[u8]) {
    if let Ok(packet) = Packet::decode(bytes) {
        assert_eq!(Packet::decode(&packet.encode().unwrap()), Ok(packet));
    }
    let _ = Message::decode(bytes, &Cipher::PLAIN);
    let _ = Message::decode(bytes, &Cipher::from_key_text(b"key"));
    let _ = subscription::decode(bytes);
}
