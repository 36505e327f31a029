//! Archives of images: where they are, and what is inside.

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Largest file of an archive that can be its manifest or an image's configuration; layers are
/// passed over.
const DOCUMENT_LIMIT: u64 = 4 * 1024 * 1024;

/// An archive that holds one image under the wanted name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The image's name, repository and tag.
    pub image: String,
    /// Its id: `sha256:` and the digest of its configuration.
    pub id: String,
    /// The archive.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The configuration, whose digest the id is.
    pub(super) config: Vec<u8>,
    /// Paths of the layers in the archive, the lowest first.
    pub(super) layers: Vec<String>,
}

/// Why an archive cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read to its end.
    #[error("the archive {path} cannot be read: {reason}", path = path.display())]
    Unreadable {
        /// The archive.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is none of `docker save`, or not as it was made.
    #[error("{path} is no archive of images: {reason}", path = path.display())]
    NoArchive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It holds other images than its name says.
    #[error("the archive {path} does not hold {image}, but {}", list(tags), path = path.display())]
    OtherImage {
        /// The archive.
        path: PathBuf,
        /// The image that its name stands for.
        image: String,
        /// What it holds.
        tags: Vec<String>,
    },
    /// The archive is there packed and unpacked.
    #[error("two archives stand for {image}: {} and {}", first.display(), second.display())]
    Twice {
        /// The image.
        image: String,
        /// One archive.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

fn list(tags: &[String]) -> String {
    if tags.is_empty() { "an image without a name".to_owned() } else { tags.join(", ") }
}

impl BundleError {
    /// What the operator can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { .. } | Self::NoArchive { .. } => {
                "make it again with `docker save IMAGE | gzip`, where the image is".to_owned()
            }
            Self::OtherImage { image, .. } => format!("make it again with `docker save {image}`"),
            Self::Twice { .. } => "remove the one that is out of date".to_owned(),
        }
    }
}

/// What the archive of an image may be called: `/` and `:` of the name replaced by `_`, then
/// `.tar.gz` or `.tar`.
pub fn file_names(image: &str) -> [String; 2] {
    let stem = image.replace(['/', ':'], "_");
    [format!("{stem}.tar.gz"), format!("{stem}.tar")]
}

/// The archive of an image in a directory; `None` where there is none. Reads all of it, so it does
/// not belong on a thread that serves others.
///
/// # Errors
/// When the archive cannot be read, or holds something else.
pub fn find(directory: &Path, image: &str) -> Result<Option<Bundle>, BundleError> {
    let mut there =
        file_names(image).map(|name| directory.join(name)).into_iter().filter(|path| path.exists());
    let Some(path) = there.next() else { return Ok(None) };
    if let Some(second) = there.next() {
        return Err(BundleError::Twice { image: image.to_owned(), first: path, second });
    }
    let unreadable = |error: io::Error| BundleError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    };
    let file = File::open(&path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let packed = path.extension().is_some_and(|ending| ending == "gz");
    let reader = BufReader::new(file);
    let held = if packed { read(GzDecoder::new(reader)) } else { read(reader) };
    let held = held.map_err(|why| match why {
        Why::Io(error) => unreadable(error),
        Why::Content(reason) => BundleError::NoArchive { path: path.clone(), reason },
    })?;
    match held.iter().find(|held| held.tags.iter().any(|tag| tag == image)) {
        Some(held) => {
            let (image, id) = (image.to_owned(), held.id.clone());
            let (config, layers) = (held.config.clone(), held.layers.clone());
            Ok(Some(Bundle { image, id, path, size, config, layers }))
        }
        None => Err(BundleError::OtherImage {
            path,
            image: image.to_owned(),
            tags: held.into_iter().flat_map(|held| held.tags).collect(),
        }),
    }
}

/// One image of an archive.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    id: String,
    tags: Vec<String>,
    config: Vec<u8>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
}

#[derive(Debug)]
enum Why {
    Io(io::Error),
    Content(String),
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The images of an archive. An id is computed and not believed: a damaged or edited
/// configuration is found here and not on a host. Reading ends as soon as all is known, so that an
/// archive which begins with its documents costs no more than these.
fn read(from: impl Read) -> Result<Vec<Held>, Why> {
    let mut manifest: Option<Vec<Entry>> = None;
    let mut digests: HashMap<String, (String, Vec<u8>)> = HashMap::new();
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() || entry.size() > DOCUMENT_LIMIT {
            continue;
        }
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if name == "manifest.json" {
            manifest = Some(serde_json::from_slice(&bytes).map_err(|error| {
                Why::Content(format!("its manifest.json cannot be read: {error}"))
            })?);
        } else {
            let digest = Sha256::digest(&bytes);
            let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            digests.insert(name, (hex, bytes));
        }
        let known = |entry: &Entry| digests.contains_key(&entry.config);
        if manifest.as_ref().is_some_and(|entries| entries.iter().all(known)) {
            break;
        }
    }
    let entries = manifest.ok_or_else(|| Why::Content("it has no manifest.json".to_owned()))?;
    entries
        .into_iter()
        .map(|entry| {
            let Some((hex, config)) = digests.get(&entry.config) else {
                return Err(Why::Content(format!("it lacks the configuration {}", entry.config)));
            };
            let name = entry.config.rsplit('/').next().unwrap_or_default();
            if name.strip_suffix(".json").unwrap_or(name) != hex {
                return Err(Why::Content(format!(
                    "its configuration {} has the digest {hex}",
                    entry.config
                )));
            }
            Ok(Held {
                id: format!("sha256:{hex}"),
                tags: entry.tags.unwrap_or_default(),
                config: config.clone(),
                layers: entry.layers.unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write;

    const CONFIG: &[u8] = b"{\"architecture\":\"amd64\",\"rootfs\":{}}";

    fn hex(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn saved(config: &str, tags: &str) -> Vec<u8> {
        let manifest = format!("[{{\"Config\":\"{config}\",\"RepoTags\":{tags},\"Layers\":[]}}]");
        let layer = vec![0; 9000];
        archive(&[
            ("0/layer.tar", &layer),
            (config, CONFIG),
            ("manifest.json", manifest.as_bytes()),
        ])
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn an_archive_is_found_by_the_images_name() {
        assert_eq!(
            file_names("strata.lab/redis:7.0.15"),
            ["strata.lab_redis_7.0.15.tar.gz", "strata.lab_redis_7.0.15.tar"]
        );
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(folder.path(), "a/b:1"), Ok(None));
        // Of an old engine and of a new one.
        for config in [format!("{}.json", hex(CONFIG)), format!("blobs/sha256/{}", hex(CONFIG))] {
            let bytes = saved(&config, "[\"x:1\",\"a/b:1\"]");
            for (name, bytes) in [("a_b_1.tar", bytes.clone()), ("a_b_1.tar.gz", packed(&bytes))] {
                let path = folder.path().join(name);
                fs::write(&path, &bytes).unwrap();
                let bundle = find(folder.path(), "a/b:1").unwrap().unwrap();
                assert_eq!(bundle.id, format!("sha256:{}", hex(CONFIG)));
                assert_eq!((&bundle.path, bundle.size), (&path, bytes.len() as u64));
                fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let config = format!("{}.json", hex(CONFIG));
        let good = saved(&config, "[\"a:1\"]");
        for (bytes, words) in [
            (saved(&config, "[\"b:1\"]"), "does not hold a:1, but b:1"),
            (saved(&config, "null"), "an image without a name"),
            (saved("0123.json", "[\"a:1\"]"), "has the digest"),
            (
                archive(&[("manifest.json", b"[{\"Config\":\"x\",\"RepoTags\":[\"a:1\"]}]")]),
                "lacks",
            ),
            (archive(&[("manifest.json", b"{")]), "manifest.json cannot be read"),
            (archive(&[("bin/sh", b"x")]), "no manifest.json"),
            (good[..good.len() / 2].to_vec(), "a_1.tar"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("a_1.tar"), bytes).unwrap();
            let error = find(folder.path(), "a:1").unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(!error.hint().is_empty());
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a_1.tar"), &good).unwrap();
        fs::write(folder.path().join("a_1.tar.gz"), packed(&good)).unwrap();
        assert!(matches!(find(folder.path(), "a:1"), Err(BundleError::Twice { .. })));
    }

    proptest! {
        #[test]
        fn no_archive_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            read(&bytes[..]).ok();
            read(GzDecoder::new(&bytes[..])).ok();
        }
    }
}
