//! The managed entries of `/etc/hosts`.

use super::converge::{Converge, Progress};
use super::edited::Edited;
use super::outcome::{Change, Failure};
use super::system::System;
use super::text::{Markers, Place, bare, with_block};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The managed block of `/etc/hosts`. Names in it are taken out of a `127.0.1.1` line, where
/// installers put a host's own name: a cluster member must know itself by the address that its
/// peers use.
///
/// ```toml
/// hosts = { entries = [{ address = "10.0.0.120", names = ["db-01", "db-01.keybuzz.io"] }] }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// The entries, in order.
    pub entries: Vec<HostsEntry>,
}

/// One address with its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsEntry {
    /// IPv4 or IPv6 address, for example `"10.0.0.120"`.
    pub address: IpAddr,
    /// Host names, the canonical one first.
    pub names: Vec<String>,
}

const PATH: &str = "/etc/hosts";

impl Hosts {
    fn block(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            text.push_str(&format!("{}\t{}\n", entry.address, entry.names.join(" ")));
        }
        text
    }

    fn edit(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let names: BTreeSet<&str> =
            self.entries.iter().flat_map(|entry| &entry.names).map(String::as_str).collect();
        let mut result = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match without_names(bare(line), &names) {
                Own::Untouched => result.extend_from_slice(line),
                Own::Without(rest) => {
                    result.extend_from_slice(rest.as_bytes());
                    result.extend_from_slice(&line[bare(line).len()..]);
                }
                Own::Gone => {}
            }
        }
        with_block(&result, &Markers::new("#", "hosts"), Some(self.block().as_bytes()), Place::End)
    }
}

enum Own {
    Untouched,
    Without(String),
    Gone,
}

fn without_names(line: &[u8], names: &BTreeSet<&str>) -> Own {
    let Ok(line) = std::str::from_utf8(line) else {
        return Own::Untouched;
    };
    let (entry, comment) = match line.split_once('#') {
        Some((entry, comment)) => (entry, Some(comment)),
        None => (line, None),
    };
    let mut words = entry.split_ascii_whitespace();
    if words.next() != Some("127.0.1.1") {
        return Own::Untouched;
    }
    let words: Vec<&str> = words.collect();
    let rest: Vec<&str> = words.iter().copied().filter(|name| !names.contains(name)).collect();
    match (rest.len() == words.len(), rest.is_empty(), comment) {
        (true, _, _) => Own::Untouched,
        (false, true, None) => Own::Gone,
        (false, true, Some(comment)) => Own::Without(format!("#{comment}")),
        (false, false, None) => Own::Without(format!("127.0.1.1\t{}", rest.join(" "))),
        (false, false, Some(comment)) => {
            Own::Without(format!("127.0.1.1\t{} #{comment}", rest.join(" ")))
        }
    }
}

impl Converge for Hosts {
    type Found = Edited;

    fn validate(&self) -> Vec<Problem> {
        let mut rules = Rules::new();
        let mut seen = BTreeSet::new();
        for entry in &self.entries {
            rules = rules.that(!entry.names.is_empty(), || {
                Problem::new("entries", format!("{} has no names", entry.address))
            });
            for name in &entry.names {
                rules = rules.name("entries", name, "-.").that(seen.insert(name), || {
                    Problem::new("entries", format!("`{name}` stands at two addresses"))
                });
            }
        }
        rules.done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Edited, Failure> {
        Edited::find(PATH, system, |text| self.edit(text))
    }

    fn shown_files(&self) -> Vec<String> {
        vec![PATH.to_owned()]
    }

    fn compare(&self, found: &Edited) -> Vec<Change> {
        found.compare("entries", Some(format!("{} addresses", self.entries.len())))
    }

    fn apply(
        &self,
        found: &Edited,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        found.apply(PATH, None, system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted() -> Hosts {
        toml::from_str(
            "entries = [{ address='10.0.0.1', names=['db-01','db-01.example'] }, { address='10.0.0.2', names=['db-02'] }]",
        )
        .unwrap()
    }

    #[test]
    fn own_name_leaves_127_0_1_1() {
        let block = "# BEGIN strata hosts\n10.0.0.1\tdb-01 db-01.example\n10.0.0.2\tdb-02\n# END strata hosts\n";
        for (before, kept) in [
            ("127.0.0.1 localhost\n127.0.1.1 db-01.example db-01\n", "127.0.0.1 localhost\n"),
            ("127.0.1.1 other db-01 # by the installer\n", "127.0.1.1\tother # by the installer\n"),
            ("127.0.1.1 other\n", "127.0.1.1 other\n"),
            ("#127.0.1.1 db-01\n", "#127.0.1.1 db-01\n"),
        ] {
            let after = wanted().edit(before.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(after).unwrap(), format!("{kept}{block}"), "{before}");
        }
    }

    proptest! {
        #[test]
        fn idempotent_and_keeps_foreign_lines(
            lines in proptest::collection::vec("(127\\.0\\.[01]\\.1|#|::1|10\\.9\\.9\\.9)[ \t](db-0[12] ?|x ?|é ?){0,3}", 0..8),
            crlf: bool,
        ) {
            let text = lines.join(if crlf { "\r\n" } else { "\n" }).into_bytes();
            let once = wanted().edit(&text).unwrap();
            prop_assert_eq!(&wanted().edit(&once).unwrap(), &once);
            let foreign = |text: &[u8]| -> Vec<Vec<u8>> {
                text.split(|byte| *byte == b'\n')
                    .map(bare)
                    .filter(|line| !line.starts_with(b"127.0.1.1") && !line.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect()
            };
            let kept = foreign(&once);
            for line in foreign(&text) {
                prop_assert!(kept.contains(&line));
            }
        }
    }
}
