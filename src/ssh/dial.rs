//! The way to a host's SSH server: a TCP connection, or a channel of a jump host; then the key
//! exchange over it, again where the server turns connections away.

use super::banner::{FirstWords, Listened};
use super::connection::{Connection, HostKeyCheck, HostKeys, Presented, Trust};
use super::error::ConnectError;
use super::prompt_stream::PromptStream;
use super::ramp;
use super::target::{ConnectOptions, Target};
use russh::{ChannelOpenFailure, Preferred, cipher, client, kex};
use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Channel window: the volume that may be under way to us, several times bandwidth × delay.
const WINDOW: u32 = 8 * 1024 * 1024;

/// Key exchanges, fastest safe one first; the library adds sntrup761 to none of them.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// With AES instructions GCM is the fastest by far.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// A stream to an SSH server, whatever carries it.
trait Carrier: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Carrier for S {}

/// What an attempt came to when it came to nothing.
enum Failed {
    /// The server closed the connection before its identification, having said this.
    TurnedAway(String),
    /// There is no use in trying again.
    For(ConnectError),
}

/// TCP and key exchange. The limit covers both, attempts that the server turned away included, but
/// not the waiting for a turn and for a jump host, which has limits of its own.
pub(super) async fn handshake(
    target: &Target,
    options: &ConnectOptions,
    host_keys: HostKeys,
    trust: Trust,
    presented: Presented,
) -> Result<Connection, ConnectError> {
    let began = Instant::now();
    let mut deadline = None;
    let config = Arc::new(configuration(options, host_keys));
    let mut attempts = 0;
    loop {
        let way = options.jumps.to(target, options).await?;
        let until = *deadline.get_or_insert_with(|| Instant::now() + options.connect_timeout);
        let handler = HostKeyCheck { trust: trust.clone(), presented: Arc::clone(&presented) };
        let attempt = Attempt { target, options, way, until };
        let (said, waited) = match attempt.make(Arc::clone(&config), handler).await {
            Ok(connection) => return Ok(connection),
            Err((Failed::For(error), _)) => return Err(error),
            Err((Failed::TurnedAway(said), waited)) => (said, waited),
        };
        attempts += 1;
        let until = until + waited;
        deadline = Some(until);
        let pause = ramp::pause(attempts, ramp::chance());
        tracing::debug!(host = %target.name, attempts, said, ?pause, "turned away");
        if Instant::now() + pause >= until {
            return Err(ConnectError::TurnedAway {
                host: target.name.clone(),
                address: target.address,
                attempts,
                after: began.elapsed(),
                said,
            });
        }
        tokio::time::sleep(pause).await;
    }
}

fn configuration(options: &ConnectOptions, host_keys: HostKeys) -> client::Config {
    let HostKeys { plain, certificates } = host_keys;
    client::Config {
        window_size: WINDOW,
        maximum_packet_size: 65_535,
        channel_buffer_size: 256,
        keepalive_interval: Some(options.keepalive),
        keepalive_max: 3,
        nodelay: true,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            host_key_certificates: Cow::Owned(if certificates {
                plain.clone()
            } else {
                Vec::new()
            }),
            key: Cow::Owned(plain),
            cipher: Cow::Borrowed(CIPHERS),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

struct Attempt<'a> {
    target: &'a Target,
    options: &'a ConnectOptions,
    /// The jump host's connection, where there is one.
    way: Option<Arc<Connection>>,
    until: Instant,
}

impl Attempt<'_> {
    /// One attempt. A failure comes with the time that was spent waiting for a turn.
    async fn make(
        self,
        config: Arc<client::Config>,
        handler: HostKeyCheck,
    ) -> Result<Connection, (Failed, Duration)> {
        let began = Instant::now();
        let none = Duration::ZERO;
        let stream = match timeout_at(self.until, self.dial()).await {
            Err(_) => return Err((self.late("TCP connection"), none)),
            Ok(Err(failed)) => return Err((failed, none)),
            Ok(Ok(stream)) => stream,
        };
        let half_round_trip = began.elapsed() / 2;
        let queued = Instant::now();
        let _turn = self.options.ramp.turn().await;
        let waited = queued.elapsed();
        let words = FirstWords::default();
        let stream = Listened::new(stream, words.clone());
        let exchange = client::connect_stream(config, stream, handler);
        match timeout_at(self.until + waited, exchange).await {
            Err(_) => Err((self.late("SSH key exchange"), waited)),
            Ok(Err(error)) => {
                let failed = match words.without_identification() {
                    Some(said) => Failed::TurnedAway(said),
                    None => Failed::For(ConnectError::Protocol {
                        host: self.target.name.clone(),
                        address: self.target.address,
                        reason: protocol_reason(&error),
                    }),
                };
                Err((failed, waited))
            }
            Ok(Ok(handle)) => Ok(Connection { handle, half_round_trip, _way: self.way }),
        }
    }

    async fn dial(&self) -> Result<Pin<Box<dyn Carrier>>, Failed> {
        let address = self.target.address;
        let Some(way) = &self.way else {
            let socket = TcpStream::connect(address).await.map_err(|error| self.tcp(&error))?;
            keep_alive(&socket, self.options.keepalive).map_err(|error| self.tcp(&error))?;
            return Ok(Box::pin(PromptStream::new(socket)));
        };
        let host = address.ip().to_string();
        let port = u32::from(address.port());
        match way.handle.channel_open_direct_tcpip(host, port, "127.0.0.1", 0).await {
            Ok(channel) => Ok(Box::pin(channel.into_stream())),
            Err(error) => Err(Failed::For(self.closed_way(&error))),
        }
    }

    /// Why the jump host opens no way.
    fn closed_way(&self, error: &russh::Error) -> ConnectError {
        let (host, address) = (self.target.name.clone(), self.target.address);
        let jump = self.target.jump.last().map(ToString::to_string).unwrap_or_default();
        match error {
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
                let reason = format!("the jump host {jump} gets no connection to it");
                ConnectError::Unreachable { host, address, reason }
            }
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
                ConnectError::ForwardingForbidden { host, address, jump }
            }
            other => {
                let reason = format!("the jump host {jump} opens no way to it: {other}");
                ConnectError::Unreachable { host, address, reason }
            }
        }
    }

    fn late(&self, stage: &'static str) -> Failed {
        Failed::For(timed_out(self.target, stage, self.options.connect_timeout))
    }

    fn tcp(&self, error: &io::Error) -> Failed {
        let (host, address) = (self.target.name.clone(), self.target.address);
        Failed::For(match error.kind() {
            io::ErrorKind::ConnectionReset => return Failed::TurnedAway(error.to_string()),
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { host, address },
            io::ErrorKind::TimedOut => {
                timed_out(self.target, "TCP connection", self.options.connect_timeout)
            }
            _ => ConnectError::Unreachable { host, address, reason: error.to_string() },
        })
    }
}

/// Small packets at once; and the kernel looks for a dead peer too, so that one is found even when
/// nothing of this program runs.
fn keep_alive(socket: &TcpStream, every: Duration) -> io::Result<()> {
    use rustix::net::sockopt;
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    let every = every.max(Duration::from_secs(1));
    sockopt::set_tcp_keepidle(socket, every * 2)?;
    sockopt::set_tcp_keepintvl(socket, every)?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    Ok(())
}

/// The library's reason, with the two that say too little spelled out.
fn protocol_reason(error: &russh::Error) -> String {
    match error {
        russh::Error::Disconnect | russh::Error::HUP => {
            "the server ended the connection during the key exchange".into()
        }
        other => other.to_string(),
    }
}

pub(super) fn timed_out(target: &Target, stage: &'static str, after: Duration) -> ConnectError {
    ConnectError::Timeout { host: target.name.clone(), address: target.address, stage, after }
}
