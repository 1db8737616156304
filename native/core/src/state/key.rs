//! Keys of bytes that need no memory of their own.

use std::fmt;
use std::hash::{Hash, Hasher};

use blake2::{Blake2b256, Digest};

/// Bytes that are kept as they are: a flow's two IPv6 ends with interface names of 15 bytes (IFNAMSIZ) fit.
pub const INLINE: usize = 79;

const DIGEST: u8 = u8::MAX;

/// Some bytes; of more than [`INLINE`] their BLAKE2b-256 digest is the key, so that a payload is as cheap as an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    length: u8,
    bytes: [u8; INLINE],
}

impl Key {
    /// The key of bytes that stand one behind the other in `parts`.
    #[must_use]
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut bytes = [0; INLINE];
        let mut length = 0;
        for part in parts {
            let Some(place) = bytes.get_mut(length..length + part.len()) else {
                return Self::digest(parts);
            };
            place.copy_from_slice(part);
            length += part.len();
        }
        let length = length as u8;
        Self { length, bytes }
    }

    fn digest(parts: &[&[u8]]) -> Self {
        let mut hasher = Blake2b256::new();
        for part in parts {
            hasher.update(part);
        }
        let digest = hasher.finalize();
        let mut bytes = [0; INLINE];
        bytes[..digest.len()].copy_from_slice(&digest);
        let length = DIGEST;
        Self { length, bytes }
    }

    /// The bytes.
    ///
    /// # Errors
    /// The digest, where they were too many.
    pub fn bytes(&self) -> Result<&[u8], [u8; 32]> {
        match self.length {
            DIGEST => Err(std::array::from_fn(|i| self.bytes[i])),
            length => Ok(&self.bytes[..usize::from(length)]),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.bytes[..usize::from(self.length).min(INLINE)]);
        state.write_u8(self.length);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Ok(bytes) => write!(out, "Key({})", bytes.escape_ascii()),
            Err(digest) => write!(out, "Key(digest {digest:02x?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_parts_are_cut_does_not_matter() {
        assert_eq!(Key::new(&[b"ab", b"", b"c"]), Key::new(&[b"a", b"bc"]));
        assert_eq!(Key::new(&[&[7; 50], &[7; 50]]), Key::new(&[&[7; 99], &[7; 1]]));
    }

    #[test]
    fn zeros_count() {
        let keys: Vec<Key> = (0..200).map(|length| Key::new(&[&vec![0; length]])).collect();
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|other| other != key), "{i} zeros");
        }
    }

    #[test]
    fn what_fits_is_there_and_of_more_the_digest_is() {
        assert_eq!(Key::new(&[&[1; INLINE]]).bytes(), Ok(&[1; INLINE][..]));
        let long = [b'a'; INLINE + 1];
        assert_eq!(Key::new(&[&long]).bytes(), Err(Blake2b256::digest(long).into()));
        assert_ne!(Key::new(&[&long]), Key::new(&[&Blake2b256::digest(long)]));
    }
}
