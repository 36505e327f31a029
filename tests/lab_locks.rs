//! Two runs at once: the second one of a site is refused with the holder's name, and so is a run
//! of another site for a host that is in use. Two labs stand side by side.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use support::{Bench, SITE, append, wait};

const HOST: &str = "k3s-master-01";
const OTHER_SITE: &str = "/opt/other-site";
const SLOW: [&str; 7] = ["install", "--layer", "base", "--tag", "slow", "--host", HOST];
/// A step that ends at once.
const QUICK: [&str; 7] = ["install", "--layer", "base", "--tag", "quick", "--host", HOST];

fn slow_step(site: &std::path::Path) {
    append(
        &site.join("roles/base/role.toml"),
        "\n[[step]]\nname    = \"Slow\"\ntags    = [\"slow\"]\ncommand = { argv = [\"sleep\", \"1000\"] }\n\
         \n[[step]]\nname    = \"Quick\"\ntags    = [\"quick\"]\ncommand = { argv = [\"true\"] }\n",
    );
}

#[test]
fn the_second_of_two_runs_is_refused() {
    let bench = Bench::open("t-locks", &[HOST]);
    bench.fresh();
    bench.put_site(SITE, slow_step);
    bench.put_site(OTHER_SITE, slow_step);
    let running = bench.start(SITE, &SLOW);
    wait("the host's lock", 20, || {
        let said = bench.on(HOST, &["grep", "-c", "owner", "/run/strata/lock"]);
        if said.code == 0 { Ok(()) } else { Err(running.so_far()) }
    });

    let same_site = bench.strata(&SLOW).ended(6);
    let filters = vec![
        (r"process \d+", "process [pid]"),
        // How long it waits is in the site's settings; how long the rest took is not.
        (r"(waiting up to|waited) (\d+) s\b", "$1 ${2} seconds"),
        (r"\d{8}-\d{6}-[a-z]{4}", "[run]"),
        (r"\d+(\.\d+)? (ms|s)\b", "[time]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[when]"),
        (r"since \d+", "since [when]"),
    ];
    insta::with_settings!({ filters => filters.clone() }, {
        insta::assert_snapshot!("site_lock", same_site.err);
    });
    let other_site = bench.strata_in(OTHER_SITE, &SLOW).ended(6);
    insta::with_settings!({ filters => filters }, {
        insta::assert_snapshot!("host_lock", other_site.err);
    });

    // The lock dies with its holder, also when that holder is killed: the step in hand goes on
    // until its end, so it is ended here.
    assert!(bench.signal("KILL"));
    running.finish();
    let waiting = bench.start(OTHER_SITE, &QUICK);
    wait("the next run to say for whom it waits", 15, || {
        let said = waiting.so_far();
        if said.contains("holds the host's lock") { Ok(()) } else { Err(said) }
    });
    let released = std::time::Instant::now();
    bench.output(HOST, &["pkill", "-x", "sleep"]);
    waiting.finish().ended(0);
    println!("figure: run after the orphan's end: {:.2} s", released.elapsed().as_secs_f64());

    // A stop is not waited out.
    let running = bench.start(SITE, &SLOW);
    wait("the host's lock", 20, || {
        let said = bench.on(HOST, &["grep", "-c", "tag slow", "/run/strata/lock"]);
        if said.code == 0 { Ok(()) } else { Err(running.so_far()) }
    });
    let stopped = bench.start(OTHER_SITE, &QUICK);
    wait("the next run to wait", 15, || {
        let said = stopped.so_far();
        if said.contains("holds the host's lock") { Ok(()) } else { Err(said) }
    });
    let wished = std::time::Instant::now();
    assert!(bench.signal("INT"));
    stopped.finish().ended(130);
    assert!(wished.elapsed().as_secs() < 10, "{:?}", wished.elapsed());
    bench.output(HOST, &["pkill", "-x", "sleep"]);
    running.finish().ended(1);
}

/// Takes the second lab down however the test ends.
struct Later(strata::lab::Lab);

impl Drop for Later {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("the lab could not be taken down: {error}");
        }
    }
}

#[test]
fn a_lab_goes_down_while_a_later_one_lives() {
    let earlier = Bench::open("t-earlier", &[]);
    earlier.fresh();
    let later = Later(strata::lab::Lab::open("t-later").unwrap());
    later.0.down().unwrap();
    let mut up = earlier.machine_strata(&["lab", "--lab", "t-later", "up", "--host", "install-01"]);
    assert!(up.output().unwrap().status.success());
    let image = "/var/lib/strata-lab/t-earlier/";
    let start = std::time::Instant::now();
    earlier.lab.down().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let devices = std::process::Command::new("losetup").arg("-a").output().unwrap();
    let devices = String::from_utf8_lossy(&devices.stdout).into_owned();
    assert!(!devices.contains(image), "{devices}");
    println!("figure: lab down beside another lab: {seconds:.2} s");
}
