//! Takes every frame off the link at once and gives it to whom it concerns.
//!
//! Invariant: the reading task never waits for a consumer. What it queues is bounded by credits
//! (streams, programs) or by the batch, so a consumer that does not drain holds up only itself.

use super::error::SessionError;
use super::link::{LinkEvent, LinkReader, LinkWriter};
use super::relay_stream::StreamState;
use crate::resource::ItemReport;
use crate::wire::{
    ALIVE_EVERY_MS, ExecOutcome, FrameDecoder, FromAgent, LockHolder, OutputStream, ToAgent,
    encode_frame,
};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot, watch};

/// News of a batch.
#[derive(Debug)]
pub(super) enum BatchNews {
    Item(ItemReport),
    Prove(Duration),
    Done { complete: bool, forgotten: Vec<String> },
}

/// News of a program.
#[derive(Debug)]
pub(super) enum ProgramNews {
    Output(OutputStream, Vec<u8>),
    Done(ExecOutcome),
}

/// The answer to a request for the lock.
pub(super) enum LockNews {
    Taken,
    Held(Option<LockHolder>),
    Failed(String),
}

/// Shared by the session's tasks and everything it hands out.
pub(super) struct Router {
    host: String,
    tables: Mutex<Tables>,
    /// Small messages that must not wait behind bulk: credits, answers, signs of life.
    urgent: mpsc::UnboundedSender<ToAgent>,
    /// Everything whose order matters.
    ordered: mpsc::UnboundedSender<ToAgent>,
    ended: watch::Sender<bool>,
}

#[derive(Default)]
struct Tables {
    broken: Option<SessionError>,
    next: u32,
    batches: HashMap<u32, mpsc::UnboundedSender<BatchNews>>,
    programs: HashMap<u32, mpsc::UnboundedSender<ProgramNews>>,
    streams: HashMap<u32, Arc<StreamState>>,
    locks: VecDeque<oneshot::Sender<LockNews>>,
    stderr: Vec<u8>,
}

/// Bytes of the agent's own error output that an error shows.
const KEPT_STDERR: usize = 2000;

impl Router {
    /// Starts the reading and the writing task.
    pub(super) fn start(
        host: String,
        reader: LinkReader,
        writer: LinkWriter,
        decoder: FrameDecoder,
    ) -> Arc<Self> {
        let (urgent, urgent_queue) = mpsc::unbounded_channel();
        let (ordered, ordered_queue) = mpsc::unbounded_channel();
        let (ended, _) = watch::channel(false);
        let router = Arc::new(Self { host, tables: Mutex::default(), urgent, ordered, ended });
        tokio::spawn(write_all(Arc::clone(&router), writer, urgent_queue, ordered_queue));
        tokio::spawn(Arc::clone(&router).read_all(reader, decoder));
        router
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Sends a message whose place among others matters.
    pub(super) fn send(&self, message: ToAgent) {
        self.ordered.send(message).ok();
    }

    /// Sends a small message that may overtake others.
    pub(super) fn send_urgent(&self, message: ToAgent) {
        self.urgent.send(message).ok();
    }

    pub(super) fn add_batch(
        &self,
    ) -> Result<(u32, mpsc::UnboundedReceiver<BatchNews>), SessionError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let id = self.add(|tables, id| tables.batches.insert(id, sender).is_none())?;
        Ok((id, receiver))
    }

    pub(super) fn add_program(
        &self,
    ) -> Result<(u32, mpsc::UnboundedReceiver<ProgramNews>), SessionError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let id = self.add(|tables, id| tables.programs.insert(id, sender).is_none())?;
        Ok((id, receiver))
    }

    pub(super) fn add_stream(&self, state: Arc<StreamState>) -> Result<u32, SessionError> {
        self.add(|tables, id| tables.streams.insert(id, state).is_none())
    }

    pub(super) fn add_lock(&self) -> Result<oneshot::Receiver<LockNews>, SessionError> {
        let (sender, receiver) = oneshot::channel();
        self.add(|tables, _| {
            tables.locks.push_back(sender);
            true
        })?;
        Ok(receiver)
    }

    pub(super) fn remove_batch(&self, id: u32) {
        self.tables().batches.remove(&id);
    }

    pub(super) fn remove_program(&self, id: u32) {
        self.tables().programs.remove(&id);
    }

    pub(super) fn remove_stream(&self, id: u32) {
        self.tables().streams.remove(&id);
    }

    /// The batches that have not ended.
    pub(super) fn running_batches(&self) -> Vec<u32> {
        self.tables().batches.keys().copied().collect()
    }

    /// Why the session is over; a generic reason while it is not.
    pub(super) fn lost(&self) -> SessionError {
        self.tables().broken.clone().unwrap_or_else(|| self.error("the session has ended"))
    }

    /// True once nothing more will come or go.
    pub(super) fn is_over(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until the link is closed.
    pub(super) async fn wait_for_end(&self) {
        self.ended.subscribe().wait_for(|ended| *ended).await.ok();
    }

    fn add(&self, insert: impl FnOnce(&mut Tables, u32) -> bool) -> Result<u32, SessionError> {
        let mut tables = self.tables();
        if let Some(error) = &tables.broken {
            return Err(error.clone());
        }
        tables.next = tables.next.wrapping_add(1);
        let id = tables.next;
        insert(&mut tables, id);
        Ok(id)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, reason: impl Into<String>) -> SessionError {
        SessionError::LinkLost { host: self.host.clone(), reason: reason.into() }
    }

    /// Ends everything that waits. The first reason stays.
    pub(super) fn break_off(&self, reason: &str) {
        let mut tables = self.tables();
        let said = String::from_utf8_lossy(&tables.stderr).trim().replace(['\r', '\n'], " ");
        let reason = if said.is_empty() { reason.to_owned() } else { format!("{reason}: {said}") };
        let error = tables.broken.get_or_insert_with(|| self.error(reason)).clone();
        tables.batches.clear();
        tables.programs.clear();
        tables.locks.clear();
        let streams: Vec<_> = tables.streams.drain().collect();
        drop(tables);
        for (_, stream) in streams {
            stream.fail(&error);
        }
        self.ended.send_replace(true);
    }

    async fn read_all(self: Arc<Self>, mut reader: LinkReader, mut decoder: FrameDecoder) {
        let mut ended = String::new();
        let mut over = self.ended.subscribe();
        loop {
            loop {
                match decoder.next_message::<FromAgent>() {
                    Ok(Some(message)) => self.route(message),
                    Ok(None) => break,
                    Err(error) => return self.break_off(&error.to_string()),
                }
            }
            // Whoever breaks off elsewhere lets go of the link too.
            let event = tokio::select! {
                event = reader.next() => event,
                _ = over.wait_for(|over| *over) => return,
            };
            match event {
                LinkEvent::Data(bytes) => decoder.push(&bytes),
                LinkEvent::Stderr(bytes) => {
                    let mut tables = self.tables();
                    let room = KEPT_STDERR.saturating_sub(tables.stderr.len());
                    tables.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                LinkEvent::Exit(how) => ended = format!("the agent ended ({how})"),
                LinkEvent::Closed => {
                    let reason =
                        if ended.is_empty() { "the connection was closed" } else { &ended };
                    return self.break_off(reason);
                }
            }
        }
    }

    fn route(&self, message: FromAgent) {
        let mut tables = self.tables();
        let to_batch = |tables: &Tables, batch: u32, news| {
            if let Some(sender) = tables.batches.get(&batch) {
                sender.send(news).ok();
            }
        };
        match message {
            FromAgent::Hello(_) => {}
            FromAgent::Item { batch, report } => to_batch(&tables, batch, BatchNews::Item(report)),
            FromAgent::ProveReachable { batch, deadline_ms } => {
                let deadline = Duration::from_millis(u64::from(deadline_ms));
                to_batch(&tables, batch, BatchNews::Prove(deadline));
            }
            FromAgent::BatchDone { batch, complete, forgotten } => {
                to_batch(&tables, batch, BatchNews::Done { complete, forgotten });
                tables.batches.remove(&batch);
            }
            FromAgent::ExecOutput { id, stream, bytes } => {
                if let Some(sender) = tables.programs.get(&id) {
                    sender.send(ProgramNews::Output(stream, bytes)).ok();
                }
            }
            FromAgent::ExecDone { id, outcome } => {
                if let Some(sender) = tables.programs.remove(&id) {
                    sender.send(ProgramNews::Done(outcome)).ok();
                }
            }
            FromAgent::Locked => Self::answer_lock(&mut tables, LockNews::Taken),
            FromAgent::LockRefused { holder } => {
                Self::answer_lock(&mut tables, LockNews::Held(holder))
            }
            FromAgent::LockFailed { reason } => {
                Self::answer_lock(&mut tables, LockNews::Failed(reason))
            }
            FromAgent::Opened { stream } => Self::with_stream(&tables, stream, StreamState::opened),
            FromAgent::OpenFailed { stream, reason, refused } => {
                if let Some(state) = tables.streams.remove(&stream) {
                    state.open_failed(reason, refused);
                }
            }
            FromAgent::Data { stream, bytes } => {
                Self::with_stream(&tables, stream, |state| state.data(bytes));
            }
            FromAgent::Credit { stream, bytes } => {
                Self::with_stream(&tables, stream, |state| state.credit(bytes));
            }
            FromAgent::Closed { stream, error } => {
                Self::with_stream(&tables, stream, |state| state.closed(error));
            }
        }
    }

    fn answer_lock(tables: &mut Tables, news: LockNews) {
        if let Some(waiter) = tables.locks.pop_front() {
            waiter.send(news).ok();
        }
    }

    fn with_stream(tables: &Tables, stream: u32, act: impl FnOnce(&StreamState)) {
        if let Some(state) = tables.streams.get(&stream) {
            act(state);
        }
    }
}

async fn write_all(
    router: Arc<Router>,
    mut writer: LinkWriter,
    mut urgent: mpsc::UnboundedReceiver<ToAgent>,
    mut ordered: mpsc::UnboundedReceiver<ToAgent>,
) {
    let mut alive = tokio::time::interval(Duration::from_millis(u64::from(ALIVE_EVERY_MS)));
    alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ended = router.ended.subscribe();
    loop {
        let message = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return,
            Some(message) = urgent.recv() => message,
            _ = alive.tick() => ToAgent::Alive,
            message = ordered.recv() => match message {
                Some(message) => message,
                None => return,
            },
        };
        let frame = match encode_frame(&message) {
            Ok(frame) => frame,
            Err(error) => return router.break_off(&error.to_string()),
        };
        let written = async {
            writer.write_all(&frame).await?;
            writer.flush().await
        };
        let written = tokio::select! {
            written = written => written,
            _ = ended.wait_for(|ended| *ended) => return,
        };
        // The reading side knows better why the link is gone: it is asked first, with a limit.
        if let Err(error) = written {
            tokio::time::timeout(Duration::from_secs(2), router.wait_for_end()).await.ok();
            return router.break_off(&error.to_string());
        }
    }
}
