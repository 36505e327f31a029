//! Hosts out of service: left out on purpose, until a moment, with a reason that a colleague can
//! read. They stand in the site's `state/hosts/out.json`.

use super::{Host, suggest};
use crate::diag::{Code, Diagnostic, Diagnostics};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Version of the file.
const FORMAT: u32 = 1;

/// A host out of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Out {
    /// Why.
    pub reason: String,
    /// The moment from which it counts again, as RFC 3339 has it.
    pub until: String,
    /// Since when.
    pub since: String,
    /// Who said so.
    pub by: String,
}

/// Hosts out of service by name.
pub type Outs = BTreeMap<String, Out>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutFile {
    format: u32,
    hosts: Outs,
}

impl Out {
    /// True while it is in effect; an error when its end is no moment.
    fn counts(&self, now: Timestamp) -> Result<bool, jiff::Error> {
        self.until.parse::<Timestamp>().map(|until| now < until)
    }
}

/// The file of a site.
pub fn path(root: &Path) -> PathBuf {
    root.join("state/hosts/out.json")
}

/// Every entry of the file, those whose time is over too.
///
/// # Errors
/// What is wrong with the file: then nothing is known, and nobody is left out by guessing.
pub fn read(root: &Path) -> Result<Outs, String> {
    let text = match fs::read_to_string(path(root)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outs::new()),
        Err(error) => return Err(error.to_string()),
    };
    let file: OutFile = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!("it has format {}, this strata reads {FORMAT}", file.format));
    }
    if let Some((host, out)) =
        file.hosts.iter().find(|(_, out)| out.counts(Timestamp::UNIX_EPOCH).is_err())
    {
        return Err(format!("the end `{}` of {host} is no moment", out.until));
    }
    Ok(file.hosts)
}

/// Changes the entries: the old file or the whole new one is there, never less, and two changes at
/// the same time wait for each other.
///
/// # Errors
/// What cannot be read or written; nothing is changed then.
pub fn change<T>(root: &Path, change: impl FnOnce(&mut Outs) -> T) -> Result<T, String> {
    let path = path(root);
    let said = |error: io::Error| format!("{}: {error}", path.display());
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(said)?;
    let lock = File::create(path.with_extension("lock")).map_err(said)?;
    lock.lock().map_err(said)?;
    let mut hosts = read(root).map_err(|reason| format!("{}: {reason}", path.display()))?;
    let result = change(&mut hosts);
    write(folder, &path, hosts).map_err(said)?;
    Ok(result)
}

fn write(folder: &Path, path: &Path, hosts: Outs) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    serde_json::to_writer_pretty(&mut file, &OutFile { format: FORMAT, hosts })?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// The entries in effect. A file that cannot be read is an error; an entry whose time is over, and
/// one of a host that is not in the inventory, count for nothing and are warned of.
pub(super) fn in_effect(
    root: &Path,
    hosts: &IndexMap<String, Host>,
    problems: &mut Diagnostics,
) -> Outs {
    match read(root) {
        Ok(outs) => sorted_out(outs, hosts, Timestamp::now(), problems),
        Err(reason) => {
            problems.push(
                Diagnostic::error(
                    Code::OUT_OF_SERVICE,
                    format!("state/hosts/out.json cannot be read: {reason}"),
                )
                .hint("it says which hosts are out of service: mend it, or remove it and give each again with `strata hosts out`"),
            );
            Outs::new()
        }
    }
}

fn sorted_out(
    outs: Outs,
    hosts: &IndexMap<String, Host>,
    now: Timestamp,
    problems: &mut Diagnostics,
) -> Outs {
    let mut counting = Outs::new();
    for (name, out) in outs {
        let (message, hint) = if !hosts.is_empty() && !hosts.contains_key(&name) {
            (
                format!("{name} is out of service and not in the inventory"),
                format!("`strata hosts in {name}` removes the entry"),
            )
        } else if out.counts(now).unwrap_or(false) {
            counting.insert(name, out);
            continue;
        } else {
            let (until, reason) = (&out.until, &out.reason);
            (
                format!("{name} was out of service until {until}: it counts again ({reason})"),
                format!("`strata hosts in {name}` ends it, `strata hosts out {name}` renews it"),
            )
        };
        problems.push(Diagnostic::warning(Code::OUT_OF_SERVICE, message).hint(hint));
    }
    counting
}

/// What is said of a name that is not out of service.
pub fn not_out(name: &str, outs: &Outs) -> Diagnostic {
    let hint = if outs.is_empty() {
        "no host is".to_owned()
    } else {
        suggest::among(name, outs.keys().map(String::as_str))
    };
    Diagnostic::error(Code::SELECTION, format!("{name} is not out of service")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(until: &str) -> Out {
        let text = |text: &str| text.to_owned();
        Out {
            reason: text("memory"),
            until: text(until),
            since: text("2026-11-01T00:00:00Z"),
            by: text("root@a"),
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_a_damaged_file_is_no_empty_one() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path()), Ok(Outs::new()));
        let entry = out("2026-11-28T00:00:00Z");
        change(root.path(), |outs| outs.insert("db-01".to_owned(), entry.clone())).unwrap();
        assert_eq!(read(root.path()), Ok(Outs::from([("db-01".to_owned(), entry)])));
        assert!(change(root.path(), |outs| outs.remove("db-01")).unwrap().is_some());
        assert_eq!(read(root.path()), Ok(Outs::new()));
        for damaged in [
            "half a fi",
            "{}",
            r#"{"format": 2, "hosts": {}}"#,
            r#"{"format": 1, "hosts": {"a": {"reason": "", "until": "soon", "since": "", "by": ""}}}"#,
        ] {
            fs::write(path(root.path()), damaged).unwrap();
            assert!(read(root.path()).is_err(), "{damaged}");
            assert!(change(root.path(), |_| ()).is_err(), "{damaged}");
            assert_eq!(fs::read_to_string(path(root.path())).unwrap(), damaged);
            let mut problems = Diagnostics::new();
            in_effect(root.path(), &IndexMap::new(), &mut problems);
            assert!(problems.has_errors());
        }
    }

    #[test]
    fn what_is_over_counts_for_nothing_and_is_said() {
        let outs = Outs::from([
            ("db-01".to_owned(), out("2026-11-28T00:00:00Z")),
            ("db-02".to_owned(), out("2026-11-20T00:00:00Z")),
        ]);
        let mut problems = Diagnostics::new();
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let counting = sorted_out(outs, &IndexMap::new(), now, &mut problems);
        assert_eq!(counting.keys().collect::<Vec<_>>(), ["db-01"]);
        assert!(!problems.has_errors());
        let said: Vec<String> = problems.iter().map(|problem| problem.message.clone()).collect();
        assert_eq!(
            said,
            ["db-02 was out of service until 2026-11-20T00:00:00Z: it counts again (memory)"]
        );
    }
}
