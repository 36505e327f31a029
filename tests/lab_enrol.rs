//! Logins by the commands that operators type: a first key with a password, sudo's password on a
//! terminal, jump hosts and ports that the operator's own OpenSSH configuration names.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use support::{Bench, OPERATOR, SITE, Said, replace, wait};

/// Its login is not root, and sudo wants a password there.
const NEW: &str = "db-01";
/// The way to [`BEHIND`]; nothing else is known of it than what the ssh config says.
const JUMP: &str = "redis-01";
const JUMP_ADDRESS: &str = "10.0.0.123";
/// Its sshd listens on another port.
const BEHIND: &str = "redis-02";

/// The operator's home, not root's.
const HOME: &str = "/srv/operator";
const KNOWN: &str = "/root/lab-host-keys";
const PASSWORD: &str = "correct-horse-7";

const SSH_CONFIG: &str = "\
Host redis-02
    Port 2222
    User nobody
    IdentityFile ~/.ssh/other
    IdentitiesOnly yes
    ProxyJump bastion

Host bastion
    HostName 10.0.0.123
    User jumper
    IdentityFile ~/.ssh/id_ed25519
";

/// strata as in production, from the operator's home.
fn words<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let strata = ["env", "HOME=/srv/operator", "strata", "--site", SITE, "--color", "never"];
    [&strata, words].concat()
}

fn strata(bench: &Bench, given: &[&str]) -> Said {
    bench.on(OPERATOR, &words(given))
}

/// strata on a terminal, where a question is answered once it is asked.
fn on_terminal(bench: &Bench, given: &[&str], question: &str, answer: &str) -> Said {
    let mut inner = bench.machine_strata(&["lab", "--lab", bench.lab.name(), "exec", OPERATOR]);
    inner.arg("--").args(words(given));
    let line: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let start = Instant::now();
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--echo", "always", "--command", &line.join(" ")])
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let shown = Arc::new(Mutex::new(String::new()));
    let mut output = child.stdout.take().unwrap();
    let reading = std::thread::spawn({
        let shown = Arc::clone(&shown);
        move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..count]).into_owned();
                shown.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        }
    });
    let so_far = || shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
    wait(&format!("the question {question:?}"), 60, || {
        if so_far().contains(question) { Ok(()) } else { Err(so_far()) }
    });
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{answer}\n").as_bytes()).unwrap();
    let status = child.wait().unwrap();
    reading.join().unwrap();
    let (code, seconds) = (status.code().unwrap_or(-1), start.elapsed().as_secs_f64());
    Said { code, out: so_far(), err: String::new(), seconds }
}

fn sh(bench: &Bench, host: &str, script: &str) -> String {
    bench.output(host, &["sh", "-ec", script])
}

/// What sshd wrote down of logins.
fn logins(bench: &Bench, host: &str) -> String {
    bench.output(host, &["journalctl", "--no-pager", "-o", "cat", "-t", "sshd"])
}

fn fingerprint(bench: &Bench, host: &str, key: &str) -> String {
    let line = bench.output(host, &["ssh-keygen", "-lf", key]);
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn operators_come_in_by_the_commands_that_they_type() {
    let bench = Bench::open("t-enrol", &[NEW, JUMP, BEHIND]);
    bench.fresh_with(|site| {
        let inventory = site.join("inventory/servers.tsv");
        replace(&inventory, "db-01.keybuzz.io\troot\t", "db-01.keybuzz.io\tops\t");
    });
    sh(
        &bench,
        OPERATOR,
        &format!(
            "mkdir -p {HOME}/.ssh; chmod 700 {HOME}/.ssh; cp -a /root/.config {HOME}; \
             for k in id_ed25519 other; do ssh-keygen -q -t ed25519 -N '' -f {HOME}/.ssh/$k; done"
        ),
    );
    a_key_is_put_onto_a_new_host(&bench);
    sudo_is_told_its_password(&bench);
    the_operators_ssh_config_leads_the_way(&bench);
}

fn a_key_is_put_onto_a_new_host(bench: &Bench) {
    let set_up = format!(
        "useradd --create-home --shell /bin/bash ops; echo ops:{PASSWORD} | chpasswd; \
         echo 'ops ALL=(ALL) ALL' > /etc/sudoers.d/ops; \
         echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-trial.conf; \
         systemctl reload ssh"
    );
    sh(bench, NEW, &set_up);
    sh(bench, OPERATOR, &format!("sed -i /{NEW}/d {SITE}/.strata/known_hosts"));
    let key = format!("{HOME}/.ssh/id_ed25519.pub");
    let enrol = ["hosts", "enrol", NEW, "--key", &key];
    let pinning = [&enrol[..], &["--from", KNOWN]].concat();
    let by_input = [&enrol[..], &["--password-stdin"]].concat();

    // A host that is not proved to be itself is told nothing.
    let stranger = bench.with_input(OPERATOR, &words(&by_input), PASSWORD).ended(5);
    assert!(stranger.text().contains("strata hosts trust"), "{}", stranger.text());
    assert!(!logins(bench, NEW).contains("password"), "{}", logins(bench, NEW));

    let unasked = strata(bench, &pinning).ended(2);
    assert!(unasked.text().contains("nobody can be asked for its password"), "{}", unasked.text());
    let wrong = bench.with_input(OPERATOR, &words(&by_input), "wrong\n").ended(5);
    assert!(wrong.text().contains("the password was given to db-01 only"), "{}", wrong.text());
    assert_eq!(logins(bench, NEW).matches("Failed password for ops").count(), 1);

    let added = on_terminal(bench, &enrol, "password of db-01 (not shown)", PASSWORD).ended(0);
    assert!(added.out.contains("key added") && !added.out.contains(PASSWORD), "{}", added.out);
    println!("figure: a key put onto a new host, by password: {:.1} s", added.seconds);
    let again = strata(bench, &enrol).ended(0);
    assert!(again.out.contains("key present"), "{}", again.text());
    let keys =
        "stat -c %U:%a /home/ops/.ssh/authorized_keys; wc -l < /home/ops/.ssh/authorized_keys";
    assert_eq!(sh(bench, NEW, keys), "ops:600\n1");
}

fn sudo_is_told_its_password(bench: &Bench) {
    let run = ["run", "--host", NEW, "--", "sh", "-c", "echo it-is-$(id -un)"];
    let asking = [&["--ask-sudo-password"], &run[..]].concat();
    let refused = strata(bench, &run).ended(5);
    assert!(refused.text().contains("--ask-sudo-password"), "{}", refused.text());
    let unasked = strata(bench, &asking).ended(2);
    let said = "--ask-sudo-password: nobody can be asked without a terminal";
    assert!(unasked.text().contains(said), "{}", unasked.text());
    let question = "password for sudo on the hosts (not shown)";
    let wrong = on_terminal(bench, &asking, question, "wrong-horse-8").ended(5);
    assert!(
        !wrong.out.contains("wrong-horse-8") && !wrong.out.contains("it-is-root"),
        "{}",
        wrong.out
    );
    let right = on_terminal(bench, &asking, question, PASSWORD).ended(0);
    assert!(right.out.contains("it-is-root") && !right.out.contains(PASSWORD), "{}", right.out);
    println!("figure: a program by sudo with its password: {:.1} s", right.seconds);
}

fn the_operators_ssh_config_leads_the_way(bench: &Bench) {
    bench.put_site(SITE, |site| {
        let settings = site.join("strata.toml");
        replace(&settings, "port            = 22\n", "config          = \"~/.ssh/config\"\n");
        replace(&settings, "identities      = [\"~/.ssh/id_ed25519\"]\n", "");
    });
    bench.put_text(OPERATOR, &format!("{HOME}/.ssh/config"), SSH_CONFIG);
    let public = |name| bench.output(OPERATOR, &["cat", &format!("{HOME}/.ssh/{name}.pub")]);
    let jumper = "useradd --create-home --shell /usr/sbin/nologin jumper; cd /home/jumper; mkdir .ssh; \
                  cat > .ssh/authorized_keys; chown -R jumper: .ssh";
    bench.with_input(JUMP, &["sh", "-ec", jumper], &public("id_ed25519")).ended(0);
    let behind = "cat > /root/.ssh/authorized_keys; \
                  echo 'Port 2222' > /etc/ssh/sshd_config.d/00-trial.conf; systemctl restart ssh";
    bench.with_input(BEHIND, &["sh", "-ec", behind], &public("other")).ended(0);

    // The jump host is a host of the site too: by its address its key would be known already.
    sh(bench, OPERATOR, &format!("sed -i /{JUMP}/d {SITE}/.strata/known_hosts"));
    let run = ["run", "--host", BEHIND, "--", "id", "-un"];
    strata(bench, &["hosts", "trust", BEHIND, "--from", KNOWN]).ended(0);
    let stranger = strata(bench, &run).ended(5).text();
    assert!(stranger.contains("bastion") && stranger.contains("trust --jump"), "{stranger}");
    let trust = ["hosts", "trust", BEHIND, "--jump"];
    let unasked = strata(bench, &trust).ended(2).text();
    assert!(unasked.contains("nobody can be asked without a terminal"), "{unasked}");
    let question = "Are these the hosts' own fingerprints?";
    let own = fingerprint(bench, JUMP, "/etc/ssh/ssh_host_ed25519_key.pub");
    on_terminal(bench, &trust, question, "no").ended(130);
    let pinned = on_terminal(bench, &trust, question, "yes").ended(0).out;
    assert!(pinned.contains("bastion") && pinned.contains(&own), "{pinned}");

    let there = strata(bench, &run).ended(0);
    assert!(there.text().contains("root"), "{}", there.text());
    println!("figure: a program behind a jump host of the ssh config: {:.1} s", there.seconds);
    // Port and key are the config's, the login is the inventory's, and the way leads over the jump host.
    for (host, login, from, key) in
        [(BEHIND, "root", JUMP_ADDRESS, "other"), (JUMP, "jumper", "10.0.0.250", "id_ed25519")]
    {
        let accepted = format!("Accepted publickey for {login} from {from} ");
        let key = fingerprint(bench, OPERATOR, &format!("{HOME}/.ssh/{key}.pub"));
        let log = logins(bench, host);
        let line = log.lines().rfind(|line| line.starts_with(&accepted));
        assert!(line.is_some_and(|line| line.contains(&key)), "{host}: {accepted}\n{log}");
    }
}
