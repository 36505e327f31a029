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

/// Longest silence of the peer.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of one write.
const BLOCK: usize = 256 * 1024;

/// Sends for `time`.
///
/// # Errors
/// When the connection cannot be made or breaks.
pub fn send(own: SocketAddrV4, peer: SocketAddrV4, time: Duration) -> io::Result<String> {
    send_over(meet(own, peer)?, time)
}

fn send_over(mut stream: TcpStream, time: Duration) -> io::Result<String> {
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
    receive_over(meet(own, peer)?, time)
}

fn receive_over(mut stream: TcpStream, time: Duration) -> io::Result<String> {
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

/// Dials until the peer dials back. Before it does, its packet filter drops what comes, so that a
/// refusal is a sign of a filter that is not there.
fn meet(own: SocketAddrV4, peer: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = dial(own, peer, MEET_WITHIN).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => io::Error::new(
            error.kind(),
            "the peer refuses instead of dropping: its packet filter is not as it should be",
        ),
        _ => error,
    })?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
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
    fn all_that_is_sent_arrives_and_both_say_how_much() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        let time = Duration::from_millis(100);
        let sender = std::thread::spawn(move || send_over(one, time).unwrap());
        let received = receive_over(other, time).unwrap();
        let sent = sender.join().unwrap();
        let bytes = sent.lines().next().unwrap();
        assert_eq!(received.lines().next(), Some(bytes));
        assert_ne!(bytes, "bytes 0");
    }

    /// Without a packet filter that drops nobody can meet: each refuses the other.
    #[test]
    fn who_dials_alone_is_refused_and_says_why() {
        let own: SocketAddrV4 = "127.81.3.3:20151".parse().unwrap();
        let nobody: SocketAddrV4 = "127.81.3.4:20152".parse().unwrap();
        let error = send(own, nobody, Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("refuses instead of dropping"), "{error}");
    }
}
