//! Capture files that are compressed with gzip (RFC 1952) or Zstandard (RFC 8878), told by their first bytes.

use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, Cursor, Read};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes read from the compressed source at once.
const CHUNK: usize = 128 * 1024;
/// The largest window that a Zstandard file may ask memory for: 128 MiB, as the tool has it by default.
const MAX_WINDOW_LOG: u32 = 27;

/// Gives the bytes of a capture file as they were before it was compressed, if it was. Memory is bounded, however much the file swells.
///
/// # Errors
/// Those of the source. A compressed file that is damaged gives its error while it is read.
pub fn decompressed<'r>(mut source: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    let mut begin = Vec::with_capacity(4);
    source.by_ref().take(4).read_to_end(&mut begin)?;
    let is_gzip = begin.starts_with(&GZIP);
    let is_zstd = begin == ZSTD;
    let whole = Cursor::new(begin).chain(source);
    if is_gzip {
        return Ok(Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, whole))));
    }
    if is_zstd {
        let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(CHUNK, whole))?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompressed(bytes)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn both_kinds_and_plain_bytes_give_the_same() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        assert!(gzip.len() < plain.len() && zstd.len() < plain.len());
        for bytes in [&plain, &gzip, &zstd] {
            assert_eq!(read(bytes).unwrap(), plain);
        }
        // Files that were appended to one another are read to the end.
        assert_eq!(read(&[&gzip[..], &gzip].concat()).unwrap(), [&plain[..], &plain].concat());
        assert_eq!(read(&[&zstd[..], &zstd].concat()).unwrap(), [&plain[..], &plain].concat());
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_what_is_short_is_not() {
        let zstd = zstd::encode_all(&[7; 1000][..], 1).unwrap();
        assert!(read(&zstd[..zstd.len() - 3]).is_err());
        assert!(read(&[0x1f, 0x8b, 8]).is_err());
        for short in [&[][..], &[0x28], &[0x28, 0xb5, 0x2f]] {
            assert_eq!(read(short).unwrap(), short);
        }
    }
}
