//! What tests of PostgreSQL on real hosts share: a formed cluster, looks at it, and a client that
//! writes all the while.

#![allow(dead_code, reason = "each test program uses a part")]

pub use super::support::cluster::{actions, restarted};
use super::support::{Bench, OPERATOR, SITE, Said, append, install_words, replace, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every host but the operator's.
pub const HOSTS: [&str; 3] = ["db-01", "db-02", "db-03"];
/// What the operator host remembers of the cluster.
pub const RECORD: &str = "/opt/keybuzz-installer/state/postgres.json";
/// What stands beside each member's data.
pub const MARKER: &str = "/opt/keybuzz/postgres/data/.strata-cluster";
/// The data of a member.
pub const DATA: &str = "/opt/keybuzz/postgres/data/pgdata";

/// Where the writer keeps its account on db-03.
const WRITES: &str = "/opt/keybuzz/writes";

/// Prints the superuser and the password that the member's own file has.
const LOGIN: &str = "sed -n '/superuser:/,/password/s/.*\\(username\\|password\\): \"\\(.*\\)\"/\\2/p' /opt/keybuzz/patroni/patroni.yml";

/// The layer, where the site has none yet, and short times.
pub fn site(site: &Path) {
    let file = site.join("strata.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("name  = \"only-postgres\""));
    // The layer db has balancers too: here the members alone.
    append(
        &file,
        "\n[[layer]]\nname  = \"only-postgres\"\nrequires = [\"base\"]\nplace = [{ role = \"etcd\", on = \"db\" }, { role = \"postgres\", on = \"db\" }]\n",
    );
    let role = site.join("roles/postgres/role.toml");
    replace(&role, "postgres_ttl           = 30", "postgres_ttl           = 20");
    replace(&role, "postgres_loop_wait     = 10", "postgres_loop_wait     = 5");
    replace(&role, "postgres_retry_timeout = 10", "postgres_retry_timeout = 5");
}

/// The words of `install --layer only-postgres` with its diag gate alone, and others.
pub fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = install_words(&HOSTS);
    words[2] = "only-postgres";
    words.extend(["--host", OPERATOR]);
    words.extend(more);
    words
}

/// Installs etcd and PostgreSQL.
pub fn install(bench: &Bench) -> Said {
    bench.strata(&words(&[]))
}

/// Hosts whose layer base is green.
pub fn base(bench: &Bench) {
    bench.furnished_with(site);
    let said = bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    println!("figure: base on 4 hosts {:.1} s", said.seconds);
}

/// What a statement gives on a member's own server, or what it says against it.
pub fn sql(bench: &Bench, host: &str, statement: &str) -> String {
    sql_in(bench, host, "postgres", statement)
}

/// As [`sql`], in a database.
pub fn sql_in(bench: &Bench, host: &str, database: &str, statement: &str) -> String {
    let script = format!(
        "set -- $({LOGIN}) \"$@\"; export PGPASSWORD=\"$2\"; \
         exec docker exec -e PGPASSWORD patroni psql -h 127.0.0.1 -U \"$1\" -d \"$3\" -XtAc \"$4\""
    );
    bench.on(host, &["sh", "-c", &script, "sh", database, statement]).text().trim().to_owned()
}

/// The one member that takes writes; fails where there is none or more than one.
#[track_caller]
pub fn leader(bench: &Bench) -> &'static str {
    let recovering = "select pg_is_in_recovery()";
    let leaders: Vec<&str> =
        HOSTS.into_iter().filter(|host| sql(bench, host, recovering) == "f").collect();
    assert_eq!(leaders.len(), 1, "{leaders:?}");
    leaders[0]
}

/// The members' system identifiers: one in a cluster.
pub fn systems(bench: &Bench) -> BTreeSet<String> {
    HOSTS.into_iter().map(|host| system(bench, host)).collect()
}

fn system(bench: &Bench, host: &str) -> String {
    let file = format!("{DATA}/global/pg_control");
    bench.output(host, &["od", "-A", "n", "-t", "u8", "-N", "8", &file])
}

/// When each container was started, and each PostgreSQL.
pub fn started(bench: &Bench) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for host in HOSTS {
        let format = "{{.Id}} {{.State.StartedAt}} {{.State.Running}}";
        for name in ["etcd", "patroni"] {
            let said = bench.on(host, &["docker", "inspect", "-f", format, name]);
            all.insert(format!("{host} {name}"), said.text().trim().to_owned());
        }
        all.insert(format!("{host} server"), sql(bench, host, "select pg_postmaster_start_time()"));
    }
    all
}

/// Kills Patroni and with it PostgreSQL, as a power cut of the container.
pub fn kill(bench: &Bench, host: &str) {
    bench.on(host, &["docker", "kill", "--signal", "KILL", "patroni"]).ended(0);
}

/// Waits until another member than `old` leads.
#[track_caller]
pub fn elected(bench: &Bench, old: &str) -> &'static str {
    let mut new = "";
    wait("the election of another leader", 90, || {
        let told: Vec<String> = HOSTS
            .into_iter()
            .filter(|host| *host != old)
            .map(|host| format!("{host} {}", sql(bench, host, "select pg_is_in_recovery()")))
            .collect();
        let found = HOSTS.into_iter().find(|host| told.contains(&format!("{host} f")));
        found.map(|found| new = found).ok_or_else(|| format!("{told:?}"))
    });
    new
}

/// One client that writes to whoever leads until it is stopped, from db-03, in a container of its own.
pub fn start_writer(bench: &Bench) {
    let leader = leader(bench);
    sql(bench, leader, "create table if not exists written (n int8 primary key)");
    sql(bench, leader, "truncate written");
    let image = bench.output("db-03", &["docker", "inspect", "-f", "{{.Config.Image}}", "patroni"]);
    let to = "host=10.0.0.120,10.0.0.121,10.0.0.122 target_session_attrs=read-write connect_timeout=2 dbname=postgres";
    let script = format!(
        "n=0; while :; do n=$((n + 1)); \
         answer=$(timeout 4 psql \"{to}\" -XqtAc \"insert into written values ($n) returning n\" 2>&1 | head -n 1); \
         echo \"$n $(date +%s.%N) ${{answer:-nothing}}\" >> /writes/log; done"
    );
    let start = format!(
        "rm -rf {WRITES}; mkdir -p -m 0777 {WRITES}; docker rm -f writer >/dev/null 2>&1; \
         set -- $({LOGIN}) \"$@\"; export PGUSER=\"$1\" PGPASSWORD=\"$2\"; \
         exec docker run -d --name writer --network host -e PGUSER -e PGPASSWORD -v {WRITES}:/writes \
         --entrypoint bash \"$3\" -c \"$4\""
    );
    bench.on("db-03", &["sh", "-c", &start, "sh", &image, &script]).ended(0);
    wait("the first write", 30, || {
        let text = bench.on("db-03", &["cat", &format!("{WRITES}/log")]).out;
        if text.lines().any(|line| line.ends_with(" 1")) { Ok(()) } else { Err(text) }
    });
}

/// What a writer came to.
#[derive(Debug)]
pub struct Written {
    pub attempted: usize,
    pub acknowledged: usize,
    /// Acknowledged and not readable on the leader.
    pub lost: usize,
    /// Seconds between two acknowledged writes at most.
    pub outage: f64,
}

/// Stops the writer and reads everything back from the leader.
pub fn stop_writer(bench: &Bench) -> Written {
    bench.on("db-03", &["docker", "rm", "-f", "writer"]).ended(0);
    let text = bench.output("db-03", &["cat", &format!("{WRITES}/log")]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.splitn(3, ' ').collect())
        .filter(|line: &Vec<_>| line.len() == 3)
        .collect();
    let acked: Vec<&Vec<&str>> = lines.iter().filter(|line| line[2] == line[0]).collect();
    let times: Vec<f64> = acked.iter().map(|line| line[1].parse().unwrap()).collect();
    let outage = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let found = sql(bench, leader(bench), "select n from written");
    let found: BTreeSet<&str> = found.lines().collect();
    let lost = acked.iter().filter(|line| !found.contains(line[0])).count();
    Written { attempted: lines.len(), acknowledged: acked.len(), lost, outage }
}

/// A run after which nothing is left to do changes and restarts nothing.
#[track_caller]
pub fn nothing_more_to_do(bench: &Bench) -> Said {
    let before = started(bench);
    let said = install(bench).ended(0);
    assert!(said.text().contains("converged, 0 not; 0 of "), "{}", said.text());
    assert_eq!(actions(bench), Vec::<String>::new());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    said
}
