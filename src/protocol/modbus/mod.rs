//! Modbus TCP: the application data unit of *Modbus Messaging on TCP/IP Implementation Guide V1.0b*, and what stands in it by
//! *Modbus Application Protocol Specification V1.1b3*.

mod adu;
mod pdu;
mod query;
mod words;

pub use adu::{Adu, FrameError, HEADER_LENGTH, MAX_ADU_LENGTH, decode, head, looks_like_adu, next_start, step};
pub use pdu::{Echo, request_is_whole, response_is_whole};
pub use query::Query;
pub use words::{EXCEPTION_FLAG, exception_name, exception_text, function_name};

/// The registered TCP port of Modbus.
pub const PORT: u16 = 502;
