//! What a request asks for, so that a finding can name it.

use super::words::{EXCEPTION_FLAG, function_name};
use std::fmt;

/// A request without its values: what is read or written, where, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Query {
    /// The unit that is asked.
    pub unit_id: u8,
    /// The function code, without exception flag.
    pub function: u8,
    /// The first coil or register, from 0 as on the wire; `None` for functions without.
    pub offset: Option<u16>,
    /// How many coils or registers; `None` for functions without.
    pub count: Option<u16>,
}

impl Query {
    /// Reads a request's PDU. A PDU cut short gives what is there.
    pub fn of_request(unit_id: u8, pdu: &[u8]) -> Self {
        let function = pdu.first().copied().unwrap_or(0) & !EXCEPTION_FLAG;
        let word = |at: usize| Some(u16::from_be_bytes([*pdu.get(at)?, *pdu.get(at + 1)?]));
        let (offset, count) = match function {
            1..=4 | 15 | 16 | 23 => (word(1), word(3)),
            5 | 6 | 22 => (word(1), Some(1)),
            24 => (word(1), None),
            _ => (None, None),
        };
        Self { unit_id, function, offset, count }
    }
}

impl Query {
    /// Whether it changes something and nothing else: such a request may be for all units at once.
    pub const fn is_write(&self) -> bool {
        matches!(self.function, 5 | 6 | 15 | 16 | 22)
    }
}

impl fmt::Display for Query {
    /// `read holding registers (function 3), unit 1, offset 100, count 10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match function_name(self.function) {
            Some(name) => write!(f, "{name} (function {}), unit {}", self.function, self.unit_id)?,
            None => write!(f, "function {}, unit {}", self.function, self.unit_id)?,
        }
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some(count) = self.count {
            write!(f, ", count {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_query() {
        let read = Query::of_request(255, &[4, 0, 0, 0, 1]);
        assert_eq!(read.to_string(), "read input registers (function 4), unit 255, offset 0, count 1");
        let write = Query::of_request(1, &[6, 0, 10, 0, 99]);
        assert_eq!(write.to_string(), "write single register (function 6), unit 1, offset 10, count 1");
        assert_eq!(Query::of_request(1, &[43, 14, 1, 0]).to_string(), "encapsulated interface transport (function 43), unit 1");
        assert_eq!(Query::of_request(1, &[99]).to_string(), "function 99, unit 1");
    }

    #[test]
    fn a_request_cut_short_gives_what_is_there() {
        assert_eq!(Query::of_request(1, &[3, 0, 10]), Query { unit_id: 1, function: 3, offset: Some(10), count: None });
        assert_eq!(Query::of_request(1, &[]), Query { unit_id: 1, function: 0, offset: None, count: None });
    }
}
