//! The way of events to their consumers: one thread, in order, off the async runtime.

use super::Stop;
use crate::event::{Consumer, Event, EventKind, now_ms};
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

enum Message {
    Event(Box<Event>),
    Flush(tokio::sync::oneshot::Sender<Option<String>>),
}

/// Emits events. Cheap to clone; order is kept.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::Sender<Message>,
}

impl Events {
    /// Starts the consumers' thread. The thread ends when every clone of [`Events`] is dropped. When
    /// an event cannot be kept, `stop` is wished: nothing may change without a journal.
    pub fn start(mut consumer: Box<dyn Consumer>, stop: Stop) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel::<Message>();
        let thread = std::thread::spawn(move || {
            let mut failure: Option<String> = None;
            let mut note = |result: io::Result<()>| {
                if let Err(error) = result
                    && failure.is_none()
                {
                    failure = Some(error.to_string());
                    stop.wish();
                }
                failure.clone()
            };
            loop {
                let message = match receiver.try_recv() {
                    Ok(message) => message,
                    Err(_) => {
                        note(consumer.rest());
                        let Ok(message) = receiver.recv() else { return };
                        message
                    }
                };
                match message {
                    Message::Event(event) => {
                        note(consumer.event(&event));
                    }
                    Message::Flush(done) => {
                        let failed = note(consumer.rest());
                        // The asker may have given up waiting.
                        let _ = done.send(failed);
                    }
                }
            }
        });
        (Self { sender }, thread)
    }

    /// Events that nobody takes, for attempts that are no news.
    pub fn quiet() -> Self {
        struct Nobody;
        impl Consumer for Nobody {
            fn event(&mut self, _: &Event) -> io::Result<()> {
                Ok(())
            }
        }
        Self::start(Box::new(Nobody), Stop::new()).0
    }

    /// Emits an event, stamped with the time of now.
    pub fn emit(&self, kind: EventKind) {
        // The consumers' thread lives as long as any sender.
        let _ = self.sender.send(Message::Event(Box::new(Event { at_ms: now_ms(), kind })));
    }

    /// Waits until everything emitted so far was taken.
    ///
    /// # Errors
    /// When a consumer failed: a journal that cannot be written must stop the run before its
    /// first change.
    pub async fn flush(&self) -> io::Result<()> {
        let (done, taken) = tokio::sync::oneshot::channel();
        let gone = || io::Error::other("the journal's writer is gone");
        self.sender.send(Message::Flush(done)).map_err(|_| gone())?;
        match taken.await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(io::Error::other(error)),
            Err(_) => Err(gone()),
        }
    }
}
