//! `strata site backup` and `strata site restore` as an operator meets them: the outputs, and every
//! way in which they refuse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PASSPHRASE: &str = "correct horse battery staple\n";

/// A small site with an identity, a place to restore to, and archives beside both.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in
            ["strata.toml", "versions.yaml", "inventory/servers.tsv", "inventory/groups.toml"]
        {
            place.write(&format!("site/{file}"), &fs::read_to_string(root.join(file)).unwrap());
        }
        place.write(
            "site/credentials.example/redis.env",
            "# A password.\n#: generate length=40 alphabet=alnum\nREDIS_PASSWORD=\n",
        );
        place.write("site/images/redis.tar", "not an image");
        place.write("site/state/redis.json", "{}");
        place.write("home/.ssh/id_ed25519", "a private key");
        place.strata("site", &["secrets", "init"], "");
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What `strata --site SITE WORDS` prints with this on its standard input. What differs from
    /// time to time is masked.
    fn strata(&self, site: &str, words: &[&str], input: &str) -> String {
        let home = if site == "site" { "home" } else { "new-home" };
        fs::create_dir_all(self.at(home)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_strata"))
            .arg("--site")
            .arg(self.at(site))
            .args(words)
            .current_dir(self.0.path())
            .env("NO_COLOR", "1")
            .env("HOME", self.at(home))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not ask does not read.
        let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(self.0.path().to_str().unwrap(), "PLACE")
        };
        let all = format!(
            "exit code: {}\n{}{}",
            output.status.code().unwrap(),
            text(&output.stdout),
            text(&output.stderr)
        );
        masked(&all)
    }
}

/// The text without what no two runs have alike.
fn masked(text: &str) -> String {
    let line = |line: &str| {
        if let Some((start, _)) = line.split_once(" files of ") {
            let start = start.trim_end_matches(|c: char| c.is_ascii_digit());
            return format!("{start}N files of SIZE in SIZE");
        }
        if line.starts_with("sha256 ") {
            return "sha256      HEX".to_owned();
        }
        if let Some((start, rest)) = line.split_once(" as it was on ") {
            let rest = rest.split_once(": ").map_or(rest, |(_, rest)| rest);
            return format!("{start} as it was on DATE: {rest}");
        }
        if let Some((start, rest)) = line.split_once("its SHA-256 is ") {
            let rest = rest.split_once(',').map_or(rest, |(_, rest)| rest);
            return format!("{start}its SHA-256 is HEX,{rest}");
        }
        line.to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn a_site_is_backed_up_and_restored() {
    let place = Place::new();
    let fd = ["--passphrase-fd", "0"];
    let words = |words: &[&'static str]| [words, &fd].concat();
    let mut said = vec![
        place.strata("site", &["site", "backup", "a"], ""),
        place.strata("site", &["site", "backup", "a", "--recipient", "age1nobody"], ""),
        place.strata("site", &words(&["site", "backup", "a"]), "short\n"),
        place.strata("site", &words(&["site", "backup", "site/a"]), PASSPHRASE),
        place.strata("site", &["site", "backup", "a", "--passphrase"], ""),
        place.strata("site", &words(&["site", "backup", "a"]), PASSPHRASE),
        place.strata("site", &words(&["site", "backup", "a"]), PASSPHRASE),
    ];
    let sealed = fs::read(place.at("a")).unwrap();
    fs::write(place.at("cut"), &sealed[..sealed.len() - 1]).unwrap();
    let mut flipped = sealed;
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    fs::write(place.at("flipped"), flipped).unwrap();
    place.write("text", "no archive");
    for file in ["no-such-file", "text", "cut", "flipped"] {
        said.push(place.strata("new", &words(&["site", "restore", file]), PASSPHRASE));
    }
    said.push(place.strata("new", &words(&["site", "restore", "a"]), "another passphrase\n"));
    let digest = words(&["site", "restore", "a", "--sha256", "0000"]);
    said.push(place.strata("new", &digest, PASSPHRASE));
    assert!(!place.at("new").exists(), "something was restored of what was refused");
    said.push(place.strata("new", &words(&["site", "restore", "a"]), PASSPHRASE));
    for file in ["strata.toml", "state/redis.json", "credentials/redis.env.age"] {
        let read = |site: &str| fs::read(place.at(site).join(file)).unwrap();
        assert_eq!(read("site"), read("new"), "{file}");
    }
    place.write("new/versions.yaml", "mine");
    said.push(place.strata("new", &words(&["site", "restore", "a"]), PASSPHRASE));
    assert_eq!(fs::read_to_string(place.at("new/versions.yaml")).unwrap(), "mine");
    let replace = words(&["site", "restore", "a", "--replace"]);
    said.push(place.strata("new", &replace, PASSPHRASE));
    assert_ne!(fs::read_to_string(place.at("new/versions.yaml")).unwrap(), "mine");
    insta::assert_snapshot!(said.join("---\n"));
}
