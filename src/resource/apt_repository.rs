//! A package source with its signing key.

use super::apt;
use super::content::Content;
use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{FileWrite, System, read_text};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A package source in deb822 form, `/etc/apt/sources.list.d/NAME.sources`, and its key,
/// `/etc/apt/keyrings/NAME.asc`. The lists are read again after a change.
///
/// ```toml
/// apt_repository = { name = "vendor", content = "Types: deb\nURIs: https://packages.example.org/debian\nSuites: bookworm\nComponents: main\nSigned-By: /etc/apt/keyrings/vendor.asc\n", key = "-----BEGIN PGP…" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AptRepository {
    /// Name of the files, for example `"vendor"`.
    pub name: String,
    /// The source in deb822 form. Not needed with `state = "absent"`.
    #[serde(default)]
    pub content: Content,
    /// The armored public key that signs it; `Signed-By` of the source must name its file.
    #[serde(default)]
    pub key: Option<Content>,
    /// `"present"` (default) or `"absent"`.
    #[serde(default)]
    pub state: Presence,
}

/// The files found.
#[derive(Debug)]
pub struct RepositoryFound {
    source: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    /// The lists of a changed source have not been read yet.
    unread: bool,
}

/// A file here means: a source changed and the lists have not been read since.
const UNREAD: &str = "/etc/apt/sources.list.d/strata-unread.disabled";

impl AptRepository {
    /// The files that belong to it.
    pub(super) fn paths(&self) -> [String; 2] {
        [self.source_path(), self.key_path()]
    }

    fn source_path(&self) -> String {
        format!("/etc/apt/sources.list.d/{}.sources", self.name)
    }

    fn key_path(&self) -> String {
        format!("/etc/apt/keyrings/{}.asc", self.name)
    }

    fn parts<'a>(&'a self, found: &'a RepositoryFound) -> [Part<'a>; 2] {
        let present = self.state == Presence::Present;
        let source = present.then_some(self.content.as_bytes());
        let key = self.key.as_ref().filter(|_| present).map(Content::as_bytes);
        [
            Part { what: "key", path: self.key_path(), found: found.key.as_deref(), wanted: key },
            Part {
                what: "source",
                path: self.source_path(),
                found: found.source.as_deref(),
                wanted: source,
            },
        ]
    }
}

struct Part<'a> {
    what: &'static str,
    path: String,
    found: Option<&'a [u8]>,
    wanted: Option<&'a [u8]>,
}

impl Converge for AptRepository {
    type Found = RepositoryFound;

    fn validate(&self) -> Vec<Problem> {
        let text = String::from_utf8_lossy(self.content.as_bytes());
        let has = |field: &str| text.lines().any(|line| line.starts_with(field));
        let present = self.state == Presence::Present;
        let mut rules = Rules::new().name("name", &self.name, "-_");
        if present {
            for field in ["Types:", "URIs:", "Suites:"] {
                rules = rules.that(has(field), || {
                    Problem::new("content", format!("has no `{field}` line"))
                        .hint("write the source in deb822 form, see sources.list(5)")
                });
            }
            rules = rules.that(self.key.is_none() || text.contains(&self.key_path()), || {
                Problem::new("key", "the source does not use the key")
                    .hint(format!("add `Signed-By: {}`", self.key_path()))
            });
        }
        rules.done()
    }

    fn find(&self, system: &mut dyn System) -> Result<RepositoryFound, Failure> {
        Ok(RepositoryFound {
            source: read_text(system, &self.source_path())?,
            key: read_text(system, &self.key_path())?,
            unread: system.metadata(UNREAD)?.is_some(),
        })
    }

    fn shown_files(&self) -> Vec<String> {
        self.paths().into()
    }

    fn compare(&self, found: &RepositoryFound) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .parts(found)
            .into_iter()
            .filter(|part| part.found != part.wanted)
            .map(|part| {
                let size = |bytes: &[u8]| format!("{} bytes", bytes.len());
                Change {
                    before: part.found.map(<[u8]>::to_vec),
                    ..Change::new(part.what, part.found.map(size), part.wanted.map(size))
                }
            })
            .collect();
        if changes.is_empty() && found.unread {
            changes.push(Change::new("lists", Some("unread".into()), Some("read".into())));
        }
        changes
    }

    fn apply(
        &self,
        found: &RepositoryFound,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        system.write(&FileWrite { keep: false, ..FileWrite::of_root(UNREAD, b"") })?;
        for part in self.parts(found) {
            match part.wanted {
                _ if part.found == part.wanted => {}
                Some(content) => {
                    if part.what == "key" && system.metadata("/etc/apt/keyrings")?.is_none() {
                        system.make_directory("/etc/apt/keyrings", 0o755, 0, 0)?;
                    }
                    system.write(&FileWrite::of_root(&part.path, content))?;
                }
                None => system.remove_file(&part.path, true)?,
            }
        }
        apt::wait_for_locks(system, Duration::from_secs(300), progress)?;
        apt::update(system, Duration::from_secs(600), progress)?;
        system.remove_file(UNREAD, false)
    }
}
