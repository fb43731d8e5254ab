//! DNP3 link frames, transport segments and application headers out of any bytes: never a panic, always a step forward.

use netdiag::protocol::{
    Step,
    dnp3::{self, Application, Pushed, Reassembler},
};

pub fn run(data: &[u8]) {
    let mut reassembler = Reassembler::default();
    // The check sums keep random bytes out of the upper layers, so those get them directly too.
    for segment in data.chunks(33) {
        if let Pushed::Fragment(fragment) | Pushed::AfterLoss(fragment) = reassembler.push(segment) {
            let _ = Application::decode(fragment)
                .map(|(header, _)| (header.function.to_string(), header.indications.map(|bits| bits.to_string())));
        }
    }
    let mut rest = data;
    loop {
        let length = match dnp3::step(rest) {
            Step::Frame { frame, length } => {
                let mut user_data = Vec::new();
                frame.user_data(&mut user_data);
                let mut bytes = Vec::new();
                frame.header.encode(&user_data, &mut bytes);
                assert_eq!(rest.get(..length), Some(bytes.as_slice()));
                reassembler.push(&user_data);
                length
            }
            Step::Skip { length, .. } => length,
            Step::NeedMore => return,
        };
        assert!(length > 0 && length <= rest.len());
        rest = &rest[length..];
    }
}
