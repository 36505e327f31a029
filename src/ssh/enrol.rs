//! First contact: puts a public key into a login's `authorized_keys`, with a password where no key is
//! accepted yet. The host proves its identity with its pinned key like always.

use super::connection::{HostKeyCheck, establish, identified};
use super::error::ConnectError;
use super::link::{LinkEvent, LinkReader};
use super::target::{ConnectOptions, Target};
use crate::secrets::Secret;
use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::PublicKey;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// What the script prints when the key was there.
const PRESENT: &str = "strata-key-present";
/// What it prints when it put it there.
const ADDED: &str = "strata-key-added";

/// What the login shell gets: nothing in it comes from outside, the key comes over standard input. It
/// means the same to every shell (no quote, backslash, exclamation mark or line break inside).
const SCRIPT: &str = "exec /bin/sh -c 'umask 077; cd && mkdir -p .ssh && read -r b && read -r k && f=.ssh/authorized_keys && touch $f || exit 1; \
if grep -v \"^[[:space:]]*#\" $f | grep -qF -e $b; then echo strata-key-present; exit 0; fi; \
[ -z \"$(tail -c 1 $f)\" ] || echo >> $f; echo \"$k\" >> $f && echo strata-key-added'";

/// What became of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// It was there already.
    Present,
    /// It is there now.
    Added,
}

/// A public key as it is put into `authorized_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolKey {
    line: String,
    blob: String,
}

impl EnrolKey {
    /// Reads the text of a `.pub` file. Of the comment only what no shell minds is kept.
    ///
    /// # Errors
    /// When it is not one public key.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains("PRIVATE KEY") {
            return Err(
                "it is a private key; the public one is in the file beside it that ends in .pub"
                    .into(),
            );
        }
        let key = PublicKey::from_openssh(text.trim()).map_err(|error| error.to_string())?;
        let comment: String = key
            .comment()
            .to_string()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "@._-".contains(*c))
            .collect();
        let mut bare = key;
        bare.set_comment("");
        let plain = bare.to_openssh().map_err(|error| error.to_string())?;
        let plain = plain.trim();
        let blob = plain.split(' ').nth(1).ok_or("it has no key")?.to_owned();
        Ok(Self { line: format!("{plain} {comment}").trim_end().to_owned(), blob })
    }
}

/// Puts the key there with a key that the host accepts already. `Ok(None)`: it accepts none.
///
/// # Errors
/// Everything but a refused login.
pub async fn enrol_with_keys(
    target: &Target,
    options: &ConnectOptions,
    key: &EnrolKey,
) -> Result<Option<Enrolled>, ConnectError> {
    match establish(target, options).await {
        Ok(connection) => put(&connection.handle, target, options, key).await.map(Some),
        Err(ConnectError::Authentication { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the key there with the login's password, which is given once.
///
/// # Errors
/// The host is not as pinned, refuses the password, or the file cannot be written.
pub async fn enrol_with_password(
    target: &Target,
    options: &ConnectOptions,
    key: &EnrolKey,
    password: &Secret<String>,
) -> Result<Enrolled, ConnectError> {
    let mut connection = identified(target, options).await?;
    let login = log_in(&mut connection.handle, &target.user, password);
    let accepted = match timeout(options.auth_timeout, login).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", options.auth_timeout)),
    };
    accepted.map_err(|reason| ConnectError::Password {
        host: target.name.clone(),
        user: target.user.clone(),
        reason,
    })?;
    put(&connection.handle, target, options, key).await
}

/// One attempt in the way that the server offers.
async fn log_in(
    handle: &mut Handle<HostKeyCheck>,
    user: &str,
    password: &Secret<String>,
) -> Result<Result<(), String>, russh::Error> {
    let offered = match handle.authenticate_none(user).await? {
        AuthResult::Success => return Ok(Ok(())),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if offered.contains(&MethodKind::Password) {
        return Ok(match handle.authenticate_password(user, password.expose().as_str()).await? {
            AuthResult::Success => Ok(()),
            AuthResult::Failure { partial_success: true, .. } => {
                Err("it was taken, but the server wants a second proof".into())
            }
            AuthResult::Failure { .. } => Err("it was refused".into()),
        });
    }
    if !offered.contains(&MethodKind::KeyboardInteractive) {
        return Ok(Err("the server takes no passwords (PasswordAuthentication no)".into()));
    }
    let mut answer = handle.authenticate_keyboard_interactive_start(user, None::<String>).await?;
    let mut given = false;
    loop {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(Ok(())),
            KeyboardInteractiveAuthResponse::Failure { .. } => {
                return Ok(Err("it was refused".into()));
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        // One hidden question is the password's; anything else is a second proof.
        let responses = match prompts.as_slice() {
            [] => Vec::new(),
            [prompt] if !prompt.echo && !given => {
                given = true;
                vec![password.expose().clone()]
            }
            _ => return Ok(Err("the server asks for more than a password".into())),
        };
        answer = handle.authenticate_keyboard_interactive_respond(responses).await?;
    }
}

/// Runs the script and gives it the key.
async fn put(
    handle: &Handle<HostKeyCheck>,
    target: &Target,
    options: &ConnectOptions,
    key: &EnrolKey,
) -> Result<Enrolled, ConnectError> {
    let failed = |reason: String| ConnectError::Enrol {
        host: target.name.clone(),
        user: target.user.clone(),
        reason,
    };
    let work = async {
        let channel = handle.channel_open_session().await.map_err(|e| e.to_string())?;
        channel.exec(false, SCRIPT).await.map_err(|error| error.to_string())?;
        let (reader, writer) = channel.split();
        let mut writer = Box::pin(writer.make_writer());
        let text = format!("{}\n{}\n", key.blob, key.line);
        // Where it cannot be written, the end of the script says why.
        if writer.write_all(text.as_bytes()).await.is_ok() {
            writer.shutdown().await.ok();
        }
        let mut reader = LinkReader::Ssh(reader);
        let (mut said, mut errors, mut end) = (Vec::new(), Vec::new(), String::new());
        loop {
            match reader.next().await {
                LinkEvent::Data(bytes) if said.len() < 64 * 1024 => said.extend(bytes),
                LinkEvent::Stderr(bytes) if errors.len() < 2000 => errors.extend(bytes),
                LinkEvent::Data(_) | LinkEvent::Stderr(_) => {}
                LinkEvent::Exit(how) => end = how,
                LinkEvent::Closed => break,
            }
        }
        let said = String::from_utf8_lossy(&said);
        if said.contains(PRESENT) {
            return Ok(Enrolled::Present);
        }
        if said.contains(ADDED) {
            return Ok(Enrolled::Added);
        }
        let errors: String =
            String::from_utf8_lossy(&errors).trim().chars().filter(|c| !c.is_control()).collect();
        Err(format!("{end} {errors}").trim().to_owned())
    };
    match timeout(options.start_timeout, work).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(format!("no answer within {:?}", options.start_timeout))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";

    #[test]
    fn nothing_in_the_script_means_more_than_itself_in_any_shell() {
        let inner = SCRIPT.strip_prefix("exec /bin/sh -c '").unwrap().strip_suffix('\'').unwrap();
        assert!(!inner.contains(['\'', '\\', '!', '\n', '`']), "{inner}");
        assert!(inner.contains(PRESENT) && inner.contains(ADDED));
    }

    #[test]
    fn a_key_is_one_key_and_its_comment_is_harmless() {
        let key = EnrolKey::parse(&format!("{KEY} ops@install-01 $(reboot)\n")).unwrap();
        assert_eq!(key.line, format!("{KEY} ops@install-01reboot"));
        assert!(KEY.ends_with(&key.blob));
        assert_eq!(EnrolKey::parse(KEY).unwrap().line, KEY);
        for wrong in ["", "ssh-ed25519", "hello", "-----BEGIN OPENSSH PRIVATE KEY-----\nx"] {
            assert!(EnrolKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
