//! Logins that are not root: the real sudo, with and without a password.

use crate::sshd::{PASSWORD, Setup, Sshd};
use crate::{command, works};
use strata::secrets::Secret;
use strata::ssh::{AgentSession, ConnectError, ConnectOptions, SudoPassword};

fn host(sudoers: &str) -> Sshd {
    Sshd::start(Setup { sudoers: Some(sudoers), ..Setup::default() })
}

fn with(sshd: &Sshd, password: &str) -> ConnectOptions {
    let password = SudoPassword::new(Secret::new(password.to_owned()));
    ConnectOptions { sudo: Some(password), ..sshd.options() }
}

async fn is_root(session: &AgentSession) {
    assert_eq!(session.hello().uid, 0);
    works(session).await;
    let environment = session.exec(command(&["env"])).await.unwrap();
    let environment = String::from_utf8(environment.stdout).unwrap();
    assert!(!environment.contains(PASSWORD) && !environment.contains("SUDO_"), "{environment}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_without_a_password_starts_the_agent_as_root() {
    let sshd = host("ops ALL=(ALL) NOPASSWD: ALL\nDefaults use_pty");
    sshd.trust().await;
    for options in [sshd.options(), with(&sshd, PASSWORD)] {
        for _ in 0..2 {
            let session = AgentSession::connect(&sshd.target_of_ops(), &options).await.unwrap();
            is_root(&session).await;
            session.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_to_the_prompt_and_the_upload_follows() {
    let sshd = host("ops ALL=(ALL) ALL\nDefaults use_pty");
    sshd.trust().await;
    let error = AgentSession::connect(&sshd.target_of_ops(), &sshd.options()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("--ask-sudo-password"), "{error}");
    let options = with(&sshd, PASSWORD);
    for _ in 0..2 {
        let session = AgentSession::connect(&sshd.target_of_ops(), &options).await.unwrap();
        is_root(&session).await;
        let lines = session.exec(command(&["ps", "-eo", "args"])).await.unwrap().stdout;
        let lines = String::from_utf8_lossy(&lines).into_owned();
        assert!(lines.contains("sudo -S -p strata-sudo-"), "{lines}");
        assert!(!lines.contains(PASSWORD));
        session.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_given_to_one_host_only() {
    let sshd = host("ops ALL=(ALL) ALL\nDefaults passwd_tries=3");
    sshd.trust().await;
    let options = with(&sshd, "not the password");
    let targets: Vec<_> = (0..6).map(|_| sshd.target_of_ops()).collect();
    let results =
        futures::future::join_all(targets.iter().map(|t| AgentSession::connect(t, &options))).await;
    let mut asked = 0;
    for result in results {
        let error = result.unwrap_err();
        assert!(error.is_final(), "{error}");
        let ConnectError::SudoPassword { refused_by, .. } = &error else { panic!("{error}") };
        asked += usize::from(refused_by.is_none());
        assert!(!error.to_string().contains("not the password"), "{error}");
    }
    assert_eq!(asked, 1, "every other host would have counted an attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_not_use_sudo_is_told_so() {
    let sshd = host("nobody ALL=(ALL) ALL");
    sshd.trust().await;
    let options = with(&sshd, PASSWORD);
    let error = AgentSession::connect(&sshd.target_of_ops(), &options).await.unwrap_err();
    assert!(error.to_string().contains("not in the sudoers"), "{error}");
    assert!(error.hint().unwrap().contains("may not use sudo"), "{:?}", error.hint());
    assert!(!error.to_string().contains(PASSWORD));
}
