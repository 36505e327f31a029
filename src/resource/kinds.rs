//! The list of all kinds: the enum that roles and the wire carry, and what dispatches on it.

use super::converge::{Converge, Progress, converge_kind};
use super::outcome::{Mode, Outcome};
use super::system::System;
use super::validity::Problem;
use super::*;
use serde::{Deserialize, Serialize};

/// What a kind is called in a role, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// The table's name in a role.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
}

macro_rules! kinds {
    ($($variant:ident, $name:literal, $summary:literal;)+) => {
        /// One resource of any kind, fully rendered. In a role each kind is a table of the
        /// variant's name.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[expect(clippy::large_enum_variant, reason = "a role has tens of steps, not thousands")]
        pub enum Resource {
            $(#[doc = $summary] $variant($variant),)+
        }

        /// All kinds, sorted by name.
        pub const KINDS: &[KindInfo] = &[$(KindInfo { name: $name, summary: $summary },)+];

        impl Resource {
            /// The kind's name, as roles write it.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// Rules that the type of a field cannot express; empty when all is well. Each problem
            /// names the field it belongs to.
            pub fn validate(&self) -> Vec<Problem> {
                match self { $(Self::$variant(kind) => kind.validate(),)+ }
            }
        }

        impl Resource {
            /// False for what changes nothing, such as waiting: looking at it says nothing about
            /// whether it would succeed.
            pub fn changes(&self) -> bool {
                match self { $(Self::$variant(kind) => kind.changes(),)+ }
            }

            /// True for what changes something and has no way to see whether it was done already.
            pub fn runs_each_time(&self) -> bool {
                match self { $(Self::$variant(kind) => kind.runs_each_time(),)+ }
            }
        }

        pub(super) fn dispatch(
            resource: &Resource,
            secret: bool,
            mode: Mode,
            system: &mut dyn System,
            progress: &mut Progress<'_>,
        ) -> Outcome {
            match resource {
                $(Resource::$variant(kind) => converge_kind(kind, secret, mode, system, progress),)+
            }
        }
    };
}

kinds! {
    AptRepository, "apt_repository", "a package source with its signing key";
    Artifact, "artifact", "a large file that the site carries, known by its digest";
    AuthorizedKey, "authorized_key", "public keys that may log in as a user";
    Block, "block", "a marked block of lines in a file that others own";
    Command, "command", "a program to run, at most once where `creates` or `unless` says so";
    Container, "container", "a container of the host's engine, replaced only when its description differs";
    Directory, "directory", "a directory with its owner and mode";
    File, "file", "a file with content, owner and mode, or its absence";
    Firewall, "firewall", "the host's own packet filter, with an armed rollback";
    Group, "group", "a group of users";
    Hostname, "hostname", "the host's name, now and after a boot";
    Hosts, "hosts", "the managed entries of /etc/hosts";
    Image, "image", "an image that must be on the host";
    KernelModule, "kernel_module", "a kernel module, now and after a boot";
    Line, "line", "one line in a file that others own";
    Link, "link", "a symbolic link";
    Mount, "mount", "a mounted file system and its line in /etc/fstab";
    Package, "package", "Debian packages";
    Service, "service", "state of a service that something else installed";
    Swap, "swap", "whether the host may swap";
    Sysctl, "sysctl", "kernel settings, now and after a boot";
    Timezone, "timezone", "the host's time zone";
    Unit, "unit", "a systemd unit with its file and state";
    User, "user", "a user account";
    WaitFor, "wait_for", "a condition to wait for: port, HTTP, program or path";
}

impl Resource {
    /// True for a file that nothing but its own path is concerned with: no program judges or
    /// activates it, so that several such files in a row may be written side by side.
    pub fn is_plain_file(&self) -> bool {
        matches!(self, Self::File(file) if file.is_plain())
    }

    /// True for the state of a systemd unit: several in a row share systemd's reading of them.
    pub fn is_unit(&self) -> bool {
        matches!(self, Self::Service(_) | Self::Unit(_))
    }

    /// The text that this resource writes as a whole file, if it does.
    pub fn content(&self) -> Option<&str> {
        match self {
            Self::File(file) => std::str::from_utf8(file.content.as_bytes()).ok(),
            Self::Unit(unit) => std::str::from_utf8(unit.content.as_bytes()).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_those_of_serde() {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        let resource: Resource =
            toml::from_str("[wait_for]\nport = 22\n").expect("a role writes the kind's name");
        assert_eq!(resource.kind(), "wait_for");
        for name in names {
            let error = toml::from_str::<Resource>(&format!("[{name}]\nno_such_key = 1\n"))
                .expect_err("unknown keys are refused")
                .to_string();
            assert!(error.contains("no_such_key"), "{name}: {error}");
        }
    }
}
