//! The one way to standard output. Frames of two classes queue here and one thread writes them:
//! reports (small, few) always go before bulk (program output, relayed bytes), so that no transfer
//! delays what an operator waits for. Bulk senders wait while the queue is full; their volume is
//! bounded by credits, reports by the batch.

use crate::wire::{FromAgent, PREAMBLE, encode_frame};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of bulk that may wait to be written.
const BULK_LIMIT: usize = 512 * 1024;

/// The controller is gone; nothing can be said any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkBroken;

/// Handle to the writing thread; cheap to clone.
#[derive(Clone)]
pub struct FrameWriter {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    reports: VecDeque<Vec<u8>>,
    bulk: VecDeque<Vec<u8>>,
    bulk_bytes: usize,
    preamble_sent: bool,
    writing: bool,
    broken: bool,
}

impl Queue {
    /// Only the preamble waits: it goes with the first report.
    fn preamble_only(&self) -> bool {
        !self.preamble_sent && self.reports.len() == 1
    }
}

impl FrameWriter {
    /// Starts the writing thread. The preamble is the first thing it writes, together
    /// with the first report; bulk waits for it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        shared.lock().reports.push_back(PREAMBLE.to_vec());
        std::thread::Builder::new().name("writer".into()).spawn(move || {
            while let Some(frame) = for_thread.take_next() {
                let written = out.write_all(&frame).and_then(|()| out.flush());
                let mut queue = for_thread.lock();
                queue.writing = false;
                queue.broken |= written.is_err();
                drop(queue);
                for_thread.changed.notify_all();
            }
        })?;
        Ok(Self { shared })
    }

    /// Queues a report; never waits.
    ///
    /// # Errors
    /// When the controller is gone.
    pub fn report(&self, message: &FromAgent) -> Result<(), LinkBroken> {
        let frame = encode(message)?;
        let mut queue = self.shared.lock();
        if queue.broken {
            return Err(LinkBroken);
        }
        queue.reports.push_back(frame);
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Queues bulk; waits while too much of it is queued. Frames of one sender stay in order.
    ///
    /// # Errors
    /// When the controller is gone.
    pub fn bulk(&self, message: &FromAgent) -> Result<(), LinkBroken> {
        let frame = encode(message)?;
        let mut queue = self.shared.lock();
        while queue.bulk_bytes > BULK_LIMIT && !queue.broken {
            queue = self.shared.wait(queue);
        }
        if queue.broken {
            return Err(LinkBroken);
        }
        queue.bulk_bytes += frame.len();
        queue.bulk.push_back(frame);
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until everything queued is written, the link is broken or `limit` is over.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.shared.lock();
        while !queue.broken
            && (queue.writing || !queue.reports.is_empty() || !queue.bulk.is_empty())
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self
                .shared
                .changed
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the writing thread, and with it closes the output. What is queued is dropped.
    pub fn end(&self) {
        self.shared.lock().broken = true;
        self.shared.changed.notify_all();
    }
}

/// A message that does not fit into a frame is replaced by nothing: it cannot happen with bounded
/// chunks, and for a report the caller sees the link as broken rather than a silent gap.
fn encode(message: &FromAgent) -> Result<Vec<u8>, LinkBroken> {
    encode_frame(message).map_err(|_| LinkBroken)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next frame in order of class; `None` once the link is broken.
    fn take_next(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        loop {
            if queue.broken {
                queue.reports.clear();
                queue.bulk.clear();
                queue.bulk_bytes = 0;
                self.changed.notify_all();
                return None;
            }
            // Reports that wait leave in one piece, the preamble with the greeting: the SSH server
            // makes a packet of each write, and a second small packet waits for the first one's
            // delayed acknowledgement (40 ms).
            if !queue.preamble_only()
                && let Some(mut frame) = queue.reports.pop_front()
            {
                while let Some(next) = queue.reports.pop_front() {
                    frame.extend_from_slice(&next);
                }
                queue.preamble_sent = true;
                queue.writing = true;
                return Some(frame);
            }
            if queue.preamble_sent
                && let Some(frame) = queue.bulk.pop_front()
            {
                queue.bulk_bytes -= frame.len();
                queue.writing = true;
                self.changed.notify_all();
                return Some(frame);
            }
            queue = self.wait(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FrameDecoder, OutputStream};
    use std::sync::mpsc;

    /// Hands every write to a channel and waits for leave to go on.
    struct Gate(mpsc::Sender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).ok();
            self.1.recv().map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_report_goes_before_waiting_bulk() {
        let (sent, written) = mpsc::channel();
        let (leave, leaves) = mpsc::channel();
        let writer = FrameWriter::start(Gate(sent, leaves)).unwrap();
        writer.report(&FromAgent::Locked).unwrap();
        assert!(
            written.recv().unwrap().starts_with(&PREAMBLE),
            "in one piece with the first report"
        );
        for _ in 0..5 {
            writer
                .bulk(&FromAgent::ExecOutput {
                    id: 1,
                    stream: OutputStream::Stdout,
                    bytes: vec![0; 1000],
                })
                .unwrap();
        }
        writer.report(&FromAgent::Locked).unwrap();
        leave.send(()).unwrap();
        let mut decoder = FrameDecoder::default();
        decoder.push(&written.recv().unwrap());
        let first = decoder.next_message::<FromAgent>().unwrap();
        assert!(matches!(first, Some(FromAgent::Locked)), "{first:?}");
        drop(leave);
        writer.flush(Duration::from_secs(5));
        assert_eq!(writer.report(&FromAgent::Locked), Err(LinkBroken));
    }
}
