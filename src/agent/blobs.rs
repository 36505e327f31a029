//! Layers of images on their way to the host's container engine, and large files on their way to
//! their places: received once, kept until they are there, and received further from where a broken
//! link left them.
//!
//! The controller starts this as a program of its own and talks to it through a socket that takes
//! one connection. A request is a line, answered by a line:
//!
//! - `at DIGEST PATH`: whether the file at the path has this digest, `yes` or `no`;
//! - `have DIGEST SIZE`: how many bytes of it are here;
//! - `put DIGEST SIZE OFFSET`, then the bytes from there on: `ok` once they are kept and the digest
//!   is right;
//! - `load N`, then N parts, each `bytes LENGTH` with that many bytes, or `blob DIGEST SIZE`:
//!   together they are the archive for the engine;
//! - `unpack DIGEST SIZE CONTENT LENGTH`: takes what was received for packed with zstd, and keeps
//!   its content in its place, which has that digest and length;
//! - `drop DIGEST`: the engine has it.
//!
//! `error …` says why something was not done.

use super::hashed::{self, Stamp};
use super::paths::{HostPaths, make_private_directory};
use super::system::load_archive;
use crate::resource::{is_sha256, sha256};
use ruzstd::decoding::StreamingDecoder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longest line of a request: a path, and some words.
const LINE_LIMIT: u64 = 4096 + 512;

/// Parts of an archive at most; an image has at most 128 layers.
const PARTS_LIMIT: usize = 1024;

/// Bytes of a `bytes` part at most: headers of the archive, its manifest, a configuration.
const BYTES_LIMIT: u64 = 8 << 20;

/// What stays free of the file system.
const RESERVE: u64 = 256 << 20;

/// Layers that nobody asked for any more are removed after this time.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long the engine may be silent.
const ENGINE: Duration = Duration::from_secs(1800);

/// Bytes that are moved at once.
const PIECE: usize = 128 * 1024;

/// Gives the engine an archive: its size, and what writes it.
type Load<'a> =
    dyn FnMut(u64, &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> Result<(), String> + 'a;

/// Serves one connection on `socket`, which must not exist.
///
/// # Errors
/// When the socket or the folder of the layers cannot be made, or the connection breaks.
pub fn run(socket: &Path) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let store = Store { folder: HostPaths::below("/").blobs() };
    make_private_directory(&store.folder).map_err(text)?;
    store.sweep(SystemTime::now());
    if let Some(folder) = socket.parent() {
        make_private_directory(folder).map_err(text)?;
    }
    let listener = UnixListener::bind(socket).map_err(text)?;
    println!("ready");
    io::stdout().flush().map_err(text)?;
    let accepted = listener.accept();
    // Nobody else is to find it.
    fs::remove_file(socket).map_err(text)?;
    let (stream, _) = accepted.map_err(text)?;
    let mut answers = stream.try_clone().map_err(text)?;
    let mut load = |size: u64, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>| {
        let response = load_archive(size, ENGINE, |stream| write(stream))?;
        match refusal(&response.body) {
            _ if !response.success() => Err(response.message()),
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    };
    serve(&store, BufReader::with_capacity(PIECE, stream), &mut answers, &mut load).map_err(text)
}

/// What went wrong with a load that began well: the engine says so in its progress, one JSON object
/// a line.
fn refusal(answer: &[u8]) -> Option<String> {
    serde_json::Deserializer::from_slice(answer)
        .into_iter::<serde_json::Value>()
        .map_while(Result::ok)
        .find_map(|line| line.get("error")?.as_str().map(str::to_owned))
}

fn serve(
    store: &Store,
    mut requests: impl BufRead,
    answers: &mut impl Write,
    load: &mut Load<'_>,
) -> io::Result<()> {
    while let Some(line) = line(&mut requests)? {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["at", digest, ..] => {
                let path = line.splitn(3, ' ').nth(2).unwrap_or_default();
                match store.is_at(digest, Path::new(path), SystemTime::now()) {
                    Ok(true) => Ok("yes".to_owned()),
                    Ok(false) => Ok("no".to_owned()),
                    Err(error) => Err(format!("{path}: {error}")),
                }
            }
            ["have", rest @ ..] => match Blob::parse(rest) {
                Some(blob) => store.held(&blob).map(|n| n.to_string()).map_err(|e| e.to_string()),
                None => Err(misunderstood(&line)),
            },
            ["put", digest, size, offset] => {
                match (Blob::parse(&[*digest, *size]), offset.parse()) {
                    (Some(blob), Ok(offset)) => {
                        store.receive(&blob, offset, &mut requests).map(|()| "ok".to_owned())
                    }
                    _ => Err(misunderstood(&line)),
                }
            }
            ["load", count] => {
                let parts = count.parse().ok().filter(|count| *count <= PARTS_LIMIT);
                match parts.map(|count| parts_of(count, &mut requests)) {
                    Some(Ok(parts)) => store.load(&parts, load).map(|()| "ok".to_owned()),
                    Some(Err(error)) => Err(error.to_string()),
                    None => Err(misunderstood(&line)),
                }
            }
            ["unpack", digest, size, content, length] => {
                match (Blob::parse(&[*digest, *size]), Blob::parse(&[*content, *length])) {
                    (Some(packed), Some(content)) => {
                        store.unpack(&packed, &content).map(|()| "ok".to_owned())
                    }
                    _ => Err(misunderstood(&line)),
                }
            }
            ["drop", digest] => match Blob::parse(&[*digest, "0"]) {
                Some(blob) => store.forget(&blob).map(|()| "ok".to_owned()),
                None => Err(misunderstood(&line)),
            },
            _ => Err(misunderstood(&line)),
        };
        match answer {
            Ok(text) => writeln!(answers, "{text}")?,
            Err(reason) => {
                let reason = reason.replace('\n', " ");
                writeln!(answers, "error {reason}")?;
                // What follows a request that was not taken cannot be told from its bytes.
                return Ok(());
            }
        }
        answers.flush()?;
    }
    Ok(())
}

fn misunderstood(line: &str) -> String {
    format!("the request `{line}` is not understood")
}

/// The next line without its end; `None` at the end of the stream.
fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a request has no end"));
    }
    let text = String::from_utf8(bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Some(text))
}

/// A layer as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Blob {
    /// SHA-256 in hexadecimal.
    digest: String,
    size: u64,
}

impl Blob {
    fn parse(words: &[&str]) -> Option<Self> {
        let [digest, size] = words else { return None };
        is_sha256(digest).then_some(Self { digest: (*digest).to_owned(), size: size.parse().ok()? })
    }
}

/// A part of the archive.
enum Part {
    Bytes(Vec<u8>),
    Blob(Blob),
}

fn parts_of(count: usize, from: &mut impl BufRead) -> io::Result<Vec<Part>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut parts = Vec::new();
    for _ in 0..count {
        let line = line(from)?.ok_or_else(|| wrong("the archive has no end"))?;
        let words: Vec<&str> = line.split(' ').collect();
        let part = match words.as_slice() {
            ["bytes", length] => {
                let length = length.parse().ok().filter(|length| *length <= BYTES_LIMIT);
                let length: u64 = length.ok_or_else(|| wrong(&misunderstood(&line)))?;
                let mut bytes = Vec::new();
                if from.by_ref().take(length).read_to_end(&mut bytes)? as u64 != length {
                    return Err(wrong("the archive has no end"));
                }
                Part::Bytes(bytes)
            }
            ["blob", rest @ ..] => {
                Part::Blob(Blob::parse(rest).ok_or_else(|| wrong(&misunderstood(&line)))?)
            }
            _ => return Err(wrong(&misunderstood(&line))),
        };
        parts.push(part);
    }
    Ok(parts)
}

/// The folder of the layers: whole ones under their digest, others with `.part` after it, and notes of
/// what was hashed.
struct Store {
    folder: PathBuf,
}

impl Store {
    fn whole(&self, blob: &Blob) -> PathBuf {
        self.folder.join(&blob.digest)
    }

    fn part(&self, blob: &Blob) -> PathBuf {
        self.folder.join(format!("{}.part", blob.digest))
    }

    /// How many bytes of it are here.
    fn held(&self, blob: &Blob) -> io::Result<u64> {
        if length(&self.whole(blob))? == Some(blob.size) {
            return Ok(blob.size);
        }
        match length(&self.part(blob))? {
            // All of it, and its digest was never found right: it is not known to be.
            Some(held) if held < blob.size => Ok(held),
            Some(_) => fs::remove_file(self.part(blob)).map(|()| 0),
            None => Ok(0),
        }
    }

    /// Takes what is missing and looks whether the whole is what it should be.
    fn receive(&self, blob: &Blob, offset: u64, from: &mut impl Read) -> Result<(), String> {
        let held = self.held(blob).map_err(|error| error.to_string())?;
        if held != offset || offset > blob.size {
            return Err(format!("{held} bytes are here, and {offset} were taken for it"));
        }
        let missing = blob.size - offset;
        self.room_for(missing)?;
        let path = self.part(blob);
        let received = (|| {
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
            let mut new = 0;
            let digest = sha256(from.take(missing), |piece| {
                new += piece.len() as u64;
                file.write_all(piece)
            })?;
            if new != missing {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the link broke"));
            }
            file.sync_data()?;
            // What was here before goes into the digest afterwards: the sender does not wait for it.
            if held == 0 { Ok(digest) } else { digest_of(&path) }
        })();
        let found = received.map_err(|error: io::Error| format!("{}: {error}", path.display()))?;
        if found != blob.digest {
            fs::remove_file(&path).map_err(|error| error.to_string())?;
            return Err(format!("the layer {} arrived with the digest {found}", blob.digest));
        }
        self.keep(&path, blob).map_err(|error| error.to_string())
    }

    /// Gives what arrived, and was found right, its name.
    fn keep(&self, path: &Path, blob: &Blob) -> io::Result<()> {
        let whole = self.whole(blob);
        fs::rename(path, &whole)?;
        // What was hashed is what arrived: it is the file only if nothing else is in it.
        match File::open(whole).and_then(|file| Stamp::of(&file)) {
            Ok(stamp) if stamp.size() == blob.size => {
                hashed::leave(&self.folder, &blob.digest, stamp);
            }
            _ => hashed::withdraw(&self.folder, &blob.digest),
        }
        Ok(())
    }

    fn room_for(&self, bytes: u64) -> Result<(), String> {
        let found = rustix::fs::statvfs(&self.folder).map_err(|error| error.to_string())?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        // The engine needs the room once more, for the layer itself.
        if free < bytes.saturating_mul(2).saturating_add(RESERVE) {
            return Err(format!(
                "{} MiB are free at {}, and {2} MiB take twice as much there until they are where they belong",
                free >> 20,
                self.folder.display(),
                bytes >> 20
            ));
        }
        Ok(())
    }

    /// Keeps what is packed in a received file in its place.
    fn unpack(&self, packed: &Blob, content: &Blob) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        if length(&self.whole(content)).map_err(text)? == Some(content.size) {
            return self.forget(packed);
        }
        self.room_for(content.size)?;
        let path = self.part(content);
        let unpacked = (|| {
            let from = BufReader::with_capacity(PIECE, File::open(self.whole(packed))?);
            let decoder = StreamingDecoder::new(from)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            // More than was said is another content, whatever its size.
            let most = content.size.saturating_add(1);
            let digest = sha256(decoder.take(most), |piece| file.write_all(piece))?;
            file.sync_data()?;
            Ok(digest)
        })();
        let found = unpacked.map_err(|error: io::Error| format!("{}: {error}", path.display()))?;
        if found != content.digest {
            fs::remove_file(&path).map_err(text)?;
            return Err(format!("{} was wanted, and {found} was packed", content.digest));
        }
        self.keep(&path, content).map_err(text)?;
        self.forget(packed)
    }

    fn load(&self, parts: &[Part], load: &mut Load<'_>) -> Result<(), String> {
        let mut size = 0;
        for part in parts {
            size += match part {
                Part::Bytes(bytes) => bytes.len() as u64,
                Part::Blob(blob) => match length(&self.whole(blob)) {
                    Ok(Some(length)) if length == blob.size => length,
                    _ => return Err(format!("the layer {} is not here", blob.digest)),
                },
            };
        }
        load(size, &mut |to| {
            for part in parts {
                match part {
                    Part::Bytes(bytes) => to.write_all(bytes)?,
                    Part::Blob(blob) => {
                        io::copy(&mut File::open(self.whole(blob))?.take(blob.size), to)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn forget(&self, blob: &Blob) -> Result<(), String> {
        hashed::withdraw(&self.folder, &blob.digest);
        match fs::remove_file(self.whole(blob)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// True when a regular file with this digest is at the path; the step that looks at it in a moment
    /// need not hash it again.
    fn is_at(&self, digest: &str, path: &Path, now: SystemTime) -> io::Result<bool> {
        hashed::withdraw(&self.folder, digest);
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        let file = File::open(path)?;
        let before = Stamp::of(&file)?;
        let found = sha256(&file, |_| Ok(()))? == digest;
        if found && before.is_settled(now) && Stamp::of(&file)? == before {
            hashed::leave(&self.folder, digest, before);
        }
        Ok(found)
    }

    /// Removes what was left behind and forgotten. Nothing depends on it.
    fn sweep(&self, now: SystemTime) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            let age = changed.ok().and_then(|at| now.duration_since(at).ok());
            if age.is_some_and(|age| age > FORGOTTEN) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn digest_of(path: &Path) -> io::Result<String> {
    sha256(File::open(path)?, |_| Ok(()))
}

#[cfg(test)]
#[path = "blobs_tests.rs"]
mod tests;
