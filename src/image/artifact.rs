//! Large files of the site on their way to hosts: packed once, sent to each host that lacks them.

use super::delivery::{DeliveryError, QUICK, Receiver, SentBytes};
use super::layers::{Layer, digest_of};
use crate::ssh::AgentSession;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How strongly they are packed: as fast as the link of most sites.
const LEVEL: i32 = 3;

/// A file that a host is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Its path on the host.
    pub path: String,
    /// The file of the site.
    pub file: SiteFile,
}

/// A file of the site, known by its digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteFile {
    /// Where it is on the operator host.
    pub place: PathBuf,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
}

/// A file, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// What it was made of.
    pub file: SiteFile,
    /// The file's length in bytes.
    length: u64,
    /// What is sent.
    layer: Layer,
}

/// Packs a file into `cache`, where it stays for the next time; what cannot be packed is sent as it
/// is. Reads all of it, so it does not belong on a thread that serves others.
///
/// # Errors
/// When it cannot be read, or has another digest.
pub fn pack(file: &SiteFile, cache: &Path) -> Result<Packed, String> {
    let failed = |error: io::Error| format!("{}: {error}", file.place.display());
    let mut content = File::open(&file.place).map_err(failed)?;
    let length = content.metadata().map_err(failed)?.len();
    let layer = match from_cache(&file.sha256, cache) {
        Some(layer) => layer,
        None => {
            let found = digest_of(&mut content).map_err(failed)?;
            if found != file.sha256 {
                let (place, wanted) = (file.place.display(), &file.sha256);
                return Err(format!("{place} has the digest {found}, wanted {wanted}"));
            }
            keep(file, cache).map_err(failed)?
        }
    };
    Ok(Packed { file: file.clone(), length, layer })
}

/// `<content>-<digest>.zst`; where packing spares less than a sixteenth the file itself, which
/// `<content>.plain` remembers.
fn keep(file: &SiteFile, cache: &Path) -> io::Result<Layer> {
    let plain = cache.join(format!("{}.plain", file.sha256));
    let as_it_is = || layer(&file.sha256, &file.sha256, file.place.clone());
    if plain.exists() {
        return as_it_is();
    }
    fs::create_dir_all(cache)?;
    let draft = cache.join(format!("{}.{}", file.sha256, std::process::id()));
    let mut encoder = zstd::Encoder::new(File::create(&draft)?, LEVEL)?;
    io::copy(&mut File::open(&file.place)?, &mut encoder)?;
    let packed = encoder.finish()?;
    let (size, length) = (packed.metadata()?.len(), fs::metadata(&file.place)?.len());
    if size > length - length / 16 {
        packed.set_len(0)?;
        fs::rename(&draft, plain)?;
        return as_it_is();
    }
    packed.sync_all()?;
    let digest = digest_of(&mut File::open(&draft)?)?;
    let path = cache.join(format!("{}-{digest}.zst", file.sha256));
    fs::rename(&draft, &path)?;
    layer(&file.sha256, &digest, path)
}

fn from_cache(content: &str, cache: &Path) -> Option<Layer> {
    fs::read_dir(cache).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (held, digest) = name.strip_suffix(".zst")?.split_once('-')?;
        (held == content).then(|| layer(content, digest, entry.path()).ok()).flatten()
    })
}

fn layer(content: &str, digest: &str, file: PathBuf) -> io::Result<Layer> {
    let size = fs::metadata(&file)?.len();
    let (content, digest) = (content.to_owned(), digest.to_owned());
    Ok(Layer { content, digest, size, file, offset: 0 })
}

/// Which of these files a host lacks at their places.
///
/// # Errors
/// See [`DeliveryError`].
pub async fn lacking(
    session: &AgentSession,
    wanted: &[WantedFile],
) -> Result<Vec<SiteFile>, DeliveryError> {
    let mut host = Receiver::start(session).await?;
    let mut lacking = Vec::new();
    for WantedFile { path, file } in wanted {
        if !host.has(path, &file.sha256).await? && !lacking.contains(file) {
            lacking.push(file.clone());
        }
    }
    Ok(lacking)
}

/// Sends a file to a host, which keeps it until it gets its place.
///
/// # Errors
/// See [`DeliveryError`]; what has arrived stays on the host for the next attempt.
pub(super) async fn send(
    session: &AgentSession,
    packed: &Arc<Packed>,
    sent: &SentBytes,
) -> Result<(), DeliveryError> {
    let mut host = Receiver::start(session).await?;
    let (layer, length) = (&packed.layer, packed.length);
    let held = host.ask(&format!("have {} {length}\n", layer.content), QUICK).await?;
    if held == length.to_string() {
        return Ok(());
    }
    host.receive(layer, sent).await?;
    match layer.digest == layer.content {
        true => Ok(()),
        false => host.unpack(layer, length).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256_of(number: u32) -> Vec<u8> {
        use sha2::Digest as _;
        sha2::Sha256::digest(number.to_le_bytes()).to_vec()
    }

    #[test]
    fn a_file_is_packed_once_and_refused_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("k3s");
        let content = b"the same word ".repeat(1000);
        fs::write(&place, &content).unwrap();
        let sha256 = digest_of(&mut &content[..]).unwrap();
        let file = SiteFile { place: place.clone(), sha256 };
        let cache = folder.path().join("cache");
        let packed = pack(&file, &cache).unwrap();
        assert!(packed.layer.size < packed.length && packed.length == content.len() as u64);
        let unpacked = zstd::decode_all(File::open(&packed.layer.file).unwrap()).unwrap();
        assert_eq!(unpacked, content);
        let before = fs::metadata(&packed.layer.file).unwrap().modified().unwrap();
        assert_eq!(pack(&file, &cache).unwrap(), packed);
        assert_eq!(fs::metadata(&packed.layer.file).unwrap().modified().unwrap(), before);

        let random: Vec<u8> = (0..4096_u32).flat_map(sha256_of).collect();
        fs::write(&place, &random).unwrap();
        let sha256 = digest_of(&mut &random[..]).unwrap();
        let other = SiteFile { place: place.clone(), sha256: sha256.clone() };
        for _ in 0..2 {
            let packed = pack(&other, &cache).unwrap();
            assert_eq!((&packed.layer.digest, &packed.layer.file), (&sha256, &place));
            assert_eq!(packed.layer.size, packed.length);
        }

        fs::write(&place, "another").unwrap();
        assert!(pack(&other, &cache).unwrap_err().contains("has the digest"));
        let other = SiteFile { sha256: "0".repeat(64), ..file };
        assert!(pack(&other, &cache).unwrap_err().contains("wanted 000"));
        fs::remove_file(&place).unwrap();
        assert!(pack(&other, &cache).unwrap_err().contains("No such file"));
    }
}
