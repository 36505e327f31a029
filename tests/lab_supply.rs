//! Images on real engines: layer by layer through strata's sessions, on after a cut, and from a
//! registry by digest.
//!
//! Needs root, Debian 12 and (the first time) a package mirror; the campaign of the image script PyPI, too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/image_script.rs"]
mod image_script;
#[path = "lab/support.rs"]
mod support;

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use support::{Bench, OPERATOR, Running, SITE, Said, append, wait};

const IMAGE: &str = "strata.probe/random:1";
/// Where the operator host keeps archives of images.
const IMAGES: &str = "/opt/keybuzz-installer/images";
/// Where hosts keep layers that are on their way.
const BLOBS: &str = "/var/lib/strata/blobs";

/// One more layer, of hosts that install Docker and use a pinned image.
fn with_probe(folder: &Path, image: &str) {
    append(
        &folder.join("strata.toml"),
        "\n[[layer]]\nname  = \"probe\"\nplace = [{ role = \"probe\", on = \"docker\" }]\n",
    );
    for versions in ["versions.yaml", "inventory/lab/versions.yaml"] {
        append(&folder.join(versions), &format!("probe_image: \"{image}\"\n"));
    }
    fs::create_dir(folder.join("roles/probe")).unwrap();
    fs::write(folder.join("roles/probe/role.toml"), ROLE).unwrap();
    fs::write(folder.join("roles/probe/gate.toml"), "[[test]]\nname = \"converged\"\n").unwrap();
}

/// The registry's step is for the lab's packages: it is installed by hand on the operator host.
const ROLE: &str = r#"
description = "Images of a test"

[[step]]
name    = "Docker"
tags    = ["engine"]
package = { names = ["docker.io"] }
timeout = 300

[[step]]
name    = "Docker service"
tags    = ["engine"]
service = { name = "docker", state = "started", enabled = true }

[[step]]
name    = "Registry"
tags    = ["registry"]
package = { names = ["docker-registry"] }

[[step]]
name  = "Image"
image = { name = "{{ versions.probe_image }}" }
"#;

fn put(bench: &Bench, image: &str) {
    bench.put_site(SITE, |folder| with_probe(folder, image));
}

/// The words of a command on the bench's hosts.
fn words<'a>(bench: &'a Bench, command: &[&'a str]) -> Vec<&'a str> {
    let mut words = command.to_vec();
    words.extend(["--layer", "probe"]);
    words.extend(bench.hosts.iter().flat_map(|host| ["--host", host]));
    words
}

fn run(bench: &Bench, command: &[&str], code: i32) -> Said {
    bench.strata(&words(bench, command)).ended(code)
}

fn push(bench: &Bench, code: i32) -> Said {
    run(bench, &["images", "push"], code)
}

/// The bytes that a push says it sent.
fn sent(said: &Said) -> u64 {
    bytes_in(&said.text())
}

fn bytes_in(text: &str) -> u64 {
    let (before, _) = text.split_once(" bytes sent").unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

/// An image of two layers: one of 4 MiB that a second image shares, one of `mib` of random content.
/// Saved as archives on the operator host; not left on the host.
fn archives(bench: &Bench, host: &str, mib: u32) {
    let script = format!(
        "set -e; cd /root; rm -rf layers; mkdir layers
head -c 4M /dev/urandom > layers/base; tar -C layers -c base | docker import - strata.probe/base:1
head -c {mib}M /dev/urandom > layers/big
printf 'FROM strata.probe/base:1\\nCOPY big /big\\n' > layers/Dockerfile
DOCKER_BUILDKIT=0 docker build -q -t {IMAGE} layers
printf 'FROM strata.probe/base:1\\nENV SECOND=1\\n' > layers/Dockerfile
docker save {IMAGE} > strata.probe_random_1.tar
docker rmi {IMAGE} strata.probe/base:1; rm -rf layers; docker image prune -af; docker images -q | wc -l"
    );
    bench.on(host, &["sh", "-c", &script]).ended(0);
    let words: Vec<OsString> =
        ["cat", "/root/strata.probe_random_1.tar"].map(OsString::from).into();
    let archive = bench.lab.run(host, &words, &[]).unwrap();
    assert!(archive.status.success());
    bench.on(host, &["rm", "/root/strata.probe_random_1.tar"]).ended(0);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("strata.probe_random_1.tar"), archive.stdout).unwrap();
    // The lab's own archives lie on a mount that nobody writes; this test brings one of its own.
    bench.on(OPERATOR, &["umount", IMAGES]);
    bench.on(OPERATOR, &["mkdir", "-p", IMAGES]).ended(0);
    bench.lab.copy_in(OPERATOR, folder.path(), IMAGES.as_ref()).unwrap();
}

fn removed(bench: &Bench, hosts: &[&str]) {
    for host in hosts {
        bench.on(host, &["docker", "rmi", IMAGE]).ended(0);
    }
}

fn side_load(hosts: &[&str], name: &str, mib: u32) {
    let bench = Bench::open(name, hosts);
    bench.furnished_with(|folder| with_probe(folder, IMAGE));
    run(&bench, &["install", "--tag", "engine"], 0);
    archives(&bench, hosts[0], mib);
    let size = u64::from(mib) << 20;

    let said = push(&bench, 0);
    let bytes = sent(&said);
    println!(
        "figure: {mib} MiB image to {} hosts: {bytes} bytes in {:.1} s",
        hosts.len(),
        said.seconds
    );
    let all = size * hosts.len() as u64;
    assert!(bytes > all && bytes < all + (6 << 20) * hosts.len() as u64, "{bytes}");
    let id = bench.output(hosts[0], &["docker", "inspect", "-f", "{{.Id}}", IMAGE]);
    for host in hosts {
        assert_eq!(bench.output(host, &["docker", "inspect", "-f", "{{.Id}}", IMAGE]), id);
        assert_eq!(bench.output(host, &["ls", BLOBS]), "", "what the engine has is not kept");
    }
    let said = push(&bench, 0);
    println!("figure: second time: {} bytes in {:.1} s", sent(&said), said.seconds);
    assert_eq!(sent(&said), 0);

    // The name is gone and the layers are not: nothing but the image's documents is sent.
    let keep = "docker tag strata.probe/random:1 strata.probe/kept:1";
    bench.on(hosts[0], &["sh", "-c", keep]).ended(0);
    removed(&bench, &hosts[..1]);
    let said = push(&bench, 0);
    println!("figure: all layers there: {} bytes", sent(&said));
    assert!((1..64 << 10).contains(&sent(&said)), "{}", said.text());
    bench.on(hosts[0], &["docker", "rmi", "strata.probe/kept:1"]).ended(0);

    files_get_their_places(&bench, hosts, 8 << 20);
    link_breaks(&bench, hosts, size);
    strata_is_killed(&bench, hosts, size);
    let said = run(&bench, &["images", "status"], 0);
    assert!(said.out.contains("not locked") && said.out.contains("present"), "{}", said.text());
}

/// A file that is too large for a plan: brought packed, once, before anything is changed.
fn files_get_their_places(bench: &Bench, hosts: &[&str], size: usize) {
    // The first is on another file system than what is received.
    const PATHS: [&str; 2] = ["/run/large", "/usr/local/bin/large"];
    const PATH: &str = PATHS[1];
    // Half of it can be packed.
    let mut content = vec![7; size / 2];
    fs::File::open("/dev/urandom")
        .unwrap()
        .take(size as u64 / 2)
        .read_to_end(&mut content)
        .unwrap();
    let digest = strata::resource::sha256(&content[..], |_| Ok(())).unwrap();
    let steps = PATHS.map(|path| {
        format!("\n[[step]]\nname = \"Large file at {path}\"\ntags = [\"file\"]\nartifact = {{ path = \"{path}\", source = \"large\", sha256 = \"{digest}\" }}\n")
    });
    bench.put_site(SITE, |folder| {
        with_probe(folder, IMAGE);
        append(&folder.join("roles/probe/role.toml"), &steps.concat());
        fs::create_dir(folder.join("artifacts")).unwrap();
        fs::write(folder.join("artifacts/large"), &content).unwrap();
    });
    let brought =
        |said: &Said| said.text().matches("file /opt/keybuzz-installer/artifacts/large, ").count();
    let install = || run(bench, &["install", "--tag", "file"], 0);
    let said = install();
    println!("figure: {size} bytes, half of them packed: {:.1} s\n{}", said.seconds, said.text());
    assert_eq!(brought(&said), hosts.len(), "{}", said.text());
    assert!(
        said.text().contains(&format!("large, {:.1} MiB sent", size as f64 / 2e0 / 1048576e0)),
        "{}",
        said.text()
    );
    for host in hosts {
        for path in PATHS {
            assert!(bench.output(host, &["sha256sum", path]).starts_with(&digest), "{host}");
            assert_eq!(bench.output(host, &["stat", "-c", "%a %U", path]), "755 root");
        }
        let kept = bench.output(host, &["find", BLOBS, "-type", "f"]);
        assert_eq!(kept, "", "what has its place is not kept");
    }
    let said = install();
    println!("figure: again: {:.1} s", said.seconds);
    assert_eq!(brought(&said), 0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
    // What was changed by hand is seen, and only that host gets it again.
    bench.on(hosts[0], &["sh", "-c", &format!("printf x >> {PATH}")]).ended(0);
    let said = run(bench, &["plan", "--tag", "file"], 8);
    assert!(said.text().contains("content"), "{}", said.text());
    assert_eq!(brought(&install()), 1);
    assert!(bench.output(hosts[0], &["sha256sum", PATH]).starts_with(&digest));
}

/// Starts a push and waits until the first host has a quarter of the layer.
fn begin_push(bench: &Bench, host: &str, size: u64) -> Running {
    let running = bench.start(SITE, &words(bench, &["images", "push"]));
    wait("a quarter of the layer", 120, || {
        let held = held(bench, host);
        if held > size / 4 { Ok(()) } else { Err(format!("{held} bytes; {}", running.so_far())) }
    });
    running
}

/// Bytes of layers that are on their way to a host.
fn held(bench: &Bench, host: &str) -> u64 {
    let list = format!("cat {BLOBS}/*.part 2>/dev/null | wc -c");
    bench.output(host, &["sh", "-c", &list]).parse().unwrap()
}

fn link_breaks(bench: &Bench, hosts: &[&str], size: u64) {
    removed(bench, hosts);
    let mut running = begin_push(bench, hosts[0], size);
    bench.on(hosts[0], &["pkill", "-KILL", "-f", "sshd: root@notty"]).ended(0);
    wait(
        "the end of the push",
        300,
        || {
            if running.ended() { Ok(()) } else { Err(running.so_far()) }
        },
    );
    let log = running.so_far();
    let bytes = bytes_in(&log);
    let all = size * hosts.len() as u64;
    println!("figure: link of one host cut in the middle: {bytes} bytes for {all}");
    // What was in flight when the link broke is sent twice, and nothing else.
    assert!(bytes > all && bytes < all + (8 << 20) * hosts.len() as u64, "{log}");
    assert!(log.contains("link lost") && log.contains("reconnected"), "{log}");
}

fn strata_is_killed(bench: &Bench, hosts: &[&str], size: u64) {
    removed(bench, hosts);
    let mut running = begin_push(bench, hosts[0], size);
    assert!(bench.signal("KILL"));
    wait("the end of strata", 30, || if running.ended() { Ok(()) } else { Err(running.so_far()) });
    wait("the agents' end", 60, || {
        let there = hosts
            .iter()
            .any(|host| bench.on(host, &["pgrep", "-f", "strata-agent.* serve"]).code == 0);
        if there { Err("an agent runs".to_owned()) } else { Ok(()) }
    });
    let kept: u64 = hosts.iter().map(|host| held(bench, host)).sum();
    let said = push(bench, 0);
    let all = size * hosts.len() as u64;
    println!(
        "figure: strata killed with {kept} bytes at {} hosts, the next push sent {} of {all}",
        hosts.len(),
        sent(&said)
    );
    assert!(kept > size / 4);
    assert!(sent(&said) + kept < all + (6 << 20) * hosts.len() as u64, "{}", said.text());
}

#[test]
fn layers_reach_hosts_once_and_go_on_after_a_cut() {
    side_load(&["redis-01", "redis-02"], "t-supply", 100);
}

#[test]
#[ignore = "a campaign: ten hosts"]
fn campaign_three_hundred_mebibytes_to_ten_hosts() {
    let hosts = [
        "redis-01",
        "redis-02",
        "redis-03",
        "queue-01",
        "queue-02",
        "queue-03",
        "minio-01",
        "minio-02",
        "minio-03",
        "haproxy-01",
    ];
    side_load(&hosts, "t-supply-many", 300);
}

/// Address of the registry in the lab: the operator host.
const REGISTRY: &str = "10.0.0.250:5000";

#[test]
fn images_come_from_a_registry_by_their_locked_digest() {
    let bench = Bench::open("t-registry", &["redis-01", "redis-02"]);
    let pinned = format!("{REGISTRY}/probe/image:1");
    bench.furnished_with(|folder| with_probe(folder, &pinned));
    run(&bench, &["install", "--tag", "engine"], 0);
    for host in ["redis-01", "redis-02"] {
        let trust = format!(
            "mkdir -p /etc/docker && printf '{{\"insecure-registries\": [\"{REGISTRY}\"]}}' > /etc/docker/daemon.json && systemctl restart docker"
        );
        bench.on(host, &["sh", "-c", &trust]).ended(0);
    }
    // Debian's configuration wants a login.
    let open = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /var/lib/docker-registry\nhttp:\n  addr: :5000\n";
    bench.on(OPERATOR, &["mkdir", "-p", "/root/registry"]).ended(0);
    bench.put_text(OPERATOR, "/root/registry/config.yml", open);
    let install = "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install docker-registry && cp /root/registry/config.yml /etc/docker/registry/config.yml && systemctl restart docker-registry";
    bench.on(OPERATOR, &["sh", "-c", install]).ended(0);
    let build = |name: &str, text: &str| {
        let script = format!(
            "set -e; mkdir -p /root/b; echo {text} > /root/b/f; tar -C /root/b -c f | docker import - {name}; docker push {name}; docker rmi {name}"
        );
        wait("the registry", 60, || {
            let said = bench.on("redis-01", &["sh", "-c", &script]);
            if said.code == 0 { Ok(()) } else { Err(said.text()) }
        });
    };

    // What is not locked is not pulled, and a name without an image cannot be locked.
    let said = push(&bench, 7);
    assert!(said.text().contains("is not locked"), "{}", said.text());
    let lock = |words: &[&str], code: i32| {
        // A rehearsal locks nothing: its site is taken for one of production here.
        let site = ["strata", "--site", SITE, "--color", "never", "--no-progress"];
        let lock = ["images", "lock", "--pin", "probe_image", "--via", "redis-01"];
        bench.on(OPERATOR, &[&site[..], &lock[..], words].concat()).ended(code)
    };
    let said = lock(&[], 1);
    assert!(said.text().contains("repository is gone"), "{}", said.text());

    build(&pinned, "one");
    lock(&[], 0);
    let file = format!("{SITE}/images.lock.yaml");
    let first = bench.output(OPERATOR, &["cat", &file]);
    assert!(first.contains(&pinned) && first.contains("digest: \"sha256:"), "{first}");
    let lab = format!("{SITE}/inventory/lab/images.lock.yaml");
    bench.on(OPERATOR, &["cp", &file, &lab]).ended(0);
    push(&bench, 0);
    let ids = ["redis-01", "redis-02"]
        .map(|host| bench.output(host, &["docker", "inspect", "-f", "{{.Id}}", &pinned]));
    assert_eq!(ids[0], ids[1]);

    // The tag moves: nothing is taken silently, and the locked image is still the one that comes.
    build(&pinned, "two");
    let said = lock(&[], 8);
    assert!(said.text().contains(" → ") && said.text().contains("--update"), "{}", said.text());
    assert_eq!(bench.output(OPERATOR, &["cat", &file]), first);
    bench.on("redis-02", &["docker", "rmi", "-f", &ids[1]]).ended(0);
    push(&bench, 0);
    assert_eq!(bench.output("redis-02", &["docker", "inspect", "-f", "{{.Id}}", &pinned]), ids[1]);

    // Another image under the name is found before anything changes.
    let other = format!("docker pull {pinned}");
    bench.on("redis-02", &["sh", "-c", &other]).ended(0);
    let said = run(&bench, &["install"], 7);
    assert!(said.text().contains("and locked as sha256:"), "{}", said.text());
    lock(&["--update"], 0);

    // An alias: the image has another name in the registry, and the pinned one on the hosts.
    let gone = format!("{REGISTRY}/never/was:1");
    put(&bench, &gone);
    let alias = format!("probe_image={pinned}");
    bench.on(OPERATOR, &["rm", "-f", &file]).ended(0);
    let said = lock(&[], 1);
    assert!(said.text().contains("repository is gone"), "{}", said.text());
    lock(&["--alias", &alias], 0);
    bench.on(OPERATOR, &["cp", &file, &lab]).ended(0);
    push(&bench, 0);
    for host in ["redis-01", "redis-02"] {
        bench.on(host, &["docker", "inspect", &gone]).ended(0);
    }

    // A tag that the repository does not have.
    put(&bench, &format!("{REGISTRY}/probe/image:3"));
    bench.on(OPERATOR, &["rm", "-f", &file]).ended(0);
    let said = lock(&[], 1);
    assert!(said.text().contains("there is no "), "{}", said.text());
}
