//! Any bytes as a packet of the bus, plain and encrypted, and as the body of a subscribe.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netdiag::fims::{Cipher, Message, codec::Packet, subscription};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = Packet::decode(bytes) {
        assert_eq!(Packet::decode(&packet.encode().unwrap()), Ok(packet));
    }
    let _ = Message::decode(bytes, &Cipher::PLAIN);
    let _ = Message::decode(bytes, &Cipher::from_key_text(b"key"));
    let _ = subscription::decode(bytes);
});
