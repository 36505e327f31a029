//! A program that runs on a host, with its output as it comes.

use super::error::SessionError;
use super::router::{ProgramNews, Router};
use crate::wire::{EXEC_WINDOW, ExecOutcome, ExecSpec, OutputStream, ToAgent};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramEvent {
    /// It wrote bytes.
    Output(OutputStream, Vec<u8>),
    /// It ended; nothing follows.
    Done(ExecOutcome),
}

/// A program on a host. Dropping it before its end kills it and its process group.
pub struct RunningProgram {
    router: Arc<Router>,
    id: u32,
    news: mpsc::UnboundedReceiver<ProgramNews>,
    taken: u32,
    done: bool,
}

impl std::fmt::Debug for RunningProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningProgram")
            .field("host", &self.router.host())
            .field("id", &self.id)
            .finish()
    }
}

impl RunningProgram {
    pub(super) fn start(router: Arc<Router>, spec: ExecSpec) -> Result<Self, SessionError> {
        let (id, news) = router.add_program()?;
        router.send(ToAgent::Exec { id, spec });
        Ok(Self { router, id, news, taken: 0, done: false })
    }

    /// The next event. Output that is not taken stops the program once a window of it has piled
    /// up, and nothing else.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn next(&mut self) -> Result<ProgramEvent, SessionError> {
        match self.news.recv().await {
            None => {
                self.done = true;
                Err(self.router.lost())
            }
            Some(ProgramNews::Done(outcome)) => {
                self.done = true;
                Ok(ProgramEvent::Done(outcome))
            }
            Some(ProgramNews::Output(stream, bytes)) => {
                self.taken += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                if self.taken >= EXEC_WINDOW / 4 {
                    let bytes = std::mem::take(&mut self.taken);
                    self.router.send_urgent(ToAgent::ExecCredit { id: self.id, bytes });
                }
                Ok(ProgramEvent::Output(stream, bytes))
            }
        }
    }

    /// Kills the program and its process group; its end is still to be taken.
    pub fn kill(&self) {
        // Not urgent: it must not overtake the start.
        self.router.send(ToAgent::ExecKill { id: self.id });
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        if !self.done {
            self.kill();
            self.router.remove_program(self.id);
        }
    }
}
