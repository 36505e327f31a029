//! Images of the lab in a real Docker: they load, start as the official ones do, and stop so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/support.rs"]
mod support;

use std::net::Ipv4Addr;
use std::path::Path;

use strata::lab::{Image, ImageDescription, LabHost, LabSpec, Release, SUPERVISOR_VERB, UpOptions};
use support::{Bench, OPERATOR, wait};

const IMAGES: &str = "/opt/keybuzz-installer/images";

/// The described image of a pin, under the name that the lab's versions give it.
fn image(name: &str) -> Image {
    let site = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = site.join(format!("inventory/lab/images/{name}.toml"));
    let text = std::fs::read_to_string(&path).unwrap();
    let description = ImageDescription::parse(name, &text).unwrap();
    let versions = std::fs::read_to_string(site.join("inventory/lab/versions.yaml")).unwrap();
    let line = versions.lines().find(|line| line.starts_with(&description.pin)).unwrap();
    let reference = line.split('"').nth(1).unwrap().to_owned();
    Image { reference, description }
}

fn spec() -> LabSpec {
    let host = |name: &str, last: u8| LabHost {
        name: name.to_owned(),
        fqdn: format!("{name}.example.test"),
        private: Ipv4Addr::new(10, 0, 0, last),
        public: None,
        release: Release::Bookworm,
    };
    LabSpec {
        operator: OPERATOR.to_owned(),
        hosts: vec![host(OPERATOR, 250), host("redis-01", 123)],
        balancers: Vec::new(),
        private_net: "10.0.0.0/16".parse().unwrap(),
        packages: vec!["docker.io".to_owned()],
        release_packages: Default::default(),
        preinstalled: Vec::new(),
    }
}

#[test]
fn images_load_into_docker_and_behave_like_the_official_ones() {
    let bench = Bench::open("test-images", &["redis-01"]);
    let images = [image("redis"), image("haproxy")];
    let mut options =
        UpOptions::new(vec![env!("CARGO_BIN_EXE_strata").into(), SUPERVISOR_VERB.into()]);
    options.images = images.to_vec();
    let report = bench.lab.up(&spec(), &options, &|_| {}).unwrap();
    let seconds = report.phases.iter().find(|(name, _)| *name == "images").unwrap().1;
    println!("figure: images ready after {seconds:.1} s");

    let [redis, haproxy] = &images;
    for image in &images {
        let path = format!("{IMAGES}/{}", image.archive_name());
        let bytes: u64 = bench.output(OPERATOR, &["stat", "-c%s", &path]).parse().unwrap();
        println!("figure: {} {:.1} MB", image.reference, bytes as f64 / 1e6);
        assert!(bytes < 40_000_000, "{} has {bytes} bytes", image.reference);
    }
    let written = bench.on(OPERATOR, &["touch", &format!("{IMAGES}/x")]);
    assert!(written.err.contains("Read-only file system"), "{written:?}");

    bench
        .on(
            "redis-01",
            &[
                "sh",
                "-c",
                "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install docker.io",
            ],
        )
        .ended(0);
    for image in &images {
        let load = format!(
            "ssh -oStrictHostKeyChecking=accept-new 10.0.0.123 docker load < {IMAGES}/{}",
            image.archive_name()
        );
        let said = bench.on(OPERATOR, &["sh", "-c", &load]).ended(0);
        assert!(said.out.contains(&format!("Loaded image: {}", image.reference)), "{}", said.out);
    }
    let docker = |words: &[&str]| {
        let mut all = vec!["docker"];
        all.extend_from_slice(words);
        bench.on("redis-01", &all)
    };
    let prints = |words: &[&str]| docker(words).ended(0).text().trim().to_owned();
    let run = ["run", "--rm", "--network", "host"];
    let once = |image: &Image, words: &[&str]| {
        prints(&[&run[..], &[image.reference.as_str()], words].concat())
    };

    // Root is given up for the servers only.
    assert!(once(redis, &["redis-server", "--version"]).contains("v=7.0.15"));
    assert!(once(redis, &["redis-sentinel", "--version"]).contains("v=7.0.15"));
    assert_eq!(once(redis, &["id", "-u"]), "0");
    assert_eq!(once(redis, &["id", "redis"]), "uid=999(redis) gid=1000(redis) groups=1000(redis)");
    prints(&[
        "run",
        "--detach",
        "--name",
        "redis",
        "--network",
        "host",
        "--volume",
        "/srv/r:/data",
        &redis.reference,
        "--port",
        "6400",
        "--appendonly",
        "yes",
    ]);
    wait("Redis", 20, || {
        let said = docker(&["exec", "redis", "redis-cli", "-p", "6400", "ping"]);
        if said.out.trim() == "PONG" { Ok(()) } else { Err(said.text()) }
    });
    assert_eq!(
        prints(&["exec", "redis", "stat", "-c%u:%g", "/proc/1", "/data/appendonlydir"]),
        "999:1000\n999:1000"
    );
    prints(&["stop", "redis"]);
    assert_eq!(prints(&["inspect", "--format", "{{.State.ExitCode}}", "redis"]), "0");

    // HAProxy is never root, and its signals are those of the official image.
    assert!(once(haproxy, &["haproxy", "-v"]).contains("2.6.12"));
    assert_eq!(once(haproxy, &["id", "-u"]), "99");
    bench.on("redis-01", &["mkdir", "-p", "/srv/h"]).ended(0);
    let text = "defaults\n mode http\n timeout client 1s\n timeout connect 1s\n timeout server 1s\nfrontend f\n bind :8404\n monitor-uri /health\n";
    bench.put_text("redis-01", "/srv/h/haproxy.cfg", text);
    prints(&[
        "run",
        "--detach",
        "--name",
        "haproxy",
        "--network",
        "host",
        "--volume",
        "/srv/h:/usr/local/etc/haproxy:ro",
        &haproxy.reference,
    ]);
    wait("HAProxy", 20, || {
        let said = bench.on("redis-01", &["curl", "-fsS", "http://127.0.0.1:8404/health"]);
        if said.code == 0 { Ok(()) } else { Err(said.text()) }
    });
    let top = prints(&["top", "haproxy", "-o", "pid,uid,args"]);
    assert!(top.contains("haproxy -W -db -f /usr/local/etc/haproxy/haproxy.cfg"), "{top}");
    prints(&["kill", "--signal", "USR2", "haproxy"]);
    wait("a reload", 20, || {
        let logs = docker(&["logs", "haproxy"]).text();
        if logs.matches("Loading success").count() >= 2 { Ok(()) } else { Err(logs) }
    });
    let stopped = docker(&["stop", "--time", "20", "haproxy"]).ended(0);
    assert!(stopped.seconds < 10.0, "SIGUSR1 did not stop it: {} s", stopped.seconds);
    assert_eq!(prints(&["inspect", "--format", "{{.Config.StopSignal}}", "haproxy"]), "SIGUSR1");
}
