//! Length-prefixed postcard frames over any byte stream.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// Largest frame in bytes that either side accepts; a larger length is a protocol error and is
/// never allocated.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended in the middle of a frame.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The length prefix is above [`MAX_FRAME`].
    #[error("a frame of {0} bytes is above the limit of {MAX_FRAME} bytes")]
    TooLarge(usize),
    /// The bytes are not a message of this protocol.
    #[error("a frame could not be decoded: {0}")]
    Codec(#[from] postcard::Error),
}

/// Encodes `message` as one frame, prefix included.
///
/// # Errors
/// [`FrameError::TooLarge`] when the message does not fit in [`MAX_FRAME`].
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = postcard::to_extend(message, vec![0_u8; 4])?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    let prefix = u32::try_from(length).map_err(|_| FrameError::TooLarge(length))?.to_le_bytes();
    bytes[..4].copy_from_slice(&prefix);
    Ok(bytes)
}

/// Decodes the payload of one frame (without its prefix).
///
/// # Errors
/// [`FrameError::Codec`] when the bytes are not a message of this protocol.
pub fn decode_payload<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    Ok(postcard::from_bytes(payload)?)
}

/// Writes one frame and flushes.
///
/// # Errors
/// When the stream fails or the message is too large.
pub fn write_frame<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode_frame(message)?)?;
    to.flush()?;
    Ok(())
}

/// Reads one frame; `None` at a clean end of the stream.
///
/// # Errors
/// When the stream ends inside a frame, the length is above [`MAX_FRAME`], or decoding fails.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut prefix = [0_u8; 4];
    let mut filled = 0;
    while filled < prefix.len() {
        match from.read(&mut prefix[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    let mut payload = vec![0_u8; length];
    from.read_exact(&mut payload)?;
    decode_payload(&payload).map(Some)
}
