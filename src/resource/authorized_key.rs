//! Public keys that may log in as a user.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{FileWrite, Metadata, PathKind, System, read_text};
use super::text::bare;
use super::validity::{Presence, Problem, Rules, no_such_account};
use serde::{Deserialize, Serialize};

/// Lines of a user's `~/.ssh/authorized_keys`. The directory and the file belong to the user, with
/// modes 0700 and 0600, as sshd demands.
///
/// ```toml
/// authorized_key = { user = "root", keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK7tNdPk+b8f/0qSpFi5Ig3/BCRi9OOsHvJ+bDLOYkAv ops@install-01"] }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizedKey {
    /// The user; it must exist.
    pub user: String,
    /// Whole lines: options, type, key, comment. A line with the same key is replaced.
    pub keys: Vec<String>,
    /// Remove all other keys. Default: false.
    #[serde(default)]
    pub exclusive: bool,
    /// `"present"` (default) or `"absent"`: remove just these keys.
    #[serde(default)]
    pub state: Presence,
}

/// What was found of the user's keys.
#[derive(Debug)]
pub struct KeysFound {
    home: Option<(String, u32, u32)>,
    directory: Option<Metadata>,
    file: Option<Metadata>,
    text: Vec<u8>,
}

/// The key itself, which makes two lines the same whatever their options and comments.
fn key_of(line: &str) -> Option<&str> {
    let mut quoted = false;
    let words = line.split(|c: char| {
        if c == '"' {
            quoted = !quoted;
        }
        !quoted && c.is_ascii_whitespace()
    });
    let mut words = words.filter(|word| !word.is_empty());
    words.find(|word| {
        ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| word.starts_with(prefix))
    })?;
    words.next()
}

impl AuthorizedKey {
    fn wanted(&self, text: &[u8]) -> Vec<u8> {
        let ours = |line: &[u8]| -> Option<usize> {
            let line = std::str::from_utf8(line).ok()?;
            let key = (!line.starts_with('#')).then(|| key_of(line))??;
            self.keys.iter().position(|wanted| key_of(wanted) == Some(key))
        };
        let mut placed = vec![false; self.keys.len()];
        let mut result = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match ours(bare(line)) {
                None if self.exclusive => {}
                None => result.extend_from_slice(line),
                Some(_) if self.state == Presence::Absent => {}
                Some(index) => {
                    if !std::mem::replace(&mut placed[index], true) {
                        result.extend_from_slice(self.keys[index].as_bytes());
                        result.push(b'\n');
                    }
                }
            }
        }
        if self.state == Presence::Present {
            for (key, _) in self.keys.iter().zip(placed).filter(|(_, placed)| !placed) {
                if result.last().is_some_and(|last| *last != b'\n') {
                    result.push(b'\n');
                }
                result.extend_from_slice(key.as_bytes());
                result.push(b'\n');
            }
        }
        result
    }
}

impl Converge for AuthorizedKey {
    type Found = KeysFound;

    fn validate(&self) -> Vec<Problem> {
        let mut rules = Rules::new()
            .account("user", &self.user)
            .that(!self.exclusive || !self.keys.is_empty(), || {
                Problem::new("exclusive", "would remove every key").hint("name at least one key")
            })
            .that(!self.exclusive || self.state == Presence::Present, || {
                Problem::new("exclusive", "needs `state = \"present\"`")
            });
        for key in &self.keys {
            rules = rules.one_line("keys", key).that(
                key_of(key).is_some_and(|blob| blob.starts_with("AAAA") && blob.len() > 40),
                || {
                    Problem::new("keys", "holds a line without a public key")
                        .hint("a line of an `id_….pub` file: type, key, comment")
                },
            );
        }
        rules.done()
    }

    fn find(&self, system: &mut dyn System) -> Result<KeysFound, Failure> {
        let accounts = system.accounts()?;
        let Some(account) = accounts.users.get(&self.user) else {
            return Ok(KeysFound { home: None, directory: None, file: None, text: Vec::new() });
        };
        let directory = format!("{}/.ssh", account.home.trim_end_matches('/'));
        let path = format!("{directory}/authorized_keys");
        let found = system.metadata(&directory)?;
        let file = system.metadata(&path)?;
        // The user owns the directory and could point a link anywhere; root must not follow it.
        for (path, found, wanted) in
            [(&directory, found, PathKind::Directory), (&path, file, PathKind::File)]
        {
            if let Some(found) = found.filter(|found| found.kind != wanted) {
                let message = format!("{path} is a {}, not a {}", found.kind.name(), wanted.name());
                return Err(Failure::new(message).hint("move it away by hand"));
            }
        }
        let text = if file.is_some() { read_text(system, &path)? } else { None };
        Ok(KeysFound {
            home: Some((directory, account.uid, account.gid)),
            directory: found,
            file,
            text: text.unwrap_or_default(),
        })
    }

    fn compare(&self, found: &KeysFound) -> Vec<Change> {
        let mut changes = Vec::new();
        let wanted = self.wanted(&found.text);
        if wanted != found.text {
            let count = |text: &[u8]| {
                let text = String::from_utf8_lossy(text);
                let keys = text.lines().filter(|line| !line.starts_with('#'));
                Some(format!("{} keys", keys.filter(|line| key_of(line).is_some()).count()))
            };
            changes.push(Change {
                before: Some(found.text.clone()),
                ..Change::new("keys", count(&found.text), count(&wanted))
            });
        }
        let Some((_, uid, _)) = found.home else {
            return changes;
        };
        for (what, metadata, mode) in
            [("directory", found.directory, 0o700), ("file", found.file, 0o600)]
        {
            if let Some(metadata) = metadata.filter(|m| m.mode != mode || m.uid != uid) {
                let text = |mode: u32, uid: u32| format!("{mode:04o}, uid {uid}");
                let from = text(metadata.mode, metadata.uid);
                changes.push(Change::new(
                    format!("{what} mode and owner"),
                    Some(from),
                    Some(text(mode, uid)),
                ));
            }
        }
        changes
    }

    fn apply(
        &self,
        found: &KeysFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let Some((directory, uid, gid)) = &found.home else {
            return Err(no_such_account("user", &self.user));
        };
        match found.directory {
            None => system.make_directory(directory, 0o700, *uid, *gid)?,
            Some(metadata) if metadata.mode != 0o700 || metadata.uid != *uid => {
                system.set_owner(directory, *uid, *gid)?;
                system.set_mode(directory, 0o700)?;
            }
            Some(_) => {}
        }
        system.write(&FileWrite {
            mode: 0o600,
            uid: *uid,
            gid: *gid,
            ..FileWrite::of_root(&format!("{directory}/authorized_keys"), &self.wanted(&found.text))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmZr1Qmsy9uYTX0uYQG3Oe7cZ8QXxWcQ0Vx0t9m2n1x";

    #[test]
    fn keys_are_the_same_whatever_surrounds_them() {
        let blob = key_of(KEY).unwrap();
        for line in [
            format!("{KEY} comment with spaces"),
            format!("command=\"echo \\\"ssh-rsa AAAA\\\" x\",no-pty {KEY}"),
            format!("  {KEY}"),
        ] {
            assert_eq!(key_of(&line), Some(blob), "{line}");
        }
        assert_eq!(key_of("# nothing"), None);
    }

    #[test]
    fn adds_replaces_and_removes() {
        let mut host = Host::new();
        host.put("/etc/passwd", "ada:x:0:0::/root:/bin/sh\n");
        host.put("/root/.ssh/authorized_keys", "# mine\nssh-rsa AAAAother old\n");
        let add = resource(&format!("[authorized_key]\nuser='ada'\nkeys=['{KEY} a']\n"));
        assert!(matches!(host.apply(&add), Outcome::Changed(_)));
        assert_eq!(host.apply(&add), Outcome::Unchanged);
        assert_eq!(host.mode("/root/.ssh"), 0o700);
        let only = resource(&format!(
            "[authorized_key]\nuser='ada'\nkeys=['no-pty {KEY} b']\nexclusive=true\n"
        ));
        assert!(matches!(host.apply(&only), Outcome::Changed(_)));
        let text = host.get("/root/.ssh/authorized_keys").unwrap();
        assert_eq!(text, format!("no-pty {KEY} b\n"));
        assert_eq!(host.apply(&only), Outcome::Unchanged);
    }
}
