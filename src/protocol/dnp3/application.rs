//! The header of application fragments: control byte, function code, and in responses the internal indications.

use super::Indications;
use std::fmt;

const FIR: u8 = 0x80;
const FIN: u8 = 0x40;
const CON: u8 = 0x20;
const UNS: u8 = 0x10;
const SEQUENCE: u8 = 0x0F;

/// The application control byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Control {
    /// FIR: the first fragment of a message.
    pub first: bool,
    /// FIN: the last one.
    pub last: bool,
    /// CON: the receiver is to confirm.
    pub confirm: bool,
    /// UNS: the sequence is that of unsolicited responses.
    pub unsolicited: bool,
    /// 0 to 15, then 0 again; solicited and unsolicited messages count apart.
    pub sequence: u8,
}

impl Control {
    /// From its byte.
    pub const fn from_byte(byte: u8) -> Self {
        Self {
            first: byte & FIR != 0,
            last: byte & FIN != 0,
            confirm: byte & CON != 0,
            unsolicited: byte & UNS != 0,
            sequence: byte & SEQUENCE,
        }
    }

    /// To its byte.
    pub const fn to_byte(self) -> u8 {
        (if self.first { FIR } else { 0 })
            | (if self.last { FIN } else { 0 })
            | (if self.confirm { CON } else { 0 })
            | (if self.unsolicited { UNS } else { 0 })
            | self.sequence & SEQUENCE
    }

    /// A message of one fragment, no confirmation asked: a request, its response, or the confirmation of a response.
    pub const fn request(sequence: u8) -> Self {
        Self { first: true, last: true, confirm: false, unsolicited: false, sequence: sequence & SEQUENCE }
    }

    /// An unsolicited response, which asks for confirmation.
    pub const fn unsolicited(sequence: u8) -> Self {
        Self { first: true, last: true, confirm: true, unsolicited: true, sequence: sequence & SEQUENCE }
    }

    /// What confirms a message with this control byte.
    pub const fn confirmation(self) -> Self {
        Self { first: true, last: true, confirm: false, unsolicited: self.unsolicited, sequence: self.sequence }
    }
}

/// An application function code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function(pub u8);

impl Function {
    /// Confirms a response.
    pub const CONFIRM: Self = Self(0);
    /// Asks for data.
    pub const READ: Self = Self(1);
    /// Sets data.
    pub const WRITE: Self = Self(2);
    /// First half of a control in two steps.
    pub const SELECT: Self = Self(3);
    /// Second half.
    pub const OPERATE: Self = Self(4);
    /// A control in one step.
    pub const DIRECT_OPERATE: Self = Self(5);
    /// The outstation restarts everything.
    pub const COLD_RESTART: Self = Self(13);
    /// The outstation restarts its application.
    pub const WARM_RESTART: Self = Self(14);
    /// The outstation may report events by itself.
    pub const ENABLE_UNSOLICITED: Self = Self(20);
    /// It may not.
    pub const DISABLE_UNSOLICITED: Self = Self(21);
    /// How long a message takes, for setting the clock.
    pub const DELAY_MEASURE: Self = Self(23);
    /// When the last byte of this message came, for setting the clock.
    pub const RECORD_CURRENT_TIME: Self = Self(24);
    /// Answers a request.
    pub const RESPONSE: Self = Self(129);
    /// Reports events by itself.
    pub const UNSOLICITED_RESPONSE: Self = Self(130);
    /// Answers an authentication request.
    pub const AUTHENTICATION_RESPONSE: Self = Self(131);

    /// Whether an outstation sends it (it then carries internal indications).
    pub const fn is_response(self) -> bool {
        self.0 >= 129
    }

    /// Whether an outstation answers it.
    pub const fn expects_response(self) -> bool {
        !self.is_response() && !matches!(self.0, 0 | 6 | 8 | 10 | 12 | 33)
    }

    /// Its name; `None` for a code that the standard does not name.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "confirm",
            1 => "read",
            2 => "write",
            3 => "select",
            4 => "operate",
            5 => "direct operate",
            6 => "direct operate, no response",
            7 => "freeze",
            8 => "freeze, no response",
            9 => "freeze and clear",
            10 => "freeze and clear, no response",
            11 => "freeze at time",
            12 => "freeze at time, no response",
            13 => "cold restart",
            14 => "warm restart",
            15 => "initialize data",
            16 => "initialize application",
            17 => "start application",
            18 => "stop application",
            19 => "save configuration",
            20 => "enable unsolicited",
            21 => "disable unsolicited",
            22 => "assign class",
            23 => "delay measurement",
            24 => "record current time",
            25 => "open file",
            26 => "close file",
            27 => "delete file",
            28 => "get file information",
            29 => "authenticate file",
            30 => "abort file transfer",
            31 => "activate configuration",
            32 => "authentication request",
            33 => "authentication request, no response",
            129 => "response",
            130 => "unsolicited response",
            131 => "authentication response",
            _ => return None,
        })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} (function {})", self.0),
            None => write!(f, "function {}", self.0),
        }
    }
}

/// The header of an application fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Application {
    /// The control byte.
    pub control: Control,
    /// The function code.
    pub function: Function,
    /// The internal indications; responses have them, requests do not.
    pub indications: Option<Indications>,
}

impl Application {
    /// The header of a request or a confirmation.
    pub const fn request(control: Control, function: Function) -> Self {
        Self { control, function, indications: None }
    }

    /// The header of a response.
    pub const fn response(control: Control, indications: Indications) -> Self {
        Self { control, function: Function::RESPONSE, indications: Some(indications) }
    }

    /// The header of an unsolicited response, which asks for confirmation.
    pub const fn unsolicited(sequence: u8, indications: Indications) -> Self {
        let control = Control::unsolicited(sequence);
        Self { control, function: Function::UNSOLICITED_RESPONSE, indications: Some(indications) }
    }

    /// Reads the header of a fragment, and gives the object bytes after it; `None` when the fragment is too short for one.
    pub fn decode(fragment: &[u8]) -> Option<(Self, &[u8])> {
        let [control, function, rest @ ..] = fragment else { return None };
        let function = Function(*function);
        let (indications, objects) = if function.is_response() {
            let (bytes, objects) = rest.split_first_chunk::<2>()?;
            (Some(Indications::from_bytes(*bytes)), objects)
        } else {
            (None, rest)
        };
        Some((Self { control: Control::from_byte(*control), function, indications }, objects))
    }

    /// The fragment of this header and `objects`.
    pub fn bytes(&self, objects: &[u8]) -> Vec<u8> {
        let mut bytes = vec![self.control.to_byte(), self.function.0];
        if let Some(indications) = self.indications {
            bytes.extend(indications.to_bytes());
        }
        bytes.extend_from_slice(objects);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literal_octets() {
        let (read, objects) = Application::decode(&[0xC3, 0x01, 0x3C, 0x02, 0x06]).unwrap();
        assert_eq!(read, Application::request(Control::request(3), Function::READ));
        assert_eq!(objects, [0x3C, 0x02, 0x06]);
        let (response, _) = Application::decode(&[0xC3, 0x81, 0x90, 0x00]).unwrap();
        let indications = Indications::NEED_TIME.with(Indications::DEVICE_RESTART);
        assert_eq!(response, Application::response(Control::request(3), indications));
        let (unsolicited, _) = Application::decode(&[0xF5, 0x82, 0x80, 0x00]).unwrap();
        assert_eq!(unsolicited, Application::unsolicited(5, Indications::DEVICE_RESTART));
        assert_eq!(Application::request(unsolicited.control.confirmation(), Function::CONFIRM).bytes(&[]), [0xD5, 0x00]);
    }

    #[test]
    fn too_short_is_none() {
        assert_eq!(Application::decode(&[]), None);
        assert_eq!(Application::decode(&[0xC0]), None);
        assert_eq!(Application::decode(&[0xC0, 0x81, 0x00]), None);
    }

    #[test]
    fn control_bytes_round_trip() {
        for byte in 0..=255_u8 {
            assert_eq!(Control::from_byte(byte).to_byte(), byte);
        }
    }

    #[test]
    fn functions_in_words() {
        assert_eq!(Function(1).to_string(), "read (function 1)");
        assert_eq!(Function(99).to_string(), "function 99");
        assert!(Function::READ.expects_response() && !Function::CONFIRM.expects_response() && !Function(6).expects_response());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(fragment in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some((header, objects)) = Application::decode(&fragment) {
                prop_assert_eq!(header.bytes(objects), fragment);
            }
        }
    }
}
