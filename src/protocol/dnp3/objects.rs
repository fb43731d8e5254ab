//! The few objects that a poll, its answer, and the setting of a clock need.

/// Asks for classes 1, 2, 3 and 0: an integrity poll.
pub const CLASS_1230: [u8; 12] = [60, 2, 6, 60, 3, 6, 60, 4, 6, 60, 1, 6];
/// Asks for class 0: the present value of everything.
pub const CLASS_0: [u8; 3] = [60, 1, 6];
/// Asks for the events of classes 1, 2 and 3.
pub const CLASS_123: [u8; 9] = [60, 2, 6, 60, 3, 6, 60, 4, 6];
/// Writes 0 to IIN1.7: clears the restart bit.
pub const CLEAR_RESTART: [u8; 6] = [80, 1, 0, 7, 7, 0];

/// The flag of a value that is there and right.
const ONLINE: u8 = 0x01;

/// Group 1 variation 2, binary inputs with flags, from index 0; at most the first 256.
pub fn binary_inputs(values: &[bool]) -> Vec<u8> {
    let values = values.get(..256).unwrap_or(values);
    let Some(stop) = values.len().checked_sub(1) else { return Vec::new() };
    let mut bytes = vec![1, 2, 0, 0, stop.to_le_bytes()[0]];
    bytes.extend(values.iter().map(|&value| ONLINE | if value { 0x80 } else { 0 }));
    bytes
}

/// Group 30 variation 2, 16-bit analog inputs with flags, from index 0; at most the first 256.
pub fn analog_inputs(values: &[i16]) -> Vec<u8> {
    let values = values.get(..256).unwrap_or(values);
    let Some(stop) = values.len().checked_sub(1) else { return Vec::new() };
    let mut bytes = vec![30, 2, 0, 0, stop.to_le_bytes()[0]];
    for value in values {
        bytes.push(ONLINE);
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

/// Group 32 variation 2, one 16-bit analog event without time: what an unsolicited response may report.
pub fn analog_event(index: u8, value: i16) -> Vec<u8> {
    let [low, high] = value.to_le_bytes();
    vec![32, 2, 0x17, 1, index, ONLINE, low, high]
}

/// Group 50 variation 1, the time to set the clock to, in milliseconds since 1970-01-01T00:00:00Z; 48 bits of it.
pub fn time_and_date(unix_ms: u64) -> Vec<u8> {
    let mut bytes = vec![50, 1, 7, 1];
    bytes.extend(unix_ms.to_le_bytes().into_iter().take(6));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_octets() {
        assert_eq!(binary_inputs(&[true, false]), [1, 2, 0, 0, 1, 0x81, 0x01]);
        assert_eq!(analog_inputs(&[-2]), [30, 2, 0, 0, 0, 0x01, 0xFE, 0xFF]);
        assert_eq!(analog_event(3, 256), [32, 2, 0x17, 1, 3, 1, 0, 1]);
        assert_eq!(time_and_date(0x0102_0304_0506), [50, 1, 7, 1, 6, 5, 4, 3, 2, 1]);
        assert!(analog_inputs(&[]).is_empty() && binary_inputs(&[]).is_empty());
        assert_eq!(analog_inputs(&[0; 300]).len(), 5 + 256 * 3);
    }
}
