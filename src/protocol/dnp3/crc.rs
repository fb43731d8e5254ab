//! The check sum of link frames.

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u16;
    while byte < 256 {
        let mut remainder = byte;
        let mut bit = 0;
        while bit < 8 {
            remainder = if remainder & 1 == 1 { (remainder >> 1) ^ 0xA6BC } else { remainder >> 1 };
            bit += 1;
        }
        table[byte as usize] = remainder;
        byte += 1;
    }
    table
}

/// CRC-16/DNP of `bytes` (polynomial 0x3D65 reflected, result inverted); on the wire its low byte comes first.
pub fn crc(bytes: &[u8]) -> u16 {
    let step = |sum: u16, &byte: &u8| (sum >> 8) ^ TABLE[usize::from((sum ^ u16::from(byte)) & 0xFF)];
    !bytes.iter().fold(0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_catalogue() {
        assert_eq!(crc(b"123456789"), 0xEA82);
        assert_eq!(crc(&[]), 0xFFFF);
    }

    #[test]
    fn header_of_a_request_for_link_status() {
        assert_eq!(
            crc(&[0x05, 0x64, 0x05, 0xC9, 0x01, 0x00, 0x00, 0x04]).to_le_bytes(),
            crc_by_bits(&[0x05, 0x64, 0x05, 0xC9, 1, 0, 0, 4])
        );
    }

    /// The long way round, bit by bit from the polynomial as it is printed.
    fn crc_by_bits(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0_u16;
        for byte in bytes {
            for bit in 0..8 {
                let feedback = (sum >> 15) ^ u16::from(byte >> bit & 1);
                sum = (sum << 1) ^ if feedback == 1 { 0x3D65 } else { 0 };
            }
        }
        (!sum.reverse_bits()).to_le_bytes()
    }
}
