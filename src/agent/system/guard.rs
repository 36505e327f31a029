//! Armed rollback for changes that may lock the operator out.
//!
//! The way back is recorded first; then a timer of systemd's, independent of the agent and of the
//! connection, is armed; then the change is made; then the controller proves that it reaches the
//! host over a new connection. Only that disarms. A boot in between runs the way back too, by a
//! unit that exists as long as the record does. Whoever reverts takes the record's lock first, so
//! that the timer and the agent never do it both.

use super::LocalSystem;
use super::backup::now_ms;
use super::root::cannot;
use crate::resource::{
    Cache, Failure, FileWrite, GuardPlan, GuardedChange, Program, RevertStep, SavedFile, System,
};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// Where records of armed guards live.
pub const GUARD_DIRECTORY: &str = "/var/lib/strata/guard";

/// How much longer the timer waits than the controller may: the agent reverts first.
const MARGIN: Duration = Duration::from_secs(15);

/// An armed guard, as recorded on the host.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// What takes the change back, in order.
    revert: Vec<RevertStep>,
    /// The agent that armed it, and when that process started.
    pid: u32,
    started: String,
}

fn record_path(id: &str) -> String {
    format!("{GUARD_DIRECTORY}/{id}")
}

fn unit_path(id: &str) -> String {
    format!("/etc/systemd/system/strata-guard-{id}-boot.service")
}

fn wants_path(id: &str) -> String {
    format!("/etc/systemd/system/sysinit.target.wants/strata-guard-{id}-boot.service")
}

impl LocalSystem {
    pub(super) fn run_guarded(
        &mut self,
        plan: &GuardPlan,
        change: &mut GuardedChange<'_>,
    ) -> Result<(), Failure> {
        let id = format!("{}-{}", plan.name, now_ms());
        self.record(&id, plan)?;
        if let Err(failure) = self.arm(&id, plan.deadline + MARGIN) {
            self.forget(&id)?;
            return Err(failure);
        }
        // What takes the change back is also what brings it about.
        for step in &plan.revert {
            if let RevertStep::Run { argv, .. } = step {
                self.wait_until_reloadable(argv);
            }
        }
        let lock = match change(self) {
            Ok(()) => {
                let reached = (self.prove)(plan.deadline);
                // From here on neither the timer nor a second agent may act.
                let lock = self.lock_guards()?;
                if self.read_record(&id)?.is_none() {
                    return Err(reverted().hint("the timer reverted it; look at the journal"));
                }
                if reached {
                    return self.disarm(&id);
                }
                lock
            }
            Err(failure) => {
                let lock = self.lock_guards()?;
                // A file that was refused never took its name: there is nothing to take back.
                let result = if self.is_as_it_was(plan)? {
                    self.disarm(&id)
                } else {
                    self.take_back(&id).map(|_| ())
                };
                drop(lock);
                return Err(match result {
                    Ok(()) if failure.hint.is_some() => failure,
                    Ok(()) => failure.hint("the change was reverted"),
                    Err(second) => and(failure, &second),
                });
            }
        };
        let result = match self.take_back(&id) {
            Ok(_) => Err(reverted().hint(plan.hint.as_str())),
            Err(second) => Err(and(unreachable(), &second)),
        };
        drop(lock);
        result
    }

    fn record(&mut self, id: &str, plan: &GuardPlan) -> Result<(), Failure> {
        self.root.make_all(GUARD_DIRECTORY, 0o700)?;
        let pid = std::process::id();
        let record = Record { revert: plan.revert.clone(), pid, started: start_time(pid) };
        let bytes = postcard::to_allocvec(&record)
            .map_err(|error| Failure::new(format!("cannot record the way back: {error}")))?;
        self.write_file(&FileWrite {
            mode: 0o600,
            uid: super::root::own_uid(),
            gid: super::root::own_gid(),
            keep: false,
            ..FileWrite::of_root(&record_path(id), &bytes)
        })
    }

    /// Arms the timer and the boot unit. A simulated host has neither: nobody can be locked out.
    fn arm(&mut self, id: &str, after: Duration) -> Result<(), Failure> {
        if !self.is_host() {
            return Ok(());
        }
        let agent = std::fs::read_link("/proc/self/exe")
            .map_err(|error| Failure::new(format!("cannot find the agent's own file: {error}")))?;
        if !survives_boot(&agent, Path::new(GUARD_DIRECTORY))? {
            return Err(Failure::new(format!(
                "the change was not made: after a boot the agent in {} would be gone, and nothing could take the change back",
                agent.display()
            ))
            .hint("the agent runs from memory because it could not be put on a disk: make /var/lib, /opt or /root writable for the login, and mounted without noexec"));
        }
        let agent = agent.display().to_string();
        let boot = format!(
            "[Unit]\nDescription=strata: take back an unproved change\nDefaultDependencies=no\n\
             RequiresMountsFor=/var/lib/strata\nAfter=local-fs.target\n\
             Before=network-pre.target ssh.service shutdown.target\nConflicts=shutdown.target\n\
             ConditionPathExists={}\n\n[Service]\nType=oneshot\nExecStart={agent} revert {id}\n",
            record_path(id),
        );
        self.write_file(&FileWrite {
            keep: false,
            ..FileWrite::of_root(&unit_path(id), boot.as_bytes())
        })?;
        self.root.make_all("/etc/systemd/system/sysinit.target.wants", 0o755)?;
        self.place_link(&wants_path(id), &unit_path(id))?;
        let timer = Program::new([
            "systemd-run".to_owned(),
            "--quiet".into(),
            "--collect".into(),
            format!("--on-active={}", after.as_secs()),
            "--timer-property=AccuracySec=1s".into(),
            format!("--unit=strata-guard-{id}"),
            agent,
            "revert".into(),
            id.to_owned(),
        ]);
        let output = self.run(&timer)?;
        if output.success() {
            return Ok(());
        }
        Err(output
            .failure("cannot arm the rollback, so the change was not made")
            .hint("systemd-run must work on the host"))
    }

    /// Removes the record first: without it neither timer nor boot unit does anything.
    fn disarm(&mut self, id: &str) -> Result<(), Failure> {
        self.forget(id)?;
        if self.is_host() {
            // The timer may have fired a moment ago and wait for the lock; it will find nothing.
            self.run(&Program::new([
                "systemctl".to_owned(),
                "stop".into(),
                "--no-block".into(),
                format!("strata-guard-{id}.timer"),
            ]))?;
        }
        Ok(())
    }

    fn forget(&mut self, id: &str) -> Result<(), Failure> {
        self.root.remove(&record_path(id), false)?;
        if self.is_host() {
            self.root.remove(&wants_path(id), false)?;
            self.root.remove(&unit_path(id), false)?;
        }
        Ok(())
    }

    /// True when the plan has files, and each is as the plan remembers it.
    fn is_as_it_was(&mut self, plan: &GuardPlan) -> Result<bool, Failure> {
        let mut files = 0;
        for step in &plan.revert {
            let RevertStep::File { path, was } = step else {
                continue;
            };
            files += 1;
            let now = match self.root.metadata(path)? {
                Some(found) => self.root.read(path, found.size)?.map(|content| SavedFile {
                    content,
                    mode: found.mode,
                    uid: found.uid,
                    gid: found.gid,
                }),
                None => None,
            };
            if now != *was {
                return Ok(false);
            }
        }
        Ok(files > 0)
    }

    /// Runs the way back and disarms. All steps are tried; the first failure of one that must
    /// succeed is reported and the record stays, so that it is tried again. Returns what else did
    /// not work, in words.
    fn take_back(&mut self, id: &str) -> Result<Vec<String>, Failure> {
        let Some(record) = self.read_record(id)? else {
            return Ok(Vec::new());
        };
        let mut failed = None;
        let mut notes = Vec::new();
        let rebooted = !record.started.ends_with(&format!("@{}", boot_id()));
        for step in &record.revert {
            // After a boot nothing runs yet that would have to read the files again, and a reload
            // would wait for a service that waits for us.
            if rebooted && matches!(step, RevertStep::Run { required: false, .. }) {
                continue;
            }
            match (self.revert_step(step), step) {
                (Ok(()), _) => {}
                (Err(failure), RevertStep::Run { required: false, .. }) => {
                    notes.push(failure.message);
                }
                (Err(failure), _) => {
                    failed.get_or_insert(failure);
                }
            }
        }
        self.invalidate(Cache::All);
        match failed {
            None => self.disarm(id).map(|()| notes),
            Some(failure) => Err(failure),
        }
    }

    fn revert_step(&mut self, step: &RevertStep) -> Result<(), Failure> {
        match step {
            RevertStep::File { path, was: None } => self.remove_file(path, true),
            RevertStep::File { path, was: Some(saved) } => self.write_file(&FileWrite {
                path,
                content: &saved.content,
                mode: saved.mode,
                uid: saved.uid,
                gid: saved.gid,
                validate: None,
                keep: true,
            }),
            RevertStep::Run { argv, stdin, .. } => {
                self.wait_until_reloadable(argv);
                let program = Program::new(argv.iter().cloned()).stdin(stdin.clone());
                let output = self.run(&program)?;
                if output.success() {
                    return Ok(());
                }
                let name = argv.first().map_or("", String::as_str);
                Err(output.failure(&format!("cannot take the change back with {name}")))
            }
        }
    }

    fn read_record(&self, id: &str) -> Result<Option<Record>, Failure> {
        let Some(bytes) = self.root.read(&record_path(id), 64 * 1024 * 1024)? else {
            return Ok(None);
        };
        postcard::from_bytes(&bytes).map(Some).map_err(|error| {
            Failure::new(format!("cannot read {}: {error}", record_path(id))).hint(
                "it was written by another version of the agent; revert by hand, then remove it",
            )
        })
    }

    fn lock_guards(&self) -> Result<OwnedFd, Failure> {
        let fail = |error| cannot("lock", GUARD_DIRECTORY, error);
        let handle = self
            .root
            .open_path(GUARD_DIRECTORY, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(fail)?;
        flock(&handle, FlockOperation::LockExclusive).map_err(fail)?;
        Ok(handle)
    }

    /// Reverts guarded changes whose agent is gone.
    pub(super) fn revert_stale_guards(&mut self) -> Result<Vec<String>, Failure> {
        let mut done = Vec::new();
        for id in self.root.list(GUARD_DIRECTORY)?.unwrap_or_default() {
            if id.starts_with('.') {
                continue;
            }
            let _lock = self.lock_guards()?;
            let Some(record) = self.read_record(&id)? else {
                continue;
            };
            if !record.started.is_empty() && start_time(record.pid) == record.started {
                continue;
            }
            let notes = self.take_back(&id)?;
            done.push(format!("reverted the guarded change {id}, which was never proved"));
            done.extend(notes);
        }
        Ok(done)
    }

    /// Ids of the guards that are armed.
    #[cfg(test)]
    pub(super) fn guards(&self) -> Vec<String> {
        self.root.list(GUARD_DIRECTORY).unwrap().unwrap_or_default()
    }
}

/// Takes back the guarded change `id`, as the dead-man timer and the boot unit ask. Returns what
/// was done, in words; a guard that was proved meanwhile is left alone.
///
/// # Errors
/// When the change cannot be taken back; the record stays for another try.
pub fn revert(root: &Path, id: &str) -> Result<String, Failure> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Failure::new(format!("`{id}` is not the name of a guard")));
    }
    let mut system = LocalSystem::new(root, Box::new(|_| false))?;
    if system.root.metadata(&record_path(id))?.is_none() {
        return Ok(format!("nothing to revert: the change {id} was proved or taken back"));
    }
    let _lock = system.lock_guards()?;
    let mut done = vec![format!("reverted {id}")];
    done.extend(system.take_back(id)?);
    Ok(done.join("; "))
}

/// True unless `agent` lies in memory while the guards' records do not: the boot unit would then
/// find its record and no program. Records in memory are gone with the agent, and so is the change.
fn survives_boot(agent: &Path, records: &Path) -> Result<bool, Failure> {
    // The kernel's numbers of tmpfs and ramfs.
    const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
    let directory = agent.parent().unwrap_or(agent);
    let fail = |error| cannot("find the file system of", &directory.display().to_string(), error);
    let kind = rustix::fs::statfs(directory).map_err(fail)?.f_type;
    let device = rustix::fs::stat(directory).map_err(fail)?.st_dev;
    let same = rustix::fs::stat(records).map_err(fail)?.st_dev == device;
    Ok(same
        || !IN_MEMORY.iter().any(|memory| i128::from(kind) & 0xffff_ffff == i128::from(*memory)))
}

fn unreachable() -> Failure {
    Failure::new("the host was not reachable over a new connection")
}

fn reverted() -> Failure {
    let failure = unreachable();
    Failure { message: format!("{}; the change was reverted", failure.message), ..failure }
}

fn and(first: Failure, second: &Failure) -> Failure {
    let hint = format!("the change could NOT be taken back: {}", second.message);
    Failure { hint: Some(hint), ..first }
}

/// When a process started, in ticks since boot, with the boot's id: a number that the next process
/// of the same id does not share. Empty when there is no such process.
pub(super) fn start_time(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            // The second field is a name in parentheses that may hold anything.
            let (_, rest) = stat.rsplit_once(')')?;
            let ticks = rest.split_ascii_whitespace().nth(19)?;
            Some(format!("{ticks}@{}", boot_id()))
        })
        .unwrap_or_default()
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_in_memory_does_not_survive_a_boot() {
        let (memory, disk) = (Path::new("/dev/shm/agents/a"), Path::new("/proc/self"));
        let memory_directory = Path::new("/dev/shm");
        assert!(!survives_boot(&memory_directory.join("agent"), disk).unwrap());
        // Record and agent in the same place live and die together.
        assert!(survives_boot(&memory_directory.join("agent"), memory_directory).unwrap());
        assert!(survives_boot(Path::new("/proc/self/exe"), memory_directory).unwrap());
        assert!(survives_boot(memory, disk).is_err(), "no such directory");
    }

    #[test]
    fn the_text_never_says_reverted_when_it_was_not() {
        let failure = and(unreachable(), &Failure::new("disk full"));
        assert!(!failure.message.contains("reverted"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("could NOT be taken back: disk full"));
        assert!(reverted().message.contains("the change was reverted"));
    }
}
