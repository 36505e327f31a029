//! HTTP/1.1 with the container engine over its socket: one connection a request, bounded answers,
//! one deadline for all of it.

use super::LocalSystem;
use super::root::reason;
use crate::resource::{ENGINE_SOCKET, EngineRequest, EngineResponse, Failure};
use rustix::io::Errno;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Largest answer that is read; the largest in use (a container's description) is some 20 KiB.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// Headers that an answer may have.
const HEADERS: usize = 64;

impl LocalSystem {
    pub(super) fn ask_engine(
        &mut self,
        request: &EngineRequest,
    ) -> Result<EngineResponse, Failure> {
        if !self.is_host() {
            return Err(Failure::new("a simulated host has no container engine"));
        }
        let mut stream = UnixStream::connect(ENGINE_SOCKET).map_err(|error| not_there(&error))?;
        exchange(&mut stream, request).map_err(|why| {
            Failure::new(format!(
                "no answer from the container engine to {} {}: {why}",
                request.method,
                request.path.split('?').next().unwrap_or_default()
            ))
            .hint("see `journalctl -u docker` on the host")
        })
    }
}

/// Gives the engine an archive of `size` bytes, which `write` writes, and waits for its answer.
///
/// # Errors
/// When the engine cannot be reached or asked, or the archive cannot be written to its end and the
/// engine does not say why.
pub(in crate::agent) fn load_archive(
    size: u64,
    deadline: Duration,
    write: impl FnOnce(&mut UnixStream) -> io::Result<()>,
) -> Result<EngineResponse, String> {
    let connected = UnixStream::connect(ENGINE_SOCKET);
    let mut stream = connected.map_err(|error| not_there(&error).message)?;
    let head = format!(
        "POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nUser-Agent: strata-agent\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {size}\r\n\r\n"
    );
    let set = stream.set_write_timeout(Some(deadline));
    let sent =
        set.and_then(|()| stream.write_all(head.as_bytes())).and_then(|()| write(&mut stream));
    // An engine that refuses closes before the end and says why.
    stream.set_read_timeout(Some(deadline)).map_err(|error| error.to_string())?;
    let mut reader = AnswerReader::default();
    let mut buffer = [0; 16 * 1024];
    let read = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break reader.end(),
            Ok(count) => match reader.push(&buffer[..count]) {
                Ok(None) => {}
                Ok(Some(response)) => break Ok(response),
                Err(error) => break Err(error),
            },
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error.to_string()),
        }
    };
    match (sent, read) {
        (_, Ok(response)) => Ok(response),
        (Err(error), Err(_)) => Err(error.to_string()),
        (Ok(()), Err(error)) => Err(error),
    }
}

fn not_there(error: &io::Error) -> Failure {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    let failure = |why: &str| {
        Failure::new(format!("the container engine cannot be reached at {ENGINE_SOCKET}: {why}"))
    };
    match errno {
        Errno::NOENT => failure("it is not installed or not running")
            .hint("install docker.io in a step before this one, or see `systemctl status docker`"),
        Errno::CONNREFUSED => failure("it does not run")
            .hint("see `systemctl status docker` and `journalctl -u docker` on the host"),
        errno => failure(&reason(errno)),
    }
}

fn exchange(stream: &mut UnixStream, request: &EngineRequest) -> Result<EngineResponse, String> {
    let deadline = Instant::now() + request.deadline;
    let limit = |stream: &UnixStream| {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("it took more than {} s", request.deadline.as_secs()));
        }
        let set = stream.set_read_timeout(Some(left));
        set.and_then(|()| stream.set_write_timeout(Some(left))).map_err(|error| error.to_string())
    };
    limit(stream)?;
    stream.write_all(&encode(request)).map_err(|error| words(&error, request))?;
    let mut reader = AnswerReader::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        limit(stream)?;
        match stream.read(&mut buffer) {
            Ok(0) => return reader.end(),
            Ok(count) => {
                if let Some(response) = reader.push(&buffer[..count])? {
                    return Ok(response);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(words(&error, request)),
        }
    }
}

fn words(error: &io::Error, request: &EngineRequest) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("it took more than {} s", request.deadline.as_secs())
        }
        _ => error.to_string(),
    }
}

fn encode(request: &EngineRequest) -> Vec<u8> {
    let body = request.body.as_deref().unwrap_or_default();
    let kind = if request.body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let mut bytes = format!(
        "{} {} HTTP/1.1\r\nHost: docker\r\nUser-Agent: strata-agent\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
        request.method,
        request.path,
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// How the end of a body is found.
enum Length {
    Known(usize),
    Chunked,
    UntilClosed,
}

/// Puts an answer together from pieces of any size.
#[derive(Default)]
struct AnswerReader {
    bytes: Vec<u8>,
    head: Option<(u16, Length)>,
    /// What the chunks so far hold.
    body: Vec<u8>,
}

impl AnswerReader {
    /// Takes the next bytes; the answer once it is complete.
    fn push(&mut self, bytes: &[u8]) -> Result<Option<EngineResponse>, String> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() + self.body.len() > ANSWER_LIMIT {
            return Err(format!("the answer is longer than {ANSWER_LIMIT} bytes"));
        }
        while self.head.is_none() {
            let Some((length, status, body)) = parse_head(&self.bytes)? else { return Ok(None) };
            self.bytes.drain(..length);
            // 100 and its like announce the answer and are none.
            if status >= 200 {
                self.head = Some((status, body));
            }
        }
        match self.head {
            Some((status, Length::Known(length))) if self.bytes.len() >= length => {
                self.bytes.truncate(length);
                let body = std::mem::take(&mut self.bytes);
                Ok(Some(EngineResponse { status, body }))
            }
            Some((status, Length::Chunked)) => Ok(self
                .take_chunks()?
                .then(|| EngineResponse { status, body: std::mem::take(&mut self.body) })),
            _ => Ok(None),
        }
    }

    /// Moves complete chunks over; true after the last one.
    fn take_chunks(&mut self) -> Result<bool, String> {
        let mut at = 0;
        let mut ended = false;
        while !ended {
            let size = httparse::parse_chunk_size(&self.bytes[at..])
                .map_err(|_| "a chunk of the answer has no size".to_owned())?;
            let httparse::Status::Complete((head, size)) = size else { break };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size == 0 {
                ended = true;
                break;
            }
            if size > ANSWER_LIMIT {
                return Err(format!("the answer is longer than {ANSWER_LIMIT} bytes"));
            }
            let from = at + head;
            let Some(chunk) = self.bytes.get(from..from + size) else { break };
            // The line break after a chunk belongs to it.
            if self.bytes.len() < from + size + 2 {
                break;
            }
            self.body.extend_from_slice(chunk);
            at = from + size + 2;
        }
        self.bytes.drain(..at);
        Ok(ended)
    }

    /// The other side closed the connection.
    fn end(mut self) -> Result<EngineResponse, String> {
        match self.head {
            Some((status, Length::UntilClosed)) => {
                Ok(EngineResponse { status, body: std::mem::take(&mut self.bytes) })
            }
            _ => Err("it closed the connection before the end of its answer".to_owned()),
        }
    }
}

/// Length of the head, status, and how the body ends; `None` while the head is not complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, u16, Length)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| format!("it is not HTTP: {error}"))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or_default();
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
    };
    let body = if status < 200 || status == 204 || status == 304 {
        Length::Known(0)
    } else if value("transfer-encoding").is_some_and(|value| value.ends_with("chunked")) {
        Length::Chunked
    } else {
        match value("content-length") {
            Some(text) => {
                Length::Known(text.parse().map_err(|_| format!("it gives the length `{text}`"))?)
            }
            None => Length::UntilClosed,
        }
    };
    Ok(Some((length, status, body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The answer to `bytes` as they come in pieces of the given sizes.
    fn read(bytes: &[u8], pieces: &[usize]) -> Result<EngineResponse, String> {
        let mut reader = AnswerReader::default();
        let mut rest = bytes;
        for size in pieces.iter().copied().chain(std::iter::repeat(usize::MAX)) {
            if rest.is_empty() {
                return reader.end();
            }
            let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
            if let Some(response) = reader.push(piece)? {
                return Ok(response);
            }
            rest = after;
        }
        unreachable!("the pieces have no end")
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_answer(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            chunks in proptest::collection::vec(1_usize..50, 0..20),
            pieces in proptest::collection::vec(1_usize..40, 0..30),
        ) {
            let wanted = EngineResponse { status: 200, body: body.clone() };
            let mut known = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            known.extend_from_slice(&body);
            prop_assert_eq!(read(&known, &pieces), Ok(wanted.clone()));
            let mut closed = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec();
            closed.extend_from_slice(&body);
            prop_assert_eq!(read(&closed, &pieces), Ok(wanted.clone()));
            let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n".to_vec();
            let mut rest = &body[..];
            for size in chunks.into_iter().chain(std::iter::repeat(usize::MAX)) {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at(size.min(rest.len()));
                chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                chunked.extend_from_slice(chunk);
                chunked.extend_from_slice(b"\r\n");
                rest = after;
            }
            let cut = chunked.len();
            chunked.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&chunked, &pieces), Ok(wanted));
            prop_assert!(read(&chunked[..cut], &pieces).is_err(), "the last chunk is missing");
        }

        #[test]
        fn nothing_that_arrives_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes, &[7, 1, 30]).ok();
            let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            chunked.extend_from_slice(&bytes);
            read(&chunked, &[7, 1, 60]).ok();
        }
    }

    #[test]
    fn an_answer_without_a_body() {
        let response = read(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n", &[]).unwrap();
        assert_eq!((response.status, response.body.len()), (204, 0));
    }

    #[test]
    fn a_body_is_sent_with_its_length() {
        let request = EngineRequest::post("/containers/create?name=a")
            .json(&serde_json::json!({ "Env": ["A=canary"] }));
        let text = String::from_utf8(encode(&request)).unwrap();
        assert!(text.starts_with("POST /containers/create?name=a HTTP/1.1\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 20\r\n\r\n{\"Env\":[\"A=canary\"]}"), "{text}");
        assert!(!format!("{request:?}").contains("canary"));
    }

    #[test]
    fn an_engine_that_is_not_there_is_named() {
        for (errno, words) in [(Errno::NOENT, "not installed"), (Errno::CONNREFUSED, "not run")] {
            let failure = not_there(&io::Error::from(errno));
            assert!(failure.message.contains(words) && failure.hint.is_some(), "{failure:?}");
        }
    }
}
