//! The internal indications: two bytes by which an outstation says how it is, in every response.

use std::fmt;

/// The bits of IIN1 (low byte) and IIN2 (high byte).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Indications(pub u16);

impl Indications {
    /// IIN1.0: a message to all was received.
    pub const BROADCAST: Self = Self(0x0001);
    /// IIN1.1: events of class 1 wait.
    pub const CLASS_1_EVENTS: Self = Self(0x0002);
    /// IIN1.2: events of class 2 wait.
    pub const CLASS_2_EVENTS: Self = Self(0x0004);
    /// IIN1.3: events of class 3 wait.
    pub const CLASS_3_EVENTS: Self = Self(0x0008);
    /// IIN1.4: the outstation wants its clock set.
    pub const NEED_TIME: Self = Self(0x0010);
    /// IIN1.5: some outputs are under local control.
    pub const LOCAL_CONTROL: Self = Self(0x0020);
    /// IIN1.6: something is wrong with the device.
    pub const DEVICE_TROUBLE: Self = Self(0x0040);
    /// IIN1.7: the device restarted, and no master has cleared this bit yet.
    pub const DEVICE_RESTART: Self = Self(0x0080);
    /// IIN2.0: the function code is not supported.
    pub const NO_FUNCTION_CODE_SUPPORT: Self = Self(0x0100);
    /// IIN2.1: an object is unknown.
    pub const OBJECT_UNKNOWN: Self = Self(0x0200);
    /// IIN2.2: a qualifier, range or value is wrong.
    pub const PARAMETER_ERROR: Self = Self(0x0400);
    /// IIN2.3: events were lost because the buffer was full.
    pub const EVENT_BUFFER_OVERFLOW: Self = Self(0x0800);
    /// IIN2.4: the operation is already executing.
    pub const ALREADY_EXECUTING: Self = Self(0x1000);
    /// IIN2.5: the configuration is corrupt.
    pub const CONFIG_CORRUPT: Self = Self(0x2000);

    const NAMES: [(Self, &'static str); 14] = [
        (Self::BROADCAST, "broadcast received"),
        (Self::CLASS_1_EVENTS, "class 1 events"),
        (Self::CLASS_2_EVENTS, "class 2 events"),
        (Self::CLASS_3_EVENTS, "class 3 events"),
        (Self::NEED_TIME, "need time"),
        (Self::LOCAL_CONTROL, "local control"),
        (Self::DEVICE_TROUBLE, "device trouble"),
        (Self::DEVICE_RESTART, "device restart"),
        (Self::NO_FUNCTION_CODE_SUPPORT, "function code not supported"),
        (Self::OBJECT_UNKNOWN, "object unknown"),
        (Self::PARAMETER_ERROR, "parameter error"),
        (Self::EVENT_BUFFER_OVERFLOW, "event buffer overflow"),
        (Self::ALREADY_EXECUTING, "already executing"),
        (Self::CONFIG_CORRUPT, "configuration corrupt"),
    ];

    /// From the two bytes as they stand on the wire, IIN1 first.
    pub const fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_le_bytes(bytes))
    }

    /// To the two bytes as they stand on the wire.
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names of the bits that are set, lowest first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| name)
    }
}

impl fmt::Display for Indications {
    /// `need time, device restart`; `none` without any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_in_words() {
        assert_eq!(Indications::from_bytes([0x90, 0x08]).to_string(), "need time, device restart, event buffer overflow");
        assert_eq!(Indications::default().to_string(), "none");
        assert_eq!(Indications::from_bytes([0x90, 0x00]).without(Indications::NEED_TIME), Indications::DEVICE_RESTART);
        assert_eq!(Indications::DEVICE_RESTART.with(Indications::NEED_TIME).to_bytes(), [0x90, 0x00]);
    }
}
