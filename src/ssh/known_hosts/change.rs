//! Changes of `known_hosts`: keys are added, and the keys of one host are replaced. The file is
//! replaced as a whole, so that a reader finds the old or the new one.

use super::{Entry, HostKeyVerdict, Hosts, KnownHosts, Marker, describe};
use russh::keys::ssh_key::PublicKey;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// What came of adding a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The line is new.
    New,
    /// The key was pinned already; the file is as it was.
    AlreadyThere,
}

/// Pins a key: adds `line` (`names type key`) to the file, which is made with mode 0600.
///
/// # Errors
/// When a different key of the same type is pinned for one of the names, the key is revoked, the
/// line or the file is malformed, or the file cannot be written.
pub fn append_known_host(path: &Path, line: &str) -> Result<Added, String> {
    let line = line.trim();
    let entry = Entry::parse(1, line)?;
    let key = entry.key.clone()?;
    let Hosts::Patterns(names) = &entry.hosts else {
        return Err("the names of a new line must be readable".into());
    };
    let mut file = Locked::open(path)?;
    let known = file.read()?;
    if known.judge(names, &key)? == HostKeyVerdict::Trusted
        && names.iter().all(|name| {
            known.judge(std::slice::from_ref(name), &key) == Ok(HostKeyVerdict::Trusted)
        })
    {
        return Ok(Added::AlreadyThere);
    }
    for name in names {
        let name = std::slice::from_ref(name);
        match known.judge(name, &key)? {
            HostKeyVerdict::Revoked { line } => {
                return Err(format!("{}:{line}: the key is revoked", path.display()));
            }
            HostKeyVerdict::Changed { line, .. }
                if known.pinned_algorithms(name).contains(&key.algorithm()) =>
            {
                return Err(format!(
                    "{}:{line}: a different {} key is pinned for {}; `strata hosts rebuild HOST` replaces it when the host was rebuilt",
                    path.display(),
                    key.algorithm(),
                    name.concat(),
                ));
            }
            _ => {}
        }
    }
    file.push_line(line);
    file.write()?;
    Ok(Added::New)
}

/// Pins `keys` (each type and key) for a host that is known under `names`, in place of everything
/// that is pinned for it. Lines of other hosts, revoked keys and comments stay as they are; a line
/// that pins other hosts too keeps those. Gives the descriptions of the keys that are gone.
///
/// # Errors
/// When a pattern pins this host among others, a new key is revoked or malformed, or the file cannot
/// be read or written; it is then as it was.
pub fn replace_known_host(
    path: &Path,
    names: &[String],
    keys: &[String],
) -> Result<Vec<String>, String> {
    let mut file = Locked::open(path)?;
    let known = file.read()?;
    for key in keys {
        let key = PublicKey::from_openssh(key)
            .map_err(|error| format!("the new key cannot be read: {error}"))?;
        let revoked = known.entries.iter().find(|entry| {
            entry.marker == Marker::Revoked
                && entry.hosts.matches_any(names)
                && entry.key.as_ref().is_ok_and(|other| other.key_data() == key.key_data())
        });
        if let Some(entry) = revoked {
            return Err(format!("{}:{}: the new key is revoked", path.display(), entry.line));
        }
    }
    let mut replaced = Vec::new();
    let mut kept = String::new();
    for (number, line) in (1_usize..).zip(file.text.lines()) {
        let here = known.entries.iter().find(|entry| {
            entry.line == number && entry.marker == Marker::None && entry.hosts.matches_any(names)
        });
        let others = match here {
            None => Some(line.to_owned()),
            Some(entry) => {
                replaced.push(match &entry.key {
                    Ok(key) => describe(key),
                    Err(_) => "a key that cannot be read".to_owned(),
                });
                line_of_others(line, entry, names)
                    .map_err(|reason| format!("{}:{number}: {reason}", path.display()))?
            }
        };
        if let Some(line) = others {
            kept.push_str(&line);
            kept.push('\n');
        }
    }
    file.text = kept;
    for key in keys {
        file.push_line(&format!("{} {key}", names.join(",")));
    }
    file.write()?;
    Ok(replaced)
}

/// What stays of a line when its key is pinned for this host no more.
fn line_of_others(line: &str, entry: &Entry, names: &[String]) -> Result<Option<String>, String> {
    let Hosts::Patterns(_) = &entry.hosts else { return Ok(None) };
    let field = line.split_ascii_whitespace().next().unwrap_or_default();
    let own = |name: &&str| names.iter().any(|own| own.eq_ignore_ascii_case(name));
    let others: Vec<&str> = field.split(',').filter(|name| !own(name)).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let others = others.join(",");
    if Hosts::parse(&others)?.matches_any(names) {
        return Err(format!(
            "the pattern `{others}` pins this host among others; give each host a line of its own"
        ));
    }
    Ok(Some(line.replacen(field, &others, 1)))
}

/// The file, with its directory locked from reading to renaming: two runs may pin at once.
struct Locked<'a> {
    path: &'a Path,
    directory: &'a Path,
    text: String,
    _lock: fs::File,
}

impl<'a> Locked<'a> {
    fn open(path: &'a Path) -> Result<Self, String> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let explain = |error: io::Error| format!("{}: {error}", path.display());
        let lock = fs::File::open(directory).map_err(explain)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| explain(error.into()))?;
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(explain(error)),
        };
        Ok(Self { path, directory, text, _lock: lock })
    }

    fn read(&self) -> Result<KnownHosts, String> {
        KnownHosts::parse(&self.text).map_err(|reason| format!("{}: {reason}", self.path.display()))
    }

    fn push_line(&mut self, line: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn write(&self) -> Result<(), String> {
        replace_file(self.path, self.directory, &self.text)
            .map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

fn replace_file(path: &Path, directory: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = directory.join(name);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written?;
    fs::File::open(directory)?.sync_all()
}
