//! Starting the agent: over SSH (uploading it where it is missing) or as a child on this machine.

use super::agent_binary::{self, AgentBinary};
use super::connection::HostKeyCheck;
use super::error::ConnectError;
use super::launch_command::{Existing, FAILED, WANTS, launch_command};
use super::link::{self, LinkEvent, LinkReader, LinkWriter};
use super::sudo::{Elevation, Next, Talk};
use super::target::{ConnectOptions, Target};
use crate::wire::{FrameDecoder, PreambleScan, PreambleScanner};
use russh::client::Handle;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

/// A started agent: its link and the bytes that came behind the preamble.
pub(super) struct Launched {
    pub(super) reader: LinkReader,
    pub(super) writer: LinkWriter,
    pub(super) decoder: FrameDecoder,
}

/// Why an attempt did not lead to an agent.
enum Attempt {
    /// The program ended before its preamble; what it printed.
    Ended(String),
    /// No use in trying again.
    Fatal(ConnectError),
}

/// Starts the agent over SSH: at most two attempts, the second of which replaces the file.
pub(super) async fn over_ssh(
    handle: &Handle<HostKeyCheck>,
    target: &Target,
    options: &ConnectOptions,
) -> Result<Launched, ConnectError> {
    let deadline = Instant::now() + options.start_timeout;
    let failed = |reason: String| ConnectError::AgentStart { host: target.name.clone(), reason };
    let mut last = String::new();
    let elevation = Elevation::of(&target.user, options.sudo.is_some());
    for existing in [Existing::Use, Existing::Replace] {
        let digests: Vec<&str> = agent_binary::list().iter().map(|agent| agent.sha256).collect();
        let command = launch_command(&options.agent_directories, &digests, existing, &elevation)
            .map_err(failed)?;
        let talk = Talk::new(&target.name, &elevation, options.sudo.as_ref());
        let attempt = async {
            let channel = open_channel(handle, target).await.map_err(Attempt::Fatal)?;
            channel
                .exec(false, command)
                .await
                .map_err(|error| Attempt::Ended(error.to_string()))?;
            let (reader, writer) = channel.split();
            boot(target, LinkReader::Ssh(reader), Box::pin(writer.make_writer()), talk).await
        };
        match timeout_at(deadline, attempt).await {
            Err(_) => {
                let reason = format!("nothing was heard of it within {:?}", options.start_timeout);
                return Err(failed(reason));
            }
            Ok(Ok(launched)) => return Ok(launched),
            Ok(Err(Attempt::Fatal(error))) => return Err(error),
            Ok(Err(Attempt::Ended(reason))) => {
                tracing::info!(host = %target.name, %reason, "the agent did not start");
                last = reason;
            }
        }
    }
    Err(failed(last))
}

/// Opens a session channel. A server with `MaxSessions 1` may need a moment to notice that the
/// previous one is closed.
async fn open_channel(
    handle: &Handle<HostKeyCheck>,
    target: &Target,
) -> Result<russh::Channel<russh::client::Msg>, ConnectError> {
    let patience = Instant::now() + Duration::from_secs(3);
    loop {
        match handle.channel_open_session().await {
            Ok(channel) => return Ok(channel),
            Err(russh::Error::ChannelOpenFailure(reason)) if Instant::now() < patience => {
                tracing::debug!(host = %target.name, ?reason, "a session is refused; again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                let reason = format!("the server opens no session: {error}");
                return Err(ConnectError::AgentStart { host: target.name.clone(), reason });
            }
        }
    }
}

/// Listens until the preamble, answering sudo and uploading the agent when the host asks for it.
async fn boot(
    target: &Target,
    mut reader: LinkReader,
    mut writer: LinkWriter,
    mut talk: Talk<'_>,
) -> Result<Launched, Attempt> {
    let mut scanner = PreambleScanner::default();
    let mut errors = Vec::new();
    let mut upload: Option<Upload> = None;
    let mut ended = String::new();
    loop {
        let pending = upload.as_ref().map_or(&[][..], Upload::pending);
        let event = tokio::select! {
            biased;
            event = reader.next() => event,
            written = writer.write(pending), if !pending.is_empty() => {
                // Where nothing can be written, the end of the program will say why.
                let taken = written.ok().filter(|count| *count > 0).unwrap_or(pending.len());
                if let Some(upload) = &mut upload {
                    upload.sent += taken;
                }
                continue;
            }
        };
        match event {
            LinkEvent::Data(bytes) => match scanner.push(&bytes) {
                PreambleScan::Found(rest) => {
                    talk.passed();
                    let mut decoder = FrameDecoder::default();
                    decoder.push(&rest);
                    return Ok(Launched { reader, writer, decoder });
                }
                PreambleScan::TooMuch => {
                    return Err(Attempt::Fatal(ConnectError::AgentStart {
                        host: target.name.clone(),
                        reason: "the login prints without end before the agent starts".into(),
                    }));
                }
                PreambleScan::NotYet if upload.is_none() => {
                    if let Some(architecture) = line_after(scanner.foreign(), WANTS) {
                        talk.passed();
                        tracing::info!(host = %target.name, architecture, "the agent is uploaded");
                        let agent = upload_of(target, &architecture);
                        upload = Some(agent.map_err(|error| Attempt::Fatal(*error))?);
                    }
                }
                PreambleScan::NotYet => {}
            },
            LinkEvent::Stderr(bytes) => {
                errors.extend_from_slice(&bytes);
                match talk.heard(&errors).await {
                    Next::Wait => {}
                    Next::Wrong(on) => return Err(wrong_password(target, on)),
                    Next::Answer(line) => {
                        let written = writer.write_all(line.expose().as_bytes()).await;
                        if written.is_ok() {
                            // The end of the program will say why it could not be.
                            writer.flush().await.ok();
                        }
                    }
                }
                // A prompt may be cut in two, and everything behind the limit is of no interest.
                errors.truncate(HEARD_TEXT);
            }
            LinkEvent::Exit(how) => ended = how,
            LinkEvent::Closed => break,
        }
    }
    if let Next::Wrong(on) = talk.ended(&errors) {
        return Err(wrong_password(target, on));
    }
    let reason = line_after(scanner.foreign(), FAILED)
        .unwrap_or_else(|| printed(&ended, scanner.foreign(), &errors));
    // After an upload a second one would end the same way, and a password is given once.
    if upload.is_some() || talk.answered() {
        let host = target.name.clone();
        return Err(Attempt::Fatal(ConnectError::AgentStart { host, reason }));
    }
    Err(Attempt::Ended(reason))
}

/// Bytes of foreign output that an error shows.
const KEPT_TEXT: usize = 2000;

/// Bytes of error output in which sudo's prompt is looked for: lectures are long.
const HEARD_TEXT: usize = 64 * 1024;

/// sudo did not take the password, here or on the host that was asked first.
fn wrong_password(target: &Target, on: Option<String>) -> Attempt {
    Attempt::Fatal(ConnectError::SudoPassword {
        host: target.name.clone(),
        user: target.user.clone(),
        refused_by: on,
    })
}

fn printed(ended: &str, output: &[u8], errors: &[u8]) -> String {
    let ended = if ended.is_empty() { "the channel was closed" } else { ended };
    let said: Vec<String> = [output, errors]
        .iter()
        .map(|bytes| {
            String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_TEXT)])
                .trim()
                .replace(['\r', '\n'], " ")
        })
        .filter(|text| !text.is_empty())
        .map(|text| text.chars().filter(|c| !c.is_control()).collect())
        .collect();
    if said.is_empty() { ended.to_owned() } else { format!("{ended}: {}", said.join("; ")) }
}

/// The rest of the line behind `word`, once the line is whole.
fn line_after(output: &[u8], word: &str) -> Option<String> {
    let at = output.windows(word.len()).position(|window| window == word.as_bytes())?;
    let rest = &output[at + word.len()..];
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    Some(String::from_utf8_lossy(&rest[..end]).trim().to_owned())
}

/// What the script reads: digest and size on a line, then the program, of which all hosts share one
/// copy.
struct Upload {
    line: Vec<u8>,
    program: &'static [u8],
    sent: usize,
}

impl Upload {
    /// What comes next; empty at the end.
    fn pending(&self) -> &[u8] {
        match self.sent.checked_sub(self.line.len()) {
            None => &self.line[self.sent..],
            Some(sent) => self.program.get(sent..).unwrap_or_default(),
        }
    }
}

fn upload_of(target: &Target, architecture: &str) -> Result<Upload, Box<ConnectError>> {
    let agent = agent_binary::for_architecture(architecture).ok_or_else(|| {
        let architecture = architecture.chars().filter(|c| !c.is_control()).take(40).collect();
        ConnectError::Architecture { host: target.name.clone(), architecture }
    })?;
    let line = format!("{} {}\n", agent.sha256, agent.bytes.len()).into_bytes();
    Ok(Upload { line, program: &agent.bytes, sent: 0 })
}

/// Starts the agent on this machine, in a process group of its own: an interrupt from the terminal
/// must not end it in the middle of a change.
pub(super) async fn locally(
    target: &Target,
    options: &ConnectOptions,
) -> Result<Launched, ConnectError> {
    let failed = |reason: String| ConnectError::AgentStart { host: target.name.clone(), reason };
    let architecture = std::env::consts::ARCH;
    let agent = agent_binary::for_architecture(architecture).ok_or_else(|| {
        ConnectError::Architecture { host: target.name.clone(), architecture: architecture.into() }
    })?;
    let mut reasons = Vec::new();
    for directory in &options.agent_directories {
        let spawned = install(Path::new(directory), agent).and_then(|path| {
            tokio::process::Command::new(path)
                .args(["serve", "--digest", agent.sha256])
                .process_group(0)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        });
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                reasons.push(format!("{directory}: {error}"));
                continue;
            }
        };
        let (reader, writer) =
            link::local(child).ok_or_else(|| failed("its pipes are missing".into()))?;
        let deadline = Instant::now() + options.start_timeout;
        let talk = Talk::new(&target.name, &Elevation::None, None);
        return match timeout_at(deadline, boot(target, reader, writer, talk)).await {
            Ok(Ok(launched)) => Ok(launched),
            Ok(Err(Attempt::Fatal(error))) => Err(error),
            Ok(Err(Attempt::Ended(reason))) => Err(failed(reason)),
            Err(_) => Err(failed("nothing was heard of it".into())),
        };
    }
    Err(failed(reasons.join("; ")))
}

/// Puts the agent into `directory`, unless the right bytes are there already.
fn install(directory: &Path, agent: &AgentBinary) -> io::Result<PathBuf> {
    let directory = directory.join("agents");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let meta = fs::symlink_metadata(&directory)?;
    if meta.uid() != rustix::process::geteuid().as_raw()
        || meta.mode() & 0o022 != 0
        || !meta.is_dir()
    {
        return Err(io::Error::other("it belongs to another user or others may write to it"));
    }
    let path = directory.join(format!("strata-agent-{}", agent.sha256));
    if fs::read(&path).is_ok_and(|bytes| bytes == agent.bytes) {
        return Ok(path);
    }
    let temporary = directory.join(format!(".new.{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .open(&temporary)?;
    file.write_all(&agent.bytes)?;
    drop(file);
    fs::rename(&temporary, &path)?;
    Ok(path)
}
