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

/// How long a report that can wait does so. Nobody sees it, and hundreds of looks at what is as wanted are done
/// in it: one write, one packet and one wake of everybody on the way instead of two for each.
const LATER: Duration = Duration::from_millis(5);

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
    /// Since when reports wait for others.
    waiting: Option<Instant>,
    /// Reports leave at once.
    now: bool,
}

impl Queue {
    /// Only the preamble waits: it goes with the first report.
    fn preamble_only(&self) -> bool {
        !self.preamble_sent && self.reports.len() == 1
    }

    /// How long reports may still wait for others; zero when they are to leave.
    fn patience(&self) -> Duration {
        match self.waiting {
            // Bulk never goes before a report.
            Some(since) if !self.now && self.bulk.is_empty() => {
                LATER.saturating_sub(since.elapsed())
            }
            _ => Duration::ZERO,
        }
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
        queue.now = true;
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Queues a report that may wait a moment for others, and leaves with the next one that may not;
    /// never waits itself.
    ///
    /// # Errors
    /// When the controller is gone.
    pub fn report_later(&self, message: &FromAgent) -> Result<(), LinkBroken> {
        let frame = encode(message)?;
        let mut queue = self.shared.lock();
        if queue.broken {
            return Err(LinkBroken);
        }
        queue.reports.push_back(frame);
        // Only the first one wakes the writing thread, which then knows until when to wait.
        let first = queue.waiting.is_none();
        queue.waiting.get_or_insert_with(Instant::now);
        drop(queue);
        if first {
            self.shared.changed.notify_all();
        }
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
        queue.now = true;
        self.shared.changed.notify_all();
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
            let patience = queue.patience();
            if !queue.preamble_only()
                && patience.is_zero()
                && let Some(mut frame) = queue.reports.pop_front()
            {
                while let Some(next) = queue.reports.pop_front() {
                    frame.extend_from_slice(&next);
                }
                queue.preamble_sent = true;
                queue.writing = true;
                queue.waiting = None;
                queue.now = false;
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
            queue = if patience.is_zero() {
                self.wait(queue)
            } else {
                let waited = self.changed.wait_timeout(queue, patience);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
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

    /// The pieces that are written, each at once.
    fn pieces() -> (FrameWriter, mpsc::Receiver<Vec<u8>>) {
        let (sent, written) = mpsc::channel();
        let (leave, leaves) = mpsc::channel();
        (0..100).for_each(|_| leave.send(()).unwrap());
        // Leave is given for good.
        std::mem::forget(leave);
        let writer = FrameWriter::start(Gate(sent, leaves)).unwrap();
        writer.report(&FromAgent::Locked).unwrap();
        assert!(written.recv().unwrap().starts_with(&PREAMBLE));
        (writer, written)
    }

    fn done(batch: u32) -> FromAgent {
        FromAgent::BatchDone { batch, complete: true, forgotten: Vec::new() }
    }

    fn batches(piece: &[u8]) -> Vec<u32> {
        let mut decoder = FrameDecoder::default();
        decoder.push(piece);
        let next = || decoder.next_message::<FromAgent>().unwrap();
        std::iter::from_fn(next)
            .map(|message| match message {
                FromAgent::BatchDone { batch, .. } => batch,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_may_wait_leaves_in_order_with_what_may_not() {
        let (writer, written) = pieces();
        (1..10).for_each(|batch| writer.report_later(&done(batch)).unwrap());
        writer.report(&done(10)).unwrap();
        let mut told = Vec::new();
        while told.len() < 10 {
            told.extend(batches(&written.recv_timeout(Duration::from_secs(10)).unwrap()));
        }
        assert_eq!(told, (1..=10).collect::<Vec<u32>>());
    }

    #[test]
    fn what_may_wait_leaves_by_itself_and_together() {
        let (writer, written) = pieces();
        let began = Instant::now();
        (1..=3).for_each(|batch| writer.report_later(&done(batch)).unwrap());
        let mut told = batches(&written.recv_timeout(Duration::from_secs(10)).unwrap());
        assert!(began.elapsed() >= LATER, "it waited for others");
        while told.len() < 3 {
            told.extend(batches(&written.recv_timeout(Duration::from_secs(10)).unwrap()));
        }
        assert_eq!(told, [1, 2, 3]);
        // Whoever ends the session waits for nothing but the writing.
        writer.report_later(&done(4)).unwrap();
        writer.flush(Duration::from_secs(10));
        assert_eq!(batches(&written.try_recv().unwrap()), [4]);
    }
}
