//! The encryption of bodies: AES-256-CBC with PKCS#7 padding and a fixed initialisation vector, as the sites have it.
//!
//! A fixed vector and no authentication make this a veil, not a lock; it is what the bus speaks. Only bodies are encrypted (those of
//! subscribes and their answers too), never the header, the uris or the names.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The fixed initialisation vector, `00 01 … 0f`.
const IV: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// How many bytes of the key file count; the last byte of the key is always zero.
const KEY_TEXT_LEN: usize = 31;

/// How bodies are encrypted on this bus, if they are. The default is not at all.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cipher {
    key: Option<[u8; 32]>,
}

/// Why a body could not be read, or a key not be had.
#[derive(Debug, thiserror::Error)]
pub enum CipherError {
    /// The cipher text was not made with this key, or is no cipher text.
    #[error("a body of {len} bytes cannot be decrypted: another key, or not encrypted")]
    Undecryptable {
        /// Length of the cipher text in bytes.
        len: usize,
    },
    /// The key file could not be read.
    #[error("cannot read the key file {path}: {source}", path = path.display())]
    KeyFile {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Cipher {
    /// Bodies as they are.
    pub const PLAIN: Cipher = Cipher { key: None };

    /// The key as the content of a key file gives it: the first 31 bytes, up to a NUL, padded with zeros to 32. A line end within
    /// those bytes is part of the key.
    pub fn from_key_text(text: &[u8]) -> Self {
        let mut key = [0; 32];
        for (place, &byte) in key.iter_mut().zip(text.iter().take(KEY_TEXT_LEN).take_while(|&&byte| byte != 0)) {
            *place = byte;
        }
        Cipher { key: Some(key) }
    }

    /// The key in a file, which must exist.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, CipherError> {
        let path = path.as_ref();
        match read_start(path) {
            Ok(text) => Ok(Self::from_key_text(&text)),
            Err(source) => Err(CipherError::KeyFile { path: path.to_owned(), source }),
        }
    }

    /// The key in a file if there is one, else [`Cipher::PLAIN`]: how every process on a site finds out whether bodies are encrypted.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn from_file_if_present(path: impl AsRef<Path>) -> Result<Self, CipherError> {
        match Self::from_file(path) {
            Err(CipherError::KeyFile { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Self::PLAIN),
            other => other,
        }
    }

    /// Whether there is a key.
    pub fn is_encrypting(&self) -> bool {
        self.key.is_some()
    }

    /// The body as it goes on the wire.
    pub fn seal<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.key {
            None => Cow::Borrowed(body),
            Some(key) => {
                let encryptor = cbc::Encryptor::<aes::Aes256>::new(&(*key).into(), &IV.into());
                Cow::Owned(encryptor.encrypt_padded_vec::<Pkcs7>(body))
            }
        }
    }

    /// The body that came over the wire, readable.
    ///
    /// # Errors
    /// When there is a key and the body was not encrypted with it.
    pub fn open<'a>(&self, body: &'a [u8]) -> Result<Cow<'a, [u8]>, CipherError> {
        match &self.key {
            None => Ok(Cow::Borrowed(body)),
            Some(key) => cbc::Decryptor::<aes::Aes256>::new(&(*key).into(), &IV.into())
                .decrypt_padded_vec::<Pkcs7>(body)
                .map(Cow::Owned)
                .map_err(|_| CipherError::Undecryptable { len: body.len() }),
        }
    }

    /// How long a body of this length is on the wire, without encrypting it.
    pub fn sealed_len(&self, len: usize) -> usize {
        if self.is_encrypting() { (len / 16).saturating_add(1).saturating_mul(16) } else { len }
    }
}

/// The key itself never appears in a log.
impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_encrypting() { "Cipher(AES-256-CBC)" } else { "Cipher(plain)" })
    }
}

/// Only the start of the file counts, so only the start is read, whatever the file is.
fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(KEY_TEXT_LEN as u64).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Made with `printf '{"ping":true}' | openssl enc -aes-256-cbc -K "$(printf site-key | xxd -p -c 64)…00" -iv 000102…0f`.
    #[test]
    fn cipher_text_is_what_openssl_makes() {
        let cipher = Cipher::from_key_text(b"site-key");
        assert_eq!(hex(&cipher.seal(b"{\"ping\":true}")), "9a6baa2a5cea890d6b1e17fd11c6c836");
        assert_eq!(hex(&cipher.seal(b"SUCCESS")), "b002da5d6386bbf59bcd202abb3dbe36");
        assert_eq!(hex(&cipher.seal(b"exactly 16 bytes")), "a50991b7da3886e17b71b139909d9de9f76140c5938a9b486cce571726cdd54e");
    }

    #[test]
    fn the_key_is_the_first_31_bytes_up_to_a_nul() {
        let full = Cipher::from_key_text(b"0123456789abcdef0123456789abcdef and more");
        assert_eq!(full, Cipher::from_key_text(b"0123456789abcdef0123456789abcde"));
        assert_ne!(full, Cipher::from_key_text(b"0123456789abcdef0123456789abcd"));
        assert_eq!(Cipher::from_key_text(b"short\0rest"), Cipher::from_key_text(b"short"));
        assert_ne!(Cipher::from_key_text(b"short\n"), Cipher::from_key_text(b"short"));
    }

    #[test]
    fn a_missing_key_file_means_plain_bodies_only_where_that_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fims_aes");
        assert_eq!(Cipher::from_file_if_present(&path).unwrap(), Cipher::PLAIN);
        assert!(Cipher::from_file(&path).unwrap_err().to_string().contains("fims_aes"));
        std::fs::write(&path, "key\0ignored").unwrap();
        assert_eq!(Cipher::from_file_if_present(&path).unwrap(), Cipher::from_key_text(b"key"));
        assert_eq!(Cipher::from_file(&path).unwrap(), Cipher::from_key_text(b"key"));
    }

    #[test]
    fn the_key_is_not_printed() {
        assert_eq!(format!("{:?}", Cipher::from_key_text(b"secret")), "Cipher(AES-256-CBC)");
    }

    proptest! {
        #[test]
        fn any_body_round_trips_and_its_length_is_known_beforehand(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let cipher = Cipher::from_key_text(b"key");
            let sealed = cipher.seal(&body);
            prop_assert_eq!(sealed.len(), cipher.sealed_len(body.len()));
            prop_assert_eq!(cipher.open(&sealed).unwrap().into_owned(), body);
        }

        #[test]
        fn no_bytes_crash_the_decryption(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Cipher::from_key_text(b"key").open(&body);
        }
    }
}
