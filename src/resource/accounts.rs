//! Users and groups, read from their files: the agent asks no name service, so that it needs no
//! libc and sees what useradd wrote.

use std::collections::BTreeMap;

/// A line of `/etc/passwd`, with the lock state from `/etc/shadow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// True when no password can log in: `/etc/shadow` has `!` or `*` first.
    pub locked: bool,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLine {
    /// Group id.
    pub gid: u32,
    /// Members that have it as a further group.
    pub members: Vec<String>,
}

/// Users and groups of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// By user name.
    pub users: BTreeMap<String, Account>,
    /// By group name.
    pub groups: BTreeMap<String, GroupLine>,
}

impl Accounts {
    /// Reads the three files. Lines that are not of the known form are left out.
    pub fn parse(passwd: &str, group: &str, shadow: &str) -> Self {
        let locks: BTreeMap<&str, bool> = shadow
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                let (name, password) = (fields.next()?, fields.next()?);
                Some((name, password.starts_with(['!', '*'])))
            })
            .collect();
        let users = passwd
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let [name, _, uid, gid, _, home, shell] = fields.as_slice() else {
                    return None;
                };
                let account = Account {
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                    home: (*home).to_owned(),
                    shell: (*shell).to_owned(),
                    locked: locks.get(name).copied().unwrap_or(true),
                };
                Some(((*name).to_owned(), account))
            })
            .collect();
        let groups = group
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let [name, _, gid, members] = fields.as_slice() else {
                    return None;
                };
                let line = GroupLine {
                    gid: gid.parse().ok()?,
                    members: members
                        .split(',')
                        .filter(|member| !member.is_empty())
                        .map(str::to_owned)
                        .collect(),
                };
                Some(((*name).to_owned(), line))
            })
            .collect();
        Self { users, groups }
    }

    /// Number of a user given by name or number. `root` needs no entry.
    pub fn uid(&self, user: &str) -> Option<u32> {
        match self.users.get(user) {
            Some(account) => Some(account.uid),
            None if user == "root" => Some(0),
            None => user.parse().ok(),
        }
    }

    /// Number of a group given by name or number. `root` needs no entry.
    pub fn gid(&self, group: &str) -> Option<u32> {
        match self.groups.get(group) {
            Some(line) => Some(line.gid),
            None if group == "root" => Some(0),
            None => group.parse().ok(),
        }
    }

    /// Name of a user id, or the number as text.
    pub fn user_name(&self, uid: u32) -> String {
        self.users
            .iter()
            .find(|(_, account)| account.uid == uid)
            .map_or_else(|| number_or_root(uid), |(name, _)| name.clone())
    }

    /// Name of a group id, or the number as text.
    pub fn group_name(&self, gid: u32) -> String {
        self.groups
            .iter()
            .find(|(_, line)| line.gid == gid)
            .map_or_else(|| number_or_root(gid), |(name, _)| name.clone())
    }
}

fn number_or_root(id: u32) -> String {
    if id == 0 { "root".to_owned() } else { id.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_debian_writes() {
        let accounts = Accounts::parse(
            "root:x:0:0:root:/root:/bin/bash\nbroken line\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n",
            "root:x:0:\nsudo:x:27:ada,bob\n",
            "root:$y$j9T$x:19000:0:99999:7:::\n_apt:!:19000::::::\n",
        );
        assert_eq!(accounts.uid("_apt"), Some(42));
        assert!(accounts.users["_apt"].locked);
        assert!(!accounts.users["root"].locked);
        assert_eq!(accounts.groups["sudo"].members, ["ada", "bob"]);
        assert_eq!(accounts.uid("999"), Some(999));
        assert_eq!(accounts.uid("nobody-here"), None);
        assert_eq!(accounts.user_name(42), "_apt");
        assert_eq!(accounts.group_name(77), "77");
    }
}
