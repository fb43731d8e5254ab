//! Modbus TCP: the application data unit of *Modbus Messaging on TCP/IP Implementation Guide V1.0b*, and what stands in it by
//! *Modbus Application Protocol Specification V1.1b3*.

mod adu;
mod query;
mod words;

pub use adu::{Adu, FrameError, HEADER_LENGTH, MAX_ADU_LENGTH, decode, looks_like_adu, next_start, step};
pub use query::Query;
pub use words::{EXCEPTION_FLAG, exception_name, exception_text, function_name};

/// The registered TCP port of Modbus.
pub const PORT: u16 = 502;
