//! What a lab consists of, and the checks that need no machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::{LabError, Result};
use super::release::Release;

/// The longest name of a host or balancer, in bytes.
const LONGEST_HOST_NAME: usize = 40;
/// The longest name of a lab, in bytes: the path of a socket has 107.
const LONGEST_LAB_NAME: usize = 24;
/// The ranges set aside for documentation: the only public addresses a lab may use.
pub(super) const DOCUMENTATION_RANGES: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24),
];
/// Names the lab keeps for itself.
const RESERVED: [&str; 2] = ["switch", "outside"];

/// What a lab consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// The host that gets the operator's private key.
    pub operator: String,
    /// The hosts.
    pub hosts: Vec<LabHost>,
    /// The load balancers that stand outside the fleet.
    pub balancers: Vec<LabBalancer>,
    /// The private network that hosts and balancers share.
    pub private_net: Ipv4Net,
    /// The Debian packages that hosts of every release must be able to install, without their
    /// dependencies.
    pub packages: Vec<String>,
    /// Further ones, which only hosts of these releases install.
    #[serde(default)]
    pub release_packages: BTreeMap<Release, Vec<String>>,
    /// Packages that every host has from its start, with what they need.
    #[serde(default)]
    pub preinstalled: Vec<String>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabHost {
    /// Its short name.
    pub name: String,
    /// Its fully qualified name.
    pub fqdn: String,
    /// Its address in the private network.
    pub private: Ipv4Addr,
    /// Its address on the public side, from a documentation range.
    pub public: Option<Ipv4Addr>,
    /// The release of Debian that it runs.
    #[serde(default)]
    pub release: Release,
}

/// One load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabBalancer {
    /// Its name.
    pub name: String,
    /// Its address in the private network.
    pub address: Ipv4Addr,
    /// What it listens on.
    pub listeners: Vec<Listener>,
}

/// One port of a balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The port that clients dial.
    pub port: u16,
    /// Where connections go.
    pub targets: Vec<(Ipv4Addr, u16)>,
    /// How targets prove that they may be used.
    pub check: HealthCheck,
}

/// How a balancer finds out whether a target is fit for use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthCheck {
    /// The target's port accepts a connection.
    Tcp,
    /// An HTTP request gets an answer of 2xx or 3xx.
    Http {
        /// The port asked.
        port: u16,
        /// The path asked for.
        path: String,
    },
}

impl LabSpec {
    /// Refuses what could not work: bad or duplicate names and addresses, a missing operator.
    ///
    /// # Errors
    /// [`LabError::InvalidSpec`] with the first contradiction.
    pub fn validate(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        let mut ports = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        let members = self
            .hosts
            .iter()
            .map(|host| (&host.name, host.private))
            .chain(self.balancers.iter().map(|lb| (&lb.name, lb.address)));
        for (name, private) in members {
            check_name(name, LONGEST_HOST_NAME, "host")?;
            if RESERVED.contains(&name.as_str()) {
                return invalid(format!("the name {name} is the lab's own"));
            }
            if !names.insert(name.as_str()) {
                return invalid(format!("the name {name} is used twice"));
            }
            if !ports.insert(short_name(name)) {
                return invalid(format!("the name {name} is too much like another one"));
            }
            if !self.private_net.contains(&private) {
                let net = self.private_net;
                return invalid(format!("{name} has {private}, which is outside {net}"));
            }
            if !addresses.insert(private) {
                return invalid(format!("the address {private} of {name} is used twice"));
            }
        }
        for host in &self.hosts {
            let Some(public) = host.public else { continue };
            if !DOCUMENTATION_RANGES.iter().any(|net| net.contains(&public)) {
                return invalid(format!(
                    "{} has the public address {public}, which is not from a documentation range",
                    host.name
                ));
            }
            if !addresses.insert(public) {
                return invalid(format!("the address {public} of {} is used twice", host.name));
            }
        }
        if self.host(&self.operator).is_none() {
            return invalid(format!("the operator host {} is not a host", self.operator));
        }
        let asked = self.packages.iter().chain(self.release_packages.values().flatten());
        for package in asked.chain(&self.preinstalled) {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.=:~".contains(&byte);
            if !package.starts_with(|first: char| first.is_ascii_alphanumeric())
                || !package.bytes().all(fits)
            {
                return invalid(format!("{package:?} is not a package name"));
            }
        }
        Ok(())
    }

    /// The packages that hosts of a release must be able to install.
    #[must_use]
    pub fn packages_of(&self, release: Release) -> Vec<String> {
        let own = self.release_packages.get(&release).into_iter().flatten();
        self.packages.iter().chain(own).chain(&self.preinstalled).cloned().collect()
    }

    /// The host of this name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&LabHost> {
        self.hosts.iter().find(|host| host.name == name)
    }
}

/// Refuses a lab name that could not be part of a path, a namespace and a cgroup.
pub(super) fn check_lab_name(name: &str) -> Result<()> {
    check_name(name, LONGEST_LAB_NAME, "lab")
}

fn check_name(name: &str, longest: usize, kind: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = name.starts_with('-') || name.ends_with('-');
    if name.is_empty() || name.len() > longest || edges || !name.bytes().all(fits) {
        return invalid(format!(
            "{name:?} cannot name a {kind}: use up to {longest} of a-z, 0-9 and -"
        ));
    }
    Ok(())
}

fn invalid<T>(reason: String) -> Result<T> {
    Err(LabError::InvalidSpec(reason))
}

/// A name of at most 13 bytes that stands for a longer one: two bytes are left of the 15 an
/// interface name may have.
pub(super) fn short_name(name: &str) -> String {
    if name.len() <= 13 {
        return name.to_owned();
    }
    let digest = digest([name]);
    format!("{}-{}", &name[..7], &digest[..5])
}

/// A digest of a list of words, in hexadecimal. Lengths are part of it, so that no two lists
/// share one text.
pub(super) fn digest<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let mut hash = Sha256::new();
    for word in words {
        let word = word.as_ref().as_bytes();
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LabSpec {
        let host = |name: &str, last| LabHost {
            name: name.to_owned(),
            fqdn: format!("{name}.example.test"),
            private: Ipv4Addr::new(10, 0, 0, last),
            public: Some(Ipv4Addr::new(192, 0, 2, last)),
            release: Release::default(),
        };
        LabSpec {
            operator: "install-01".to_owned(),
            hosts: vec![host("install-01", 250), host("redis-01", 123)],
            balancers: Vec::new(),
            private_net: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 16),
            packages: vec!["chrony".to_owned(), "libstdc++6".to_owned()],
            release_packages: BTreeMap::from([(Release::Trixie, vec!["docker-cli".to_owned()])]),
            preinstalled: Vec::new(),
        }
    }

    fn refusal(change: impl FnOnce(&mut LabSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        spec.validate().unwrap_err().to_string()
    }

    #[test]
    fn each_release_has_its_own_packages_besides() {
        let spec = spec();
        assert_eq!(spec.packages_of(Release::Bookworm), ["chrony", "libstdc++6"]);
        assert_eq!(spec.packages_of(Release::Trixie), ["chrony", "libstdc++6", "docker-cli"]);
    }

    #[test]
    fn what_is_there_from_the_start_comes_from_the_repository_too() {
        let mut spec = spec();
        spec.preinstalled.push("jq".to_owned());
        assert_eq!(spec.packages_of(Release::Bookworm), ["chrony", "libstdc++6", "jq"]);
        assert!(refusal(|spec| spec.preinstalled.push("-o=x".into())).contains("package name"));
    }

    #[test]
    fn a_sound_spec_is_accepted() {
        spec().validate().unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(refusal(|s| s.hosts[1].private = s.hosts[0].private).contains("used twice"));
        assert!(refusal(|s| s.hosts[1].public = s.hosts[0].public).contains("used twice"));
        assert!(refusal(|s| s.hosts[1].name = "install-01".into()).contains("used twice"));
        assert!(refusal(|s| s.hosts[1].name = "../etc".into()).contains("cannot name"));
        assert!(refusal(|s| s.hosts[1].name = "outside".into()).contains("the lab's own"));
        assert!(refusal(|s| s.hosts[1].private = [11, 0, 0, 1].into()).contains("outside"));
        assert!(
            refusal(|s| s.hosts[1].public = Some([8, 8, 8, 8].into())).contains("documentation")
        );
        assert!(refusal(|s| s.operator = "x".into()).contains("not a host"));
        assert!(refusal(|s| s.packages.push("-o=x".into())).contains("package name"));
        let other = |s: &mut LabSpec| {
            s.release_packages.insert(Release::Trixie, vec!["-o=x".into()]);
        };
        assert!(refusal(other).contains("package name"));
    }

    #[test]
    fn short_names_fit_and_differ() {
        assert_eq!(short_name("redis-01"), "redis-01");
        let one = short_name("a-very-long-host-name-01");
        let two = short_name("a-very-long-host-name-02");
        assert!(one.len() <= 13 && two.len() <= 13);
        assert_ne!(one, two);
    }

    #[test]
    fn digests_keep_the_borders_of_words() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        assert_eq!(digest(["ab", "c"]), digest(["ab", "c"]));
    }

    #[test]
    fn lab_names() {
        check_lab_name("default").unwrap();
        for bad in ["", "a.b", "A", "-a", "a_b", "a-name-that-is-much-too-long"] {
            check_lab_name(bad).unwrap_err();
        }
    }
}
