//! The layers of an archive: each a run of bytes that can be sent from any place on.

use super::bundle::{Bundle, BundleError};
use crate::resource::sha256;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use tar::{Archive, Header};

/// Bytes that are moved at once.
const PIECE: usize = 128 * 1024;

/// A layer as it is sent: of an image, or a file by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// What the image's configuration calls it: the digest of its content, unpacked.
    pub content: String,
    /// SHA-256 of the bytes that are sent, in hexadecimal.
    pub digest: String,
    /// How many these are.
    pub size: u64,
    /// The file that has them.
    pub file: PathBuf,
    /// Where in it they begin.
    pub offset: u64,
}

/// An image, ready to be sent layer by layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// What it was made of.
    pub bundle: Bundle,
    pub(super) layers: Vec<Layer>,
}

/// A part of what an engine is given to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A layer that the host has received: its digest and size.
    Layer(String, u64),
}

/// Finds the layers of an archive. Those of a packed archive are unpacked into `cache`, each packed
/// by itself, and stay there for the next time. Reads all of the archive.
///
/// # Errors
/// When it cannot be read, or lacks a layer.
pub fn open(bundle: &Bundle, cache: &Path) -> Result<Parcel, BundleError> {
    let failed = |reason: io::Error| BundleError::Unreadable {
        path: bundle.path.clone(),
        reason: reason.to_string(),
    };
    let wrong = |reason: String| BundleError::NoArchive { path: bundle.path.clone(), reason };
    let contents = contents(&bundle.config).map_err(wrong)?;
    if contents.len() != bundle.layers.len() {
        return Err(wrong(format!(
            "it has {} layers, and its configuration names {}",
            bundle.layers.len(),
            contents.len()
        )));
    }
    let wanted: HashMap<&str, &str> =
        bundle.layers.iter().map(String::as_str).zip(contents.iter().map(String::as_str)).collect();
    let packed = bundle.path.extension().is_some_and(|ending| ending == "gz");
    let found = if packed {
        from_cache(&contents, cache).map_or_else(|| unpack(bundle, &wanted, cache), Ok)
    } else {
        in_place(bundle, &wanted)
    };
    let found = found.map_err(failed)?;
    let layers = contents.into_iter().zip(&bundle.layers).map(|(content, path)| {
        found.get(&content).cloned().ok_or_else(|| wrong(format!("it lacks the layer {path}")))
    });
    Ok(Parcel { bundle: bundle.clone(), layers: layers.collect::<Result<_, _>>()? })
}

/// The digests of the layers' contents, hexadecimal, the lowest layer first.
fn contents(config: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<String>,
    }
    let config: Config = serde_json::from_slice(config)
        .map_err(|error| format!("its configuration cannot be read: {error}"))?;
    let digests = config.rootfs.diff_ids.into_iter().map(|digest| {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let sound = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        if sound { Ok(hex.to_owned()) } else { Err(format!("`{digest}` is no digest of a layer")) }
    });
    digests.collect()
}

type Layers = HashMap<String, Layer>;

/// The layers where they lie in an archive that is not packed.
fn in_place(bundle: &Bundle, wanted: &HashMap<&str, &str>) -> io::Result<Layers> {
    let mut layers = Layers::new();
    let mut archive = Archive::new(File::open(&bundle.path)?);
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let name = name_of(&entry.path()?);
        // Older engines write a layer that appears twice as a link to its first place.
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let Some(content) = wanted.get(name.as_str()) else { continue };
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let mut head = [0; 4];
        let read = entry.read(&mut head)?;
        let digest = if is_packed(&head[..read]) {
            let mut file = File::open(&bundle.path)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
            digest_of(&mut file.take(size))?
        } else {
            // The content as it is: its digest is known, and looked at on the host.
            (*content).to_owned()
        };
        let file = bundle.path.clone();
        let content = (*content).to_owned();
        layers.insert(content.clone(), Layer { content, digest, size, file, offset });
    }
    Ok(layers)
}

/// Unpacks the archive and packs each layer by itself.
fn unpack(bundle: &Bundle, wanted: &HashMap<&str, &str>, cache: &Path) -> io::Result<Layers> {
    fs::create_dir_all(cache)?;
    let mut layers = Layers::new();
    let mut archive =
        Archive::new(GzDecoder::new(BufReader::with_capacity(PIECE, File::open(&bundle.path)?)));
    for entry in archive.entries()? {
        let entry = entry?;
        let name = name_of(&entry.path()?);
        let Some(content) = wanted.get(name.as_str()).filter(|_| entry.size() > 0) else {
            continue;
        };
        let layer = keep(entry, content, cache)?;
        layers.insert((*content).to_owned(), layer);
    }
    Ok(layers)
}

/// Packs a layer into the cache: `<content>-<digest>.gz`.
fn keep(mut content: impl Read, name: &str, cache: &Path) -> io::Result<Layer> {
    let draft = cache.join(format!("{name}.{}", std::process::id()));
    let mut encoder = GzEncoder::new(File::create(&draft)?, Compression::fast());
    io::copy(&mut content, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    let mut file = File::open(&draft)?;
    let size = file.metadata()?.len();
    let digest = digest_of(&mut file)?;
    let path = cache.join(format!("{name}-{digest}.gz"));
    fs::rename(&draft, &path)?;
    Ok(Layer { content: name.to_owned(), digest, size, file: path, offset: 0 })
}

/// The layers that were unpacked before; `None` when one is not there.
fn from_cache(contents: &[String], cache: &Path) -> Option<Layers> {
    let mut layers = Layers::new();
    for entry in fs::read_dir(cache).ok()?.flatten() {
        let name = entry.file_name().into_string().ok()?;
        let parts = name.strip_suffix(".gz").and_then(|name| name.split_once('-'));
        let Some((content, digest)) = parts else { continue };
        if contents.iter().any(|wanted| wanted == content) {
            let (content, digest) = (content.to_owned(), digest.to_owned());
            let (file, size) = (entry.path(), entry.metadata().ok()?.len());
            layers.insert(content.clone(), Layer { content, digest, size, file, offset: 0 });
        }
    }
    contents.iter().all(|content| layers.contains_key(content)).then_some(layers)
}

fn name_of(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches("./").to_owned()
}

/// True for what begins like gzip, zstd, bzip2 or xz.
fn is_packed(head: &[u8]) -> bool {
    [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd], b"BZh", &[0xfd, b'7', b'z', b'X']]
        .iter()
        .any(|magic| head.starts_with(magic))
}

pub(super) fn digest_of(from: &mut impl Read) -> io::Result<String> {
    sha256(from, |_| Ok(()))
}

/// How many of an image's layers, from the lowest, an engine has whose images have these.
pub(super) fn shared(layers: &[Layer], images: &[Vec<String>]) -> usize {
    let same = |image: &Vec<String>| {
        let pairs = layers.iter().zip(image);
        pairs
            .take_while(|(layer, held)| held.strip_prefix("sha256:") == Some(&layer.content))
            .count()
    };
    images.iter().map(same).max().unwrap_or_default()
}

impl Parcel {
    /// The layers from this one on, each once.
    pub(super) fn layers_from(&self, first: usize) -> Vec<&Layer> {
        let mut seen = BTreeSet::new();
        self.layers.iter().skip(first).filter(|layer| seen.insert(&layer.content)).collect()
    }

    /// What an engine is given to load that has the layers below `first`: an archive as `docker
    /// save` makes it, without these. The engine does not look for layers that it has.
    pub(super) fn parts(&self, first: usize) -> io::Result<Vec<Part>> {
        let hex = self.bundle.id.strip_prefix("sha256:").unwrap_or(&self.bundle.id);
        let config = format!("{hex}.json");
        let place = |layer: &Layer| format!("{}/layer.tar", layer.content);
        let manifest = serde_json::json!([{
            "Config": config,
            "RepoTags": [self.bundle.image],
            "Layers": self.layers.iter().map(place).collect::<Vec<_>>(),
        }]);
        let mut bytes = Vec::new();
        for (name, content) in [
            ("manifest.json", manifest.to_string().into_bytes()),
            (&config, self.bundle.config.clone()),
        ] {
            bytes.write_all(header(name, content.len() as u64)?.as_bytes())?;
            bytes.extend_from_slice(&content);
            pad(&mut bytes, content.len() as u64);
        }
        let mut parts = Vec::new();
        for layer in self.layers_from(first) {
            bytes.write_all(header(&place(layer), layer.size)?.as_bytes())?;
            parts.push(Part::Bytes(std::mem::take(&mut bytes)));
            parts.push(Part::Layer(layer.digest.clone(), layer.size));
            pad(&mut bytes, layer.size);
        }
        bytes.extend([0; 1024]);
        parts.push(Part::Bytes(bytes));
        Ok(parts)
    }
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    Ok(header)
}

/// Files of an archive begin at multiples of 512 bytes.
fn pad(bytes: &mut Vec<u8>, size: u64) {
    let over = usize::try_from(size % 512).unwrap_or_default();
    if over > 0 {
        bytes.resize(bytes.len() + 512 - over, 0);
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
