//! Users and groups out of `/etc/passwd` and `/etc/group`, read directly: a static program must not
//! load the host's name service modules.

use std::fs;
use std::path::Path;

/// What it takes to run a program as someone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All group ids, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// Finds a user by name below `root`.
///
/// # Errors
/// A text that says why: no such user, or the file cannot be read.
pub fn find(root: &Path, name: &str) -> Result<Account, String> {
    let read = |path: &str| {
        fs::read_to_string(root.join(path)).map_err(|error| format!("/{path}: {error}"))
    };
    account(&read("etc/passwd")?, &read("etc/group")?, name)
        .ok_or_else(|| format!("there is no user \"{name}\" in /etc/passwd"))
}

fn account(passwd: &str, group: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() == 7 && fields[0] == name)?;
    let gid = fields[3].parse().ok()?;
    let mut groups = vec![gid];
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, id, members] = fields.as_slice() else {
            continue;
        };
        if members.split(',').any(|member| member == name)
            && let Ok(id) = id.parse()
            && !groups.contains(&id)
        {
            groups.push(id);
        }
    }
    Some(Account {
        name: name.to_owned(),
        uid: fields[2].parse().ok()?,
        gid,
        groups,
        home: fields[5].to_owned(),
        shell: fields[6].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_supplementary_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\npostgres:x:113:120:,,,:/var/lib/postgresql:/bin/bash\n";
        let group =
            "root:x:0:\nssl-cert:x:119:postgres,www\npostgres:x:120:postgres\nx:x:bad:postgres\n";
        let found = account(passwd, group, "postgres").unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (113, 120, vec![120, 119]));
        assert_eq!(found.home, "/var/lib/postgresql");
        assert_eq!(account(passwd, group, "nobody"), None);
    }
}
