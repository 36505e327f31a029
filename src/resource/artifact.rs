//! A large file that the site carries, known by its digest.

use super::container_spec::short;
use super::converge::{Converge, Progress};
use super::file::make_parents;
use super::mode::FileMode;
use super::outcome::{Change, Failure};
use super::ownership::{Ownership, root};
use super::sha256::is_sha256;
use super::system::{BlobPlace, Metadata, PathKind, System};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};

/// A program or archive that is too large for a template: a file below the site's `artifacts/`,
/// known by its digest. strata brings it to the hosts that lack it before it changes anything
/// there: packed, once for each host, further from where a link broke.
///
/// ```toml
/// artifact = { path = "/usr/local/bin/k3s", source = "k3s-v1.30.4", sha256 = "b2ca4a3c5d4cd2b1ae3dbc9e3e7a1ec0d0b9c3e0a5f0d8b1f3c0a2b4c6d8e0f1" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Where it is to be on the host, absolute.
    pub path: String,
    /// The file's path below the site's `artifacts/`.
    pub source: String,
    /// SHA-256 of its content, 64 hexadecimal digits in lower case.
    pub sha256: String,
    /// Permission bits as an octal string. Default: `"0755"`.
    #[serde(default = "default_mode")]
    pub mode: FileMode,
    /// Owner, a name or a number. Default: `"root"`.
    #[serde(default = "root")]
    pub owner: String,
    /// Group, a name or a number. Default: `"root"`.
    #[serde(default = "root")]
    pub group: String,
}

fn default_mode() -> FileMode {
    FileMode::new(0o755)
}

/// What was found at the path.
#[derive(Debug)]
pub struct ArtifactFound {
    metadata: Option<Metadata>,
    /// Digest of a regular file's content.
    digest: Option<String>,
    ownership: Ownership,
}

/// True for a path that stays below the directory it is taken from.
fn stays_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl Converge for Artifact {
    type Found = ArtifactFound;

    fn validate(&self) -> Vec<Problem> {
        Rules::new()
            .path_below_root("path", &self.path)
            .account("owner", &self.owner)
            .account("group", &self.group)
            .that(stays_below(&self.source), || {
                Problem::new("source", "must be the path of a file below `artifacts/`")
                    .hint("for example \"k3s-v1.30.4\": no `/` at its beginning, no `..` in it")
            })
            .that(is_sha256(&self.sha256), || {
                Problem::new("sha256", "must be 64 hexadecimal digits in lower case")
                    .hint("`sha256sum artifacts/FILE` prints them")
            })
            .that(self.mode.bits() & 0o6000 == 0 || self.mode.bits() & 0o022 == 0, || {
                Problem::new("mode", "a set-id file must not be writable for group or others")
            })
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<ArtifactFound, Failure> {
        let metadata = system.metadata(&self.path)?;
        let digest = match metadata.map(|metadata| metadata.kind) {
            Some(PathKind::File) => system.digest(&self.path, &self.sha256)?,
            _ => None,
        };
        let ownership = Ownership::find(&self.owner, &self.group, metadata.as_ref(), system)?;
        Ok(ArtifactFound { metadata, digest, ownership })
    }

    fn compare(&self, found: &ArtifactFound) -> Vec<Change> {
        let wanted = Some(short(&self.sha256));
        let Some(metadata) = &found.metadata else {
            return vec![Change::new("content", None, wanted)];
        };
        if metadata.kind != PathKind::File {
            let was = metadata.kind.name().to_owned();
            return vec![Change::new("type", Some(was), Some("file".to_owned()))];
        }
        let mut changes = found.ownership.compare(self.mode, metadata);
        if found.digest.as_ref() != Some(&self.sha256) {
            changes.push(Change::new("content", found.digest.as_deref().map(short), wanted));
        }
        changes
    }

    fn apply(
        &self,
        found: &ArtifactFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        match &found.metadata {
            Some(metadata) if metadata.kind == PathKind::Directory => {
                return Err(Failure::new(format!("{} is a directory", self.path))
                    .hint("move it away by hand: a directory is never replaced by a file"));
            }
            Some(metadata) if found.digest.as_ref() == Some(&self.sha256) => {
                return found.ownership.apply(&self.path, self.mode, metadata, system);
            }
            Some(_) => {}
            None => make_parents(&self.path, system)?,
        }
        let (uid, gid) = found.ownership.ids()?;
        system.place_blob(&BlobPlace {
            digest: &self.sha256,
            path: &self.path,
            mode: self.mode.bits(),
            uid,
            gid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_host::{Host, resource};
    use crate::resource::{Outcome, Resource};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    /// SHA-256 of `k3s`.
    const DIGEST: &str = "6cf5f9ea9b9a7e0dcf8fd1ff35fa2ee6d6c5d6c8c1a8a4b3e4e2dd1fd7cbd7a5";

    fn wanted(digest: &str) -> Resource {
        resource(&format!(
            "[artifact]\npath = \"/usr/local/bin/k3s\"\nsource = \"k3s\"\nsha256 = \"{digest}\"\n"
        ))
    }

    fn digest_of(content: &str) -> String {
        use sha2::{Digest as _, Sha256};
        Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn brought(host: &mut Host, content: &str) -> String {
        let digest = digest_of(content);
        fs::create_dir_all(host.path("/var/lib/strata/blobs")).unwrap();
        fs::write(host.path(&format!("/var/lib/strata/blobs/{digest}")), content).unwrap();
        digest
    }

    #[test]
    fn what_was_brought_gets_its_place_once() {
        let mut host = Host::new();
        let digest = brought(&mut host, "k3s");
        let artifact = wanted(&digest);
        assert!(matches!(host.apply(&artifact), Outcome::Changed(_)));
        let path = host.path("/usr/local/bin/k3s");
        assert_eq!(fs::read_to_string(&path).unwrap(), "k3s");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(!host.path(&format!("/var/lib/strata/blobs/{digest}")).exists(), "it is used up");
        assert!(matches!(host.apply(&artifact), Outcome::Unchanged));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        // Only the mode: the content need not be brought again.
        assert!(matches!(host.apply(&artifact), Outcome::Changed(_)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn two_places_want_what_was_brought_once() {
        let mut host = Host::new();
        let digest = brought(&mut host, "k3s");
        let links = "[artifact]\npath = \"/opt/links\"\nsource = \"k3s\"\nmode = \"0700\"\n";
        let second = resource(&format!("{links}sha256 = \"{digest}\"\n"));
        for artifact in [&wanted(&digest), &second] {
            assert!(matches!(host.apply(artifact), Outcome::Changed(_)));
            assert!(matches!(host.apply(artifact), Outcome::Unchanged));
        }
        let modes = ["/usr/local/bin/k3s", "/opt/links"]
            .map(|path| fs::metadata(host.path(path)).unwrap().permissions().mode() & 0o7777);
        assert_eq!(modes, [0o755, 0o700], "two files, each with its own mode");
    }

    #[test]
    fn what_was_not_brought_is_said_and_the_old_file_stays() {
        let mut host = Host::new();
        fs::create_dir_all(host.path("/usr/local/bin")).unwrap();
        fs::write(host.path("/usr/local/bin/k3s"), "old").unwrap();
        let Outcome::Failed(failure) = host.apply(&wanted(DIGEST)) else { panic!("it must fail") };
        assert!(failure.message.contains("was not brought"), "{failure:?}");
        assert_eq!(fs::read_to_string(host.path("/usr/local/bin/k3s")).unwrap(), "old");
    }

    #[test]
    fn what_became_another_on_the_host_is_not_placed() {
        let mut host = Host::new();
        let digest = brought(&mut host, "k3s");
        fs::write(host.path(&format!("/var/lib/strata/blobs/{digest}")), "k2s").unwrap();
        let Outcome::Failed(failure) = host.apply(&wanted(&digest)) else { panic!("it must fail") };
        assert!(failure.message.contains("has the digest"), "{failure:?}");
        assert!(!host.path("/usr/local/bin/k3s").exists());
    }

    #[test]
    fn a_source_stays_below_its_folder_and_a_digest_is_one() {
        for (source, digest, sound) in [
            ("k3s", DIGEST, true),
            ("v1/k3s", DIGEST, true),
            ("../k3s", DIGEST, false),
            ("/k3s", DIGEST, false),
            ("", DIGEST, false),
            ("k3s", "ABC", false),
        ] {
            let text = format!(
                "[artifact]\npath = \"/usr/local/bin/k3s\"\nsource = \"{source}\"\nsha256 = \"{digest}\"\n"
            );
            assert_eq!(resource(&text).validate().is_empty(), sound, "{source} {digest}");
        }
    }
}
