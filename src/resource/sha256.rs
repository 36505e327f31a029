//! SHA-256 of what is too large for memory.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Read};

/// Bytes that are read at once.
const PIECE: usize = 128 * 1024;

/// True for a digest as it is written here: 64 hexadecimal digits in lower case.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads to the end; `each` gets every piece. The digest is hexadecimal.
///
/// # Errors
/// Of the reader and of `each`.
pub fn sha256(
    mut from: impl Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&piece[..count]);
                each(&piece[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    Ok(text)
}
