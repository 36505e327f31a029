//! Plans: what an install would do, with differences; applied only while that still holds. The class
//! of incident: a preview that was true when it was read, and was something else when it was applied.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::path::Path;
use support::{Bench, OPERATOR, SITE, Said, add_layer};

const HOSTS: [&str; 2] = ["redis-01", "k3s-master-01"];

const ROLE: &str = r#"description = "Two files, one with a secret."

[[step]]
name   = "Words"
file   = { path = "/etc/trial-words", content = "one\ntwo\nthree\n" }
notify = "tell"

[[step]]
name = "Password"
file = { path = "/etc/trial-password", content = "{{ secrets.REDIS_PASSWORD }}\n", mode = "0600" }

[[handler]]
name    = "tell"
command = { argv = ["true"] }
"#;

const PLAN: [&str; 7] = ["plan", "--layer", "trial", "--host", HOSTS[0], "--host", HOSTS[1]];

fn with_trial(site: &Path) {
    add_layer(site, "trial", ROLE);
}

fn plan(bench: &Bench, file: &str) -> Said {
    bench.strata(&[&PLAN[..], &["--out", file]].concat())
}

fn apply(bench: &Bench, file: &str) -> Said {
    bench.strata(&["install", "--plan-file", file])
}

#[test]
fn a_plan_is_applied_only_while_it_holds() {
    let bench = Bench::open("t-plan", &HOSTS);
    bench.fresh_with(with_trial);
    // What the whole site asks of a host is there first: the plans are about the role then.
    bench.strata(&[&["install"], &PLAN[1..]].concat()).ended(0);
    for host in HOSTS {
        bench.output(host, &["rm", "/etc/trial-words", "/etc/trial-password"]);
        bench.put_text(host, "/etc/trial-words", "one\n2\nthree\n");
    }
    let made = plan(&bench, "/root/a.plan").ended(8);
    let text = made.text();
    for shown in ["-2", "+two", "Password", "handler tell"] {
        assert!(text.contains(shown), "`{shown}` is in the plan:\n{text}");
    }
    println!("figure: a plan of 2 hosts with 6 changes: {:.2} s", made.seconds);
    no_secret_in(&bench, "/root/a.plan");

    // Somebody changes one host by hand.
    bench.put_text(HOSTS[0], "/etc/trial-words", "one\nby hand\nthree\n");
    let refused = apply(&bench, "/root/a.plan").ended(7);
    let text = refused.text();
    assert!(text.contains("nothing was changed") && text.contains(HOSTS[0]), "{text}");
    assert_eq!(bench.output(HOSTS[0], &["cat", "/etc/trial-words"]), "one\nby hand\nthree");
    assert_eq!(bench.output(HOSTS[1], &["cat", "/etc/trial-words"]), "one\n2\nthree");
    for host in HOSTS {
        assert_ne!(bench.on(host, &["test", "-e", "/etc/trial-password"]).code, 0, "{host}");
    }
    println!("figure: a plan that no longer holds refused after {:.2} s", refused.seconds);

    // The site changes after the plan.
    bench.put_text(HOSTS[0], "/etc/trial-words", "one\n2\nthree\n");
    bench.put_site(SITE, |site| {
        with_trial(site);
        support::replace(&site.join("roles/trial/role.toml"), "three", "four");
    });
    apply(&bench, "/root/a.plan").ended(7);
    bench.put_site(SITE, with_trial);

    // A secret gets another value: what is planned looks the same, and would write something else.
    let credentials = format!("{SITE}/credentials");
    bench.output(OPERATOR, &["cp", "-a", &credentials, "/root/credentials"]);
    let set = format!(
        "head -c 24 /dev/urandom | base64 | tr -d '+/=' | strata --site {SITE} secrets set redis REDIS_PASSWORD"
    );
    bench.output(OPERATOR, &["sh", "-c", &set]);
    let refused = apply(&bench, "/root/a.plan").ended(7).text();
    let named = "~ credentials/redis.env.age was changed since the plan was made";
    assert!(refused.contains(named) && refused.contains("nothing was changed"), "{refused}");
    for host in HOSTS {
        assert_ne!(bench.on(host, &["test", "-e", "/etc/trial-password"]).code, 0, "{host}");
    }
    bench.output(OPERATOR, &["rm", "-r", &credentials]);
    bench.output(OPERATOR, &["cp", "-a", "/root/credentials", &credentials]);

    // As they were when it was made: it is applied, and does just that.
    let applied = apply(&bench, "/root/a.plan").ended(0);
    assert!(applied.text().contains("6 of "), "{}", applied.text());
    println!("figure: a plan that holds applied in {:.2} s, gate included", applied.seconds);
    for host in HOSTS {
        assert_eq!(bench.output(host, &["cat", "/etc/trial-words"]), "one\ntwo\nthree");
    }
    // Once only.
    apply(&bench, "/root/a.plan").ended(7);
    plan(&bench, "/root/b.plan").ended(0);
    apply(&bench, "/root/b.plan").ended(0);
}

/// The file of a plan is for colleagues to read: no secret may be in it.
fn no_secret_in(bench: &Bench, file: &str) {
    let role = bench.strata(&["secrets", "names"]).ended(0).text();
    assert!(role.contains("REDIS_PASSWORD"), "{role}");
    let kept = bench.output(OPERATOR, &["cat", file]);
    assert!(kept.contains("Password") && !kept.contains("trial-password\\n"), "{kept}");
    let plan: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let secret = plan["planned"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["what"].as_str().unwrap().ends_with("Password"));
    let changes: Vec<&serde_json::Value> =
        secret.flat_map(|one| one["changes"].as_array().unwrap()).collect();
    assert!(!changes.is_empty());
    assert!(changes.iter().all(|change| change["diff"].is_null()), "{changes:?}");
    let files = plan["credentials"].as_object().unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["credentials/redis.env.age"]);
    assert_eq!(bench.output(OPERATOR, &["stat", "-c", "%a", file]), "600");
}
