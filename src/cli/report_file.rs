//! Writes reports: whole or not at all, and never over something that is no report.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What a report begins with within its first bytes, by format: a file that has none of them is
/// somebody else's.
const MARKS: [&str; 4] = [
    "<meta name=\"generator\" content=\"strata",
    "<testsuites name=\"strata ",
    "# HELP strata_",
    "{\"schema\":",
];

/// How many bytes are looked at for a mark.
const HEAD: u64 = 1_000;

/// Writes a report. `readable`: by everybody, whatever the umask, as another program reads it.
///
/// # Errors
/// When the file is there and is no report, or cannot be written; it is as it was then.
pub fn write(path: &Path, text: &str, readable: bool) -> io::Result<()> {
    // A link stays one.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        // A terminal, a pipe, /dev/null: nothing is replaced there.
        Ok(found) if !found.is_file() => {
            return OpenOptions::new().write(true).open(&path)?.write_all(text.as_bytes());
        }
        Ok(found) if found.len() > 0 && !is_report(&path)? => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is there and is no report of strata: remove it, or name another file",
            ));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let temporary = beside(&path)?;
    let written = replace(&temporary, &path, text, readable);
    if written.is_err() {
        // What is left of it helps nobody; the error to tell is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn replace(temporary: &Path, path: &Path, text: &str, readable: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(temporary)?;
    file.write_all(text.as_bytes())?;
    if readable {
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

/// A name in the same directory that nobody else uses. It does not end like the report: whoever
/// collects these must not find half a one.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn is_report(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    Ok(MARKS.iter().any(|mark| head.contains(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_report_replaces_a_report_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("strata.prom");
        write(&path, "# HELP strata_a one\n", true).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        write(&path, "# HELP strata_a two\n", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# HELP strata_a two\n");
        std::fs::write(&path, "mine").unwrap();
        let error = write(&path, "# HELP strata_a three\n", true).unwrap_err();
        assert!(error.to_string().contains("is no report of strata"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(names(folder.path()), ["strata.prom"]);
    }

    #[test]
    fn a_link_stays_and_what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, "{\"schema\":1}", false).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "{\"schema\":1}");
        write(Path::new("/dev/null"), "x", false).unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(write(folder.path(), "x", false).is_err());
        assert!(write(&folder.path().join("no/such/folder"), "x", false).is_err());
    }
}
