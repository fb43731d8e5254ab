//! A reused buffer over a byte source.

use std::io::{self, ErrorKind, Read};

/// Bytes asked from the source at once.
const CHUNK: usize = 64 * 1024;

/// The part of a byte source that is being looked at. It holds as many bytes as were asked for at once, and a chunk more.
pub struct Window<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    consumed: u64,
}

impl<R: Read> Window<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: vec![0; CHUNK], start: 0, end: 0, consumed: 0 }
    }

    /// How many bytes of the source came before what is looked at.
    pub fn offset(&self) -> u64 {
        self.consumed
    }

    /// What is here already.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The `len` bytes at `position`, which [`Self::consume`] told.
    pub fn slice(&self, position: usize, len: usize) -> &[u8] {
        self.buffer.get(position..position.saturating_add(len)).unwrap_or_default()
    }

    /// Reads until `len` bytes are here; `false` if the source ends before. The caller bounds `len`.
    #[inline]
    pub fn fill(&mut self, len: usize) -> io::Result<bool> {
        if self.end - self.start >= len { Ok(true) } else { self.read_until(len) }
    }

    #[cold]
    fn read_until(&mut self, len: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < len {
            self.buffer.resize(len + CHUNK, 0);
        }
        while self.end < len {
            match self.read()? {
                0 => return Ok(false),
                read => self.end += read,
            }
        }
        Ok(true)
    }

    /// Moves on by `len` bytes that are here. What they were stays readable by [`Self::slice`], from the position that is returned,
    /// until the next [`Self::fill`] or [`Self::skip`].
    pub fn consume(&mut self, len: usize) -> usize {
        let position = self.start;
        self.start = (self.start + len).min(self.end);
        self.consumed += (self.start - position) as u64;
        position
    }

    /// Moves on by `len` bytes without keeping them; `false` if the source ends before.
    pub fn skip(&mut self, len: u64) -> io::Result<bool> {
        let mut left = len;
        loop {
            let here = (self.end - self.start) as u64;
            self.consume(usize::try_from(left).unwrap_or(usize::MAX).min(self.end - self.start));
            if left <= here {
                return Ok(true);
            }
            left -= here;
            (self.start, self.end) = (0, 0);
            self.end = self.read()?;
            if self.end == 0 {
                return Ok(false);
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        loop {
            match self.source.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A source that lies about how much it read must not move the end past the buffer.
                result => return result.map(|read| read.min(self.buffer.len() - self.end)),
            }
        }
    }
}
