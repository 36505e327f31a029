//! The secrets of a site from outside: the four commands, the files they leave, and what they say
//! when something is wrong.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use strata::cli::secrets::{SecretsArgs, SecretsCommand, SecretsSettings, Streams, run};
use strata::diag::{Diagnostics, Renderer};
use strata::secrets::{Declared, Origin, Present, SecretStore, Secrets};

/// A site in a temporary directory, with the identity of one operator beside it.
struct Site {
    directory: tempfile::TempDir,
    identity: PathBuf,
}

struct Outcome {
    code: u8,
    output: String,
    errors: String,
}

impl Site {
    /// A site that declares the secrets of this repository.
    fn real() -> Self {
        let site = Self::empty();
        for entry in fs::read_dir("credentials.example").unwrap() {
            let entry = entry.unwrap();
            let target = site.root().join("credentials.example").join(entry.file_name());
            fs::copy(entry.path(), target).unwrap();
        }
        site
    }

    /// A site that declares two secrets in one brick.
    fn small() -> Self {
        let site = Self::empty();
        site.declare(
            "redis",
            "# The password of clients.\n\
             #: generate length=32 alphabet=alnum\n\
             #: accept min=16 max=64 without=space,quote\n\
             REDIS_PASSWORD=\n\n\
             # The account at the provider.\n\
             #: supplied\n\
             REDIS_LICENCE=\n",
        );
        site
    }

    fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("site/credentials.example")).unwrap();
        let identity = directory.path().join("home/strata/identity.txt");
        Self { directory, identity }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("site")
    }

    fn declare(&self, brick: &str, text: &str) {
        fs::write(self.root().join(format!("credentials.example/{brick}.env")), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join("credentials").join(name)
    }

    /// Writes a file of secrets with a mode.
    fn plain(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) {
        fs::create_dir_all(self.root().join("credentials")).unwrap();
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn run_with(
        &self,
        command: SecretsCommand,
        input: &str,
        terminal: bool,
        change: impl FnOnce(&mut SecretsSettings),
    ) -> Outcome {
        let mut settings = SecretsSettings {
            site_root: self.root(),
            identity_path: self.identity.clone(),
            editor: Vec::new(),
            memory_directories: vec![PathBuf::from("/dev/shm")],
            json: false,
            color: false,
            used: None,
        };
        change(&mut settings);
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut input = input.as_bytes();
        let mut streams =
            Streams { input: &mut input, output: &mut output, errors: &mut errors, terminal };
        let code = run(&SecretsArgs { command }, &settings, &mut streams);
        Outcome {
            code,
            output: self.neutral(&String::from_utf8(output).unwrap()),
            errors: self.neutral(&String::from_utf8(errors).unwrap()),
        }
    }

    fn neutral(&self, text: &str) -> String {
        text.replace(&self.directory.path().display().to_string(), "/T")
    }

    fn init(&self) -> Outcome {
        self.run_with(SecretsCommand::Init, "", false, |_| {})
    }

    fn set(&self, brick: &str, name: &str, input: &str) -> Outcome {
        let command = SecretsCommand::Set { brick: brick.into(), name: name.into() };
        self.run_with(command, input, false, |_| {})
    }

    fn names(&self) -> Outcome {
        self.run_with(SecretsCommand::Names { brick: None }, "", false, |_| {})
    }

    /// Edits a brick with a shell script that gets the file as `$1`.
    fn edit(&self, brick: &str, script: &str) -> Outcome {
        let command = SecretsCommand::Edit { brick: brick.into() };
        self.run_with(command, "", true, |settings| {
            settings.editor = ["sh", "-c", script, "editor"].map(str::to_owned).to_vec();
        })
    }

    fn load(&self) -> Result<Secrets, String> {
        self.load_as(&self.identity)
    }

    fn load_as(&self, identity: &Path) -> Result<Secrets, String> {
        let text = |problems: Diagnostics| self.neutral(&Renderer::new(false).all(&problems));
        let store = SecretStore::open(&self.root(), identity).map_err(text)?;
        store.load().map(|(secrets, _)| secrets).map_err(text)
    }

    /// Every file of the site and its content.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        fs::read_dir(self.root().join("credentials"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }
}

/// Another operator's identity and recipient line.
fn other_identity() -> (tempfile::TempDir, PathBuf, String) {
    let other = Site::small();
    assert_eq!(other.init().code, 0);
    let text = fs::read_to_string(other.path("recipients.txt")).unwrap();
    let recipient = text.lines().find(|line| line.starts_with("age1")).unwrap().to_owned();
    let identity = other.identity.clone();
    (other.directory, identity, recipient)
}

#[test]
fn the_repository_declares_the_ten_bricks_with_every_name() {
    let (declared, problems) = Declared::load(Path::new("."));
    assert!(problems.is_empty(), "{}", Renderer::new(false).all(&problems));
    let bricks = "k3s mail mariadb marketplaces minio postgres proxysql rabbitmq redis stripe";
    assert_eq!(declared.bricks().join(" "), bricks);
    let names = "POSTGRES_SUPERUSER POSTGRES_SUPERPASS POSTGRES_APP_USER POSTGRES_APP_PASSWORD \
        POSTGRES_APP_DB POSTGRES_REPLICATION_USER POSTGRES_REPLICATION_PASSWORD \
        PGBOUNCER_AUTH_PASSWORD PATRONI_RESTAPI_USER PATRONI_RESTAPI_PASSWORD REDIS_PASSWORD \
        RABBITMQ_USER RABBITMQ_PASSWORD RABBITMQ_ERLANG_COOKIE MINIO_ROOT_USER \
        MINIO_ROOT_PASSWORD MARIADB_ROOT_PASSWORD MARIADB_APP_USER MARIADB_APP_PASSWORD \
        MARIADB_APP_DB MARIADB_SST_PASSWORD MARIADB_MONITOR_USER MARIADB_MONITOR_PASSWORD \
        PROXYSQL_ADMIN_USER PROXYSQL_ADMIN_PASSWORD K3S_TOKEN K3S_AGENT_TOKEN MAIL_SMTP_USER \
        MAIL_SMTP_PASSWORD STRIPE_SECRET_KEY BACKUP_S3_ACCESS_KEY BACKUP_S3_SECRET_KEY \
        BACKUP_ENCRYPTION_KEY";
    for name in names.split_whitespace() {
        let declaration = declared.get(name).unwrap_or_else(|| panic!("{name}"));
        assert!(!declaration.purpose.is_empty(), "{name}");
    }
    // What consumers are known to refuse (X27).
    for (name, refused) in [
        ("MARIADB_ROOT_PASSWORD", "a2345678901234567890123456789012345"),
        ("MARIADB_ROOT_PASSWORD", "a234567890123456\\"),
        ("RABBITMQ_ERLANG_COOKIE", "a234567890123456789-"),
        ("RABBITMQ_ERLANG_COOKIE", "a23456789012345"),
        ("REDIS_PASSWORD", "a234567890 1234567"),
        ("REDIS_PASSWORD", "a234567890\"1234567"),
        ("PROXYSQL_ADMIN_PASSWORD", "a234567890:1234567"),
        ("PROXYSQL_ADMIN_PASSWORD", "a234567890;1234567"),
        ("PROXYSQL_ADMIN_USER", "admin"),
        ("MARIADB_MONITOR_USER", "monitor"),
        ("RABBITMQ_USER", "guest"),
        ("K3S_TOKEN", "K10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("MINIO_ROOT_USER", "ab"),
        ("MINIO_ROOT_PASSWORD", "1234567"),
    ] {
        let rules = &declared.get(name).unwrap().rules;
        assert!(!rules.check(refused).is_empty(), "{name}");
    }
}

#[test]
fn init_makes_everything_that_can_be_made_and_a_second_one_changes_nothing() {
    let site = Site::real();
    let first = site.init();
    assert_eq!(first.code, 0, "{}", first.errors);
    insta::assert_snapshot!("init_first", first.output);
    let (declared, _) = Declared::load(&site.root());
    let secrets = site.load().unwrap();
    for declaration in declared.iter() {
        let value = secrets.get(&declaration.name);
        if declaration.origin == Origin::Supplied {
            assert!(value.is_none(), "{}", declaration.name);
            continue;
        }
        let value = value.unwrap().expose();
        assert!(declaration.rules.check(value).is_empty(), "{}", declaration.name);
    }
    let before = site.files();
    let written =
        before.iter().map(|(name, bytes)| (name.as_str(), String::from_utf8_lossy(bytes)));
    for (place, text) in written.chain([("output", first.output.as_str().into())]) {
        for (secret, value) in secrets.masked_values() {
            assert!(!text.contains(value.expose().as_str()), "{secret} in {place}");
        }
    }
    let second = site.init();
    assert_eq!(second.code, 0, "{}", second.errors);
    assert!(!second.output.contains("made an identity"), "{}", second.output);
    assert!(second.output.contains("redis         encrypted  0 made, 1 kept\n"));
    assert_eq!(site.files(), before);
    assert_eq!(fs::metadata(&site.identity).unwrap().mode() & 0o777, 0o600);
    let home = fs::metadata(site.identity.parent().unwrap()).unwrap();
    assert_eq!(home.mode() & 0o777, 0o700);
    insta::assert_snapshot!("names_after_init", site.names().output);
}

#[test]
fn what_a_check_needs_is_known_without_the_identity() {
    let site = Site::small();
    site.init();
    fs::remove_file(&site.identity).unwrap();
    let (declared, _) = Declared::load(&site.root());
    let (present, problems) = Present::find(&site.root(), &declared);
    assert!(problems.is_empty());
    assert!(present.contains("REDIS_PASSWORD") && !present.contains("REDIS_LICENCE"));
    let missing = declared.get("REDIS_LICENCE").unwrap().missing();
    insta::assert_snapshot!("missing_secret", Renderer::new(false).one(&missing));
    // And an identity is not made anew where one is needed that is gone.
    let again = site.init();
    assert_eq!(again.code, 2);
    assert!(!site.identity.exists());
    insta::assert_snapshot!("identity_missing", again.errors);
}

#[test]
fn two_recipients_read_alike_and_the_age_program_reads_it_too() {
    let (_keep, identity, recipient) = other_identity();
    let site = Site::small();
    fs::create_dir(site.root().join("credentials")).unwrap();
    fs::write(site.path("recipients.txt"), format!("# a colleague\n{recipient}\n")).unwrap();
    let outcome = site.init();
    assert_eq!(outcome.code, 0, "{}", outcome.errors);
    let mine = site.load().unwrap();
    let theirs = site.load_as(&identity).unwrap();
    let value = mine.get("REDIS_PASSWORD").unwrap();
    assert_eq!(Some(value), theirs.get("REDIS_PASSWORD"));
    let Ok(age) = std::process::Command::new("age")
        .args(["-d", "-i"])
        .arg(&identity)
        .arg(site.path("redis.env.age"))
        .output()
    else {
        eprintln!("the age program is not installed: not compared with it");
        return;
    };
    let clear = String::from_utf8(age.stdout).unwrap();
    assert_eq!(clear, format!("REDIS_PASSWORD={}\n", value.expose()));
}

#[test]
fn an_ssh_key_is_an_identity() {
    let site = Site::small();
    let home = site.identity.parent().unwrap().to_owned();
    fs::create_dir_all(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&site.identity)
        .status();
    if made.is_err() {
        eprintln!("ssh-keygen is not installed: nothing tested");
        return;
    }
    let outcome = site.init();
    assert_eq!(outcome.code, 0, "{}", outcome.errors);
    assert!(fs::read_to_string(site.path("recipients.txt")).unwrap().contains("ssh-ed25519 "));
    assert!(site.load().unwrap().get("REDIS_PASSWORD").is_some());
}

#[test]
fn set_reads_one_line_and_refuses_what_is_no_value() {
    let site = Site::small();
    site.init();
    let value = "L7 'x' licence";
    let outcome = site.set("redis", "REDIS_LICENCE", &format!("{value}\n"));
    assert_eq!((outcome.code, outcome.output.as_str()), (0, "REDIS_LICENCE set\n"));
    assert_eq!(site.load().unwrap().get("REDIS_LICENCE").unwrap().expose(), value);
    let before = site.files();
    let same = site.set("redis", "REDIS_LICENCE", value);
    assert_eq!(same.output, "REDIS_LICENCE unchanged: it has this value already\n");
    let mut said = String::new();
    for (name, input) in [
        ("REDIS_LICENCE", ""),
        ("REDIS_LICENCE", "\n"),
        ("REDIS_LICENCE", "Kolibri1\nKolibri2"),
        ("REDIS_LICENCE", "Kolibri'\"1"),
        ("REDIS_PASSWORD", "Kolibri1"),
        ("REDIS_PASSWORD", "changeme"),
        ("REDIS_PASSWORT", "Kolibri1"),
    ] {
        let outcome = site.set("redis", name, input);
        assert_eq!(outcome.code, 2, "{}", outcome.errors);
        assert!(!outcome.errors.contains("Kolibri"));
        said.push_str(&format!("--- {name}\n{}", outcome.errors));
    }
    said.push_str(&format!("--- rediss\n{}", site.set("rediss", "X", "x").errors));
    insta::assert_snapshot!("set_refusals", said);
    assert_eq!(site.files(), before);
}

#[test]
fn set_makes_the_file_of_a_brick_that_only_the_operator_can_fill() {
    let site = Site::real();
    site.init();
    assert!(!site.path("mail.env.age").exists());
    assert_eq!(site.set("mail", "MAIL_SMTP_USER", "postmaster@example.org").code, 0);
    assert!(site.path("mail.env.age").exists());
    let names = site.names().output;
    assert!(names.contains("present    MAIL_SMTP_USER"), "{names}");
    assert!(names.contains("to supply  MAIL_SMTP_PASSWORD"), "{names}");
}

#[test]
fn a_plain_file_is_read_filled_and_kept_plain() {
    let site = Site::small();
    site.plain("redis.env", "# mine\nREDIS_LICENCE='Kolibri 77'\nREDIS_PASSWORD=\n", 0o600);
    let outcome = site.init();
    assert_eq!(outcome.code, 0, "{}", outcome.errors);
    let text = fs::read_to_string(site.path("redis.env")).unwrap();
    assert!(text.starts_with("# mine\nREDIS_LICENCE='Kolibri 77'\nREDIS_PASSWORD="), "{text}");
    assert_eq!(text.lines().count(), 3);
    assert_eq!(fs::metadata(site.path("redis.env")).unwrap().mode() & 0o777, 0o600);
    assert!(!site.path("redis.env.age").exists());
    // A shell that sources the file gets the same values (KB-H5).
    let sourced = std::process::Command::new("sh")
        .args(["-c", ". \"$1\"; printf %s \"$REDIS_LICENCE|$REDIS_PASSWORD\"", "sh"])
        .arg(site.path("redis.env"))
        .output()
        .unwrap();
    let secrets = site.load().unwrap();
    let expected = ["REDIS_LICENCE", "REDIS_PASSWORD"]
        .map(|name| secrets.get(name).unwrap().expose().clone())
        .join("|");
    assert_eq!(String::from_utf8(sourced.stdout).unwrap(), expected);
}

#[test]
fn wrong_modes_owners_and_kinds_are_refused() {
    let site = Site::small();
    let mut said = String::new();
    site.plain("redis.env", "REDIS_LICENCE=Kolibri77\n", 0o644);
    said.push_str(&site.load().unwrap_err());
    let names = site.names();
    assert_eq!((names.code, names.errors), (2, site.load().unwrap_err()));
    site.plain("redis.env", "REDIS_LICENCE=Kolibri77\n", 0o600);
    chown(site.path("redis.env"), Some(65534), None).unwrap();
    said.push_str(&site.load().unwrap_err());
    fs::rename(site.path("redis.env"), site.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", site.path("redis.env")).unwrap();
    said.push_str(&site.load().unwrap_err());
    fs::remove_file(site.path("redis.env")).unwrap();
    assert_eq!(site.init().code, 0);
    site.plain("redis.env", "REDIS_LICENCE=Kolibri77\n", 0o600);
    said.push_str(&site.load().unwrap_err());
    fs::remove_file(site.path("redis.env")).unwrap();
    fs::set_permissions(&site.identity, fs::Permissions::from_mode(0o640)).unwrap();
    said.push_str(&site.load().unwrap_err());
    fs::set_permissions(&site.identity, fs::Permissions::from_mode(0o600)).unwrap();
    let home = site.identity.parent().unwrap();
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    said.push_str(&site.load().unwrap_err());
    insta::assert_snapshot!("modes", said);
    assert!(!said.contains("Kolibri"));
}

#[test]
fn every_mistake_in_an_env_file_is_shown_at_once_without_a_value() {
    let site = Site::small();
    let text = "\u{feff}# a comment with Kolibri00\r\n\
                REDIS_PASSWORD=\"Kolibri01$HOME\"\n\
                REDIS_LICENCE='Kolibri02\n\
                export REDIS_LICENCE=Kolibri03\n\
                REDIS_LICENCE = Kolibri04\n\
                REDIS_LICENCE=Kolibri05 # old\n\
                REDIS_LICENCE='Kolibri06' # old\n\
                redis_licence=Kolibri07\n\
                Kolibri08\n\
                S29saWJyaTA5==\n\
                REDIS_LICENCE=$(cat Kolibri10)\n\
                REDIS_LICENCE=Kolibri11\n\
                REDIS_LICENCE=Kolibri12\n\
                REDIS_LICENSE=Kolibri13\n\
                REDIS_PASSWORD=guest\n\
                REDIS_EMPTY=\n\
                REDIS_TAB='Kolibri\t14'\n";
    site.plain("redis.env", text, 0o600);
    let outcome = site.names();
    assert_eq!(outcome.code, 2);
    assert!(!outcome.errors.contains("Kolibri") && !outcome.errors.contains("S29s"));
    insta::assert_snapshot!("env_mistakes", outcome.errors);
    site.plain("redis.env", b"REDIS_LICENCE=x\nREDIS_PASSWORD=Kolibri\xff\n", 0o600);
    insta::assert_snapshot!("env_not_utf8", site.names().errors);
}

#[test]
fn every_mistake_in_declarations_is_shown_at_once() {
    let site = Site::empty();
    site.declare(
        "redis",
        "#: generate length=32\nA_A=\n\
         #: generate length=4 alphabet=digits\nA_B=\n\
         #: generat length=32 alphabet=alnum\nA_C=\n\
         #: generate length=many alphabet=latin size=3\nA_D=\n\
         A_E=\n\
         #: supplied\nA_F=Kolibri01\n\
         #: generate length=48 alphabet=base64url\n#: accept max=32 alphabet=alnum\nA_G=\n\
         #: fixed value=guest\nA_H=\n\
         #: supplied\n#: supplied\nA_I=\n\
         #: supplied\na_j=\n\
         #: supplied\n\n\
         Kolibri02\n\
         #: generate user length=3 length=4\nA_K=\n\
         #: accept without=space,tabs\n#: supplied\nA_L=\n\
         #: supplied\nA_M=\n",
    );
    site.declare("valkey", "#: supplied\nA_M=\n");
    let outcome = site.names();
    assert_eq!(outcome.code, 2);
    assert!(!outcome.errors.contains("Kolibri"));
    insta::assert_snapshot!("declaration_mistakes", outcome.errors);
    fs::remove_dir_all(site.root().join("credentials.example")).unwrap();
    insta::assert_snapshot!("declarations_missing", site.names().errors);
}

#[test]
fn bad_recipients_are_shown_and_a_secret_key_among_them_is_not() {
    let site = Site::small();
    let (_keep, identity, recipient) = other_identity();
    let secret = fs::read_to_string(identity).unwrap();
    let secret = secret.lines().last().unwrap();
    fs::create_dir(site.root().join("credentials")).unwrap();
    let text = format!("# ours\n{secret}\nage1nobody\nssh-ed25519 AAAA bob\nKolibri\n");
    fs::write(site.path("recipients.txt"), text).unwrap();
    let outcome = site.init();
    assert_eq!(outcome.code, 2);
    assert!(!outcome.errors.contains("AGE-SECRET-KEY-1") && !outcome.errors.contains("Kolibri"));
    insta::assert_snapshot!("recipients_mistakes", outcome.errors);
    // Not among the readers of what is encrypted already: nothing is written that cannot be read.
    fs::write(site.path("recipients.txt"), "").unwrap();
    assert_eq!(site.init().code, 0);
    fs::write(site.path("recipients.txt"), format!("{recipient}\n")).unwrap();
    let before = site.files();
    let refused = site.set("redis", "REDIS_LICENCE", "Kolibri77");
    assert_eq!(refused.code, 2);
    assert!(refused.errors.contains("E0447"), "{}", refused.errors);
    fs::remove_file(site.path("recipients.txt")).unwrap();
    assert!(site.init().errors.contains("E0446"));
    fs::write(site.path("recipients.txt"), format!("{recipient}\n")).unwrap();
    assert_eq!(site.files(), before);
}

#[test]
fn a_wrong_identity_a_damaged_file_and_a_replaced_one_are_told_apart() {
    let site = Site::small();
    site.init();
    let (_keep, identity, _) = other_identity();
    let wrong = site.load_as(&identity).unwrap_err();
    let (start, _) = wrong.split_once("`age1").unwrap();
    insta::assert_snapshot!("wrong_identity", start);
    let sealed = fs::read_to_string(site.path("redis.env.age")).unwrap();
    let lines: Vec<&str> = sealed.lines().collect();
    // One character of the content, then one of the header, then the end cut off.
    for (line, cut) in [(lines.len() - 2, false), (1, false), (lines.len() - 3, true)] {
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        if cut {
            changed.truncate(line);
        } else {
            let at = changed[line].len() / 2;
            let other = if &changed[line][at..=at] == "A" { "B" } else { "A" };
            changed[line].replace_range(at..=at, other);
        }
        fs::write(site.path("redis.env.age"), changed.join("\n") + "\n").unwrap();
        let error = site.load().unwrap_err();
        assert!(error.contains("E0445"), "{error}");
        // Which of the two is noticed first depends on the random bytes that the damage hits.
        let first = error.lines().next().unwrap();
        let reason = first
            .strip_prefix("error[E0445]: credentials/redis.env.age is damaged: ")
            .unwrap_or_else(|| panic!("{first}"));
        assert!(
            ["it does not start as an age file does", "its content was changed or cut off"]
                .contains(&reason),
            "{first}"
        );
        // Without an identity it shows by the manifest.
        assert!(site.names().errors.contains("E0451"));
    }
    // A sound file, encrypted by somebody to the public recipients.
    fs::write(site.path("redis.env.age"), &sealed).unwrap();
    let other = Site { identity: site.identity.clone(), ..Site::small() };
    fs::create_dir(other.root().join("credentials")).unwrap();
    fs::copy(site.path("recipients.txt"), other.path("recipients.txt")).unwrap();
    assert_eq!(other.init().code, 0);
    fs::copy(other.path("redis.env.age"), site.path("redis.env.age")).unwrap();
    insta::assert_snapshot!("replaced", site.load().unwrap_err());
    // The manifest too, as whoever replaces the file can: the keyed hashes do not fit.
    fs::copy(other.path("manifest.toml"), site.path("manifest.toml")).unwrap();
    insta::assert_snapshot!("forged", site.load().unwrap_err());
    // The operator looks at it and accepts it.
    let accepted = site.edit("redis", "true");
    assert_eq!(accepted.output, "redis unchanged; the manifest agrees with it now\n");
    assert!(site.load().is_ok());
}

#[test]
fn a_command_that_was_killed_leaves_what_the_next_one_can_read() {
    let site = Site::small();
    site.init();
    let before = site.files();
    let value = site.load().unwrap().get("REDIS_PASSWORD").unwrap().clone();
    // Killed before any name was given: only temporary files are left.
    for name in [".redis.env.age.strata-tmp-0123456789abcdef", ".manifest.toml.strata-tmp-01"] {
        fs::write(site.path(name), "half a fi").unwrap();
    }
    assert_eq!(site.load().unwrap().get("REDIS_PASSWORD"), Some(&value));
    assert_eq!(site.init().code, 0);
    assert_eq!(site.files(), before);
    // Killed after the manifest named both contents, before or after the file got its name.
    assert_eq!(site.set("redis", "REDIS_LICENCE", "Kolibri77").code, 0);
    let after = site.files();
    let text = |files: &BTreeMap<String, Vec<u8>>| {
        String::from_utf8(files["manifest.toml"].clone()).unwrap()
    };
    let new = text(&after);
    let both = format!("{}\n{}", text(&before), &new[new.find("[[file]]").unwrap()..]);
    for (files, expected) in [(&before, 1), (&after, 2)] {
        fs::write(site.path("redis.env.age"), &files["redis.env.age"]).unwrap();
        fs::write(site.path("manifest.toml"), &both).unwrap();
        assert_eq!(site.load().unwrap().len(), expected);
        let (declared, _) = Declared::load(&site.root());
        let (present, problems) = Present::find(&site.root(), &declared);
        assert!(problems.is_empty());
        assert_eq!(present.contains("REDIS_LICENCE"), expected == 2);
        // The next change leaves one record of the file.
        assert_eq!(site.set("redis", "REDIS_LICENCE", "Kolibri78").code, 0);
        let text = fs::read_to_string(site.path("manifest.toml")).unwrap();
        assert_eq!(text.matches("[[file]]").count(), 1, "{text}");
    }
}

#[test]
fn edit_is_checked_works_in_memory_and_rewrites_nothing_that_is_unchanged() {
    let site = Site::small();
    site.init();
    let before = site.files();
    let refused = site.run_with(SecretsCommand::Edit { brick: "redis".into() }, "", false, |_| {});
    insta::assert_snapshot!("edit_without_terminal", refused.errors);
    assert_eq!(site.edit("redis", "true").output, "redis unchanged, not written\n");
    assert_eq!(site.files(), before);
    let seen = site.directory.path().join("seen");
    let script = format!(
        "stat -c '%a %n' \"$1\" > {0}; stat -f -c %T \"$1\" >> {0}; touch \"$1.swp\"; \
         echo REDIS_LICENCE=Kolibri77 >> \"$1\"",
        seen.display()
    );
    let written = site.edit("redis", &script);
    assert_eq!(written.output, "redis written\n", "{}", written.errors);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.starts_with("600 /dev/shm/strata-edit-") && seen.ends_with("tmpfs\n"), "{seen}");
    // The directory is gone, with the swap file that the editor left.
    assert!(!Path::new(seen[4..].lines().next().unwrap()).parent().unwrap().exists());
    assert_eq!(site.load().unwrap().get("REDIS_LICENCE").unwrap().expose(), "Kolibri77");
    let before = site.files();
    let failed = site.edit("redis", "echo REDIS_LICENCE=Kolibri78 > \"$1\"; exit 3");
    assert_eq!(failed.code, 2);
    let emptied = site.edit("redis", ": > \"$1\"");
    assert_eq!(emptied.code, 2);
    assert_eq!(site.files(), before);
}

#[test]
fn a_change_made_meanwhile_is_not_overwritten() {
    let site = Site::small();
    site.init();
    let script = format!(
        "echo REDIS_LICENCE=Kolibri77 >> \"$1\"; printf x >> {}",
        site.path("redis.env.age").display()
    );
    let refused = site.edit("redis", &script);
    assert_eq!(refused.code, 1);
    assert!(refused.errors.contains("E0458"), "{}", refused.errors);
}

#[test]
fn commands_at_the_same_time_lose_nothing() {
    let site = Site::small();
    let mut text = String::new();
    for number in 0..8 {
        text.push_str(&format!("# Number {number}.\n#: supplied\nMANY_{number}=\n"));
    }
    site.declare("many", &text);
    site.init();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let site = &site;
            scope.spawn(move || {
                let name = format!("MANY_{number}");
                let outcome = site.set("many", &name, &format!("Kolibri{number}"));
                assert_eq!(outcome.code, 0, "{}", outcome.errors);
            });
        }
    });
    let secrets = site.load().unwrap();
    for number in 0..8 {
        let value = secrets.get(&format!("MANY_{number}")).unwrap();
        assert_eq!(*value.expose(), format!("Kolibri{number}"));
    }
}

#[test]
fn a_name_has_one_value_in_the_site() {
    let site = Site::small();
    site.plain("redis.env", "REDIS_LICENCE=Kolibri77\n", 0o600);
    site.plain("valkey.env", "REDIS_LICENCE=Kolibri78\n", 0o600);
    let error = site.load().unwrap_err();
    assert!(error.contains("E0453") && !error.contains("Kolibri"), "{error}");
    assert!(site.names().errors.contains("E0453"));
}

#[test]
fn json_is_one_document_without_values() {
    let site = Site::small();
    let outcome = site.run_with(SecretsCommand::Init, "", false, |settings| settings.json = true);
    let value: serde_json::Value = serde_json::from_str(&outcome.output).unwrap();
    assert_eq!(value["bricks"][0]["made"][0], "REDIS_PASSWORD");
    assert_eq!(value["missing"][0]["command"], "strata secrets set redis REDIS_LICENCE");
    let names = SecretsCommand::Names { brick: Some("redis".into()) };
    let outcome = site.run_with(names, "", false, |settings| settings.json = true);
    let value: serde_json::Value = serde_json::from_str(&outcome.output).unwrap();
    assert_eq!(value["bricks"][0]["names"][1]["state"], "to supply");
}
