//! The examples of the documents, executed: settings go into a site that has to load, sessions are
//! typed in a site without hosts, and what they show has to be printed.
//!
//! Sessions on hosts are those of `tests/lab_guide.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "documentation/blocks.rs"]
mod blocks;
#[path = "site/copy.rs"]
mod copy;
#[path = "documentation/register.rs"]
mod register;

use blocks::{Block, block, blocks, missing};
use copy::copy_site;
use register::{EXAMPLES, How};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A copy of the site, with a home of its own.
struct Site(tempfile::TempDir);

struct Said {
    code: i32,
    text: String,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_site(folder.path());
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A command line as it is typed in a shell in the site, `strata` being the program under test.
    fn typed(&self, line: &str) -> Said {
        let program = Path::new(env!("CARGO_BIN_EXE_strata")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", line])
            .current_dir(self.path())
            .env("PATH", path)
            .env("HOME", self.path().join("home"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        said(&output)
    }

    /// `strata check`: nothing is wrong, or all lines that it says of errors.
    #[track_caller]
    fn accepted(&self, example: &str) {
        let said = self.typed("strata check");
        assert_eq!(said.code, 0, "{example}\n{}", said.text);
    }

    /// Puts settings into a file of the site: tables are joined, lists of tables go on, values are replaced.
    fn set(&self, file: &str, settings: &str) {
        let read = |text: &str| -> toml::Table {
            text.parse().unwrap_or_else(|error| panic!("{file}: {error}\n{text}"))
        };
        let there = fs::read_to_string(self.path().join(file)).unwrap_or_default();
        let mut table = read(&there);
        join(&mut table, read(settings));
        self.write(file, &table.to_string());
    }
}

fn said(output: &Output) -> Said {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    Said { code: output.status.code().unwrap(), text: String::from_utf8_lossy(&text).into_owned() }
}

fn join(table: &mut toml::Table, new: toml::Table) {
    for (key, value) in new {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => join(old, new),
            (Some(toml::Value::Array(old)), toml::Value::Array(new))
                if new.iter().all(toml::Value::is_table) =>
            {
                old.extend(new);
            }
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// Every block of code of every document is executed by a test that names it, or says why not.
#[test]
fn every_example_is_executed_or_says_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (document, begins, how) in EXAMPLES {
        assert!(known.insert((document, begins)), "{document}: `{begins}` stands there twice");
        block(document, begins);
        let test = match how {
            How::Executed(test)
            | How::OnHosts(test)
            | How::ByPath(test)
            | How::CommandsParse(test) => test,
            How::Shown(reason) => {
                assert!(reason.len() > 10, "{document}: `{begins}` has no reason");
                continue;
            }
        };
        let (file, function) = test.split_once("::").unwrap();
        let source = fs::read_to_string(root.join(file)).unwrap();
        let function = format!("fn {function}(");
        assert!(source.contains(&function), "{document}: `{begins}`: there is no {test}");
        // A test that executes an example reads it out of the document.
        let literal = format!("{begins:?}");
        let named = source.contains(&literal) || !matches!(how, How::Executed(_) | How::OnHosts(_));
        assert!(named, "{document}: {test} does not name `{begins}`");
    }
    let mut unknown = Vec::new();
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // The one is generated out of the types, with its examples read as steps; the other are measurements.
        if !name.ends_with(".md") || ["resources.md", "performance.md"].contains(&name.as_str()) {
            continue;
        }
        for block in blocks(&name) {
            let is_known = known.iter().any(|(document, begins)| {
                *document == block.document
                    && block.lines.iter().any(|line| line.trim_start().starts_with(begins))
            });
            if !is_known {
                unknown.push(format!("docs/{name}:\n{}", block.text()));
            }
        }
    }
    assert!(unknown.is_empty(), "examples that nothing executes:\n{}", unknown.join("\n"));
}

#[test]
fn settings_are_accepted() {
    let settings = "strata.toml";
    let with = |block: &Block, changes: &[(&str, &str)]| -> Site {
        let mut text = block.text();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}: {text}");
            text = text.replace(from, to);
        }
        let site = Site::new();
        site.set(settings, &text);
        site.accepted(&text);
        site
    };
    // Groups and hosts that this site has in place of the example's.
    let routes = block("connections.md", "jump = \"ops@bastion.example.org:2222\"");
    let own = [
        ("\"dmz\"", "\"db\""),
        ("web-03", "redis-03"),
        ("near", "queue"),
        ("bastion-02", "haproxy-01"),
    ];
    with(&routes, &own);
    with(&block("connections.md", "config = \"~/.ssh/config\""), &[]);
    with(&block("operating.md", "on      = [\"drift\""), &[]);
    with(&block("reports.md", "prometheus = \"/var/lib/prometheus"), &[]);
    with(&block("roles.md", "parallel_layers = 4"), &[]);
    with(&block("secrets.md", "provider       = \"vault\""), &[]);

    // A login's password out of the secrets, below the command that asks for it.
    let block_of = block("connections.md", "strata install --layer base --ask-sudo-password");
    let text: String = block_of.lines[1..].join("\n");
    let site = Site::new();
    site.set(settings, &text);
    assert!(site.typed("strata check").text.contains("OPS_SUDO_PASSWORD"), "it is to be declared");
    site.write(
        "credentials.example/ops.env",
        "# The login's password.\n#: supplied\nOPS_SUDO_PASSWORD=\n",
    );
    site.accepted(&text);

    // Values that a file of the site has itself.
    let place = block("roles.md", "place = [{ role = \"haproxy\"").text();
    let place = place.trim().trim_start_matches("place = [").trim_end_matches(']').to_owned();
    assert!(Site::new().read(settings).contains(&place), "{place}");
    for (begins, role) in
        [("driver  = \"redis-sentinel\"", "redis"), ("roles     = [{ name", "postgres")]
    {
        let shown = block("clusters.md", begins).text();
        let file = Site::new().read(&format!("roles/{role}/role.toml"));
        let file: String = file.split_whitespace().collect();
        let lines = shown.lines().map(|line| line.split("  #").next().unwrap());
        for line in lines.filter(|line| line.contains(" = ") && !line.contains("dest =")) {
            // The example has a name of an extension where the role has a variable.
            let line: String = line
                .replace("[\"pg_trgm\"]", "\"{{ postgres_extensions }}\"")
                .split_whitespace()
                .collect();
            assert!(file.contains(&line), "roles/{role}/role.toml has no {line}");
        }
    }

    let test = block("gates.md", "name   = \"clock\"").text();
    assert!(Site::new().read("roles/base/gate.toml").contains(test.trim()), "{test}");
    let waivers = Site::new();
    waivers
        .write("waivers.toml", &block("gates.md", "[[waiver]]").text().replace("2026-", "2099-"));
    let said = waivers.typed("strata check");
    assert!(said.code == 0 && !said.text.contains("waivers.toml:"), "{}", said.text);

    let releases = Site::new();
    let text = block("lab.md", "trixie = [").text() + &block("lab.md", "preinstalled = [").text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.rotate_right(1);
    releases.write("inventory/lab/hosts.toml", &lines.join("\n"));
    let said = releases.typed("strata check --rehearsal");
    assert_eq!(said.code, 0, "{}", said.text);
}

#[test]
fn files_of_the_examples_are_accepted() {
    // A role's steps.
    let site = Site::new();
    let role = "roles/base/role.toml";
    let text = site.read(role);
    let images = block("roles.md", "directory = { path = \"{{ data }}/cache/data\"")
        .text()
        .replace("versions.cache_image", "versions.redis_image");
    let images = images.replace("secrets.CACHE_PASSWORD", "secrets.REDIS_PASSWORD");
    let proxy = block("connections.md", "name = \"apt proxy\"").text();
    site.write(role, &format!("{text}\n{images}\n{proxy}"));
    site.accepted(&images);
    site.write(role, &format!("{text}\n{}", proxy.replace("mode = ", "mood = ")));
    assert_eq!(site.typed("strata check").code, 2, "{proxy}");

    // Declarations of secrets, and values.
    let site = Site::new();
    let declared = block("secrets.md", "#: generate length=40 alphabet=alnum");
    assert!(declared.lines.iter().all(|line| {
        line.starts_with("# ") || site.read("credentials.example/redis.env").contains(line)
    }));
    site.write("credentials.example/redis.env", &declared.text());
    site.accepted(&declared.text());
    let example = block("secrets.md", "NAME=value");
    let values = example.lines.iter().filter(|line| line.starts_with("NAME="));
    // The last one is made of what it must not hold.
    for (value, code) in values.zip([0, 0, 2]) {
        let site = Site::new();
        let declared = "# A probe.\n#: supplied\n#: accept min=1 max=200\nNAME=\n";
        site.write("credentials.example/probe.env", declared);
        site.write("credentials/probe.env", &format!("{}\n{value}\n", example.lines[0]));
        assert_eq!(site.typed("chmod 0600 credentials/probe.env").code, 0);
        let said = site.typed("strata secrets names probe");
        assert_eq!(said.code, code, "{value}\n{}", said.text);
    }

    // The lock file, with digests.
    let site = Site::new();
    let lock = block("images.md", "redis_image:").text().replace('…', &"0a".repeat(32));
    site.write("images.lock.yaml", &lock);
    let said = site.typed("strata check");
    let open = |pin: &str| said.text.contains(&format!("`{pin}` is not locked"));
    assert!(said.code == 0 && !open("redis_image") && open("etcd_image"), "{}", said.text);
    let wrong = lock.replace("redis:7.2.5-alpine", "redis:7.2.6-alpine");
    site.write("images.lock.yaml", &wrong);
    assert_eq!(site.typed("strata check").code, 2, "{wrong}");

    // Alerts, by Prometheus' own reading.
    let site = Site::new();
    site.write("alerts.yaml", &block("reports.md", "- name: strata").text());
    let said = site.typed("promtool check rules alerts.yaml");
    assert!(said.code == 0 && said.text.contains("5 rules found"), "{}", said.text);
    let script =
        site.typed(&format!("bash -n <<'E'\n{}E", block("operating.md", "exec mail -s").text()));
    assert_eq!((script.code, script.text.as_str()), (0, ""));
}

/// Errors that the documents show, made by the mistakes that they show.
#[test]
fn errors_are_shown_as_they_are() {
    let site = Site::new();
    let hosts = site.read("inventory/servers.tsv");
    let fewer: Vec<&str> = hosts.lines().filter(|line| !line.contains("redis-03")).collect();
    site.write("inventory/servers.tsv", &(fewer.join("\n") + "\n"));
    let said = site.typed("strata check");
    let shown = block("errors.md", "error[E0302]:");
    assert_eq!(missing(&said.text, &shown.lines), [] as [&str; 0], "{}", said.text);

    let site = Site::new();
    site.write("credentials/redis.env", "REDIS_PASSWORD=short\n");
    assert!(site.typed("chmod 0600 credentials/redis.env").code == 0);
    let said = site.typed("strata secrets check");
    let shown = block("secrets.md", "error[E0411]:");
    assert_eq!(missing(&said.text, &shown.lines), [] as [&str; 0], "{}", said.text);

    let site = Site::new();
    assert_eq!(site.typed("strata secrets init").code, 0);
    for (line, shown) in block("gates.md", "$ strata verify --kind failover").sessions() {
        let said = site.typed(&line);
        assert_eq!(said.code, 7, "{}", said.text);
        assert_eq!(missing(&said.text, &shown), [] as [&str; 0], "{}", said.text);
    }
}

/// What is shown below the commands of a block is printed by them, in that order.
#[track_caller]
fn typed_as_shown(site: &Site, block: &Block, changes: &[(&str, &str)]) {
    for (line, shown) in block.sessions() {
        let mut line = line;
        for (from, to) in changes {
            line = line.replace(from, to);
        }
        let said = site.typed(&line);
        assert_eq!(missing(&said.text, &shown), [] as [&str; 0], "$ {line}\n{}", said.text);
    }
}

#[test]
fn sessions_with_secrets_print_what_is_shown() {
    let site = Site::new();
    let init = block("secrets.md", "$ strata secrets init");
    let home = site.path().join("home").display().to_string();
    let own = init.lines.iter().map(|line| line.replace("/root/", &format!("{home}/"))).collect();
    typed_as_shown(&site, &Block { lines: own, ..init }, &[]);

    // A site that has no Redis yet, with readers as the document has them and one more who goes.
    let site = Site::new();
    let redis = site.read("credentials.example/redis.env");
    fs::remove_file(site.path().join("credentials.example/redis.env")).unwrap();
    assert_eq!(site.typed("strata secrets init").code, 0);
    let keys = "set -e; mkdir keys; ssh-keygen -q -t ed25519 -N '' -C alice@laptop -f keys/alice; for one in bob carol; do age-keygen -o keys/$one 2>&1 | sed 's/.*: //' > keys/$one.pub; done";
    assert_eq!(site.typed(keys).code, 0);
    let old = site.read("credentials/recipients.txt");
    let mut age = old.lines().filter(|line| line.starts_with("age1"));
    let alice = site.read("keys/alice.pub");
    let mut text = format!("#: reader bob\n{}", site.read("keys/bob.pub"));
    for line in block("secrets.md", "#: reader install-01").lines {
        text += match &line {
            line if line.starts_with("age1") => age.next().unwrap(),
            line if line.starts_with("ssh-ed25519") => alice.trim(),
            line => line,
        };
        text += "\n";
    }
    site.write("credentials/recipients.txt", &text);
    assert_eq!(site.typed("strata secrets rekey").code, 0);
    let commit =
        "git add credentials && git -c user.name=a -c user.email=a@example.org commit -q -m next";
    assert_eq!(site.typed("git init -q -b main .").code, 0);

    // `set`, `names` and `edit`; what asks on a terminal is answered on one.
    let mail = block("secrets.md", "$ printf 'postmaster@example.org'");
    let sessions = mail.sessions();
    let (line, shown) = &sessions[0];
    let said = site.typed(line);
    assert_eq!(missing(&said.text, shown), [] as [&str; 0], "{}", said.text);
    let (line, shown) = &sessions[1];
    let said = on_a_terminal(
        &site,
        line,
        &[("(not shown):", "kanarie-8Zr0"), ("once more:", "kanarie-8Zr0")],
    );
    assert_eq!(missing(&said.text, shown), [] as [&str; 0], "{}", said.text);
    assert!(!said.text.contains("kanarie"), "{}", said.text);
    let (line, shown) = &sessions[2];
    let said = site.typed(line);
    assert_eq!(missing(&said.text, shown), [] as [&str; 0], "{}", said.text);
    let (line, shown) = &sessions[3];
    let said = on_a_terminal(&site, &format!("EDITOR=true {line}"), &[]);
    assert_eq!(missing(&said.text, shown), [] as [&str; 0], "{}", said.text);

    // Four commits: before Redis, with it, read by others, another password.
    assert_eq!(site.typed(commit).code, 0);
    site.write("credentials.example/redis.env", &redis);
    assert_eq!(site.typed(&format!("strata secrets init && {commit}")).code, 0);
    let carol = site.read("keys/carol.pub");
    let rekey = block("secrets.md", "$ strata secrets rekey --add");
    typed_as_shown(&site, &rekey, &[("age1…", carol.trim())]);
    let set = "printf 'kanarie-9Zr1' | strata secrets set mail MAIL_SMTP_PASSWORD";
    assert_eq!(site.typed(&format!("{commit} && {set} && {commit}")).code, 0);
    typed_as_shown(&site, &block("secrets.md", "$ strata secrets diff main~3"), &[]);

    // The recovery key is in the safe.
    assert_eq!(site.typed("rm home/.config/strata/recovery.txt").code, 0);
    let check = block("secrets.md", "$ strata secrets check");
    let (line, shown) = &check.sessions()[0];
    let said = site.typed(line);
    // Which names no role uses is a matter of the site.
    let shown: Vec<String> =
        shown.iter().filter(|line| !line.starts_with("no role uses")).cloned().collect();
    assert_eq!(missing(&said.text, &shown), [] as [&str; 0], "{}", said.text);
    assert!(said.text.contains("no role uses"), "{}", said.text);
}

/// Types a line on a pseudo terminal (util-linux' `script`) and answers what is asked, once it is asked.
fn on_a_terminal(site: &Site, line: &str, answers: &[(&str, &str)]) -> Said {
    let program = Path::new(env!("CARGO_BIN_EXE_strata")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut script = Command::new("script")
        .args(["-qec", line, "/dev/null"])
        .current_dir(site.path())
        .env("PATH", path)
        .env("HOME", site.path().join("home"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut hands = script.stdin.take().unwrap();
    let mut answers = answers.iter();
    let mut next = answers.next();
    let (mut text, mut asked) = (String::new(), 0);
    let mut screen = script.stdout.take().unwrap();
    let mut bytes = [0; 256];
    loop {
        let count = screen.read(&mut bytes).unwrap();
        if count == 0 {
            break;
        }
        text += &String::from_utf8_lossy(&bytes[..count]);
        if let Some((question, answer)) = next
            && text[asked..].contains(question)
        {
            asked = text.len();
            next = answers.next();
            writeln!(hands, "{answer}").unwrap();
        }
    }
    let code = script.wait().unwrap().code().unwrap();
    Said { code, text }
}

/// Hosts out of service, and reports of a recorded run.
#[test]
fn commands_without_hosts_do_what_is_said() {
    let site = Site::new();
    let out = block("operating.md", "strata hosts out redis-03 --reason");
    let said: Vec<Said> = out.lines.iter().map(|line| site.typed(line)).collect();
    assert!(said.iter().all(|said| said.code == 0));
    assert!(
        said[1].text.contains("redis-03") && said[1].text.contains("memory is replaced"),
        "{}",
        said[1].text
    );
    assert!(!site.typed("strata hosts out").text.contains("memory is replaced"));

    let site = Site::new();
    let run = "20261121-091512-ldtj";
    let journal = include_str!("reports/journal.jsonl").replace("20261121-190812-ldtj", run);
    site.write(&format!(".strata/runs/{run}.jsonl"), &journal);
    for line in &block("reports.md", "strata report  ").lines {
        let said = site.typed(line);
        assert_eq!(said.code, 0, "$ {line}\n{}", said.text);
    }
    for (file, begins) in [
        (format!("strata-{run}.html"), "<!DOCTYPE html>"),
        ("install.html".to_owned(), "<!DOCTYPE html>"),
        ("result.xml".to_owned(), "<?xml"),
    ] {
        assert!(site.read(&file).starts_with(begins), "{file}");
    }

    // The pipeline's step: its exit code is that of the run, and the report is there all the same.
    let pipeline = block("reports.md", "strata verify --layer base").text();
    site.set("strata.toml", "[ssh]\nconnect_timeout = 1\n");
    let said = site.typed(&format!("strata secrets init > /dev/null; {pipeline}"));
    assert!(said.code != 0 && site.read("strata.xml").contains("<testsuite"), "{}", said.text);
}
