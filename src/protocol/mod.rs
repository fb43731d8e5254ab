//! Modbus TCP and DNP3 frames from bytes and to bytes. Pure: what is unknown is a value, not an error; after garbage it finds its
//! place again.
//!
//! Both decoders have one shape: [`Step`] says what stands at the beginning of a byte stream, and how many bytes it takes. Whoever
//! calls keeps the bytes.

pub mod dnp3;
pub mod modbus;

/// What stands at the beginning of a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<F, E> {
    /// A whole frame.
    Frame {
        /// The frame.
        frame: F,
        /// How many bytes it takes.
        length: usize,
    },
    /// Bytes that are no frame: drop this many, at least one, and look again.
    Skip {
        /// How many.
        length: usize,
        /// What is wrong with them.
        error: E,
    },
    /// What is there may be the beginning of a frame; more bytes will tell.
    NeedMore,
}
