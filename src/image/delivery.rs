//! Brings an image to a host: the layers that its engine lacks, each once, from where an earlier
//! attempt left off; the host keeps them until the engine has them.

use super::engine::{Engine, EngineError};
use super::layers::{Layer, Parcel, Part, shared};
use crate::ssh::{
    AgentSession, OpenError, ProgramEvent, RelayStream, RunningProgram, SessionError,
};
use crate::wire::ExecSpec;
use std::io::SeekFrom;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// How long the host may take none of what it is sent.
const STALLED: Duration = Duration::from_secs(120);

/// How long the host may take to look at a layer.
pub(super) const QUICK: Duration = Duration::from_secs(120);

/// How long the engine may take to load an archive that is on its host.
const LOAD: Duration = Duration::from_secs(1800);

/// Bytes that are read and sent at once.
const PIECE: usize = 128 * 1024;

/// Why an image was not brought.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The link to the host is gone; what has arrived stays there.
    #[error("{0}")]
    Link(#[from] SessionError),
    /// The socket for the layers could not be opened.
    #[error("the layers cannot be sent: {0}")]
    Open(#[from] OpenError),
    /// The host's engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The host did not take something.
    #[error("{host}: {reason}")]
    Refused {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// An archive could not be read any further.
    #[error("{file} cannot be read: {reason}")]
    Archive {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// Bytes that were sent, for whoever shows or sums them up.
#[derive(Debug, Clone, Default)]
pub struct SentBytes(Arc<AtomicU64>);

impl SentBytes {
    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Sends what the host lacks of an image and has its engine load it.
///
/// # Errors
/// See [`DeliveryError`]; what has arrived stays on the host for the next attempt.
pub(super) async fn deliver(
    session: &AgentSession,
    parcel: &Parcel,
    sent: &SentBytes,
) -> Result<(), DeliveryError> {
    let held = Engine::new(session).layers().await?;
    let first = shared(&parcel.layers, &held);
    match bring(session, parcel, first, sent).await {
        // Not every engine takes an archive without the layers that it has.
        Err(DeliveryError::Refused { .. }) if first > 0 => bring(session, parcel, 0, sent).await,
        result => result,
    }
}

async fn bring(
    session: &AgentSession,
    parcel: &Parcel,
    first: usize,
    sent: &SentBytes,
) -> Result<(), DeliveryError> {
    let mut host = Receiver::start(session).await?;
    let layers = parcel.layers_from(first);
    for layer in &layers {
        host.receive(layer, sent).await?;
    }
    let parts = parcel.parts(first).map_err(|error| DeliveryError::Archive {
        file: parcel.bundle.path.display().to_string(),
        reason: error.to_string(),
    })?;
    host.load(&parts, sent).await?;
    for layer in layers {
        host.ask(&format!("drop {}\n", layer.digest), QUICK).await?;
    }
    Ok(())
}

/// The program on the host that keeps layers and gives them to the engine.
pub(super) struct Receiver<'a> {
    session: &'a AgentSession,
    stream: BufReader<RelayStream>,
    /// Ends with this.
    _program: RunningProgram,
}

impl<'a> Receiver<'a> {
    pub(super) async fn start(session: &'a AgentSession) -> Result<Self, DeliveryError> {
        let socket = format!("/run/strata/blobs-{}", unique());
        let argv = ["/proc/self/exe", "blobs", &socket].map(str::to_owned).to_vec();
        let spec = ExecSpec { argv, stdin: Vec::new(), env: Vec::new(), user: None, timeout_ms: 0 };
        let mut program = session.exec_streaming(spec)?;
        let mut said = Vec::new();
        let refused = |reason: String| DeliveryError::Refused {
            host: session.host().to_owned(),
            reason: format!("the layers cannot be received: {reason}"),
        };
        while !said.ends_with(b"ready\n") {
            match timeout(QUICK, program.next()).await {
                Err(_) => return Err(refused("the agent is not ready in time".to_owned())),
                Ok(event) => match event? {
                    ProgramEvent::Output(_, bytes) => said.extend(bytes),
                    ProgramEvent::Done(_) => {
                        return Err(refused(String::from_utf8_lossy(&said).trim().to_owned()));
                    }
                },
            }
        }
        let stream = session.open_unix(&socket, QUICK).await?;
        Ok(Self { session, stream: BufReader::new(stream), _program: program })
    }

    /// Sends what the host lacks of a layer.
    pub(super) async fn receive(
        &mut self,
        layer: &Layer,
        sent: &SentBytes,
    ) -> Result<(), DeliveryError> {
        let what = format!("{} {}", layer.digest, layer.size);
        let held = self.ask(&format!("have {what}\n"), QUICK).await?;
        let held: u64 = held.parse().map_err(|_| self.refused(&held))?;
        if held == layer.size {
            return Ok(());
        }
        self.send(format!("put {what} {held}\n").as_bytes()).await?;
        let unreadable = |error: std::io::Error| DeliveryError::Archive {
            file: layer.file.display().to_string(),
            reason: error.to_string(),
        };
        let mut file = tokio::fs::File::open(&layer.file).await.map_err(unreadable)?;
        file.seek(SeekFrom::Start(layer.offset + held)).await.map_err(unreadable)?;
        let mut rest = layer.size.saturating_sub(held);
        let mut piece = vec![0; PIECE];
        while rest > 0 {
            let most = piece.len().min(usize::try_from(rest).unwrap_or(PIECE));
            let count = file.read(&mut piece[..most]).await.map_err(unreadable)?;
            if count == 0 {
                return Err(unreadable(std::io::ErrorKind::UnexpectedEof.into()));
            }
            if let Err(error) = self.send(&piece[..count]).await {
                // A host that takes no more says why, unless the link is gone.
                return Err(self.answer(QUICK).await.err().unwrap_or(error));
            }
            sent.add(count);
            rest -= count as u64;
        }
        self.answer(LOAD).await.map(drop)
    }

    /// True when the file at this path of the host has this digest.
    pub(super) async fn has(&mut self, path: &str, digest: &str) -> Result<bool, DeliveryError> {
        Ok(self.ask(&format!("at {digest} {path}\n"), QUICK).await? == "yes")
    }

    /// Has the host unpack what it received.
    pub(super) async fn unpack(&mut self, layer: &Layer, length: u64) -> Result<(), DeliveryError> {
        let Layer { digest, size, content, .. } = layer;
        self.ask(&format!("unpack {digest} {size} {content} {length}\n"), LOAD).await.map(drop)
    }

    async fn load(&mut self, parts: &[Part], sent: &SentBytes) -> Result<(), DeliveryError> {
        self.send(format!("load {}\n", parts.len()).as_bytes()).await?;
        for part in parts {
            match part {
                Part::Bytes(bytes) => {
                    self.send(format!("bytes {}\n", bytes.len()).as_bytes()).await?;
                    self.send(bytes).await?;
                    sent.add(bytes.len());
                }
                Part::Layer(digest, size) => {
                    self.send(format!("blob {digest} {size}\n").as_bytes()).await?;
                }
            }
        }
        self.answer(LOAD).await.map(drop)
    }

    pub(super) async fn ask(
        &mut self,
        line: &str,
        limit: Duration,
    ) -> Result<String, DeliveryError> {
        self.send(line.as_bytes()).await?;
        self.answer(limit).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), DeliveryError> {
        match timeout(STALLED, self.stream.get_mut().write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => self.broken(&error.to_string()).await,
            Err(_) => Err(self.refused(&format!("took no bytes for {} s", STALLED.as_secs()))),
        }
    }

    async fn answer(&mut self, limit: Duration) -> Result<String, DeliveryError> {
        let mut line = String::new();
        match timeout(limit, self.stream.read_line(&mut line)).await {
            Ok(Ok(count)) if count > 0 => {}
            Ok(Ok(_)) => return self.broken("the agent ended").await,
            Ok(Err(error)) => return self.broken(&error.to_string()).await,
            Err(_) => {
                return Err(self.refused(&format!("no answer within {} s", limit.as_secs())));
            }
        }
        match line.trim_end().strip_prefix("error ") {
            Some(reason) => Err(self.refused(reason)),
            None => Ok(line.trim_end().to_owned()),
        }
    }

    /// The stream broke: with the link, or by itself.
    async fn broken<T>(&self, reason: &str) -> Result<T, DeliveryError> {
        // The link's end may be learned a moment after its streams'.
        match timeout(Duration::from_secs(1), self.session.lost()).await {
            Ok(error) => Err(error.into()),
            Err(_) => Err(self.refused(reason)),
        }
    }

    fn refused(&self, reason: &str) -> DeliveryError {
        DeliveryError::Refused { host: self.session.host().to_owned(), reason: reason.to_owned() }
    }
}

/// A name that no other delivery has, whatever an earlier one left behind.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{next}-{}", std::process::id(), now.as_nanos())
}
