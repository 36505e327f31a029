//! The life of a fault: its file, its process, its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::super::cgroup::signal;
use super::super::command::wait_until;
use super::super::error::{At as _, LabError, Result};
use super::super::paths::Paths;
use super::super::state::{self, LabFile, Lock, now, spawn_detached};
use super::super::supervise::log;
use super::effect::{apply, require_members, undo};
use super::{ActiveFault, Fault, FaultId};

/// How long injecting may take: a host has to stop or to reboot.
const INJECTION: Duration = Duration::from_secs(120);
/// How often the keeper of a fault writes down what it has to say.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// A fault's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    fault: Fault,
    /// Seconds since 1970 at which it heals itself.
    until: u64,
    /// Milliseconds it lasts, counted from its injection.
    lasts: u64,
    phase: Phase,
    /// Processes to be continued.
    stopped: Vec<u32>,
    /// The keeper's process id.
    keeper: Option<u32>,
    note: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Asked,
    Active,
    Failed,
}

/// Starts a fault's process and waits until the fault is in effect.
pub(in super::super) fn inject(
    paths: &Paths,
    file: &LabFile,
    fault: &Fault,
    duration: Duration,
) -> Result<FaultId> {
    require_members(paths, &file.spec, fault)?;
    let directory = paths.faults();
    fs::create_dir_all(&directory).at("cannot create", &directory)?;
    let id = new_id(fault)?;
    let record = Record {
        fault: fault.clone(),
        until: now().saturating_add(duration.as_secs()),
        lasts: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        phase: Phase::Asked,
        stopped: Vec::new(),
        keeper: None,
        note: String::new(),
    };
    let path = record_file(paths, &id);
    state::write(&path, &record)?;
    let output = directory.join("keepers.log");
    let pid = spawn_detached(&file.supervisor, &["fault", paths.lab(), &id.0], &output)?;
    let mut failure = None;
    wait_until("the fault", INJECTION, Duration::from_millis(5), || {
        let record: Option<Record> = state::read(&path).map_err(|error| error.to_string())?;
        match record {
            Some(record) if record.phase == Phase::Failed => failure = Some(record.note),
            Some(record) if record.phase == Phase::Asked => {
                if Path::new(&format!("/proc/{pid}")).exists() {
                    return Err("its process is still at work".to_owned());
                }
                failure = Some(format!("its process ended; see {}", output.display()));
            }
            // A short fault may be over already.
            Some(_) | None => {}
        }
        Ok(())
    })?;
    match failure {
        None => Ok(id),
        Some(reason) => {
            finish(paths, &id)?;
            Err(LabError::Fault { id: id.0.clone(), reason })
        }
    }
}

/// The life of a fault's own process: inject, wait, undo.
pub(in super::super) fn hold(lab: &str, name: &str) -> Result<()> {
    let paths = Paths::new(lab);
    let id = FaultId::parse(name).map_err(|error| LabError::InvalidSpec(error.to_string()))?;
    let _lock = Lock::wait(&lock_file(&paths, &id))?;
    let path = record_file(&paths, &id);
    let mut record: Record =
        state::read(&path)?.ok_or_else(|| LabError::NoSuchFault(name.to_owned()))?;
    let file: LabFile =
        state::read(&paths.lab_file())?.ok_or_else(|| LabError::NoSuchLab(lab.to_owned()))?;
    record.keeper = Some(std::process::id());
    state::write(&path, &record)?;
    let effect = match apply(&paths, &file, name, &record.fault) {
        Ok(effect) => effect,
        Err(error) => {
            // Whatever was done of it is taken back before the failure is told.
            let undone = undo(&paths, &file, name, &record.fault, &[]);
            record.phase = Phase::Failed;
            record.note = match undone {
                Ok(()) => error.to_string(),
                Err(second) => format!("{error}; undoing it failed too: {second}"),
            };
            return state::write(&path, &record);
        }
    };
    let started = Instant::now();
    let lasts = Duration::from_millis(record.lasts);
    record.phase = Phase::Active;
    record.stopped.clone_from(&effect.stopped);
    record.until = now().saturating_add(lasts.as_secs());
    state::write(&path, &record)?;
    let cost = effect.cost.as_ref().map(Arc::clone);
    while let Some(left) = lasts.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        match &cost {
            None => std::thread::sleep(left),
            Some(cost) => {
                std::thread::sleep(left.min(NOTE_INTERVAL));
                record.note = cost.describe();
                state::write(&path, &record)?;
            }
        }
    }
    match undo(&paths, &file, name, &record.fault, &record.stopped) {
        Ok(()) => remove_files(&paths, &id),
        Err(error) => {
            // The file stays, so that the status shows what is still broken.
            record.note = format!("it could not be healed: {error}");
            log(&format!("{id}: {}", record.note));
            state::write(&path, &record)
        }
    }
}

/// Ends a fault: its process first, then its effect.
pub(in super::super) fn heal(paths: &Paths, id: &FaultId) -> Result<()> {
    if record_file(paths, id).exists() {
        finish(paths, id)
    } else {
        Err(LabError::NoSuchFault(id.0.clone()))
    }
}

/// Ends all faults. One that cannot be ended does not keep the others.
pub(in super::super) fn heal_all(paths: &Paths) -> Result<Vec<FaultId>> {
    let (mut healed, mut errors) = (Vec::new(), Vec::new());
    for id in ids(paths) {
        match finish(paths, &id) {
            Ok(()) => healed.push(id),
            Err(error) => errors.push(error),
        }
    }
    match errors.len() {
        0 => Ok(healed),
        1 => Err(errors.remove(0)),
        _ => Err(LabError::Several(errors)),
    }
}

/// Ends the faults whose keeper was killed: nobody else will.
pub(in super::super) fn heal_orphans(paths: &Paths) -> Result<()> {
    for id in ids(paths) {
        if !Lock::is_held(&lock_file(paths, &id)) {
            finish(paths, &id)?;
        }
    }
    Ok(())
}

/// The faults that are in effect.
pub(in super::super) fn active(paths: &Paths) -> Result<Vec<ActiveFault>> {
    let mut found = Vec::new();
    for id in ids(paths) {
        let Some(record) = state::read::<Record>(&record_file(paths, &id))? else {
            continue;
        };
        found.push(ActiveFault {
            fault: record.fault,
            seconds_left: record.until.saturating_sub(now()),
            note: record.note,
            id,
        });
    }
    Ok(found)
}

fn finish(paths: &Paths, id: &FaultId) -> Result<()> {
    let path = record_file(paths, id);
    let lock = lock_file(paths, id);
    if let Some(Record { keeper: Some(keeper), .. }) = state::read(&path)?
        && Lock::is_held(&lock)
    {
        signal(keeper, rustix::process::Signal::KILL);
    }
    let _lock = Lock::wait(&lock)?;
    // Read again: it may have healed itself in the meantime.
    let Some(record) = state::read::<Record>(&path)? else {
        return remove_files(paths, id);
    };
    let file: LabFile = state::read(&paths.lab_file())?
        .ok_or_else(|| LabError::NoSuchLab(paths.lab().to_owned()))?;
    undo(paths, &file, &id.0, &record.fault, &record.stopped)?;
    remove_files(paths, id)
}

fn remove_files(paths: &Paths, id: &FaultId) -> Result<()> {
    state::remove_tree(&record_file(paths, id))?;
    state::remove_tree(&lock_file(paths, id))
}

fn ids(paths: &Paths) -> Vec<FaultId> {
    let Ok(entries) = fs::read_dir(paths.faults()) else {
        return Vec::new();
    };
    let mut found: Vec<FaultId> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| FaultId::parse(name.strip_suffix(".json")?).ok())
        .collect();
    found.sort();
    found
}

fn new_id(fault: &Fault) -> Result<FaultId> {
    let mut bytes = [0_u8; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| LabError::Machine(format!("it gives no random bytes: {error}")))?;
    let tail: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FaultId(format!("{}-{tail}", fault.kind())))
}

fn record_file(paths: &Paths, id: &FaultId) -> PathBuf {
    paths.faults().join(format!("{id}.json"))
}

fn lock_file(paths: &Paths, id: &FaultId) -> PathBuf {
    paths.faults().join(format!("{id}.lock"))
}
