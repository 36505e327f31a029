//! Containers on real engines: an image that came from an archive of the site, a container that is
//! made once and never touched again, replaced when its description differs, and put back when the
//! new one does not run.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use strata::image::{
    HostImages, Locks, SentBytes, Source, Standing, SupplyProblem, bring, open, preflight,
};
use strata::ssh::{AgentSession, ConnectOptions, Target};
use support::{Bench, OPERATOR, SITE, Said, append};

const FIRST: &str = "redis-01";
const SECOND: &str = "redis-02";
const HOSTS: [&str; 2] = [FIRST, SECOND];
const IMAGE: &str = "strata.probe/agent:1";
/// Where the operator host keeps archives of images.
const IMAGES: &str = "/opt/keybuzz-installer/images";
/// Name and address of each host, for the part of the test that runs on the operator host.
const HOST_LIST: &str = "/root/probe-hosts";

const PARK: &str = r#"command = ["park"]"#;

/// A role whose steps run by their tags. `what` describes the main container's program.
fn role(what: &str) -> String {
    format!(
        r#"
description = "Containers of a test"

[[step]]
name    = "Docker"
tags    = ["engine"]
package = {{ names = ["{{{{ versions.docker_package }}}}"] }}
timeout = 300

[[step]]
name    = "Docker service"
tags    = ["engine"]
service = {{ name = "docker", state = "started", enabled = true }}

[[step]]
name      = "Data"
tags      = ["main"]
directory = {{ path = "/srv/probe" }}

[[step]]
name  = "Image"
tags  = ["main"]
image = {{ name = "{IMAGE}" }}

[[step]]
name      = "Probe"
tags      = ["main"]
container = {{ name = "probe", image = "{IMAGE}", network = "host", volumes = ["/srv/probe:/data"], env = {{ PASSWORD = "{{{{ secrets.REDIS_PASSWORD }}}}" }}, stop_timeout = 1, {what} }}

[[step]]
name      = "Teller"
tags      = ["teller"]
container = {{ name = "teller", image = "{IMAGE}", command = ["no-such-verb"] }}

[[step]]
name      = "Single file"
tags      = ["single"]
container = {{ name = "single", image = "{IMAGE}", command = ["park"], volumes = ["/etc/hostname:/name"] }}

[[step]]
name      = "Foreign"
tags      = ["foreign"]
container = {{ name = "foreign", image = "{IMAGE}", command = ["park"] }}
"#
    )
}

fn put(bench: &Bench, what: &str) {
    bench.put_site(SITE, |folder| {
        append(
            &folder.join("strata.toml"),
            "\n[[layer]]\nname  = \"probe\"\nplace = [{ role = \"probe\", on = \"redis\" }]\n",
        );
        fs::create_dir(folder.join("roles/probe")).unwrap();
        fs::write(folder.join("roles/probe/role.toml"), role(what)).unwrap();
        let gate = "[[test]]\nname = \"converged\"\n";
        fs::write(folder.join("roles/probe/gate.toml"), gate).unwrap();
    });
}

/// Runs the steps of a tag on some hosts.
#[track_caller]
fn run_on(bench: &Bench, hosts: &[&str], tag: &str, code: i32) -> Said {
    let mut words = vec!["--verbose", "install", "--layer", "probe", "--tag", tag];
    for host in hosts {
        words.extend(["--host", host]);
    }
    bench.strata(&words).ended(code)
}

/// Runs the steps of a tag on one host.
#[track_caller]
fn run(bench: &Bench, tag: &str, code: i32) -> Said {
    run_on(bench, &[FIRST], tag, code)
}

/// Id, start and restart policy of a container.
fn look(bench: &Bench, host: &str, name: &str) -> [String; 4] {
    let format =
        "{{.Id}} {{.State.StartedAt}} {{.State.Running}} {{.HostConfig.RestartPolicy.Name}}";
    let text = bench.output(host, &["docker", "inspect", "-f", format, name]);
    let mut words = text.split(' ').map(str::to_owned);
    std::array::from_fn(|_| words.next().unwrap())
}

fn names(bench: &Bench, host: &str) -> Vec<String> {
    let text = bench.output(host, &["docker", "ps", "-a", "--format", "{{.Names}}"]);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn containers_are_made_once_and_replaced_only_when_they_differ() {
    let bench = Bench::open("t-containers", &HOSTS);
    bench.furnished();
    put(&bench, PARK);
    run_on(&bench, &HOSTS, "engine", 0);
    let archived = make_archive(&bench);

    let missing = run(&bench, "main", 1).text();
    assert!(missing.contains(&format!("the image {IMAGE} is not on the host")), "{missing}");
    assert!(missing.contains("docker load"), "{missing}");

    supply(&bench);
    for host in HOSTS {
        let id = bench.output(host, &["docker", "inspect", "-f", "{{.Id}}", IMAGE]);
        assert_eq!(id, archived, "{host}");
    }

    let made = run_on(&bench, &HOSTS, "main", 0);
    let password = secret_stays_secret(&bench, &made.text());
    a_second_run_touches_nothing(&bench);
    what_drifted_is_mended_in_place(&bench);
    another_command_means_another_container(&bench);
    a_broken_description_leaves_the_old_one_running(&bench);
    an_interrupted_replacement_is_ended(&bench);
    refusals(&bench);

    let kept = bench.output(OPERATOR, &["sh", "-c", &format!("cat {SITE}/.strata/runs/*")]);
    assert!(!kept.contains(&password), "the secret is in a journal");
}

/// An archive as `docker save` makes it, of an image with nothing but the agent; its id. The image
/// is not left on the host.
fn make_archive(bench: &Bench) -> String {
    let agent = strata::ssh::agent_binary::for_architecture(std::env::consts::ARCH).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(agent.bytes.len() as u64);
    header.set_mode(0o755);
    let mut root = tar::Builder::new(Vec::new());
    root.append_data(&mut header, "strata-agent", agent.bytes.as_slice()).unwrap();
    let root = root.into_inner().unwrap();
    let on = |words: &[&str], input: &[u8]| {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let output = bench.lab.run(FIRST, &words, input).unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        output.stdout
    };
    let entry = "ENTRYPOINT [\"/strata-agent\"]";
    on(&["docker", "import", "--change", entry, "-", IMAGE], &root);
    let id = on(&["docker", "inspect", "-f", "{{.Id}}", IMAGE], b"");
    let archive = on(&["sh", "-c", &format!("docker save {IMAGE} | gzip -1")], b"");
    on(&["docker", "rmi", IMAGE], b"");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("strata.probe_agent_1.tar.gz"), archive).unwrap();
    // The lab's own archives lie on a mount that nobody writes; this test brings one of its own.
    bench.on(OPERATOR, &["umount", IMAGES]);
    bench.on(OPERATOR, &["mkdir", "-p", IMAGES]).ended(0);
    bench.lab.copy_in(OPERATOR, folder.path(), IMAGES.as_ref()).unwrap();
    String::from_utf8(id).unwrap().trim().to_owned()
}

/// Runs [`images_reach_hosts_without_a_registry`] on the operator host: nothing else reaches the
/// hosts.
fn supply(bench: &Bench) {
    let known = bench.lab.spec().unwrap();
    let list: String =
        HOSTS.map(|host| format!("{host} {}\n", known.host(host).unwrap().private)).concat();
    bench.put_text(OPERATOR, HOST_LIST, &list);
    let folder = tempfile::tempdir().unwrap();
    fs::copy(std::env::current_exe().unwrap(), folder.path().join("strata-test")).unwrap();
    bench.lab.copy_in(OPERATOR, folder.path(), "/usr/local/bin".as_ref()).unwrap();
    let name = "images_reach_hosts_without_a_registry";
    let words = ["strata-test", "--ignored", "--exact", name, "--nocapture"];
    let said = bench.on(OPERATOR, &words).ended(0);
    assert!(said.out.contains("1 passed"), "{}", said.text());
    said.out.lines().filter(|line| line.contains("figure:")).for_each(|line| println!("{line}"));
}

#[test]
#[ignore = "runs on the operator host of a lab, started by the test above"]
fn images_reach_hosts_without_a_registry() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let options =
            ConnectOptions::new(Path::new("/root"), Path::new(SITE).join(".strata/known_hosts"));
        let mut wanted = Vec::new();
        for line in fs::read_to_string(HOST_LIST).unwrap().lines() {
            let (name, address) = line.split_once(' ').unwrap();
            let target = Target::ssh(name, address.parse::<IpAddr>().unwrap());
            let session = Arc::new(AgentSession::connect(&target, &options).await.unwrap());
            wanted.push(HostImages { session, images: vec![IMAGE.to_owned()] });
        }
        let found = preflight(&wanted, Path::new(IMAGES), &Locks::new()).await;
        assert_eq!(found.problems(), []);
        let to_load: Vec<_> =
            found.to_load().map(|(host, bundle)| (host.to_owned(), Arc::clone(bundle))).collect();
        assert_eq!(to_load.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>(), HOSTS);
        let loads = wanted.iter().zip(&to_load).map(|(host, (_, bundle))| async move {
            let cache = Path::new("/var/tmp/strata-probe-layers");
            let parcel = Source::Archive(Arc::new(open(bundle, cache).unwrap()));
            let sent = SentBytes::default();
            let brought = bring(&host.session, &parcel, &sent).await.unwrap();
            assert_eq!(brought.id, bundle.id);
            assert!(sent.get() > 0);
            println!(
                "figure: {} bytes of image on {} in {:?}",
                sent.get(),
                host.session.host(),
                brought.took
            );
        });
        futures::future::join_all(loads).await;

        wanted[0].images.push("strata.probe/other:1".to_owned());
        let found = preflight(&wanted, Path::new(IMAGES), &Locks::new()).await;
        for host in HOSTS {
            let id = found.id(IMAGE).unwrap().to_owned();
            assert_eq!(found.hosts[host][IMAGE], Standing::Present(id));
        }
        let problems = found.problems();
        assert!(
            matches!(&problems[..], [SupplyProblem::Missing { host, reason, .. }]
                if host == FIRST && reason.contains("strata.probe_other_1.tar.gz")),
            "{problems:?}"
        );
        for host in wanted {
            Arc::into_inner(host.session).unwrap().close().await;
        }
    });
}

/// The container has the secret, and nothing that people or other processes see has it.
fn secret_stays_secret(bench: &Bench, shown: &str) -> String {
    let format = "{{range .Config.Env}}{{println .}}{{end}}";
    let env = bench.output(FIRST, &["docker", "inspect", "-f", format, "probe"]);
    let password = env.lines().find_map(|line| line.strip_prefix("PASSWORD=")).unwrap().to_owned();
    assert!(password.len() >= 20, "a secret was made");
    assert!(!shown.contains(&password), "{shown}");
    let labels =
        bench.output(FIRST, &["docker", "inspect", "-f", "{{json .Config.Labels}}", "probe"]);
    assert!(labels.contains("PASSWORD") && !labels.contains(&password), "{labels}");
    let journal = bench.output(FIRST, &["journalctl", "--no-pager", "-o", "cat"]);
    assert!(!journal.contains(&password), "the secret is in the host's journal");
    let processes = bench.output(FIRST, &["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"]);
    assert!(processes.contains("dockerd") && !processes.contains(&password));
    password
}

fn a_second_run_touches_nothing(bench: &Bench) {
    let before = HOSTS.map(|host| look(bench, host, "probe"));
    let said = run_on(bench, &HOSTS, "main", 0);
    assert!(said.text().contains("2 hosts converged, 0 not; 0 of "), "{}", said.text());
    assert_eq!(HOSTS.map(|host| look(bench, host, "probe")), before);
    println!(
        "figure: second run of 2 hosts with an image and a container each: {:.2} s",
        said.seconds
    );
}

fn what_drifted_is_mended_in_place(bench: &Bench) {
    let [id, started, ..] = look(bench, FIRST, "probe");
    bench.output(FIRST, &["docker", "update", "--restart=no", "probe"]);
    let text = run(bench, "main", 0).text();
    assert!(text.contains("restart: no → always"), "{text}");
    assert_eq!(look(bench, FIRST, "probe"), [&id, &started, "true", "always"]);
    bench.output(FIRST, &["docker", "stop", "probe"]);
    let text = run(bench, "main", 0).text();
    assert!(text.contains("state: exited → running"), "{text}");
    assert_eq!(look(bench, FIRST, "probe")[0], id);
}

fn another_command_means_another_container(bench: &Bench) {
    let [old, ..] = look(bench, FIRST, "probe");
    put(bench, r#"entrypoint = ["/strata-agent", "park"]"#);
    let said = run(bench, "main", 0);
    assert!(said.text().contains("command: [\"park\"] → none"), "{}", said.text());
    let [new, _, running, _] = look(bench, FIRST, "probe");
    assert!(new != old && running == "true");
    assert_eq!(names(bench, FIRST), ["probe"]);
    println!("figure: a container replaced: {:.2} s", said.seconds);
}

fn a_broken_description_leaves_the_old_one_running(bench: &Bench) {
    let [old, ..] = look(bench, FIRST, "probe");
    for (what, words) in [
        (r#"command = ["no-such-verb"]"#, "does not keep running"),
        (r#"command = ["park"], entrypoint = ["/no-such-program"]"#, "no-such-program"),
        (r#"command = ["park"], hostname = "h", user = "no-such-user""#, "no-such-user"),
    ] {
        put(bench, what);
        let text = run(bench, "main", 1).text();
        assert!(text.contains(words), "{text}");
        assert!(text.contains("the old container is back and runs"), "{text}");
        let [id, _, running, restart] = look(bench, FIRST, "probe");
        assert_eq!([&id, &running, &restart], [&old, "true", "always"], "{what}");
        assert_eq!(names(bench, FIRST), ["probe"]);
    }
    put(bench, r#"entrypoint = ["/strata-agent", "park"]"#);
    let before = look(bench, FIRST, "probe");
    run(bench, "main", 0);
    assert_eq!(look(bench, FIRST, "probe"), before);
}

/// What a run that was killed between two orders to the engine leaves.
fn an_interrupted_replacement_is_ended(bench: &Bench) {
    let [old, ..] = look(bench, FIRST, "probe");
    let aside = "docker stop -t 1 probe && docker update --restart=no probe && docker rename probe probe.strata-old";
    bench.output(FIRST, &["sh", "-c", aside]);
    run(bench, "main", 0);
    let [id, _, running, restart] = look(bench, FIRST, "probe");
    assert_eq!([&id, &running, &restart], [&old, "true", "always"]);
    assert_eq!(names(bench, FIRST), ["probe"]);
}

fn refusals(bench: &Bench) {
    let text = run(bench, "teller", 1).text();
    assert!(text.contains("does not keep running"), "{text}");
    assert!(text.contains("usage: strata-agent"), "its log says why: {text}");
    assert_eq!(names(bench, FIRST), ["probe"], "what never ran is not left");
    let text = run(bench, "single", 1).text();
    assert!(text.contains("/etc/hostname is a single file"), "{text}");
    bench.output(FIRST, &["docker", "run", "-d", "--name", "foreign", IMAGE, "park"]);
    let before = look(bench, FIRST, "foreign");
    let text = run(bench, "foreign", 1).text();
    assert!(text.contains("strata did not make"), "{text}");
    assert!(text.contains("adopt = true"), "{text}");
    assert_eq!(look(bench, FIRST, "foreign"), before);
}
