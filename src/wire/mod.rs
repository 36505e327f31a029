//! Messages between the controller and the agent, and their framing.
//!
//! A frame is a little-endian `u32` length followed by that many bytes of postcard. Postcard is not
//! self-describing: field and variant order *are* the wire format. Controller and agent are
//! therefore always of one build (the agent is uploaded by content hash), and the first frame,
//! [`FromAgent::Hello`], carries [`PROTOCOL`] so that a mismatch is an error and never a guess.
//! No message may use `skip_serializing_if`, `flatten` or untagged enums.

mod decoder;
mod facts;
mod frame;
mod message;

pub use decoder::{FrameDecoder, PreambleScan, PreambleScanner};
pub use facts::{Facts, Interface};
pub use frame::{FrameError, MAX_FRAME, decode_payload, encode_frame, read_frame, write_frame};
pub use message::{
    ALIVE_EVERY_MS, CHUNK, EXEC_WINDOW, ExecOutcome, ExecSpec, FromAgent, Hello, LockHolder,
    OutputStream, PREAMBLE, PREAMBLE_LIMIT, PROTOCOL, RelayTarget, SILENCE_LIMIT_MS, STREAM_WINDOW,
    ToAgent,
};
