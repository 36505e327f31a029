//! A user account.

use super::accounts::{Account, Accounts};
use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{Cache, Program, System, run_checked};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A user account. An absent user's home directory stays: strata deletes no data.
///
/// ```toml
/// user = { name = "deploy", groups = ["sudo"], shell = "/bin/bash", locked = true }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name, for example `"deploy"`.
    pub name: String,
    /// User id. Default: the next free one.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Primary group. Default: a group of the user's own name.
    #[serde(default)]
    pub group: Option<String>,
    /// Further groups that the user must be in; others are left alone.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Login shell. Default: `/bin/bash`, for system users `/usr/sbin/nologin`.
    #[serde(default)]
    pub shell: Option<String>,
    /// Home directory. Default: `/home/NAME`. A system user's is not made.
    #[serde(default)]
    pub home: Option<String>,
    /// A system user: an id of that range, no home directory made. Default: false.
    #[serde(default)]
    pub system: bool,
    /// Whether no password can log in. Default: left as it is (a new user has no password).
    #[serde(default)]
    pub locked: Option<bool>,
    /// `"present"` (default) or `"absent"`.
    #[serde(default)]
    pub state: Presence,
}

impl User {
    fn missing_groups<'a>(&'a self, accounts: &Accounts) -> Vec<&'a str> {
        let primary = accounts.users.get(&self.name).map(|account| account.gid);
        self.groups
            .iter()
            .map(String::as_str)
            .filter(|name| {
                accounts.groups.get(*name).is_none_or(|group| {
                    Some(group.gid) != primary && !group.members.contains(&self.name)
                })
            })
            .collect()
    }

    /// Wanted settings that differ: name, found, wanted, option of useradd and usermod.
    fn settings(&self, was: Option<&Account>, accounts: &Accounts) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |what, found: Option<String>, wanted: Option<String>, option| {
            if let Some(wanted) = wanted
                && found.as_ref() != Some(&wanted)
            {
                settings.push(Setting { what, found, wanted, option });
            }
        };
        let new_shell = || {
            was.is_none()
                .then(|| if self.system { "/usr/sbin/nologin" } else { "/bin/bash" }.into())
        };
        add("uid", was.map(|a| a.uid.to_string()), self.uid.map(|id| id.to_string()), "--uid");
        let group = was.map(|a| accounts.group_name(a.gid));
        let same_group = |wanted: &String| was.is_some_and(|a| accounts.gid(wanted) == Some(a.gid));
        add("primary group", group, self.group.clone().filter(|g| !same_group(g)), "--gid");
        add(
            "shell",
            was.map(|a| a.shell.clone()),
            self.shell.clone().or_else(new_shell),
            "--shell",
        );
        add("home", was.map(|a| a.home.clone()), self.home.clone(), "--home-dir");
        settings
    }
}

struct Setting {
    what: &'static str,
    found: Option<String>,
    wanted: String,
    option: &'static str,
}

impl Converge for User {
    type Found = Arc<Accounts>;

    fn validate(&self) -> Vec<Problem> {
        let mut rules = Rules::new()
            .account("name", &self.name)
            .that(self.name.parse::<u32>().is_err(), || Problem::new("name", "is a number"))
            .that(self.state == Presence::Present || self.name != "root", || {
                Problem::new("state", "the user root cannot be absent")
            });
        for group in self.group.iter() {
            rules = rules.account("group", group);
        }
        for group in &self.groups {
            rules = rules.account("groups", group);
        }
        for shell in self.shell.iter() {
            rules = rules.path_below_root("shell", shell);
        }
        for home in self.home.iter() {
            rules = rules
                .path("home", home)
                .that(!home.contains(':'), || Problem::new("home", "must not hold a colon"));
        }
        rules.done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Arc<Accounts>, Failure> {
        system.accounts()
    }

    fn compare(&self, accounts: &Arc<Accounts>) -> Vec<Change> {
        let was = accounts.users.get(&self.name);
        match (self.state, was) {
            (Presence::Absent, None) => return Vec::new(),
            (Presence::Absent, Some(account)) => {
                return vec![Change::new("user", Some(format!("uid {}", account.uid)), None)];
            }
            (Presence::Present, None) => {
                return vec![Change::new("user", None, Some("present".into()))];
            }
            (Presence::Present, Some(_)) => {}
        }
        let mut changes: Vec<Change> = self
            .settings(was, accounts)
            .into_iter()
            .map(|setting| Change::new(setting.what, setting.found, Some(setting.wanted)))
            .collect();
        for group in self.missing_groups(accounts) {
            changes.push(Change::new(format!("group {group}"), None, Some("member".into())));
        }
        let locked = was.is_some_and(|account| account.locked);
        if let Some(wanted) = self.locked.filter(|wanted| *wanted != locked) {
            let word = |locked| if locked { "locked" } else { "usable" }.to_owned();
            changes.push(Change::new("password", Some(word(locked)), Some(word(wanted))));
        }
        changes
    }

    fn apply(
        &self,
        accounts: &Arc<Accounts>,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let was = accounts.users.get(&self.name);
        let what = format!("cannot change the user {}", self.name);
        let result = (|| {
            if self.state == Presence::Absent {
                return run_checked(system, &Program::new(["userdel", &self.name]), &what)
                    .map(|_| ());
            }
            let mut argv = vec![if was.is_some() { "usermod" } else { "useradd" }.to_owned()];
            for setting in self.settings(was, accounts) {
                // usermod has `--home`, useradd `--home-dir`.
                let option = match (setting.option, was) {
                    ("--home-dir", Some(_)) => "--home",
                    (option, _) => option,
                };
                argv.extend([option.to_owned(), setting.wanted]);
            }
            let groups = self.missing_groups(accounts);
            if !groups.is_empty() {
                if was.is_some() {
                    argv.push("--append".to_owned());
                }
                argv.extend(["--groups".to_owned(), groups.join(",")]);
            }
            if was.is_none() {
                if self.group.is_none() {
                    let exists = accounts.groups.contains_key(&self.name);
                    if exists {
                        argv.extend(["--gid".to_owned(), self.name.clone()]);
                    } else {
                        argv.push("--user-group".to_owned());
                    }
                }
                argv.push(if self.system { "--system" } else { "--create-home" }.to_owned());
            }
            if argv.len() > 1 {
                argv.push(self.name.clone());
                run_checked(system, &Program::new(argv), &what)?;
            }
            let locked = was.is_none_or(|account| account.locked);
            match self.locked {
                Some(wanted) if wanted != locked => {
                    let flag = if wanted { "--lock" } else { "--unlock" };
                    run_checked(
                        system,
                        &Program::new(["passwd", "--quiet", flag, &self.name]),
                        &what,
                    )
                    .map(|_| ())
                    .map_err(|failure| failure.hint("a password must be set before it is unlocked"))
                }
                _ => Ok(()),
            }
        })();
        system.invalidate(Cache::Accounts);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Arc<Accounts> {
        Arc::new(Accounts::parse(
            "ada:x:1000:1000::/home/ada:/bin/sh\n",
            "ada:x:1000:\nsudo:x:27:ada\ndocker:x:99:\n",
            "ada:$y$x:1::::::\n",
        ))
    }

    #[test]
    fn compares_only_what_is_wanted() {
        for (text, changed) in [
            ("name='ada'", &[][..]),
            ("name='ada'\ngroup='ada'\ngroups=['sudo']\nshell='/bin/sh'", &[]),
            ("name='ada'\ngroup='1000'", &[]),
            ("name='ada'\nuid=7\nshell='/bin/bash'", &["uid", "shell"]),
            ("name='ada'\ngroups=['docker','new']", &["group docker", "group new"]),
            ("name='ada'\nlocked=true", &["password"]),
            ("name='ada'\nstate='absent'", &["user"]),
            ("name='bob'", &["user"]),
            ("name='bob'\nstate='absent'", &[]),
        ] {
            let user: User = toml::from_str(text).unwrap();
            let changes = user.compare(&accounts());
            let what: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
            assert_eq!(what, changed, "{text}");
        }
    }
}
