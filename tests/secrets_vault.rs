//! Secrets out of Vault: against a contract double (`vault/double.rs`, which is not Vault), and by
//! hand against a server that others wrote (`campaign_a_server_that_others_wrote`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "site/copy.rs"]
mod copy;
#[path = "vault/double.rs"]
mod double;
#[path = "vault/rusty.rs"]
mod rusty;

use copy::copy_site;
use double::Double;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use strata::secrets::Declared;
use strata::secrets::provider::vault::Server;
use strata::secrets::provider::{Login, Provider as _, Vault};
use strata::secrets::{Redactor, Secret};

const TOKEN: &str = "hvs.kanarie-token-7Zr0";
const SECRET_ID: &str = "kanarie-secret-id-4Kd";
const PASSWORD: &str = "kanarie1A2B3C4D5E6F7G8H9";

/// A copy of the repository's site that keeps its secrets in the double.
struct Site {
    folder: tempfile::TempDir,
}

struct Said {
    code: i32,
    text: String,
}

/// The layers base and redis, and no others: they ask for one secret.
fn only_redis(text: &str) -> String {
    let mut parts = text.split("\n[[layer]]");
    let head = parts.next().unwrap().to_owned();
    let kept = parts.filter(|part| {
        let name = part.lines().find(|line| line.starts_with("name")).unwrap();
        name.contains("\"base\"") || name.contains("\"redis\"")
    });
    kept.fold(head, |text, part| text + "\n[[layer]]" + part)
}

impl Site {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_site(folder.path());
        let site = Self { folder };
        let file = site.root().join("strata.toml");
        let text = only_redis(&fs::read_to_string(&file).unwrap());
        fs::write(file, format!("{text}\n[secrets]\nprovider = \"vault\"\n{settings}\n")).unwrap();
        site
    }

    fn at(double: &Double) -> Self {
        Self::new(&at(double.port))
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.root().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command
            .arg("--site")
            .arg(self.root())
            .args(arguments)
            .env("NO_COLOR", "1")
            .env("HOME", self.root())
            .env("VAULT_TOKEN", TOKEN)
            .stdin(std::process::Stdio::null());
        command
    }

    fn strata(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
        Said { code: output.status.code().unwrap(), text: text.concat() }
    }
}

impl Said {
    #[track_caller]
    fn ended(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "{word} in:\n{}", self.text);
        }
        for canary in [TOKEN, SECRET_ID, PASSWORD] {
            assert!(!self.text.contains(canary), "{canary} in:\n{}", self.text);
        }
        self
    }
}

fn at(port: u16) -> String {
    format!(
        "address = \"http://127.0.0.1:{port}\"\npath = \"keybuzz/global/{{brick}}\"\ntimeout = 5"
    )
}

/// A double that allows `TOKEN` the paths of the site, with a value for what the site asks for.
fn filled() -> Double {
    let double = Double::start(None);
    double.with(|state| {
        state.tokens.insert(TOKEN.to_owned(), vec!["secret/data/keybuzz/global/redis".to_owned()]);
    });
    double.put("keybuzz/global/redis", &json!({ "REDIS_PASSWORD": "of-a-version-before-1234" }));
    double.put("keybuzz/global/redis", &json!({ "REDIS_PASSWORD": PASSWORD, "foreign": 7 }));
    double
}

fn vault(double: &Double) -> Vault {
    Vault {
        server: Server {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: double.port,
            ca_file: None,
        },
        mount: "secret".to_owned(),
        path: "keybuzz/global/{brick}".to_owned(),
        paths: [("marketplaces".to_owned(), "keybuzz/tenant_7/{brick}".to_owned())].into(),
        namespace: None,
        login: Login::Token { given: Some(Secret::new(TOKEN.to_owned())), file: None },
        timeout: Duration::from_secs(5),
    }
}

fn declared() -> Declared {
    let (declared, problems) = Declared::load(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(problems.is_empty());
    declared
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn asked_names_are_read_at_once_and_no_others() {
    let double = filled();
    double.with(|state| {
        state.namespace = Some("keybuzz".to_owned());
        state.thinks = Duration::from_millis(200);
        let all = "secret/data/keybuzz/".to_owned();
        state.tokens.insert(TOKEN.to_owned(), vec![all]);
    });
    let postgres = json!({ "POSTGRES_SUPERPASS": "a-superuser-of-the-database", "x": [1] });
    double.put("keybuzz/global/postgres", &postgres);
    double.put("keybuzz/tenant_7/marketplaces", &json!({}));
    let mut vault = vault(&double);
    vault.namespace = Some("keybuzz".to_owned());
    let asked = names(&[
        "REDIS_PASSWORD",
        "REDIS_PASSWORD_PREVIOUS",
        "POSTGRES_SUPERPASS",
        "POSTGRES_APP_DB",
        "NOBODY_DECLARED_IT",
    ]);
    let (secrets, problems) = (&vault).load(&declared(), &asked).unwrap();
    assert!(problems.is_empty());
    assert_eq!(secrets.get("REDIS_PASSWORD").unwrap().expose(), PASSWORD);
    assert_eq!(secrets.get("POSTGRES_APP_DB").unwrap().expose(), "keybuzz", "as declared");
    assert_eq!(secrets.len(), 3, "{secrets:?}");
    let mut read = double.asked();
    read.sort();
    let path = "GET /v1/secret/data/keybuzz/global/";
    assert_eq!(read, [format!("{path}postgres"), format!("{path}redis")], "each once");
    assert_eq!(double.with(|state| state.most), 2, "at the same time");
    let redactor = Redactor::of(&secrets);
    assert_eq!(redactor.redact(TOKEN), "[secret:VAULT_TOKEN]");
    assert_eq!(redactor.redact(PASSWORD), "[secret:REDIS_PASSWORD]");
    let shown = format!("{secrets:?} {vault:?}");
    assert!(!shown.contains("kanarie") && !shown.contains("superuser"), "{shown}");

    // The value before counts while it is there.
    let both =
        json!({ "REDIS_PASSWORD": "kanarie-the-next-one-77", "REDIS_PASSWORD_PREVIOUS": PASSWORD });
    double.put("keybuzz/global/redis", &both);
    let (secrets, _) = (&vault).load(&declared(), &asked).unwrap();
    assert_eq!(secrets.get("REDIS_PASSWORD_PREVIOUS").unwrap().expose(), PASSWORD);
    assert_eq!(vault.place_of("marketplaces"), "secret/keybuzz/tenant_7/marketplaces");
}

#[test]
fn every_trouble_is_told_before_a_host_is_touched() {
    let plan = ["plan", "--layer", "redis"];
    let double = filled();
    let site = Site::at(&double);
    site.strata(&["check"]).ended(0, &[]);
    assert_eq!(double.asked(), Vec::<String>::new(), "`check` needs no network");

    double.with(|state| state.sealed = true);
    site.strata(&plan).ended(2, &["E0467", "is sealed", "operator unseal"]);
    double.with(|state| {
        state.sealed = false;
        state.tokens.clear();
    });
    let denied = "does not allow secret/keybuzz/global/redis (permission denied)";
    site.strata(&plan).ended(2, &["E0468", denied, "capabilities"]);
    let mut without = site.command(&plan);
    let output = without.env_remove("VAULT_TOKEN").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("E0470"), "{text}");
    double.with(|state| {
        state.tokens.insert(TOKEN.to_owned(), vec![String::new()]);
    });
    let values = |value| double.put("keybuzz/global/redis", &value);
    values(json!({ "REDIS_PASSWORD": 1234567890123456_u64 }));
    site.strata(&plan)
        .ended(2, &["E0411", "REDIS_PASSWORD at secret/keybuzz/global/redis is no text"]);
    values(json!({ "REDIS_PASSWORD": "short" }));
    site.strata(&plan)
        .ended(2, &["E0411", "fewer than 16 characters", "credentials.example/redis.env"]);
    values(json!({ "OTHER": "x" }));
    let missing = ["E0452", "has no such key", "strata secrets init"];
    site.strata(&plan).ended(2, &missing);
    double.delete("keybuzz/global/redis");
    site.strata(&plan).ended(2, &["E0452", "was deleted", "vault kv undelete -versions=5"]);
    let nothing = Site::new(&at(double.port).replace("global", "elsewhere"));
    nothing.strata(&plan).ended(2, &["E0452", "nothing at secret/keybuzz/elsewhere/redis"]);
    let engine = Site::new(&format!("{}\nmount = \"other\"", at(double.port)));
    engine.strata(&plan).ended(2, &["E0469", "has nothing mounted for other/keybuzz/global/redis"]);
    double.put("data/keybuzz/global/redis", &json!({ "REDIS_PASSWORD": PASSWORD }));
    let old = Site::new(&format!("{}\nmount = \"old\"", at(double.port)));
    old.strata(&plan).ended(2, &["E0469", "keeps no versions"]);

    double.with(|state| state.thinks = Duration::from_secs(3));
    let slow = Site::new(&at(double.port).replace("= 5", "= 1"));
    slow.strata(&plan).ended(2, &["E0466", "no answer within 1 s"]);
    double.with(|state| state.thinks = Duration::ZERO);
    for (says, words) in [
        ("HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "standby"),
        ("HTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\n", "asked too much"),
        ("HTTP/1.1 200 x\r\nContent-Length: 6\r\n\r\n<html>", "is that address a Vault server"),
        ("HTTP/1.1 200 x\r\nContent-Length: 600\r\n\r\n{\"data\"", "the conversation broke"),
        ("SSH-2.0-nobody\r\n", "the conversation broke"),
    ] {
        double.with(|state| state.says = Some(says.as_bytes().to_vec()));
        site.strata(&plan).ended(2, &[words]);
    }
    let echo = format!("{{\"errors\":[\"{TOKEN} is bad\"]}}");
    let says = format!("HTTP/1.1 403 x\r\nContent-Length: {}\r\n\r\n{echo}", echo.len());
    double.with(|state| state.says = Some(says.into_bytes()));
    site.strata(&plan).ended(2, &["[secret:VAULT_TOKEN] is bad"]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Site::new(&at(closed)).strata(&plan).ended(2, &["E0466", "refused", "is it running"]);
}

#[test]
fn nobody_else_is_taken_for_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output();
        assert!(output.unwrap().status.success(), "openssl {arguments:?}");
    };
    for (authority, server) in [("ca", "server"), ("other-ca", "other")] {
        let subject = format!("/CN={authority}");
        let (key, certificate) = (format!("{authority}.key"), format!("{authority}.pem"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        let request = format!("{server}.csr");
        let server_key = format!("{server}.key");
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &server_key,
            "-out",
            &request,
        ]);
        fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        let signed = format!("{server}.pem");
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &certificate,
            "-CAkey",
            &key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            &signed,
        ]);
    }
    let path = |name: &str| folder.path().join(name);
    let double = Double::start(Some((&path("server.pem"), &path("server.key"))));
    double.with(|state| {
        state.tokens.insert(TOKEN.to_owned(), vec!["secret/data/keybuzz/global/redis".to_owned()]);
    });
    double.put("keybuzz/global/redis", &json!({ "REDIS_PASSWORD": PASSWORD }));
    let with = |host: &str, authority: Option<&str>| {
        let ca = authority.map(|name| format!("\nca_file = \"{}\"", path(name).display()));
        Site::new(&format!(
            "address = \"https://{host}:{}\"\npath = \"keybuzz/global/{{brick}}\"{}",
            double.port,
            ca.unwrap_or_default()
        ))
    };
    with("localhost", Some("ca.pem"))
        .strata(&["secrets", "check"])
        .ended(0, &["1 value that the site uses"]);
    double.asked();
    for (host, authority, why) in [
        ("localhost", Some("other-ca.pem"), "TLS: invalid peer certificate: UnknownIssuer"),
        ("127.0.0.1", Some("ca.pem"), "TLS: invalid peer certificate"),
        ("localhost", Some("names"), "no certificate in it"),
        ("localhost", Some("not-there.pem"), "ca_file"),
    ] {
        with(host, authority).strata(&["secrets", "check"]).ended(2, &["E0466", why]);
    }
    assert_eq!(double.asked(), Vec::<String>::new(), "none of these was sent a token");
}

#[test]
fn a_role_logs_in_and_its_token_ends_with_the_command() {
    let double = filled();
    double.with(|state| {
        state.tokens.clear();
        state.approle = Some(("strata".into(), SECRET_ID.into(), "s.kanarie-made-9Yx3".into()));
    });
    let role = "auth = \"approle\"\nrole_id = \"strata\"\nsecret_id_file = \"~/secret-id\"";
    let site = Site::new(&format!("{}\n{role}", at(double.port)));
    site.strata(&["secrets", "check"]).ended(2, &["E0470", "secret-id is not there"]);
    let file = site.file("secret-id", &format!("{SECRET_ID}\n"), 0o644);
    site.strata(&["secrets", "check"]).ended(2, &["E0430", "0644"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    double.with(|state| {
        let paths = vec!["secret/data/".to_owned()];
        state.tokens.insert("s.kanarie-made-9Yx3".to_owned(), paths);
    });
    double.asked();
    site.strata(&["secrets", "check"]).ended(0, &["1 value that the site uses"]);
    let asked = double.asked();
    assert_eq!(asked.first().unwrap(), "POST /v1/auth/approle/login");
    assert_eq!(asked.last().unwrap(), "POST /v1/auth/token/revoke-self");
    assert!(double.with(|state| state.tokens.is_empty()), "the token serves nobody any more");
    site.file("secret-id", "kanarie-secret-id-used-up", 0o600);
    site.strata(&["secrets", "check"]).ended(2, &["E0468", "refuses the login", "secret_id_file"]);

    // A token of the environment goes before one in a file.
    let double = filled();
    let site = Site::new(&format!("{}\ntoken_file = \"token\"", at(double.port)));
    site.file("token", "hvs.nobody-knows-this-one\n", 0o600);
    site.strata(&["secrets", "check"]).ended(0, &["1 value that the site uses"]);
    site.file("token", &format!("{TOKEN}\n"), 0o600);
    let mut command = site.command(&["secrets", "check"]);
    assert!(command.env_remove("VAULT_TOKEN").output().unwrap().status.success());
}

#[test]
fn values_are_made_and_set_and_nobody_is_overwritten() {
    let double = filled();
    double.with(|state| {
        state.tokens.insert(TOKEN.to_owned(), vec!["secret/data/keybuzz/".to_owned()]);
    });
    let site = Site::at(&double);
    let said = site.strata(&["secrets", "init"]).ended(
        0,
        &[
            "secret/keybuzz/global/postgres      12 made, 0 kept: POSTGRES_SUPERUSER",
            "secret/keybuzz/global/redis         0 made, 1 kept",
            "strata secrets set mail MAIL_SMTP_PASSWORD",
        ],
    );
    let made = double.latest("keybuzz/global/postgres");
    let password = made["POSTGRES_SUPERPASS"].as_str().unwrap().to_owned();
    assert!(password.len() == 32 && !said.text.contains(&password));
    assert_eq!(double.latest("keybuzz/global/redis")["foreign"], 7, "kept as it is");
    site.strata(&["secrets", "init"]).ended(0, &["postgres      0 made, 12 kept"]);
    assert_eq!(double.latest("keybuzz/global/postgres"), made, "nothing is made twice");

    let set = |value: &str| {
        let mut command = site.command(&["secrets", "set", "redis", "REDIS_PASSWORD"]);
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), value.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
        Said { code: output.status.code().unwrap(), text: text.concat() }
    };
    let next = "kanarie-value-that-was-set";
    set("changeme").ended(2, &["E0412"]);
    set(next).ended(0, &["REDIS_PASSWORD replaced"]);
    set(next).ended(0, &["unchanged"]);
    let latest = double.latest("keybuzz/global/redis");
    assert_eq!(
        (latest["REDIS_PASSWORD"].as_str(), latest["foreign"].as_u64()),
        (Some(next), Some(7))
    );
    // Somebody else writes between the look and the write: theirs stays.
    let theirs = json!({ "REDIS_PASSWORD": "theirs-came-in-between-55" });
    double.with(|state| {
        let theirs = theirs.as_object().unwrap().clone();
        state.overtaken_by = Some(("keybuzz/global/redis".to_owned(), theirs));
    });
    set(PASSWORD).ended(1, &["E0458", "nothing was written"]);
    assert_eq!(double.latest("keybuzz/global/redis"), theirs);
    double.delete("keybuzz/global/redis");
    set(PASSWORD).ended(0, &["REDIS_PASSWORD set"]);
    assert_eq!(double.latest("keybuzz/global/redis"), json!({ "REDIS_PASSWORD": PASSWORD }));

    site.strata(&["secrets", "names", "redis"]).ended(0, &["in Vault)", "present"]);
    for command in [&["rekey"][..], &["diff"], &["edit", "redis"], &["rotate", "redis"]] {
        let words = [&["secrets"], command].concat();
        site.strata(&words).ended(2, &["E0471", command[0]]);
    }
    fs::create_dir(site.root().join("credentials")).unwrap();
    site.file("credentials/redis.env", &format!("REDIS_PASSWORD={PASSWORD}\n"), 0o600);
    site.strata(&["check"]).ended(0, &["E0472", "that nothing reads"]);
}

#[test]
fn the_token_goes_to_vault_and_nowhere_else() {
    let double = filled();
    let site = Site::at(&double);
    let told = site.root().join("told");
    let program = site.file(
        "notify",
        &format!("#!/bin/sh\n{{ env; cat; cat /proc/$PPID/cmdline; }} > {}\n", told.display()),
        0o755,
    );
    let file = site.root().join("strata.toml");
    let text =
        fs::read_to_string(&file).unwrap().replace("connect_timeout = 10 ", "connect_timeout = 1 ");
    let notify = format!("[notify]\ncommand = [\"{}\"]\n", program.display());
    fs::write(&file, format!("{text}\n{notify}")).unwrap();
    // A host that nobody can reach from here: the run fails, is written down, and is told of.
    let install = ["--verbose", "install", "--layer", "redis", "--host", "redis-01"];
    let output = site.command(&install).env("STRATA_LOG", "trace").output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(!double.asked().is_empty());
    let mut texts = vec![output.stdout, output.stderr, fs::read(&told).unwrap_or_default()];
    let mut folders = vec![site.root().join(".strata")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => texts.push(fs::read(path).unwrap()),
            }
        }
    }
    assert!(texts.len() > 3, "the run left something behind");
    for text in &texts {
        let text = String::from_utf8_lossy(text);
        for canary in [TOKEN, PASSWORD] {
            assert!(!text.contains(canary), "{canary} in:\n{text}");
        }
    }
    assert!(told.exists(), "somebody was told: {}", String::from_utf8_lossy(&texts[1]));
}

#[test]
#[ignore = "builds RustyVault from the crate registry: several minutes"]
fn campaign_a_server_that_others_wrote() {
    let rusty = rusty::Rusty::start();
    let entry = json!({
        "data": { "REDIS_PASSWORD": PASSWORD },
        "metadata": { "version": 1, "deletion_time": "", "destroyed": false },
    });
    rusty.asked("POST", "secret/data/keybuzz/global/redis", &entry, 200);
    rusty.asked("POST", "sys/auth/approle", &json!({ "type": "approle" }), 200);
    let role = json!({ "token_ttl": "60s" });
    rusty.asked("POST", "auth/approle/role/strata", &role, 200);
    let nothing = serde_json::Value::Null;
    let id = rusty.asked("GET", "auth/approle/role/strata/role-id", &nothing, 200);
    let secret = rusty.asked("POST", "auth/approle/role/strata/secret-id", &json!({}), 200);

    let role_id = id["data"]["role_id"].as_str().unwrap();
    let role = format!("auth = \"approle\"\nrole_id = \"{role_id}\"\nsecret_id_file = \"id\"");
    let site = Site::new(&format!("{}\n{role}", at(rusty.port)));
    site.file("id", secret["data"]["secret_id"].as_str().unwrap(), 0o600);
    let begin = std::time::Instant::now();
    site.strata(&["secrets", "check"]).ended(0, &["1 value that the site uses"]);
    println!("login, one value and the check of the site: {:?}", begin.elapsed());
    site.file("id", "00000000-0000-0000-0000-000000000000", 0o600);
    site.strata(&["secrets", "check"]).ended(2, &["E0468", "refuses the login"]);

    let token = Site::new(&format!("{}\ntoken_file = \"token\"", at(rusty.port)));
    token.file("token", &rusty.root_token, 0o600);
    let check = || {
        let mut command = token.command(&["secrets", "check"]);
        let output = command.env_remove("VAULT_TOKEN").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains(&rusty.root_token) && !text.contains(PASSWORD), "{text}");
        (output.status.code().unwrap(), text)
    };
    assert_eq!(check(), (0, String::new()));
    let mut stranger = token.command(&["secrets", "check"]);
    let output = stranger.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("E0468"), "{text}");
    rusty.asked("PUT", "sys/seal", &json!({}), 200);
    let (code, text) = check();
    assert!(code == 2 && text.contains("E0467"), "{text}");
    rusty.unseal();
    assert_eq!(check(), (0, String::new()));
}
