//! Two releases of Debian in one fleet: what is a package of its own on one of them is installed
//! there and nowhere else, and the same roles and gates hold on both.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use support::{Bench, SITE};

const OLD: &str = "db-01";
const NEW: &str = "db-02";

#[test]
fn one_layer_is_green_on_debian_12_and_13() {
    let bench = Bench::open("t-releases", &[OLD, NEW]);
    bench.fresh_with(|site| {
        let releases = format!("[release]\ntrixie = [\"{NEW}\"]\n");
        std::fs::write(site.join("inventory/lab/hosts.toml"), releases).unwrap();
    });
    let release = |host| bench.output(host, &["sh", "-c", ". /etc/os-release && echo $VERSION_ID"]);
    assert_eq!([release(OLD), release(NEW)], ["12", "13"]);

    // The base layer has the container engine and its tests: a container is run on each host.
    let first = bench.install(SITE, &[OLD, NEW]).ended(0);
    println!("figure: first install of a Debian 12 and a Debian 13 host: {:.1} s", first.seconds);
    let client = |host| {
        let format = "-f=${db:Status-Abbrev}";
        bench.on(host, &["dpkg-query", "-W", format, "docker-cli"]).out.trim().to_owned()
    };
    assert_eq!([client(OLD), client(NEW)], ["", "hi"]);
    for host in [OLD, NEW] {
        let version = bench.output(host, &["docker", "version", "-f", "{{.Server.Version}}"]);
        println!("figure: Docker on {host}: {version}");
        bench.nothing_half_done(host);
    }

    let second = bench.install(SITE, &[OLD, NEW]).ended(0);
    assert!(second.text().contains("0 changed"), "{}", second.text());
    println!("figure: the second, gate included: {:.1} s", second.seconds);
    bench.strata(&["install", "--layer", "base", "--check", "--host", OLD, "--host", NEW]).ended(0);
}
