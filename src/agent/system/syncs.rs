//! Threads that wait for a disk.
//!
//! A file system merges flushes that are asked for together, so many files are synced in the time of
//! few, as long as somebody waits for each. Who waits is one of a bounded number of threads, started
//! when they are first needed.

use rustix::fs::fsync;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};

/// How many threads wait for disks at the same time, at most.
const THREADS: usize = 64;

/// Bytes of stack for each of them.
const STACK: usize = 64 * 1024;

/// Files that are synced side by side.
#[derive(Default)]
pub(super) struct Syncs {
    shared: Arc<Shared>,
    threads: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    files: VecDeque<(File, mpsc::Sender<Result<(), Errno>>)>,
    /// Threads that have nothing to do.
    idle: usize,
    ended: bool,
}

/// The end of one file's sync.
pub(super) struct Synced(mpsc::Receiver<Result<(), Errno>>);

impl Synced {
    /// Waits until the file's content is on the disk, and the file is closed. False when it may not be.
    pub(super) fn wait(self) -> bool {
        matches!(self.0.recv(), Ok(Ok(())))
    }
}

impl Syncs {
    /// Has the content of a file brought to the disk, and closes it.
    ///
    /// # Errors
    /// When there is no thread that could wait for it, and none can be started.
    pub(super) fn sync(&mut self, file: File) -> std::io::Result<Synced> {
        let (done, synced) = mpsc::channel();
        let mut queue = self.shared.lock();
        queue.files.push_back((file, done));
        let wanted = queue.files.len() > queue.idle && self.threads < THREADS;
        drop(queue);
        if wanted {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("sync".into()).stack_size(STACK);
            match thread.spawn(move || shared.work()) {
                Ok(_) => self.threads += 1,
                // It waits for one of the others.
                Err(_) if self.threads > 0 => {}
                Err(error) => {
                    self.shared.lock().files.clear();
                    return Err(error);
                }
            }
        }
        self.shared.changed.notify_one();
        Ok(Synced(synced))
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some((file, done)) = queue.files.pop_front() {
                drop(queue);
                let synced = fsync(&file);
                // Its room is free only once it is closed.
                drop(file);
                // Whoever asked may not want to know any more.
                let _ = done.send(synced);
                queue = self.lock();
            } else if queue.ended {
                return;
            } else {
                queue.idle += 1;
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_file_is_synced_once_by_a_bounded_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let mut syncs = Syncs::default();
        let waits: Vec<Synced> = (0..THREADS * 3)
            .map(|number| {
                let mut file = File::create(folder.path().join(number.to_string())).unwrap();
                file.write_all(b"content").unwrap();
                syncs.sync(file).unwrap()
            })
            .collect();
        assert!((1..=THREADS).contains(&syncs.threads));
        assert!(waits.into_iter().all(Synced::wait));
        assert!(syncs.shared.lock().files.is_empty());
    }

    #[test]
    fn what_cannot_be_synced_is_told() {
        // A pipe has no disk.
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(!Syncs::default().sync(File::from(reader)).unwrap().wait());
    }

    #[test]
    fn threads_end_with_what_they_were_started_for() {
        let mut syncs = Syncs::default();
        let file = tempfile::tempfile().unwrap();
        assert!(syncs.sync(file).unwrap().wait());
        let shared = Arc::downgrade(&syncs.shared);
        drop(syncs);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while shared.strong_count() > 0 {
            assert!(std::time::Instant::now() < deadline, "a thread stays");
            std::thread::yield_now();
        }
    }
}
