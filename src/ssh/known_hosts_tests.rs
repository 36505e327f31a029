use super::*;
use proptest::prelude::*;

const ED_A: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
const ED_B: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn judge(file: &str, host: &[&str], presented: &str) -> HostKeyVerdict {
    KnownHosts::parse(file).unwrap().judge(&names(host), &key(presented)).unwrap()
}

#[test]
fn plain_names_addresses_ports_and_patterns_match() {
    let plain = format!("# comment\n\nredis-01,10.0.0.123\t{ED_A} note # not a comment\n");
    assert_eq!(judge(&plain, &["redis-01"], ED_A), HostKeyVerdict::Trusted);
    assert_eq!(judge(&plain, &["x", "10.0.0.123"], ED_A), HostKeyVerdict::Trusted);
    assert_eq!(judge(&plain, &["redis-02"], ED_A), HostKeyVerdict::Unknown);
    assert_eq!(judge(&plain, &["[redis-01]:2222"], ED_A), HostKeyVerdict::Unknown);
    let port = format!("[redis-01]:2222 {ED_A}\n");
    assert_eq!(judge(&port, &["[redis-01]:2222"], ED_A), HostKeyVerdict::Trusted);
    assert_eq!(judge(&port, &["redis-01"], ED_A), HostKeyVerdict::Unknown);
    let pattern = format!("10.0.0.*,!10.0.0.9,REDIS-0? {ED_A}\n");
    assert_eq!(judge(&pattern, &["10.0.0.8"], ED_A), HostKeyVerdict::Trusted);
    assert_eq!(judge(&pattern, &["10.0.0.9"], ED_A), HostKeyVerdict::Unknown);
    assert_eq!(judge(&pattern, &["redis-01"], ED_A), HostKeyVerdict::Trusted);
}

#[test]
fn a_hashed_name_matches_as_openssh_writes_it() {
    // `ssh-keygen -H` of a line for 10.0.0.123, and of one for [10.0.0.123]:2222.
    let salt = [7_u8; 20];
    let hashed = |name: &str| {
        let digest =
            Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update(name).finalize().into_bytes();
        format!("|1|{}|{} {ED_A}\n", BASE64.encode(salt), BASE64.encode(digest))
    };
    assert_eq!(judge(&hashed("10.0.0.123"), &["10.0.0.123"], ED_A), HostKeyVerdict::Trusted);
    assert_eq!(judge(&hashed("10.0.0.123"), &["10.0.0.124"], ED_A), HostKeyVerdict::Unknown);
    assert_eq!(
        judge(&hashed("[10.0.0.123]:2222"), &["[10.0.0.123]:2222"], ED_A),
        HostKeyVerdict::Trusted
    );
}

#[test]
fn a_different_key_is_an_alarm_that_shows_what_is_pinned() {
    let file = format!("\nredis-01 {ED_A}\n");
    let HostKeyVerdict::Changed { pinned, line } = judge(&file, &["redis-01"], ED_B) else {
        panic!("changed")
    };
    assert_eq!((pinned.len(), line), (1, 2));
    assert!(pinned[0].starts_with("ssh-ed25519 SHA256:"), "{pinned:?}");
    // Another type than the pinned one is no proof either.
    assert!(matches!(judge(&file, &["redis-01"], ECDSA), HostKeyVerdict::Changed { .. }));
}

#[test]
fn revoked_wins_over_pinned_wherever_it_stands() {
    let file = format!("redis-01 {ED_A}\n@revoked * {ED_A}\n");
    assert_eq!(judge(&file, &["redis-01"], ED_A), HostKeyVerdict::Revoked { line: 2 });
    assert_eq!(
        judge(&file, &["redis-01"], ED_B),
        HostKeyVerdict::Changed { pinned: vec![describe(&key(ED_A))], line: 1 }
    );
}

#[test]
fn an_authority_pins_no_host_and_a_broken_line_is_an_error_only_where_it_matters() {
    assert_eq!(judge(&format!("@cert-authority * {ED_A}"), &["a"], ED_A), HostKeyVerdict::Unknown);
    let broken = KnownHosts::parse("redis-01 ssh-ed25519 AAAAbroken").unwrap();
    assert!(broken.judge(&names(&["redis-01"]), &key(ED_A)).unwrap_err().contains("line 1"));
    assert_eq!(broken.judge(&names(&["other"]), &key(ED_A)), Ok(HostKeyVerdict::Unknown));
    assert!(KnownHosts::parse("@revoked * ssh-ed25519 AAAAbroken").is_err());
    assert!(KnownHosts::parse("@odd * ssh-ed25519 AAAA").is_err());
    assert!(KnownHosts::parse("just-a-name").is_err());
}

#[test]
fn the_pinned_type_is_asked_for() {
    let known = KnownHosts::parse(&format!("a {ECDSA}\nb {ED_A}\na {ED_A}\n")).unwrap();
    let algorithms = known.pinned_algorithms(&names(&["a"]));
    assert_eq!(algorithms, [key(ECDSA).algorithm(), key(ED_A).algorithm()]);
}

#[test]
fn adding_is_idempotent_private_and_never_replaces() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("known_hosts");
    assert_eq!(append_known_host(&path, &format!("a,10.0.0.1 {ED_A}")), Ok(Added::New));
    assert_eq!(append_known_host(&path, &format!("a,10.0.0.1 {ED_A}")), Ok(Added::AlreadyThere));
    assert_eq!(append_known_host(&path, &format!("a,10.0.0.1 {ECDSA}")), Ok(Added::New));
    let refused = append_known_host(&path, &format!("b,10.0.0.1 {ED_B}")).unwrap_err();
    assert!(refused.contains("a different ssh-ed25519 key is pinned for 10.0.0.1"), "{refused}");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("a,10.0.0.1 {ED_A}\na,10.0.0.1 {ECDSA}\n"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_rebuilt_host_gets_new_pins_and_nobody_else_loses_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("known_hosts");
    let salt = [7_u8; 20];
    let digest =
        Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update("a").finalize().into_bytes();
    let hashed = format!("|1|{}|{} {ED_A}", BASE64.encode(salt), BASE64.encode(digest));
    let before = format!(
        "# by hand\na,10.0.0.1 {ED_A} note\n{hashed}\nb,A,10.0.0.2 {ECDSA}\n@revoked a {ECDSA}\nab {ED_A}\n10.0.0.1 ssh-ed25519 AAAAbroken"
    );
    fs::write(&path, &before).unwrap();
    let own = names(&["a", "10.0.0.1"]);
    let replaced = replace_known_host(&path, &own, &[ED_B.to_owned()]).unwrap();
    assert_eq!(replaced.len(), 4, "{replaced:?}");
    assert_eq!(replaced[0], describe(&key(ED_A)));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        format!(
            "# by hand\nb,10.0.0.2 {ECDSA}\n@revoked a {ECDSA}\nab {ED_A}\na,10.0.0.1 {ED_B}\n"
        )
    );
    let known = KnownHosts::read(&path).unwrap();
    let pinned = known.pinned(&own).unwrap();
    assert_eq!((pinned.len(), pinned[0].line, pinned[0].key.as_str()), (1, 5, ED_B));
    assert!(pinned[0].has(&key(ED_B).fingerprint(HashAlg::Sha256).to_string()));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");

    let revoked = replace_known_host(&path, &own, &[ECDSA.to_owned()]).unwrap_err();
    assert!(revoked.contains(":3: the new key is revoked"), "{revoked}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    fs::write(&path, format!("a,10.0.0.* {ED_A}\n")).unwrap();
    let pattern = replace_known_host(&path, &own, &[ED_B.to_owned()]).unwrap_err();
    assert!(pattern.contains("the pattern `10.0.0.*` pins this host among others"), "{pattern}");
}

proptest! {
    #[test]
    fn no_text_panics_the_reader(text in "[ -~\n\t|@*!,]{0,200}") {
        if let Ok(known) = KnownHosts::parse(&text) {
            known.judge(&names(&["a"]), &key(ED_A)).ok();
        }
    }

    #[test]
    fn globs_agree_with_a_plain_recursive_reading(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        fn slow(p: &[u8], t: &[u8]) -> bool {
            match (p.split_first(), t.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) if slow(rest, t) => true,
                (Some((b'*', _)), Some((_, text))) => slow(p, text),
                (Some((b'?', rest)), Some((_, text))) => slow(rest, text),
                (Some((a, rest)), Some((b, text))) => a == b && slow(rest, text),
                _ => false,
            }
        }
        prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
    }
}
