//! The settings of a serial line, in the spellings of the different processes.

use super::section::Section;
use crate::api::SerialLine;

/// The baud rate that a Modbus process takes by default.
pub(super) const MODBUS_BAUD_RATE: u32 = 115_200;
/// The baud rate that a DNP3 process takes by default.
pub(super) const DNP3_BAUD_RATE: u32 = 9_600;

/// The serial device that a Modbus config names; an empty text is none.
pub(super) fn modbus_device(section: &Section<'_>) -> Option<String> {
    section.name_text("serial_device").filter(|device| !device.is_empty())
}

/// The line of a Modbus config.
pub(super) fn modbus_line(section: &Section<'_>, device: String) -> SerialLine {
    line(section, device, ["baud_rate", "data_bits", "stop_bits"], MODBUS_BAUD_RATE)
}

/// The line of a DNP3 config, whose keys are spelled in two ways.
pub(super) fn dnp3_line(section: &Section<'_>) -> Option<SerialLine> {
    if let Some(device) = modbus_device(section) {
        return Some(line(section, device, ["baud_rate", "data_bits", "stop_bits"], DNP3_BAUD_RATE));
    }
    let device = section.name_text("deviceName").filter(|device| !device.is_empty())?;
    Some(line(section, device, ["baud", "dataBits", "stopBits"], DNP3_BAUD_RATE))
}

fn line(section: &Section<'_>, device: String, [baud_rate, data_bits, stop_bits]: [&str; 3], usual_baud_rate: u32) -> SerialLine {
    let number = |key: &str| section.count(key);
    let parity = section.text("parity").map(str::to_ascii_lowercase);
    SerialLine {
        device,
        baud_rate: number(baud_rate).and_then(|rate| u32::try_from(rate).ok()).unwrap_or(usual_baud_rate),
        parity: parity.filter(|parity| matches!(parity.as_str(), "even" | "odd")).unwrap_or_else(|| "none".to_owned()),
        data_bits: number(data_bits).and_then(|bits| u8::try_from(bits).ok()).unwrap_or(8),
        stop_bits: number(stop_bits).and_then(|bits| u8::try_from(bits).ok()).unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{json::first_value, notes::Notes, port::Services, reading::Reading, section::Keys};

    #[test]
    fn both_spellings_of_dnp3_give_the_same_line() {
        for text in [
            r#"{"serial_device": "/dev/ttyS0", "baud_rate": 19200, "parity": "Even", "data_bits": 7, "stop_bits": 2}"#,
            r#"{"deviceName": "/dev/ttyS0", "baud": 19200, "parity": "even", "dataBits": 7, "stopBits": 2}"#,
        ] {
            let (root, _) = first_value(text).unwrap();
            let (notes, services) = (Notes::new("a.json", ""), Services::default());
            let reading = Reading { path: "a.json", process: None, overrides: &[], services: &services, notes: &notes };
            let line = dnp3_line(&Section::new("system", &root, Keys::AnyCase, &reading)).unwrap();
            let expected =
                SerialLine { device: "/dev/ttyS0".into(), baud_rate: 19200, parity: "even".into(), data_bits: 7, stop_bits: 2 };
            assert_eq!(line, expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_absurd_is_the_default() {
        let (root, _) = first_value(r#"{"serial_device": "x", "data_bits": 999, "parity": "soft"}"#).unwrap();
        let (notes, services) = (Notes::new("a.json", ""), Services::default());
        let reading = Reading { path: "a.json", process: None, overrides: &[], services: &services, notes: &notes };
        let section = Section::new("connection", &root, Keys::Exact, &reading);
        let line = modbus_line(&section, modbus_device(&section).unwrap());
        assert_eq!((line.baud_rate, line.data_bits, line.stop_bits, line.parity.as_str()), (115_200, 8, 1, "none"));
    }
}
