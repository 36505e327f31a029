//! Frames out of bytes that arrive in arbitrary pieces, and the search for the agent's preamble in
//! front of them. Pure: no I/O here.

use super::{FrameError, MAX_FRAME, PREAMBLE, PREAMBLE_LIMIT, decode_payload};
use serde::de::DeserializeOwned;

/// Collects bytes and hands out whole frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > CHUNK_TO_RECLAIM {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the length is above [`MAX_FRAME`] or the payload is no message; the stream cannot be
    /// used after that.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some((prefix, rest)) = pending.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLarge(length));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode_payload(payload)?;
        self.start += 4 + length;
        Ok(Some(message))
    }
}

/// Consumed bytes are given back once they exceed this; amortises the copying.
const CHUNK_TO_RECLAIM: usize = 64 * 1024;

/// What a [`PreambleScanner`] found so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreambleScan {
    /// The preamble has arrived; these are the bytes behind it.
    Found(Vec<u8>),
    /// Not yet.
    NotYet,
    /// More than [`PREAMBLE_LIMIT`] bytes arrived without it.
    TooMuch,
}

/// Looks for [`PREAMBLE`] behind whatever a login shell prints.
#[derive(Debug, Default)]
pub struct PreambleScanner {
    seen: Vec<u8>,
}

impl PreambleScanner {
    /// Adds bytes as they arrived and says whether the preamble is among all bytes so far.
    pub fn push(&mut self, bytes: &[u8]) -> PreambleScan {
        let from = self.seen.len().saturating_sub(PREAMBLE.len() - 1);
        self.seen.extend_from_slice(bytes);
        let at = self.seen[from..].windows(PREAMBLE.len()).position(|window| window == PREAMBLE);
        if let Some(at) = at {
            let rest = self.seen.split_off(from + at + PREAMBLE.len());
            self.seen.truncate(from + at);
            return PreambleScan::Found(rest);
        }
        if self.seen.len() > PREAMBLE_LIMIT { PreambleScan::TooMuch } else { PreambleScan::NotYet }
    }

    /// What came before the preamble.
    pub fn foreign(&self) -> &[u8] {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ExecSpec, FromAgent, ToAgent, encode_frame};
    use proptest::prelude::*;

    fn message(id: u32, stdin: Vec<u8>, text: String) -> ToAgent {
        let spec = ExecSpec {
            argv: vec![text.clone()],
            stdin,
            env: vec![(text, String::new())],
            user: None,
            timeout_ms: id,
        };
        ToAgent::Exec { id, spec }
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            parts in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..300), ".{0,20}"), 0..8),
            cuts in prop::collection::vec(1_usize..97, 1..40),
        ) {
            let sent: Vec<ToAgent> = parts.into_iter().map(|(id, bytes, text)| message(id, bytes, text)).collect();
            let stream: Vec<u8> = sent.iter().flat_map(|m| encode_frame(m).unwrap()).collect();
            let mut decoder = FrameDecoder::default();
            let mut received = Vec::new();
            let mut rest = stream.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let n = (*cuts.next().unwrap()).min(rest.len());
                decoder.push(&rest[..n]);
                rest = &rest[n..];
                while let Some(message) = decoder.next_message::<ToAgent>().unwrap() {
                    received.push(message);
                }
            }
            prop_assert_eq!(format!("{sent:?}"), format!("{received:?}"));
        }

        #[test]
        fn garbage_is_an_error_or_unfinished_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = FrameDecoder::default();
            decoder.push(&bytes);
            let mut rounds = 0;
            while let Ok(Some(_)) = decoder.next_message::<FromAgent>() {
                rounds += 1;
                prop_assert!(rounds <= bytes.len());
            }
        }

        #[test]
        fn the_preamble_is_found_behind_any_banner(
            banner in prop::collection::vec(any::<u8>(), 0..500),
            tail in prop::collection::vec(any::<u8>(), 0..50),
            cut in 1_usize..40,
        ) {
            prop_assume!(!banner.windows(PREAMBLE.len()).any(|w| w == PREAMBLE));
            let stream = [banner.as_slice(), &PREAMBLE, &tail].concat();
            let mut scanner = PreambleScanner::default();
            let mut found = None;
            for piece in stream.chunks(cut) {
                match found.as_mut() {
                    None => if let PreambleScan::Found(rest) = scanner.push(piece) { found = Some(rest) },
                    Some(rest) => rest.extend_from_slice(piece),
                }
            }
            prop_assert_eq!(found, Some(tail));
            prop_assert_eq!(scanner.foreign(), banner.as_slice());
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_is_allocated() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.next_message::<ToAgent>(), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn endless_foreign_output_is_given_up() {
        let mut scanner = PreambleScanner::default();
        assert_eq!(scanner.push(&vec![b'x'; PREAMBLE_LIMIT]), PreambleScan::NotYet);
        assert_eq!(scanner.push(b"x"), PreambleScan::TooMuch);
    }
}
