//! One TCP connection between two hosts, as fast as it goes.
//!
//! No port is opened for it. Both hosts dial the other from a fixed port (TCP's simultaneous open,
//! RFC 9293 3.5): to the packet filter of each the connection is one that its own host began, so its
//! answers pass, and nobody else can reach anything at any time.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// How long the two may take to find each other. The first attempt may be lost: it is sent before the
/// peer's own has opened the way, and repeated by the kernel after a second.
const MEET_WITHIN: Duration = Duration::from_secs(10);

/// Between two attempts after a refusal.
const AGAIN: Duration = Duration::from_millis(100);

/// Longest silence of the peer.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of one write.
const BLOCK: usize = 256 * 1024;

/// Sends for `time`.
///
/// # Errors
/// When the connection cannot be made or breaks.
pub fn send(own: SocketAddrV4, peer: SocketAddrV4, time: Duration) -> io::Result<String> {
    let mut stream = meet(own, peer)?;
    let block = vec![0x5a; BLOCK];
    let start = Instant::now();
    let mut sent: u64 = 0;
    while start.elapsed() < time {
        sent += stream.write(&block)? as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    // The receiver closes when it has everything.
    while stream.read(&mut [0; 1])? > 0 {}
    Ok(format!("bytes {sent}\n"))
}

/// Receives until the sender is done; the time runs from the first byte to the last.
///
/// # Errors
/// When the connection cannot be made or breaks, or nothing comes, or it goes on for much longer than
/// `time`.
pub fn receive(own: SocketAddrV4, peer: SocketAddrV4, time: Duration) -> io::Result<String> {
    let mut stream = meet(own, peer)?;
    let mut block = vec![0; BLOCK];
    let mut received: u64 = 0;
    let mut first = None;
    loop {
        let length = stream.read(&mut block)?;
        if length == 0 {
            break;
        }
        let start = *first.get_or_insert_with(Instant::now);
        received += length as u64;
        if start.elapsed() > time + SILENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the sender does not end"));
        }
    }
    let micros = first.map_or(0, |start: Instant| start.elapsed().as_micros());
    Ok(format!("bytes {received}\nmicroseconds {micros}\n"))
}

/// Dials until the peer dials back.
fn meet(own: SocketAddrV4, peer: SocketAddrV4) -> io::Result<TcpStream> {
    let end = Instant::now() + MEET_WITHIN;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match dial(own, peer, left) {
            Ok(stream) => {
                stream.set_read_timeout(Some(SILENCE))?;
                stream.set_write_timeout(Some(SILENCE))?;
                return Ok(stream);
            }
            // A host without a packet filter refuses as long as its side does not dial.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && !left.is_zero() => {
                std::thread::sleep(AGAIN.min(left));
            }
            Err(error) => return Err(error),
        }
    }
}

fn dial(own: SocketAddrV4, peer: SocketAddrV4, within: Duration) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &own)?;
    match connect(&socket, &peer) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let timeout = Timespec::try_from(within).map_err(io::Error::other)?;
    let mut wait = [PollFd::new(&socket, PollFlags::OUT)];
    if poll(&mut wait, Some(&timeout))? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "nothing comes back: packets are dropped on the way, or the peer does not dial",
        ));
    }
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_dial_each_other_meet_without_a_listener() {
        // Addresses of this test alone; ports below the range that the kernel gives away.
        let one: SocketAddrV4 = "127.81.3.1:20151".parse().unwrap();
        let other: SocketAddrV4 = "127.81.3.2:20152".parse().unwrap();
        let time = Duration::from_millis(100);
        let sender = std::thread::spawn(move || send(one, other, time).unwrap());
        let received = receive(other, one, time).unwrap();
        let sent = sender.join().unwrap();
        let bytes = sent.lines().next().unwrap();
        assert_eq!(received.lines().next(), Some(bytes));
        assert_ne!(bytes, "bytes 0");
    }

    #[test]
    fn who_dials_alone_gives_up() {
        let own: SocketAddrV4 = "127.81.3.3:20151".parse().unwrap();
        let nobody: SocketAddrV4 = "127.81.3.4:20152".parse().unwrap();
        let error = dial(own, nobody, Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
