//! First contact with a host that accepts no key yet.

use crate::sshd::{PASSWORD, Setup, Sshd, run};
use strata::secrets::Secret;
use strata::ssh::{ConnectError, EnrolKey, Enrolled, enrol_with_keys, enrol_with_password};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_put_there_once_with_a_password_that_is_given_once() {
    let sshd = Sshd::start(Setup {
        config: "PasswordAuthentication yes\nAuthorizedKeysFile .ssh/authorized_keys",
        shell: "/usr/bin/fish",
        sudoers: Some(""),
        ..Setup::default()
    });
    run("chown", &["-R", "1500:1500", sshd.path("home").to_str().unwrap()]);
    let (target, options) = (sshd.target_of_ops(), sshd.options());
    let text = std::fs::read_to_string(sshd.path("home/.ssh/id_ed25519.pub")).unwrap();
    let key = EnrolKey::parse(&text).unwrap();
    let right = Secret::new(PASSWORD.to_owned());
    // A host that is not pinned gets no password.
    let error = enrol_with_password(&target, &options, &key, &right).await.unwrap_err();
    assert!(error.is_identity(), "{error}");
    sshd.trust().await;
    assert_eq!(enrol_with_keys(&target, &options, &key).await.unwrap(), None);
    let wrong = Secret::new("not the password".to_owned());
    let error = enrol_with_password(&target, &options, &key, &wrong).await.unwrap_err();
    assert!(matches!(error, ConnectError::Password { .. }) && error.is_final(), "{error}");
    assert!(!error.to_string().contains("not the password"), "{error}");
    assert_eq!(sshd.log().matches("Failed password").count(), 1, "{}", sshd.log());

    // A last line without an end stays a line of its own.
    let file = sshd.path("home/.ssh/authorized_keys");
    std::fs::write(&file, "# other keys").unwrap();
    run("chown", &["1500:1500", file.to_str().unwrap()]);
    let added = enrol_with_password(&target, &options, &key, &right).await.unwrap();
    assert_eq!(added, Enrolled::Added);
    let again = enrol_with_password(&target, &options, &key, &right).await.unwrap();
    assert_eq!(again, Enrolled::Present);
    assert_eq!(enrol_with_keys(&target, &options, &key).await.unwrap(), Some(Enrolled::Present));
    let written = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "# other keys"), "{written}");
    assert!(lines[1].starts_with("ssh-ed25519 AAAA"), "{written}");
}
