//! The way to root for logins that are not root: `sudo`, with a password only where there is one.
//!
//! Invariants:
//! - The password goes to sudo's standard input, in answer to a prompt that nothing else prints, and
//!   nowhere else: not into a command line, an environment or a file. A host that asks for none gets
//!   none.
//! - Each host is given it once. Before it has proved right somewhere, one host at a time is given it,
//!   and once it was wrong there it is given to no other: a mistyped password locks one account at
//!   most.

use crate::secrets::Secret;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Beginning of the prompt; random digits and a colon follow.
const PROMPT: &str = "strata-sudo-";

/// What is known of the password.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// No host has judged it.
    None,
    /// A host took it.
    Right,
    /// The first host that was given it did not take it.
    Wrong(String),
}

/// The operator's password for `sudo`, shared by all hosts of a run.
#[derive(Debug, Clone)]
pub struct SudoPassword {
    value: Arc<Secret<String>>,
    proof: Arc<Mutex<Proof>>,
}

impl SudoPassword {
    /// A password that no host has judged yet.
    pub fn new(value: Secret<String>) -> Self {
        Self { value: Arc::new(value), proof: Arc::new(Mutex::new(Proof::None)) }
    }

    /// Permission to give it to a host.
    ///
    /// # Errors
    /// The host on which it proved wrong before it was right anywhere.
    async fn permission(&self) -> Result<Permission, String> {
        let proof = Arc::clone(&self.proof).lock_owned().await;
        match &*proof {
            Proof::Wrong(host) => Err(host.clone()),
            Proof::Right => Ok(Permission(None)),
            Proof::None => Ok(Permission(Some(proof))),
        }
    }
}

/// Held while the first host judges the password; all others wait meanwhile.
struct Permission(Option<OwnedMutexGuard<Proof>>);

impl Permission {
    fn proved(&mut self, proof: Proof) {
        if let Some(mut held) = self.0.take() {
            *held = proof;
        }
    }
}

/// How a login becomes root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Elevation {
    /// It is root.
    None,
    /// `sudo` that asks for nothing.
    Sudo,
    /// `sudo` that may ask, with this prompt.
    Asking(String),
}

impl Elevation {
    /// For a login, given whether there is a password.
    pub(super) fn of(user: &str, password: bool) -> Self {
        match (user, password) {
            ("root", _) => Self::None,
            (_, false) => Self::Sudo,
            (_, true) => {
                let mut bytes = [0; 8];
                // Without a source of chance the prompt is the same each time: still nobody's word.
                getrandom::fill(&mut bytes).ok();
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Self::Asking(format!("{PROMPT}{digits}:"))
            }
        }
    }

    /// What stands before the shell in the command line. Messages of sudo are read, so they are
    /// asked for in the language that is known here.
    pub(super) fn words(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Sudo => "env LC_ALL=C sudo -n ".to_owned(),
            Self::Asking(prompt) => format!("env LC_ALL=C sudo -S -p {prompt} "),
        }
    }
}

/// What to do after output of sudo.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing new.
    Wait,
    /// Write this line.
    Answer(Secret<String>),
    /// The password is wrong here, or was elsewhere: the host, where it was another one.
    Wrong(Option<String>),
}

/// The talk with sudo on one host.
pub(super) struct Talk<'a> {
    host: &'a str,
    prompt: &'a str,
    password: Option<&'a SudoPassword>,
    permission: Option<Permission>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(
        host: &'a str,
        elevation: &'a Elevation,
        password: Option<&'a SudoPassword>,
    ) -> Self {
        let prompt = match elevation {
            Elevation::Asking(prompt) => prompt.as_str(),
            Elevation::None | Elevation::Sudo => "",
        };
        Self { host, prompt, password, permission: None }
    }

    /// True once the password was given.
    pub(super) const fn answered(&self) -> bool {
        self.permission.is_some()
    }

    /// Judges everything that was printed so far.
    pub(super) async fn heard(&mut self, printed: &[u8]) -> Next {
        let Some(password) = self.password.filter(|_| !self.prompt.is_empty()) else {
            return Next::Wait;
        };
        match (prompts(printed, self.prompt), self.answered()) {
            (0, _) | (1, true) => Next::Wait,
            (_, false) => match password.permission().await {
                Ok(permission) => {
                    self.permission = Some(permission);
                    let mut line = Secret::new(String::with_capacity(256));
                    line.expose_mut().push_str(password.value.expose());
                    line.expose_mut().push('\n');
                    Next::Answer(line)
                }
                Err(host) => Next::Wrong(Some(host)),
            },
            (_, true) => self.refused(),
        }
    }

    /// The program behind sudo runs.
    pub(super) fn passed(&mut self) {
        if let Some(permission) = &mut self.permission {
            permission.proved(Proof::Right);
        }
    }

    /// Judges the end of sudo without a program: wrong where it says so.
    pub(super) fn ended(&mut self, printed: &[u8]) -> Next {
        if self.answered() && says_wrong(printed) { self.refused() } else { Next::Wait }
    }

    fn refused(&mut self) -> Next {
        if let Some(permission) = &mut self.permission {
            permission.proved(Proof::Wrong(self.host.to_owned()));
        }
        Next::Wrong(None)
    }
}

/// How often the prompt was printed. sudo-rs and modules for logins put words around it, so it is
/// looked for anywhere.
fn prompts(printed: &[u8], prompt: &str) -> usize {
    if prompt.is_empty() {
        return 0;
    }
    printed.windows(prompt.len()).filter(|window| *window == prompt.as_bytes()).count()
}

/// What sudo and sudo-rs print when they took no password.
fn says_wrong(printed: &[u8]) -> bool {
    let text = String::from_utf8_lossy(printed).to_lowercase();
    ["incorrect password attempt", "incorrect authentication attempt", "sorry, try again"]
        .iter()
        .any(|words| text.contains(words))
        || text.contains("authentication failed, try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> SudoPassword {
        SudoPassword::new(Secret::new("correct-horse".to_owned()))
    }

    fn asking() -> Elevation {
        Elevation::of("ops", true)
    }

    fn prompt(elevation: &Elevation) -> &[u8] {
        let Elevation::Asking(prompt) = elevation else { panic!("{elevation:?}") };
        prompt.as_bytes()
    }

    #[test]
    fn root_needs_no_sudo_and_a_password_never_stands_in_the_words() {
        assert_eq!(Elevation::of("root", true).words(), "");
        assert_eq!(Elevation::of("ops", false).words(), "env LC_ALL=C sudo -n ");
        let (one, other) = (asking(), asking());
        assert_ne!(one, other, "a prompt is used once");
        assert!(one.words().bytes().all(|b| b.is_ascii_alphanumeric() || b" -_=:".contains(&b)));
    }

    #[tokio::test]
    async fn a_lecture_is_no_prompt_and_sudo_rs_may_put_words_around_it() {
        let (password, elevation) = (password(), asking());
        let mut talk = Talk::new("a", &elevation, Some(&password));
        let mut printed = b"We trust you have received the usual lecture: Password: ".to_vec();
        assert_eq!(talk.heard(&printed).await, Next::Wait);
        printed.extend([b"[sudo: ", prompt(&elevation), b"] Password: "].concat());
        assert_eq!(talk.heard(&printed).await, Next::Answer(Secret::new("correct-horse\n".into())));
        assert_eq!(talk.heard(&printed).await, Next::Wait, "it is given once");
        talk.passed();
        assert_eq!(talk.ended(b"sorry, try again"), Next::Wrong(None));
        let mut next = Talk::new("b", &elevation, Some(&password));
        assert!(matches!(next.heard(&printed).await, Next::Answer(_)), "right elsewhere");
    }

    #[tokio::test]
    async fn one_host_judges_first_and_a_wrong_password_goes_to_no_other() {
        let (password, elevation) = (password(), asking());
        let twice = [prompt(&elevation), b"Sorry, try again.\n", prompt(&elevation)].concat();
        let mut first = Talk::new("a", &elevation, Some(&password));
        assert!(matches!(first.heard(prompt(&elevation)).await, Next::Answer(_)));
        let mut second = Talk::new("b", &elevation, Some(&password));
        {
            let waiting = second.heard(prompt(&elevation));
            let mut waiting = std::pin::pin!(waiting);
            let short = std::time::Duration::from_millis(50);
            assert!(tokio::time::timeout(short, &mut waiting).await.is_err(), "it waits");
            assert_eq!(first.heard(&twice).await, Next::Wrong(None));
            assert_eq!(waiting.await, Next::Wrong(Some("a".to_owned())));
        }
        assert!(!second.answered());
    }

    #[tokio::test]
    async fn a_talk_that_breaks_off_leaves_the_password_unjudged() {
        let (password, elevation) = (password(), asking());
        let mut first = Talk::new("a", &elevation, Some(&password));
        assert!(matches!(first.heard(prompt(&elevation)).await, Next::Answer(_)));
        drop(first);
        let mut second = Talk::new("b", &elevation, Some(&password));
        assert!(matches!(second.heard(prompt(&elevation)).await, Next::Answer(_)));
        assert_eq!(second.ended(b"sudo: 1 incorrect password attempt\n"), Next::Wrong(None));
    }

    #[test]
    fn the_password_is_never_shown() {
        let password = password();
        let shown = format!("{password:?} {:?}", Next::Answer(Secret::new("correct-horse".into())));
        assert!(!shown.contains("horse"), "{shown}");
    }
}
