//! The seal of the agent's file: its last eight bytes are the hash of those before. A file that a
//! disk or a broken copy damaged is told at every start; XXH64 reads it at the speed of memory,
//! where SHA-256 is most of a start on processors without instructions for it.
//!
//! The build script seals what it embeds, with this file.

use std::hash::Hasher;
use std::io::{self, Read};
use twox_hash::XxHash64;

/// How many bytes it has.
pub const LENGTH: usize = 8;

/// The seal of what is read.
///
/// # Errors
/// Of the reader.
pub fn seal(mut from: impl Read) -> io::Result<[u8; LENGTH]> {
    let mut hasher = XxHash64::with_seed(0);
    // A small buffer stays in the processor's cache, and costs no page faults: half the time of
    // reading the file at once, on the way of every start.
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hasher.finish().to_le_bytes()),
            count => hasher.write(buffer.get(..count).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_or_missing_byte_is_told() {
        let whole: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let sealed = seal(&whole[..]).unwrap();
        assert_eq!(seal(&whole[..]).unwrap(), sealed);
        for at in [0, 65_535, 65_536, 199_999] {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_ne!(seal(&other[..]).unwrap(), sealed, "byte {at}");
            assert_ne!(seal(&whole[..at]).unwrap(), sealed, "{at} bytes");
        }
    }
}
