//! The host's lock: an `flock` on a file in `/run` that dies with this process. The file says in
//! plain text who holds it.

use super::paths::{HostPaths, make_private_directory};
use crate::wire::LockHolder;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate, open};
use std::io;
use std::os::fd::OwnedFd;

/// What came of an attempt to take the lock.
#[derive(Debug)]
pub enum LockAttempt {
    /// Held as long as this value lives.
    Taken(HeldLock),
    /// Another process holds it, as far as the file says who.
    Refused(Option<LockHolder>),
}

/// The lock; dropping it releases it.
#[derive(Debug)]
pub struct HeldLock {
    _file: OwnedFd,
}

/// Tries to take the lock without waiting.
///
/// # Errors
/// When the lock file cannot be opened or written.
pub fn take(paths: &HostPaths, holder: &LockHolder) -> io::Result<LockAttempt> {
    make_private_directory(&paths.run())?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = open(paths.lock(), flags, Mode::from_raw_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            ftruncate(&file, 0)?;
            rustix::io::pwrite(&file, render(holder).as_bytes(), 0)?;
            Ok(LockAttempt::Taken(HeldLock { _file: file }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = vec![0; 4096];
            let length = rustix::io::pread(&file, &mut text, 0)?;
            Ok(LockAttempt::Refused(parse(&String::from_utf8_lossy(&text[..length]))))
        }
        Err(error) => Err(error.into()),
    }
}

/// One `key: value` a line; line breaks in values become spaces.
fn render(holder: &LockHolder) -> String {
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    format!(
        "owner: {}\npurpose: {}\nrun: {}\nsince_unix_ms: {}\n",
        line(&holder.owner),
        line(&holder.purpose),
        line(&holder.run),
        holder.since_unix_ms
    )
}

/// `None` when the file is not (or not yet) complete.
fn parse(text: &str) -> Option<LockHolder> {
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(String::from)
    };
    Some(LockHolder {
        owner: value("owner")?,
        purpose: value("purpose")?,
        run: value("run")?,
        since_unix_ms: value("since_unix_ms")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> LockHolder {
        LockHolder {
            owner: "root@install-01".into(),
            purpose: "install --layer base\nrun: forged".into(),
            run: "r1".into(),
            since_unix_ms: 5,
        }
    }

    #[test]
    fn the_second_taker_learns_who_holds_it_and_gets_it_when_released() {
        let root = tempfile::tempdir().unwrap();
        let paths = HostPaths::below(root.path());
        let LockAttempt::Taken(held) = take(&paths, &holder()).unwrap() else { panic!("free") };
        let LockAttempt::Refused(Some(by)) = take(&paths, &holder()).unwrap() else {
            panic!("held")
        };
        assert_eq!(by.purpose, "install --layer base run: forged");
        assert_eq!(
            (by.owner.as_str(), by.run.as_str(), by.since_unix_ms),
            ("root@install-01", "r1", 5)
        );
        drop(held);
        assert!(matches!(take(&paths, &holder()).unwrap(), LockAttempt::Taken(_)));
    }

    #[test]
    fn an_unfinished_file_names_nobody() {
        assert_eq!(parse("owner: a\npurp"), None);
    }
}
