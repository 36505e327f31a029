//! Relays connections that are opened *from this host*. One thread serves all streams with
//! non-blocking sockets; every stream has its own credit in each direction, so a stream whose peer
//! (or whose reader on the controller) stalls holds up nothing but itself.

use super::writer::FrameWriter;
use crate::wire::{CHUNK, FromAgent, RelayTarget, STREAM_WINDOW};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
    connect, ipproto, recv, send, shutdown, socket_with, sockopt,
};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What the session asks of the relay.
#[derive(Debug)]
pub enum RelayRequest {
    /// Connect.
    Open {
        /// The stream's number.
        stream: u32,
        /// Where to.
        to: RelayTarget,
        /// How long to wait.
        timeout: Duration,
    },
    /// Bytes for the peer.
    Data {
        /// The stream's number.
        stream: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// More may be sent to the controller.
    Credit {
        /// The stream's number.
        stream: u32,
        /// How many bytes more.
        bytes: u32,
    },
    /// Half close, or drop when sent twice.
    Close {
        /// The stream's number.
        stream: u32,
    },
}

/// Handle to the relay's thread. Dropping the last one closes all streams.
#[derive(Clone)]
pub struct Relay {
    requests: mpsc::Sender<RelayRequest>,
    wake: Arc<OwnedFd>,
}

impl Relay {
    /// Starts the relay's thread.
    ///
    /// # Errors
    /// When no thread or event descriptor can be had.
    pub fn start(writer: FrameWriter) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (requests, receiver) = mpsc::channel();
        let loop_wake = Arc::clone(&wake);
        std::thread::Builder::new().name("relay".into()).spawn(move || {
            Loop { writer, requests: receiver, wake: loop_wake, streams: BTreeMap::new() }.run();
        })?;
        Ok(Self { requests, wake })
    }

    /// Hands a request over; never waits.
    pub fn request(&self, request: RelayRequest) {
        self.requests.send(request).ok();
        rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

struct Loop {
    writer: FrameWriter,
    requests: mpsc::Receiver<RelayRequest>,
    wake: Arc<OwnedFd>,
    streams: BTreeMap<u32, Stream>,
}

struct Stream {
    socket: OwnedFd,
    phase: Phase,
    /// Bytes for the peer that its socket has not taken yet; at most [`STREAM_WINDOW`].
    outgoing: Vec<u8>,
    /// Bytes that may still be sent to the controller.
    credit: u64,
    /// Written to the peer and not yet given back as credit.
    owed: u32,
    /// The controller sends no more.
    write_closed: bool,
    /// The peer sends no more.
    read_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting(Instant),
    Open,
}

/// What becomes of a stream after a step.
enum Next {
    Keep,
    Drop,
    Fail(String),
}

impl Loop {
    fn run(mut self) {
        loop {
            loop {
                match self.requests.try_recv() {
                    Ok(request) => self.serve(request),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.wait_and_move();
        }
    }

    fn serve(&mut self, request: RelayRequest) {
        match request {
            RelayRequest::Open { stream, to, timeout } => match begin_connect(&to) {
                Ok(socket) => {
                    let phase = Phase::Connecting(Instant::now() + timeout);
                    self.streams.insert(stream, Stream::new(socket, phase));
                }
                Err(error) => self.open_failed(stream, error),
            },
            RelayRequest::Data { stream, bytes } => {
                let Some(entry) = self.streams.get_mut(&stream) else {
                    return;
                };
                if entry.outgoing.len() + bytes.len() > STREAM_WINDOW as usize {
                    return self
                        .end(stream, Some("more bytes arrived than the credit allows".into()));
                }
                entry.outgoing.extend_from_slice(&bytes);
                self.write_out(stream);
            }
            RelayRequest::Credit { stream, bytes } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.credit += u64::from(bytes);
                }
            }
            RelayRequest::Close { stream } => {
                let Some(entry) = self.streams.get_mut(&stream) else {
                    return;
                };
                if entry.write_closed {
                    self.streams.remove(&stream);
                } else {
                    entry.write_closed = true;
                    self.write_out(stream);
                }
            }
        }
    }

    /// Waits until a socket or a request is ready, then moves bytes on every ready stream once.
    fn wait_and_move(&mut self) {
        let now = Instant::now();
        let mut wait = Duration::from_secs(60);
        let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        let mut numbers = Vec::new();
        for (number, stream) in &self.streams {
            if let Phase::Connecting(deadline) = stream.phase {
                wait = wait.min(deadline.saturating_duration_since(now));
            }
            let interest = stream.interest();
            if !interest.is_empty() {
                fds.push(PollFd::from_borrowed_fd(stream.socket.as_fd(), interest));
                numbers.push(*number);
            }
        }
        let timeout = Timespec::try_from(wait).ok();
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return;
        }
        let ready: Vec<(u32, PollFlags)> =
            numbers.into_iter().zip(fds.iter().skip(1).map(PollFd::revents)).collect();
        drop(fds);
        rustix::io::read(&*self.wake, &mut [0_u8; 8]).ok();
        for (number, flags) in ready {
            let Some(stream) = self.streams.get(&number) else {
                continue;
            };
            if stream.phase == Phase::Open {
                if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    self.read_in(number);
                }
                if flags.intersects(PollFlags::OUT) {
                    self.write_out(number);
                }
            } else if !flags.is_empty() {
                self.connected(number);
            }
        }
        self.expire();
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| matches!(stream.phase, Phase::Connecting(deadline) if deadline <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.streams.remove(&number);
            self.open_failed(number, ErrorKind::TimedOut.into());
        }
    }

    fn connected(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        match sockopt::socket_error(&stream.socket) {
            Ok(Ok(())) => {
                stream.phase = Phase::Open;
                // A socket that is no TCP connection has no such delay to take off.
                sockopt::set_tcp_nodelay(&stream.socket, true).ok();
                self.writer.bulk(&FromAgent::Opened { stream: number }).ok();
                self.write_out(number);
            }
            Ok(Err(error)) | Err(error) => {
                self.streams.remove(&number);
                self.open_failed(number, error.into());
            }
        }
    }

    fn open_failed(&self, stream: u32, error: io::Error) {
        let refused = error.kind() == ErrorKind::ConnectionRefused;
        let reason = match error.kind() {
            ErrorKind::TimedOut => "no answer before the deadline".to_owned(),
            _ => error.to_string(),
        };
        self.writer.bulk(&FromAgent::OpenFailed { stream, reason, refused }).ok();
    }

    fn read_in(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        if stream.read_closed || stream.credit == 0 {
            // Only an error can have woken us; without credit a hang-up waits its turn, unless
            // nothing can ever be sent again.
            if matches!(sockopt::socket_error(&stream.socket), Ok(Err(_))) {
                self.end(number, Some("the connection was reset".into()));
            }
            return;
        }
        let allowed = CHUNK.min(usize::try_from(stream.credit).unwrap_or(CHUNK));
        let mut buffer = vec![0; allowed];
        match received(&stream.socket, &mut buffer) {
            Ok(0) => {
                stream.read_closed = true;
                let done = stream.write_closed && stream.outgoing.is_empty();
                self.writer.bulk(&FromAgent::Closed { stream: number, error: None }).ok();
                if done {
                    self.streams.remove(&number);
                }
            }
            Ok(n) => {
                buffer.truncate(n);
                stream.credit -= n as u64;
                self.writer.bulk(&FromAgent::Data { stream: number, bytes: buffer }).ok();
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => self.end(number, Some(error.to_string())),
        }
    }

    fn write_out(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        match stream.write_some() {
            Next::Keep => {}
            Next::Drop => {
                self.streams.remove(&number);
                return;
            }
            Next::Fail(reason) => return self.end(number, Some(reason)),
        }
        if stream.owed >= STREAM_WINDOW / 4 || (stream.owed > 0 && stream.outgoing.is_empty()) {
            let bytes = std::mem::take(&mut stream.owed);
            self.writer.report(&FromAgent::Credit { stream: number, bytes }).ok();
        }
    }

    fn end(&mut self, number: u32, error: Option<String>) {
        if let Some(stream) = self.streams.remove(&number)
            && !stream.read_closed
        {
            self.writer.bulk(&FromAgent::Closed { stream: number, error }).ok();
        }
    }
}

impl Stream {
    fn new(socket: OwnedFd, phase: Phase) -> Self {
        Self {
            socket,
            phase,
            outgoing: Vec::new(),
            credit: u64::from(STREAM_WINDOW),
            owed: 0,
            write_closed: false,
            read_closed: false,
        }
    }

    fn interest(&self) -> PollFlags {
        if self.phase != Phase::Open {
            return PollFlags::OUT;
        }
        let mut flags = PollFlags::empty();
        if !self.read_closed && self.credit > 0 {
            flags |= PollFlags::IN;
        }
        if !self.outgoing.is_empty() {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Writes what the socket takes; shuts the writing side down once all is written.
    fn write_some(&mut self) -> Next {
        if self.phase != Phase::Open {
            return Next::Keep;
        }
        let mut written = 0;
        while written < self.outgoing.len() {
            match send(&self.socket, &self.outgoing[written..], SendFlags::NOSIGNAL) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Next::Fail(io::Error::from(error).to_string()),
            }
        }
        self.outgoing.drain(..written);
        self.owed += u32::try_from(written).unwrap_or(u32::MAX);
        if self.write_closed && self.outgoing.is_empty() {
            if self.read_closed {
                return Next::Drop;
            }
            shutdown(&self.socket, Shutdown::Write).ok();
        }
        Next::Keep
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn received(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (count, _) = recv(socket, buffer, RecvFlags::empty())?;
    Ok(count)
}

fn begin_connect(to: &RelayTarget) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = |family, protocol| socket_with(family, SocketType::STREAM, flags, protocol);
    let (socket, begun) = match to {
        RelayTarget::Tcp(to) => {
            let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = stream(family, Some(ipproto::TCP))?;
            let begun = connect(&socket, to);
            (socket, begun)
        }
        RelayTarget::Unix(path) => {
            let address = SocketAddrUnix::new(path.as_str())?;
            let socket = stream(AddressFamily::UNIX, None)?;
            let begun = connect(&socket, &address);
            (socket, begun)
        }
    };
    match begun {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        // On a path this means that nobody takes connections off a full queue.
        Err(Errno::AGAIN) => Err(io::Error::other("too many connections wait there already")),
        Err(error) => Err(error.into()),
    }
}
