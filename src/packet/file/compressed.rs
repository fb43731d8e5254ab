//! Capture files that are compressed with gzip (RFC 1952) or Zstandard (RFC 8878), told by their first bytes.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Cursor, Read};

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
        return Ok(Box::new(Members::new(BufReader::with_capacity(CHUNK, whole))));
    }
    if is_zstd {
        let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(CHUNK, whole))?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(whole))
}

/// The members of a gzip file, one after the other. Zeros behind them are the padding of tapes and blocks, and mean nothing.
struct Members<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(source)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let source = self.member.take().map(GzDecoder::into_inner);
            self.member = match source {
                Some(mut source) => behind_zeros(&mut source)?.then(|| GzDecoder::new(source)),
                None => None,
            };
        }
        Ok(0)
    }
}

/// Skips zeros. Whether something else follows.
fn behind_zeros(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = source.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let all = zeros == bytes.len();
        source.consume(zeros);
        if !all {
            return Ok(true);
        }
    }
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
        // Tapes and blocks are filled up with zeros.
        assert_eq!(read(&[&gzip[..], &[0; 512], &gzip, &[0; 300_000]].concat()).unwrap(), [&plain[..], &plain].concat());
        assert!(read(&[&gzip[..], &[0; 512], b"rest"].concat()).is_err());
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
