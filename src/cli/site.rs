//! `strata site backup` and `strata site restore`: for the loss of the operator host.

use super::output::{out, tell};
use super::recorded::{Recorded, open_state};
use super::work::connection;
use super::{Exit, Settings, check};
use crate::backup::{
    BackupError, Comparison, FORMAT, Gathering, Head, LeftOut, Places, Problem, Restored, Verified,
    Written, gather, write,
};
use crate::diag::{Diagnostic, Diagnostics};
use crate::event::{EventKind, now_ms};
use crate::history::{IndexCopy, LockError, SiteLock, StateDir};
use crate::report::{bytes, moment, plural};
use crate::secrets::{
    LONGEST_INPUT, Opener, SealTo, Secret, read_hidden, value_of_input, wants_passphrase,
};
use crate::site::Site;
use clap::{Args, Subcommand};
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Arguments of `strata site`.
#[derive(Debug, Args)]
pub struct SiteArguments {
    /// What to do
    #[command(subcommand)]
    pub command: SiteCommand,
}

/// Subcommands of `strata site`.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// Write all that a rebuilt operator host needs into one encrypted file
    Backup(BackupArguments),
    /// Put a backup back, after all of it was verified
    Restore(RestoreArguments),
}

/// Arguments of `strata site backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata site backup /mnt/usb/keybuzz.strata --recipient age1…\n  strata site backup keybuzz.strata --passphrase --with-login-key\n\nIt holds the site with its encrypted and clear secrets, journals, records, pinned keys, markers of\nclusters, and the age identity. Keep it off this host. Without strata it is opened by\n  age -d -i KEY FILE | zstd -d | tar -x"
)]
pub struct BackupArguments {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Who can open it besides the site's recipients: age1…, ssh-ed25519 … or ssh-rsa … (repeatable)
    #[arg(long, value_name = "KEY", conflicts_with_all = ["passphrase", "passphrase_fd"])]
    pub recipient: Vec<String>,
    /// A passphrase opens it, and nothing else; asked for on the terminal
    #[arg(long)]
    pub passphrase: bool,
    /// As --passphrase, read as one line from this file descriptor
    #[arg(long, value_name = "FD")]
    pub passphrase_fd: Option<u32>,
    /// Take the private key with which strata logs in to the hosts
    #[arg(long)]
    pub with_login_key: bool,
    /// Take the archives of images below images/
    #[arg(long)]
    pub with_images: bool,
}

/// Arguments of `strata site restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata --site /opt/keybuzz-installer site restore keybuzz.strata --identity /root/recovery/key.txt\n  strata --site /opt/keybuzz-installer site restore keybuzz.strata --sha256 9f86…\n\nNothing is written unless the whole archive is as it was made."
)]
pub struct RestoreArguments {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace files that differ from the backup
    #[arg(long)]
    pub replace: bool,
    /// The identity that opens it [default: ~/.config/strata/identity.txt]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Read the passphrase as one line from this file descriptor
    #[arg(long, value_name = "FD")]
    pub passphrase_fd: Option<u32>,
    /// What `site backup` printed as its SHA-256: proves who made it, which encryption does not
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &SiteArguments, settings: &Settings) -> Exit {
    let result = match &arguments.command {
        SiteCommand::Backup(arguments) => backup(arguments, settings),
        SiteCommand::Restore(arguments) => restore(arguments, settings),
    };
    result.unwrap_or_else(|stop| stop.told(settings))
}

/// Why a command ended before its time.
enum Stop {
    Wrong(Diagnostics),
    Backup(BackupError),
    Said(Exit, String),
}

impl Stop {
    fn told(self, settings: &Settings) -> Exit {
        match self {
            Self::Wrong(problems) => {
                check::show(&problems, settings);
                Exit::InvalidInput
            }
            Self::Backup(error) => {
                tell!("error: {error}");
                if let Some(hint) = error.hint() {
                    tell!("hint: {hint}");
                }
                match error {
                    BackupError::Io { .. } | BackupError::Changed(_) => Exit::Internal,
                    BackupError::InTheWay { .. } | BackupError::Exists(_) => Exit::Refused,
                    _ => Exit::InvalidInput,
                }
            }
            Self::Said(exit, text) => {
                tell!("{text}");
                exit
            }
        }
    }
}

impl From<BackupError> for Stop {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

impl From<Diagnostic> for Stop {
    fn from(problem: Diagnostic) -> Self {
        let mut problems = Diagnostics::new();
        problems.push(problem);
        Self::Wrong(problems)
    }
}

impl From<Diagnostics> for Stop {
    fn from(problems: Diagnostics) -> Self {
        Self::Wrong(problems)
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Sealed(problem) => (*problem).into(),
            Problem::Backup(error) => Self::Backup(error),
        }
    }
}

fn backup(arguments: &BackupArguments, settings: &Settings) -> Result<Exit, Stop> {
    // A backup is made of a site that has mistakes as well: only its name and its keys are read.
    let mut problems = Diagnostics::new();
    let Some(site) = Site::load(&settings.root, settings.profile, &mut problems) else {
        return Err(problems.into());
    };
    outside(&arguments.file, &settings.root)?;
    if arguments.file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(arguments.file.clone()).into());
    }
    let to = match arguments.passphrase || arguments.passphrase_fd.is_some() {
        true => SealTo::passphrase(passphrase(arguments.passphrase_fd, true, settings)?)?,
        false => SealTo::readers(&settings.root, &arguments.recipient, &settings.identity())?,
    };
    let state = open_state(settings).map_err(|exit| Stop::Said(exit, String::new()))?;
    let _lock = lock(&state, "site backup")?;
    let index = IndexCopy::of(&state)
        .map_err(BackupError::io("copy", &state.path().join("index.sqlite")))?;
    let identities = settings.identity();
    let keys = connection(&site, settings, None).options.identities;
    let (items, left_out) = gather(&Gathering {
        site: &settings.root,
        home: &settings.home,
        identities: identities.parent().unwrap_or(&settings.home),
        index: index.as_ref().map(|copy| copy.path()),
        login_keys: &keys,
        with_login_key: arguments.with_login_key,
        with_images: arguments.with_images,
    })?;
    let head = Head {
        format: FORMAT,
        site: site.config.name.clone(),
        made_ms: now_ms(),
        host: site.config.operator.0.clone(),
        strata: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let written = write(&arguments.file, &head, &items, &to)?;
    show_backup(&arguments.file, &written, &left_out, &to, settings);
    Ok(Exit::Done)
}

fn show_backup(
    file: &Path,
    written: &Written,
    left_out: &[LeftOut],
    to: &SealTo,
    settings: &Settings,
) {
    if settings.json {
        let left: Vec<_> = left_out
            .iter()
            .map(|one| json!({ "path": one.path, "why": one.why, "bytes": one.bytes }))
            .collect();
        out!(
            "{}",
            json!({
                "file": file, "files": written.files, "content_bytes": written.content,
                "bytes": written.bytes, "sha256": written.sha256, "left_out": left,
                "opens_with": to.described(),
            })
        );
        return;
    }
    out!(
        "{}: {} of {} in {}",
        file.display(),
        plural(written.files, "file"),
        bytes(written.content),
        bytes(written.bytes)
    );
    for one in left_out {
        out!("left out    {} ({}): {}", one.path.display(), bytes(one.bytes), one.why);
    }
    for reader in to.described() {
        out!("opens with  {reader}");
    }
    out!("sha256      {}", written.sha256);
    tell!("hint: bring it off this host, and note its SHA-256 where others cannot change it");
}

/// A backup inside of what it holds would be lost with it, and be in the next one.
fn outside(file: &Path, root: &Path) -> Result<(), Stop> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let real = |path: &Path| path.canonicalize().map_err(BackupError::io("open", path));
    match real(folder)?.starts_with(real(root)?) {
        true => Err(BackupError::Inside(file.to_owned()).into()),
        false => Ok(()),
    }
}

fn lock(state: &StateDir, purpose: &str) -> Result<SiteLock, Stop> {
    SiteLock::take(state.path(), purpose).map_err(|error| match error {
        LockError::Held(_) => Stop::Said(
            Exit::Locked,
            format!("error: {error}\nhint: wait for it; the lock ends with that process"),
        ),
        LockError::Io(_) => Stop::Said(Exit::Internal, format!("error: {error}")),
    })
}

/// A passphrase from a descriptor, or from the terminal: twice where it is a new one.
fn passphrase(fd: Option<u32>, new: bool, settings: &Settings) -> Result<Secret<String>, Stop> {
    if let Some(fd) = fd {
        let mut typed = Secret::new(Vec::with_capacity(LONGEST_INPUT + 1));
        let limit = LONGEST_INPUT as u64 + 1;
        let read = match fd {
            0 => std::io::stdin().take(limit).read_to_end(typed.expose_mut()),
            // The system's own way to a descriptor that a caller left open.
            fd => File::open(format!("/proc/self/fd/{fd}"))
                .and_then(|file| file.take(limit).read_to_end(typed.expose_mut())),
        };
        read.map_err(|error| {
            Stop::Said(Exit::InvalidInput, format!("error: --passphrase-fd {fd}: {error}"))
        })?;
        return Ok(value_of_input(typed)?);
    }
    if !settings.interactive {
        return Err(Stop::Said(
            Exit::InvalidInput,
            "error: there is no terminal to ask for the passphrase\nhint: --passphrase-fd 0 reads it from standard input".to_owned(),
        ));
    }
    let (terminal, mut errors) = (std::io::stdin(), std::io::stderr());
    let first = read_hidden(&terminal, &mut errors, "passphrase (not shown)")?;
    if new && read_hidden(&terminal, &mut errors, "once more")? != first {
        return Err(Stop::Said(
            Exit::InvalidInput,
            "error: the two passphrases differ; nothing was written".to_owned(),
        ));
    }
    Ok(first)
}

fn restore(arguments: &RestoreArguments, settings: &Settings) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let open = || {
        File::open(path).map_err(|error| {
            let text = format!("error: cannot read {}: {error}", path.display());
            Stop::Said(Exit::InvalidInput, text)
        })
    };
    let opener = match wants_passphrase(std::io::BufReader::new(open()?), path)? {
        true => Opener::passphrase(passphrase(arguments.passphrase_fd, false, settings)?),
        false => Opener::identity(arguments.identity.as_ref().unwrap_or(&settings.identity()))?,
    };
    let mut archive = Verified::open(path, open()?, opener, arguments.sha256.as_deref())?;
    let places = Places { site: settings.root.clone(), home: settings.home.clone() };
    let held = match settings.root.join(".strata").is_dir() {
        true => Some(locked(settings)?),
        false => None,
    };
    let comparison = places.compare(&archive)?;
    if !comparison.different.is_empty() && !arguments.replace {
        show_different(&comparison, settings);
        return Err(Stop::Said(
            Exit::Refused,
            format!(
                "error: {} from the backup; nothing was restored\nhint: look at them; --replace replaces them",
                differ(comparison.different.len())
            ),
        ));
    }
    let restored = places.restore(&mut archive)?;
    let lock = match held {
        Some(held) => held,
        None => locked(settings)?,
    };
    show_different(&comparison, settings);
    let journal = remember(arguments, &archive.head, settings);
    drop(lock);
    show_restored(&archive, &restored, &comparison, settings);
    Ok(journal)
}

fn locked(settings: &Settings) -> Result<SiteLock, Stop> {
    let state = open_state(settings).map_err(|exit| Stop::Said(exit, String::new()))?;
    lock(&state, "site restore")
}

fn differ(count: usize) -> String {
    format!("{} {}", plural(count, "file"), if count == 1 { "differs" } else { "differ" })
}

fn show_different(comparison: &Comparison, settings: &Settings) {
    for (path, how) in comparison.different.iter().filter(|_| !settings.json) {
        out!("differs   {}: {how}", path.display());
    }
}

/// Keeps the restore as a run, and that the operator host is a new machine from now on.
fn remember(arguments: &RestoreArguments, head: &Head, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let Some(site) = Site::load(&settings.root, settings.profile, &mut problems) else {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    let Ok(state) = open_state(settings) else { return Exit::Internal };
    let command = format!("site restore {}", arguments.file.display());
    let begun = Recorded::begin(settings, &state, &site, &command, (&[], &[]), Vec::new(), None);
    let recorded = match begun {
        Ok(recorded) => recorded,
        Err(exit) => return exit,
    };
    let (host, replaced, pinned) = (site.config.operator.0.clone(), Vec::new(), Vec::new());
    recorded.events.emit(EventKind::HostRebuilt { host, replaced, pinned });
    let made = moment(head.made_ms);
    recorded.end(Exit::Done, format!("restored the backup of {made}"))
}

fn show_restored(
    archive: &Verified,
    restored: &Restored,
    comparison: &Comparison,
    settings: &Settings,
) {
    let head = &archive.head;
    if settings.json {
        let replaced: Vec<_> = comparison.different.iter().map(|(path, _)| path).collect();
        out!(
            "{}",
            json!({
                "site": head.site, "host": head.host, "made_ms": head.made_ms,
                "strata": head.strata, "written": restored.written, "same": restored.same,
                "replaced": replaced, "owners": restored.owners,
            })
        );
        return;
    }
    out!(
        "restored site {} of {} as it was on {}: {} written, {} as they were",
        head.site,
        head.host,
        moment(head.made_ms),
        restored.written,
        restored.same
    );
    if !restored.owners {
        tell!("warning: owners were not restored: that needs root");
    }
    let has = |start: &str| archive.entries.iter().any(|entry| entry.path.starts_with(start));
    out!("next");
    if !has("home/.ssh/") {
        out!("  put the login key back, or use an ssh-agent that has it");
    }
    if !has("site/images") {
        out!("  bring the archives of images back to images/, if the site had any");
    }
    let site = settings.root.display();
    out!("  strata --site {site} check");
    out!("  strata --site {site} audit    what changed on the hosts since");
    out!("  strata --site {site} status");
}
