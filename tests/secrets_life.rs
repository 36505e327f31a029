//! Who reads the secrets of a site, over the years: readers come and go, commands are killed,
//! identities have passphrases, files are replaced.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "site/copy.rs"]
mod copy;

use copy::copy_site;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use strata::secrets::{SealTo, Secret, SecretStore};

const STRATA: &str = env!("CARGO_BIN_EXE_strata");

/// A site with its operator's home.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// A site with two encrypted files, read by the operator, by bob and by a recovery key.
    fn with_bob(bob: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder };
        let examples = site.root().join("credentials.example");
        fs::create_dir_all(&examples).unwrap();
        for (brick, name) in [("redis", "REDIS_PASSWORD"), ("mail", "MAIL_SMTP_PASSWORD")] {
            let text = format!("# For {brick}.\n#: generate length=32 alphabet=alnum\n{name}=\n");
            fs::write(examples.join(format!("{brick}.env")), text).unwrap();
        }
        fs::create_dir_all(site.root().join("credentials")).unwrap();
        fs::write(site.file("recipients.txt"), format!("#: reader bob\n{bob}\n")).unwrap();
        fs::write(site.file("NOTES"), "of the operator").unwrap();
        fs::create_dir_all(site.home()).unwrap();
        site.done(&["secrets", "init"]);
        site
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn identity(&self) -> PathBuf {
        self.home().join(".config/strata/identity.txt")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root().join("credentials").join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(STRATA);
        command.arg("--site").arg(self.root()).args(words).env("HOME", self.home());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a command that succeeds and gives its output.
    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        text(&output)
    }

    /// Every value, read and checked as an install does.
    fn values(&self) -> BTreeMap<String, String> {
        let store = SecretStore::open(&self.root(), &self.identity()).unwrap();
        let (secrets, problems) = store.load().unwrap();
        assert!(problems.is_empty());
        secrets.all_values().map(|(n, v)| (n.to_owned(), v.expose().clone())).collect()
    }

    /// How many of the encrypted files the age program opens with an identity; none is empty.
    fn opened_by(&self, identity: &Path) -> usize {
        let opens = |name: &str| {
            let mut age = Command::new("age");
            let output =
                age.arg("-d").arg("-i").arg(identity).arg(self.file(name)).output().unwrap();
            assert!(!output.status.success() || !output.stdout.is_empty(), "{name} is empty");
            output.status.success()
        };
        FILES.iter().filter(|name| opens(name)).count()
    }

    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.root()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("strata-tmp")).collect()
    }

    /// An exact copy, hard links aside.
    fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let from = format!("{}/.", self.folder.path().display());
        let status = Command::new("cp").arg("-a").arg(from).arg(folder.path()).status().unwrap();
        assert!(status.success());
        Self { folder }
    }
}

/// What is encrypted in such a site.
const FILES: [&str; 3] = ["redis.env.age", "mail.env.age", "manifest.key.age"];

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Somebody's identity, and the key of it.
fn somebody(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let made = Command::new("age-keygen").arg("-o").arg(&path).output().unwrap();
    assert!(made.status.success());
    let shown = Command::new("age-keygen").arg("-y").arg(&path).output().unwrap();
    (path, String::from_utf8(shown.stdout).unwrap().trim().to_owned())
}

#[test]
fn rekey_killed_after_any_operation_leaves_all_of_the_old_set_or_all_of_the_new_one() {
    let people = tempfile::tempdir().unwrap();
    let (bob, bobs_key) = somebody(people.path(), "bob");
    let (carol, carols_key) = somebody(people.path(), "carol");
    let template = Site::with_bob(&bobs_key);
    let values = template.values();
    let add = format!("carol={carols_key}");
    let rekey = ["secrets", "rekey", "--remove", "bob", "--add", &add];
    let (mut old, mut new) = (0, 0);
    for operations in 1.. {
        assert!(operations < 200, "it never ends");
        let site = template.copy();
        let mut command = site.command(&rekey);
        command.env("STRATA_TEST_DIES_AFTER_FILES", operations.to_string());
        let output = command.output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{operations}: {}", text(&output));
        let readable = (site.opened_by(&bob), site.opened_by(&carol));
        assert!(
            readable == (FILES.len(), 0) || readable == (0, FILES.len()),
            "{operations}: of {} files bob reads {}, carol {}",
            FILES.len(),
            readable.0,
            readable.1
        );
        let recipients = fs::read_to_string(site.file("recipients.txt")).unwrap();
        assert_eq!(recipients.contains(&bobs_key), readable.0 > 0, "{operations}");
        assert_eq!(recipients.contains(&carols_key), readable.1 > 0, "{operations}");
        assert_eq!(site.values(), values, "{operations}");
        assert_eq!(fs::read_to_string(site.file("NOTES")).unwrap(), "of the operator");
        if !killed {
            assert_eq!(readable.1, FILES.len());
            break;
        }
        if readable.0 > 0 {
            old += 1
        } else {
            new += 1
        }
        // Said again, it ends as it would have; nothing is left of the first time.
        match readable.0 > 0 {
            true => assert!(site.done(&rekey).contains("removed: bob")),
            false => assert!(site.done(&["secrets", "rekey"]).contains("nothing to do")),
        }
        assert_eq!((site.opened_by(&bob), site.opened_by(&carol)), (0, FILES.len()));
        assert_eq!(site.leftovers(), Vec::<String>::new(), "{operations}");
        assert_eq!(site.values(), values);
    }
    eprintln!("killed {old} times before the exchange and {new} times after it");
    assert!(old >= 15 && new >= 5, "{old} before the exchange, {new} after it");
}

#[test]
fn whoever_reads_while_readers_change_finds_every_value() {
    let people = tempfile::tempdir().unwrap();
    let (_, bobs_key) = somebody(people.path(), "bob");
    let site = Site::with_bob(&bobs_key);
    let values = site.values();
    let add = format!("bob={bobs_key}");
    std::thread::scope(|scope| {
        let rekeys = scope.spawn(|| {
            for _ in 0..6 {
                site.done(&["secrets", "rekey", "--remove", "bob"]);
                site.done(&["secrets", "rekey", "--add", &add]);
            }
        });
        let mut reads = 0;
        while !rekeys.is_finished() {
            assert_eq!(site.values(), values);
            reads += 1;
        }
        assert!(reads > 12, "{reads}");
    });
}

#[test]
fn a_removed_reader_is_told_of_until_rekey_and_nothing_is_written_meanwhile() {
    let people = tempfile::tempdir().unwrap();
    let (bob, bobs_key) = somebody(people.path(), "bob");
    let site = Site::with_bob(&bobs_key);
    let said = site.done(&["secrets", "check"]);
    assert!(said.contains("read by") && said.contains("bob"), "{said}");
    assert!(said.contains("kept offline: recovery key"), "{said}");
    // The recovery key is where init put it: to be moved away.
    assert!(said.contains("E0462") && !said.contains("E0460"), "{said}");
    let recovery = site.home().join(".config/strata/recovery.txt");
    assert_eq!(site.opened_by(&recovery), FILES.len());
    fs::remove_file(&recovery).unwrap();
    let strict = site.run(&["secrets", "check", "--strict"]);
    assert!(!text(&strict).contains("E0462"), "{}", text(&strict));

    let recipients = fs::read_to_string(site.file("recipients.txt")).unwrap();
    let without = recipients.replace(&format!("#: reader bob\n{bobs_key}\n"), "");
    assert_ne!(recipients, without);
    fs::write(site.file("recipients.txt"), &without).unwrap();
    let said = text(&site.run(&["secrets", "check"]));
    assert!(said.contains("E0460") && said.contains("still read by bob"), "{said}");
    // Not with an identity either: whoever checks a site sees it.
    let said = text(&site.run(&["secrets", "names"]));
    assert!(said.contains("E0460"), "{said}");
    let mut set = site.command(&["secrets", "set", "mail", "MAIL_SMTP_PASSWORD"]);
    let mut set =
        set.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    set.stdin.take().unwrap().write_all(b"Kolibri-with-32-characters-12345").unwrap();
    let refused = set.wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("strata secrets rekey"), "{}", text(&refused));

    let look = site.run(&["secrets", "rekey", "--check"]);
    assert_eq!(look.status.code(), Some(8), "{}", text(&look));
    assert_eq!(site.opened_by(&bob), FILES.len());
    let said = site.done(&["secrets", "rekey"]);
    assert!(said.contains("removed: bob") && said.contains("  REDIS_PASSWORD"), "{said}");
    assert_eq!(site.opened_by(&bob), 0);
    assert!(site.done(&["secrets", "rekey"]).starts_with("nothing to do"));
    assert!(!text(&site.run(&["secrets", "check"])).contains("E0460"));
}

#[test]
fn a_set_without_a_recovery_key_gets_one_and_names_must_be_right() {
    let people = tempfile::tempdir().unwrap();
    let (_, bobs_key) = somebody(people.path(), "bob");
    let site = Site::with_bob(&bobs_key);
    let said = site.done(&["secrets", "rekey", "--remove", "recovery key"]);
    assert!(said.contains("removed: recovery key"), "{said}");
    let recovery = site.home().join(".config/strata/recovery.txt");
    assert_eq!(site.opened_by(&recovery), 0);
    let said = text(&site.run(&["secrets", "check"]));
    assert!(said.contains("E0461") && said.contains("--new-recovery-key"), "{said}");
    fs::remove_file(&recovery).unwrap();
    let said = site.done(&["secrets", "rekey", "--new-recovery-key"]);
    assert!(said.contains("made a recovery key") && said.contains("added: recovery key"), "{said}");
    assert_eq!(site.opened_by(&recovery), FILES.len());

    let before = fs::read(site.file("redis.env.age")).unwrap();
    let own = fs::read_to_string(site.file("recipients.txt")).unwrap();
    let own = own.lines().filter(|line| line.starts_with("age1")).nth(1).unwrap().to_owned();
    for words in [
        &["--remove", "mallory"][..],
        &["--add", "mallory"],
        &["--add", "mallory=age1nobody"],
        // What one writes one must be able to read.
        &["--remove", &own],
    ] {
        let refused = site.run(&[&["secrets", "rekey"], words].concat());
        assert_eq!(refused.status.code(), Some(2), "{words:?}: {}", text(&refused));
    }
    assert_eq!(fs::read(site.file("redis.env.age")).unwrap(), before);
}

#[test]
fn rekey_refuses_a_file_that_somebody_replaced_and_changes_none() {
    let people = tempfile::tempdir().unwrap();
    let (_, bobs_key) = somebody(people.path(), "bob");
    let site = Site::with_bob(&bobs_key);
    let mut forged = Command::new("age");
    forged
        .arg("-a")
        .arg("-R")
        .arg(site.file("recipients.txt"))
        .arg("-o")
        .arg(site.file("mail.env.age"));
    let mut forged = forged.stdin(Stdio::piped()).spawn().unwrap();
    forged
        .stdin
        .take()
        .unwrap()
        .write_all(b"MAIL_SMTP_PASSWORD=a-value-of-somebody-else-1234567\n")
        .unwrap();
    assert!(forged.wait().unwrap().success());
    let before = fs::read(site.file("redis.env.age")).unwrap();
    for words in [&["secrets", "rekey", "--remove", "bob"][..], &["secrets", "check"]] {
        let refused = site.run(words);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
        assert!(text(&refused).contains("E0451"), "{}", text(&refused));
    }
    assert_eq!(fs::read(site.file("redis.env.age")).unwrap(), before);
    // Whom the manifest says that files are read by is proved too.
    let site = Site::with_bob(&bobs_key);
    let manifest = fs::read_to_string(site.file("manifest.toml")).unwrap();
    let digest = manifest.lines().find_map(|line| line.strip_prefix("recipients = ")).unwrap();
    let other = manifest.replace(digest, "\"00\"");
    fs::write(site.file("manifest.toml"), other).unwrap();
    let refused = site.run(&["secrets", "rekey"]);
    assert!(text(&refused).contains("E0451"), "{}", text(&refused));
}

#[test]
fn values_that_are_shared_weak_or_missing_are_found() {
    let people = tempfile::tempdir().unwrap();
    let (_, bobs_key) = somebody(people.path(), "bob");
    let site = Site::with_bob(&bobs_key);
    let value = &site.values()["REDIS_PASSWORD"];
    let mut set = site.command(&["secrets", "set", "mail", "MAIL_SMTP_PASSWORD"]);
    let mut set = set.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    set.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    assert!(set.wait().unwrap().success());
    let said = text(&site.run(&["secrets", "check"]));
    assert!(said.contains("MAIL_SMTP_PASSWORD and REDIS_PASSWORD have the same value"), "{said}");
    assert!(!said.contains(value.as_str()));
    // A rule that came later than the value.
    let example = site.root().join("credentials.example/mail.env");
    let text_of = fs::read_to_string(&example).unwrap();
    let stricter = text_of
        .replace("length=32", "length=48")
        .replace("MAIL_SMTP", "#: accept min=40\nMAIL_SMTP");
    fs::write(&example, stricter).unwrap();
    let output = site.run(&["secrets", "check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("E0411"), "{}", text(&output));
}

#[test]
fn differences_are_told_by_name_against_a_revision_and_a_directory() {
    let people = tempfile::tempdir().unwrap();
    let (_, bobs_key) = somebody(people.path(), "bob");
    let site = Site::with_bob(&bobs_key);
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(site.root()).args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
        ]);
        assert!(git.args(words).output().unwrap().status.success(), "{words:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "first"]);
    let earlier = site.copy();
    assert_eq!(site.done(&["secrets", "diff"]), "");
    let example = site.root().join("credentials.example/redis.env");
    let more = fs::read_to_string(&example).unwrap()
        + "\n# Another.\n#: generate length=24 alphabet=hex\nREDIS_MONITOR_PASSWORD=\n";
    fs::write(&example, more).unwrap();
    site.done(&["secrets", "init"]);
    let mut set = site.command(&["secrets", "set", "mail", "MAIL_SMTP_PASSWORD"]);
    let mut set = set.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    set.stdin.take().unwrap().write_all(b"Kolibri-with-32-characters-12345").unwrap();
    assert!(set.wait().unwrap().success());
    let expected = "changed  mail  MAIL_SMTP_PASSWORD\nadded    redis  REDIS_MONITOR_PASSWORD\n";
    let output = site.run(&["secrets", "diff"]);
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(8), expected));
    // The hashes tell, without an identity.
    let away = site.identity().with_extension("away");
    fs::rename(site.identity(), &away).unwrap();
    assert_eq!(text(&site.run(&["secrets", "diff", "HEAD"])), expected);
    fs::rename(&away, site.identity()).unwrap();
    // After a rekey the manifest has another key, and the values are compared.
    site.done(&["secrets", "rekey", "--remove", "bob"]);
    let both = format!("{expected}removed  reader  bob\n");
    assert_eq!(text(&site.run(&["secrets", "diff"])), both);
    let folder = earlier.root().display().to_string();
    assert_eq!(text(&site.run(&["secrets", "diff", &folder])), both);
    let wrong = site.run(&["secrets", "diff", "--", "--output=/tmp/x"]);
    assert_eq!(wrong.status.code(), Some(2));
    let wrong = site.run(&["secrets", "diff", "no-such-branch"]);
    assert!(text(&wrong).contains("E0464"), "{}", text(&wrong));
}

#[test]
fn a_new_value_stands_beside_the_one_before_until_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site { folder };
    fs::create_dir_all(site.root()).unwrap();
    fs::create_dir_all(site.home()).unwrap();
    copy_site(&site.root());
    site.done(&["secrets", "init"]);
    let before = site.values();
    let said = site.done(&["secrets", "rotate", "--no-install", "redis"]);
    assert!(said.contains("new values, and those before beside them: REDIS_PASSWORD"), "{said}");
    let during = site.values();
    assert_eq!(during["REDIS_PASSWORD_PREVIOUS"], before["REDIS_PASSWORD"]);
    assert_ne!(during["REDIS_PASSWORD"], before["REDIS_PASSWORD"]);
    let checked = text(&site.run(&["secrets", "check"]));
    assert!(checked.contains("REDIS_PASSWORD is being rotated"), "{checked}");
    assert!(!checked.contains("E0413") && !checked.contains("error["), "{checked}");
    site.done(&["check"]);
    let refused = |words: &[&str], why: &str| {
        let held = site.values();
        let output = site.run(&[&["secrets", "rotate", "--no-install"], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output));
        assert!(text(&output).contains(why), "{words:?}: {}", text(&output));
        assert_eq!(site.values(), held, "{words:?}");
    };
    refused(&["redis"], "being rotated already");
    // Everything that is wrong is said at once.
    let both = ["POSTGRES_SUPERPASS", "REDIS_PASSWORD"];
    refused(&both, "REDIS_PASSWORD is being rotated already");
    refused(&both, "what uses POSTGRES_SUPERPASS does not take two values at a time");
    refused(&["STRIPE_SECRET_KEY"], "strata secrets set stripe STRIPE_SECRET_KEY");
    refused(&["POSTGRES_SUPERUSER"], "a name that others know");
    refused(&["stripe"], "nothing in `stripe` is generated");
    refused(&["redsi"], "did you mean redis?");
    refused(&["--finish", "POSTGRES_SUPERPASS"], "nothing is being rotated");
    let said = site.done(&["secrets", "rotate", "--no-install", "--finish"]);
    assert!(said.contains("dropped: REDIS_PASSWORD"), "{said}");
    let after = site.values();
    assert_eq!(after["REDIS_PASSWORD"], during["REDIS_PASSWORD"]);
    assert_eq!(after.len(), before.len());
    // What would refuse one of two values is not rotated.
    let role = site.root().join("roles/redis/role.toml");
    let single = fs::read_to_string(&role).unwrap();
    let single: String =
        single.lines().filter(|l| !l.contains("_PREVIOUS")).map(|l| format!("{l}\n")).collect();
    fs::write(&role, single).unwrap();
    refused(&["redis"], "does not take two values at a time");
}

/// Types a passphrase whenever it is asked for, on a terminal of its own.
fn typed(mut command: Command, passphrase: &str) -> (String, usize) {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    let line = shlex_join(&words);
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    command.stdin(Stdio::null());
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (mut said, mut asked) = (String::new(), 0);
    let mut piece = [0_u8; 1024];
    loop {
        let read = output.read(&mut piece).unwrap_or(0);
        if read == 0 {
            break;
        }
        said.push_str(&String::from_utf8_lossy(&piece[..read]));
        while said.matches("(not shown): ").count() > asked {
            asked += 1;
            input.write_all(format!("{passphrase}\r").as_bytes()).unwrap();
        }
    }
    child.wait().unwrap();
    (said, asked)
}

fn shlex_join(words: &[String]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_passphrase_is_asked_for_once_a_run_and_never_without_a_terminal() {
    let people = tempfile::tempdir().unwrap();
    let (_, bobs_key) = somebody(people.path(), "bob");
    let site = Site::with_bob(&bobs_key);
    // The same identity under a passphrase, as `age -p` makes it.
    let clear = fs::read(site.identity()).unwrap();
    let mut sealed = Vec::new();
    let to = SealTo::passphrase(Secret::new("correct horse battery".to_owned())).unwrap();
    let mut writer = to.seal(&mut sealed).unwrap();
    writer.write_all(&clear).unwrap();
    writer.finish().unwrap();
    // And one of OpenSSH, which reads as well.
    let key = people.path().join("ssh");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args([
        "-q",
        "-t",
        "ed25519",
        "-a",
        "4",
        "-N",
        "correct horse battery",
        "-C",
        "op@laptop",
        "-f",
    ]);
    assert!(keygen.arg(&key).status().unwrap().success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let line = public.rsplit_once(' ').unwrap().0;
    site.done(&["secrets", "rekey", "--add", &format!("op={line}")]);
    for identity in [sealed, fs::read(&key).unwrap()] {
        fs::write(site.identity(), identity).unwrap();
        fs::set_permissions(site.identity(), fs::Permissions::from_mode(0o600)).unwrap();
        // A command that opens every file, more than once.
        let (said, asked) = typed(site.command(&["secrets", "check"]), "correct horse battery");
        assert!(said.contains("2 values in 2 files"), "{said}");
        assert_eq!(asked, 1, "{said}");
        assert!(!said.contains("battery"), "{said}");
        let (said, asked) = typed(site.command(&["secrets", "check"]), "wrong horse");
        assert!(said.contains("E0442") && said.contains("was not unlocked"), "{said}");
        assert_eq!(asked, 3, "{said}");
        let mut alone = Command::new("setsid");
        alone.arg("-w").arg(STRATA).arg("--site").arg(site.root()).args(["secrets", "check"]);
        let alone = alone.env("HOME", site.home()).stdin(Stdio::null()).output().unwrap();
        assert_eq!(alone.status.code(), Some(2));
        assert!(text(&alone).contains("no terminal to ask on"), "{}", text(&alone));
    }
}
