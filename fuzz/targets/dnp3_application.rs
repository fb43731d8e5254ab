//! DNP3 application fragments and transport segments: any bytes as a fragment, and any fragment through frames and back.
//!
//! The first byte is the sequence of the first segment, and chooses a frame that is lost.

use netdiag::protocol::{
    Step,
    dnp3::{self, Application, LinkFunction, LinkHeader, MAX_FRAGMENT, Pushed, Reassembler, Segment},
};

pub fn run(bytes: &[u8]) {
    let Some((choice, fragment)) = bytes.split_first() else { return };
    application(fragment);
    segments(fragment);
    through_frames(*choice, &fragment[..fragment.len().min(MAX_FRAGMENT)]);
}

/// A header is what its bytes are.
fn application(fragment: &[u8]) {
    let Some((header, objects)) = Application::decode(fragment) else { return };
    assert_eq!(header.bytes(objects), fragment);
    assert_eq!(header.indications.is_some(), header.function.is_response());
    assert!(!header.function.to_string().is_empty());
    assert_eq!(dnp3::Control::from_byte(header.control.to_byte()), header.control);
    assert_eq!(header.control.confirmation().sequence, header.control.sequence);
    if let Some(indications) = header.indications {
        let _ = indications.to_string();
    }
}

/// Segments that were made by nobody: what comes of them is bounded.
fn segments(bytes: &[u8]) {
    let mut reassembler = Reassembler::default();
    for segment in bytes.chunks(7) {
        let Some(first) = segment.first() else { continue };
        assert_eq!(Segment::from_byte(*first).to_byte(), *first);
        if let Pushed::Fragment(fragment) | Pushed::AfterLoss(fragment) = reassembler.push(segment) {
            assert!(fragment.len() <= MAX_FRAGMENT.min(bytes.len()));
            application(fragment);
        }
    }
}

/// What goes out in frames comes in whole, or not at all where one is lost.
fn through_frames(choice: u8, fragment: &[u8]) {
    let header = LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 1024, 1);
    let bytes = dnp3::frames(header, choice & 0x3F, fragment);
    let (mut rest, mut reassembler, mut came, mut count) = (bytes.as_slice(), Reassembler::default(), None, 0);
    while !rest.is_empty() {
        let Step::Frame { frame, length } = dnp3::step(rest) else { panic!("a frame that was made here is none") };
        let mut user_data = Vec::new();
        frame.user_data(&mut user_data);
        let is_lost = choice >> 6 == 1 && count == 1;
        if !is_lost && let Pushed::Fragment(whole) | Pushed::AfterLoss(whole) = reassembler.push(&user_data) {
            came = Some(whole.to_vec());
        }
        count += 1;
        rest = &rest[length..];
    }
    match choice >> 6 == 1 && count > 1 {
        true => assert_ne!(came.as_deref(), Some(fragment)),
        false => assert!(fragment.is_empty() || came.as_deref() == Some(fragment)),
    }
}
