//! A directory tree as an archive that `docker load` takes: `manifest.json`, the image's settings
//! and one layer, compressed.
//!
//! The same tree gives the same archive: entries are sorted and carry no times of their own, so
//! that an image's identity says what is in it and not when it was built.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header, HeaderMode};

use super::super::error::{At as _, Result};
use super::Image;

/// What a container's `PATH` is unless the image says otherwise, as in the official images.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Images carry no time of their own.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Writes the archive of `tree` to `target`. `target` must not exist.
pub(super) fn write(tree: &Path, image: &Image, target: &Path) -> Result<()> {
    let layer = target.with_extension("layer");
    let layer_digest = write_layer(tree, &layer)?;
    let settings = settings(image, &layer_digest).to_string();
    let settings_digest = hexadecimal(&Sha256::digest(&settings));
    let layer_name = format!("{layer_digest}/layer.tar");
    let settings_name = format!("{settings_digest}.json");
    let manifest = json!([{
        "Config": settings_name,
        "RepoTags": [image.reference],
        "Layers": [layer_name],
    }])
    .to_string();
    let file = File::create_new(target).at("cannot create", target)?;
    let compressed = GzEncoder::new(BufWriter::new(file), Compression::new(6));
    let mut outer = Builder::new(compressed);
    let written = append(&mut outer, "manifest.json", manifest.as_bytes(), manifest.len())
        .and_then(|()| append(&mut outer, &settings_name, settings.as_bytes(), settings.len()))
        .and_then(|()| {
            let file = File::open(&layer)?;
            let length = file.metadata()?.len();
            append(&mut outer, &layer_name, BufReader::new(file), length)
        })
        .and_then(|()| outer.into_inner())
        .and_then(GzEncoder::finish)
        .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error))
        .and_then(|file| file.sync_all());
    written.at("cannot write", target)?;
    fs::remove_file(&layer).at("cannot remove", layer)
}

fn append<W: Write>(
    outer: &mut Builder<W>,
    name: &str,
    content: impl io::Read,
    length: impl TryInto<u64>,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(length.try_into().unwrap_or_default());
    outer.append_data(&mut header, name, content)
}

/// What `docker inspect` shows of the image.
fn settings(image: &Image, layer_digest: &str) -> serde_json::Value {
    let container = &image.description.container;
    let own = container.environment.iter().any(|entry| entry.starts_with("PATH="));
    let environment: Vec<&str> = [PATH]
        .into_iter()
        .filter(|_| !own)
        .chain(container.environment.iter().map(String::as_str))
        .collect();
    let words = |words: &[String]| if words.is_empty() { json!(null) } else { json!(words) };
    let mut config = json!({
        "User": container.user,
        "Env": environment,
        "Cmd": words(&container.command),
        "Entrypoint": words(&container.entrypoint),
        "WorkingDir": container.directory,
    });
    if !container.stop_signal.is_empty() {
        config["StopSignal"] = json!(container.stop_signal);
    }
    let made_of = format!("{} {}", image.description.suite, image.description.packages.join(" "));
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": CREATED,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": CREATED, "created_by": made_of }],
    })
}

/// The machine's architecture as images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes the tree as a plain archive; its digest.
fn write_layer(tree: &Path, target: &Path) -> Result<String> {
    let file = File::create(target).at("cannot create", target)?;
    let hashing = Hashing { inner: BufWriter::new(file), hash: Sha256::new() };
    let mut builder = Builder::new(hashing);
    append_directory(&mut builder, tree, Path::new(""))?;
    let mut hashing = builder.into_inner().at("cannot write", target)?;
    hashing.flush().at("cannot write", target)?;
    Ok(hexadecimal(&hashing.hash.finalize()))
}

fn append_directory<W: Write>(builder: &mut Builder<W>, tree: &Path, within: &Path) -> Result<()> {
    let here = tree.join(within);
    let entries = fs::read_dir(&here).at("cannot read", &here)?;
    let mut names: Vec<PathBuf> =
        entries.flatten().map(|entry| within.join(entry.file_name())).collect();
    names.sort();
    for name in names {
        let path = tree.join(&name);
        append_entry(builder, &path, &name).at("cannot archive", &path)?;
        let metadata = fs::symlink_metadata(&path).at("cannot read", &path)?;
        if metadata.is_dir() {
            append_directory(builder, tree, &name)?;
        }
    }
    Ok(())
}

fn append_entry<W: Write>(builder: &mut Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    // A container gets devices of its own; sockets and pipes of a build mean nothing.
    if kind.is_block_device() || kind.is_char_device() || kind.is_socket() || kind.is_fifo() {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(&metadata, HeaderMode::Complete);
    header.set_mtime(0);
    if kind.is_symlink() {
        header.set_size(0);
        builder.append_link(&mut header, name, fs::read_link(path)?)
    } else if kind.is_dir() {
        header.set_size(0);
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, name.join(""), io::empty())
    } else {
        builder.append_data(&mut header, name, BufReader::new(File::open(path)?))
    }
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn tree(root: &Path) {
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("data")).unwrap();
        fs::write(root.join("usr/bin/tool"), "tool").unwrap();
        fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        let long = root.join("n".repeat(90)).join("m".repeat(90));
        fs::create_dir_all(long.parent().unwrap()).unwrap();
        fs::write(long, "deep").unwrap();
    }

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.insert(name, content);
        }
        found
    }

    fn unpacked(path: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut plain).unwrap();
        entries(&plain)
    }

    #[test]
    fn digests_names_and_content_fit_together() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        tree(&root);
        let mut image = image("strata.lab/redis:7.0.15");
        image.description.container.entrypoint = vec!["docker-entrypoint.sh".to_owned()];
        image.description.container.stop_signal = "SIGUSR1".to_owned();
        let path = folder.path().join("a.tar.gz");
        write(&root, &image, &path).unwrap();
        let found = unpacked(&path);
        let manifest: serde_json::Value = serde_json::from_slice(&found["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["strata.lab/redis:7.0.15"]));
        let name = manifest[0]["Config"].as_str().unwrap();
        assert_eq!(format!("{}.json", hexadecimal(&Sha256::digest(&found[name]))), name);
        let settings: serde_json::Value = serde_json::from_slice(&found[name]).unwrap();
        assert_eq!(settings["config"]["StopSignal"], "SIGUSR1");
        assert_eq!(settings["config"]["Cmd"], json!(null));
        let layer = &found[manifest[0]["Layers"][0].as_str().unwrap()];
        let digest = format!("sha256:{}", hexadecimal(&Sha256::digest(layer)));
        assert_eq!(settings["rootfs"]["diff_ids"], json!([digest]));
        let files = entries(layer);
        assert_eq!(files["usr/bin/tool"], b"tool");
        assert!(files.contains_key("bin") && files.contains_key("data/"), "{:?}", files.keys());
        assert_eq!(files[&format!("{}/{}", "n".repeat(90), "m".repeat(90))], b"deep");
        assert!(!path.with_extension("layer").exists());
    }

    #[test]
    fn the_same_tree_gives_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let archive = |name: &str| {
            let root = folder.path().join(name);
            tree(&root);
            let path = folder.path().join(format!("{name}.tar.gz"));
            write(&root, &image("strata.lab/redis:7.0.15"), &path).unwrap();
            fs::read(path).unwrap()
        };
        assert_eq!(archive("one"), archive("two"));
    }
}
