//! Modbus TCP frames out of any bytes: never a panic, always a step forward.

use netdiag::protocol::{Step, modbus};

pub fn run(data: &[u8]) {
    let mut rest = data;
    loop {
        let _ = modbus::looks_like_adu(rest);
        let length = match modbus::step(rest) {
            Step::Frame { frame, length } => {
                let _ = modbus::Query::of_request(frame.unit_id, frame.pdu).to_string();
                let mut bytes = Vec::new();
                assert!(frame.encode(&mut bytes).is_ok());
                assert_eq!(rest.get(..length), Some(bytes.as_slice()));
                length
            }
            Step::Skip { length, .. } => length,
            Step::NeedMore => return,
        };
        assert!(length > 0 && length <= rest.len());
        rest = &rest[length..];
    }
}
