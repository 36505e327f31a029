//! `tools/image-patroni` to its end: in a real Docker, of Debian's PostgreSQL, without a way to any
//! other network. What it makes is locked, sent to another host, and is a Patroni that leads.

use super::IMAGES;
use crate::support::{Bench, OPERATOR, SITE, wait};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `versions.yaml` pins, and its archive.
const PINNED: &str = "zalando/patroni:3.3.0";
const ARCHIVE: &str = "zalando_patroni_3.3.0.tar.gz";
/// Where the script runs, and where its image is sent to.
const BUILDER: &str = "redis-01";
const OTHER: &str = "redis-02";

/// A layer with the engine, and with what the tests start beside it.
const ROLE: &str = r#"
description = "The image of a script"

[[step]]
name    = "Docker"
tags    = ["engine"]
package = { names = ["docker.io", "etcd-server"] }
timeout = 300

[[step]]
name    = "Docker service"
tags    = ["engine"]
service = { name = "docker", state = "started", enabled = true }

[[step]]
name  = "Image"
image = { name = "{{ versions.probe_image }}" }
"#;

fn with_role(folder: &Path) {
    super::with_probe(folder, PINNED);
    fs::write(folder.join("roles/probe/role.toml"), ROLE).unwrap();
}

/// Runs a script on this machine.
fn machine(folder: &Path, script: &str) {
    let status = Command::new("sh").args(["-euc", script]).current_dir(folder).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Debian's PostgreSQL as an image's tree, and an archive with what the script's build installs into it,
/// which the host serves: the lab reaches nobody.
const BASE: &str = r#"
rm -rf archive
mkdir archive
mmdebstrap --quiet --mode=root --variant=apt --include=postgresql-15 \
  --dpkgopt=force-unsafe-io --dpkgopt=force-confold \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --essential-hook='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"' \
  --customize-hook='APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qy --download-only --no-install-recommends install python3 python3-venv pgbackrest' \
  --customize-hook='sync-out /var/cache/apt/archives archive' \
  --customize-hook='echo "deb [trusted=yes] http://127.0.0.1:8099 ./" > "$1/etc/apt/sources.list"' \
  bookworm base.part
cd archive
rm -rf lock partial
apt-ftparchive packages . > Packages
mv ../base.part ../base.tar
"#;

/// With the base's Python, as the script says.
const WHEELS: &str = "rm -rf part; python3.11 -m pip wheel -q -w part 'patroni[etcd3,psycopg3]==3.3.0' 'psycopg[binary]'; mv part wheels";

/// One member with etcd beside it, nothing but what Patroni needs. Debian makes the usual directory of
/// sockets when it boots, which an image never does.
const MEMBER: &str = "
scope: probe
name: one
etcd3: { host: '127.0.0.1:2379' }
restapi: { listen: '127.0.0.1:8008', connect_address: '127.0.0.1:8008' }
bootstrap:
  dcs: { ttl: 30, loop_wait: 10, retry_timeout: 10 }
  initdb: [{ encoding: UTF8 }, data-checksums]
postgresql:
  listen: 127.0.0.1:5432
  connect_address: 127.0.0.1:5432
  data_dir: /srv/data/main
  bin_dir: /usr/lib/postgresql/15/bin
  parameters: { unix_socket_directories: /tmp }
  authentication:
    superuser: { username: postgres, password: probe }
    replication: { username: replicator, password: probe }
";

#[test]
#[ignore = "a campaign: PostgreSQL's packages and Python's, and an image of them"]
fn campaign_of_the_image_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Made once: what is there is used again.
    let folder = root.join("target/image-script");
    fs::create_dir_all(folder.join("site")).unwrap();
    if !folder.join("base.tar").is_file() {
        machine(&folder, BASE);
    }
    if !folder.join("wheels").is_dir() {
        machine(&folder, WHEELS);
    }
    fs::copy(root.join("tools/image-patroni"), folder.join("image-patroni")).unwrap();
    fs::copy(root.join("versions.yaml"), folder.join("site/versions.yaml")).unwrap();

    let bench = Bench::open("t-image-script", &[BUILDER, OTHER]);
    bench.furnished_with(with_role);
    super::run(&bench, &["install", "--tag", "engine"], 0);
    let sh = |host: &str, script: &str| bench.on(host, &["sh", "-euc", script]);
    bench.on(BUILDER, &["mkdir", "-p", "/root/build"]).ended(0);
    bench.lab.copy_in(BUILDER, &folder, "/root/build".as_ref()).unwrap();
    let serve = "docker import - probe/postgres:15 < /root/build/base.tar; rm /root/build/base.tar
systemd-run --unit=archive python3 -m http.server 8099 --bind 127.0.0.1 --directory /root/build/archive";
    sh(BUILDER, serve).ended(0);
    wait("the archive", 20, || {
        let said = sh(BUILDER, "curl -fsS -o /dev/null http://127.0.0.1:8099/Packages");
        if said.code == 0 { Ok(()) } else { Err(said.text()) }
    });

    // Without a word for the base the pinned one is asked for, which nobody has here: no archive is left.
    let script = "cd /root/build; sh image-patroni site";
    let said = sh(BUILDER, script);
    assert!(
        said.code == 1 && said.err.contains("postgres:16.4-alpine is not here"),
        "{}",
        said.text()
    );
    assert_ne!(sh(BUILDER, "ls /root/build/site/images/*").code, 0);

    let words = "cd /root/build
POSTGRES_IMAGE=probe/postgres:15 PIP_WHEELS=wheels DOCKER_BUILD_OPTIONS='--network host' sh image-patroni site";
    let said = sh(BUILDER, words).ended(0);
    assert!(said.out.contains("strata images lock --pin patroni_image"), "{}", said.text());
    let archive = format!("/root/build/site/images/{ARCHIVE}");
    let listed = bench.output(BUILDER, &["ls", "/root/build/site/images"]);
    assert_eq!(listed, ARCHIVE, "nothing half is left beside it");
    let bytes: u64 = bench.output(BUILDER, &["stat", "-c%s", &archive]).parse().unwrap();
    let base = bench
        .output(BUILDER, &["docker", "image", "inspect", "-f", "{{.Size}}", "probe/postgres:15"]);
    let whole = bench.output(BUILDER, &["docker", "image", "inspect", "-f", "{{.Size}}", PINNED]);
    println!(
        "figure: image-patroni: {:.0} s, archive {:.0} MB; image {:.0} MB on a base of {:.0} MB",
        said.seconds,
        bytes as f64 / 1e6,
        whole.parse::<f64>().unwrap() / 1e6,
        base.parse::<f64>().unwrap() / 1e6
    );

    // The operator host takes it: locked as the pin says, and sent to a host that never had it.
    let cat: Vec<OsString> = ["cat", archive.as_str()].map(OsString::from).into();
    let content = bench.lab.run(BUILDER, &cat, &[]).unwrap();
    assert!(content.status.success());
    let images = tempfile::tempdir().unwrap();
    fs::write(images.path().join(ARCHIVE), content.stdout).unwrap();
    bench.on(OPERATOR, &["umount", IMAGES]);
    bench.on(OPERATOR, &["mkdir", "-p", IMAGES]).ended(0);
    bench.lab.copy_in(OPERATOR, images.path(), IMAGES.as_ref()).unwrap();
    // A rehearsal locks nothing: its site is taken for one of production here.
    let lock = ["--color", "never", "--no-progress", "images", "lock", "--pin", "patroni_image"];
    bench.on(OPERATOR, &[&["strata", "--site", SITE][..], &lock].concat()).ended(0);
    let id = bench.output(BUILDER, &["docker", "image", "inspect", "-f", "{{.Id}}", PINNED]);
    let file = format!("{SITE}/images.lock.yaml");
    let locked = bench.output(OPERATOR, &["cat", &file]);
    assert!(locked.contains(PINNED) && locked.contains(&id), "{id}: {locked}");
    let lab = format!("{SITE}/inventory/lab/images.lock.yaml");
    let rename = format!("sed s/patroni_image/probe_image/ {file} > {lab}");
    sh(OPERATOR, &rename).ended(0);
    let said = super::push(&bench, 0);
    println!(
        "figure: sent to the host without it: {} bytes in {:.0} s",
        super::sent(&said),
        said.seconds
    );
    assert_eq!(bench.output(OTHER, &["docker", "image", "inspect", "-f", "{{.Id}}", PINNED]), id);

    starts(&bench);
}

/// What is in the image answers, and one member of it becomes leader of a PostgreSQL of its own.
fn starts(bench: &Bench) {
    let once = |entry: &str, words: &[&str]| {
        let run = ["docker", "run", "--rm", "--network", "host", "--entrypoint", entry, PINNED];
        bench.output(OTHER, &[&run[..], words].concat())
    };
    assert_eq!(once("patroni", &["--version"]), "patroni 3.3.0");
    assert!(once("patronictl", &["version"]).contains("3.3.0"));
    assert!(once("pgbackrest", &["version"]).starts_with("pgBackRest 2."));
    assert_eq!(once("id", &["-un"]), "postgres");
    let owner = once("id", &["-u"]);

    let begin = format!(
        "systemctl start etcd; mkdir -p /srv/patroni /srv/data; chown {owner} /srv/data; chmod 0700 /srv/data"
    );
    bench.on(OTHER, &["sh", "-euc", &begin]).ended(0);
    bench.put_text(OTHER, "/srv/patroni/patroni.yml", MEMBER);
    let run = format!(
        "docker run -d --name member --network host -v /srv/patroni:/etc/patroni:ro -v /srv/data:/srv/data {PINNED}"
    );
    bench.on(OTHER, &["sh", "-euc", &run]).ended(0);
    let ask = ["curl", "-fsS", "http://127.0.0.1:8008/primary"];
    wait("a primary", 120, || {
        let said = bench.on(OTHER, &ask);
        let logs = || bench.on(OTHER, &["docker", "logs", "--tail", "60", "member"]).text();
        if said.code == 0 { Ok(()) } else { Err(said.text() + &logs()) }
    });
    let answer = bench.output(OTHER, &ask);
    assert!(
        answer.contains("\"role\": \"master\"") || answer.contains("\"role\": \"primary\""),
        "{answer}"
    );
    let list = ["docker", "exec", "member", "patronictl", "-c", "/etc/patroni/patroni.yml", "list"];
    let members = bench.output(OTHER, &list);
    assert!(members.contains("Leader") && members.contains("running"), "{members}");
    bench.on(OTHER, &["docker", "stop", "member"]).ended(0);
}
