//! Function codes and exception codes in words.

/// The bit that a server sets in the function code of an exception response.
pub const EXCEPTION_FLAG: u8 = 0x80;

/// What a function code asks for; `None` for a code that the specification does not name. The exception flag is ignored.
pub const fn function_name(function: u8) -> Option<&'static str> {
    Some(match function & !EXCEPTION_FLAG {
        1 => "read coils",
        2 => "read discrete inputs",
        3 => "read holding registers",
        4 => "read input registers",
        5 => "write single coil",
        6 => "write single register",
        7 => "read exception status",
        8 => "diagnostics",
        11 => "get comm event counter",
        12 => "get comm event log",
        15 => "write multiple coils",
        16 => "write multiple registers",
        17 => "report server id",
        20 => "read file record",
        21 => "write file record",
        22 => "mask write register",
        23 => "read/write multiple registers",
        24 => "read FIFO queue",
        43 => "encapsulated interface transport",
        _ => return None,
    })
}

/// What an exception code says; `None` for a code that the specification does not name.
pub const fn exception_name(exception: u8) -> Option<&'static str> {
    Some(match exception {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge",
        6 => "server device busy",
        7 => "negative acknowledge",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target device failed to respond",
        _ => return None,
    })
}

/// An exception for people: `Modbus exception 2 (illegal data address)`.
pub fn exception_text(exception: u8) -> String {
    match exception_name(exception) {
        Some(name) => format!("Modbus exception {exception} ({name})"),
        None => format!("Modbus exception {exception} (not in the specification)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_before_codes() {
        assert_eq!(exception_text(2), "Modbus exception 2 (illegal data address)");
        assert_eq!(exception_text(99), "Modbus exception 99 (not in the specification)");
        assert_eq!(function_name(3), Some("read holding registers"));
        assert_eq!(function_name(0x83), Some("read holding registers"));
        assert_eq!(function_name(99), None);
    }
}
