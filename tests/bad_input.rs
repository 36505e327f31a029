//! Bad input: whatever an operator gets wrong is reported with its place and a hint, all at once,
//! and no host is touched. Each case damages one thing in a copy of the site at the repository
//! root; the whole output is the expectation.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "site/copy.rs"]
mod copy;

use copy::copy_site;
use std::fs;
use std::process::Command;

/// A copy of the site without the pins that upstream no longer serves, so that a case shows its
/// own problem only.
struct Damaged(tempfile::TempDir);

impl Damaged {
    fn new() -> Self {
        let copy = tempfile::tempdir().unwrap();
        copy_site(copy.path());
        let damaged = Self(copy);
        damaged.edit("versions.yaml", |text| {
            text.replace("minio/minio:RELEASE.2024-10-02T10-00Z", "minio/minio:RELEASE.1")
                .replace("zalando/patroni:3.3.0", "zalando/patroni:3.3.1")
                .replace("bitnami/mariadb-galera:10.11.6", "bitnami/mariadb-galera:10.11.7")
        });
        damaged
    }

    fn edit(&self, file: &str, change: impl Fn(&str) -> String) -> &Self {
        let path = self.0.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let changed = change(&text);
        assert_ne!(text, changed, "the case changes nothing in {file}");
        fs::write(&path, changed).unwrap();
        self
    }

    fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        self.edit(file, |text| text.replacen(from, to, 1))
    }

    fn write(&self, file: &str, content: &[u8]) -> &Self {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn remove(&self, file: &str) -> &Self {
        fs::remove_file(self.0.path().join(file)).unwrap();
        self
    }

    /// What `strata ARGUMENTS` prints, with its exit code.
    fn strata(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_strata"))
            .arg("--site")
            .arg(self.0.path())
            .args(arguments)
            .env("NO_COLOR", "1")
            .env("HOME", self.0.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(self.0.path().to_str().unwrap(), "SITE")
        };
        assert!(
            !self.0.path().join(".strata/runs").exists()
                || fs::read_dir(self.0.path().join(".strata/runs")).unwrap().next().is_none(),
            "a run began"
        );
        format!(
            "exit code: {}\n{}{}",
            output.status.code().unwrap(),
            text(&output.stdout),
            text(&output.stderr)
        )
    }
}

const INVENTORY: &str = "inventory/servers.tsv";
const GROUPS: &str = "inventory/groups.toml";
const BASE: &str = "roles/base/role.toml";

macro_rules! cases {
    ($($name:ident: $damage:expr;)*) => {
        $(#[test]
        fn $name() {
            let site = Damaged::new();
            let damage: fn(&Damaged) = $damage;
            damage(&site);
            let output = site.strata(&["check"]);
            assert!(output.starts_with("exit code: 2\n"), "{output}");
            insta::assert_snapshot!(output);
        })*
    };
}

cases! {
    inventory_missing: |s| { s.remove(INVENTORY); };
    inventory_empty: |s| { s.write(INVENTORY, b""); };
    inventory_header_only: |s| { s.edit(INVENTORY, |t| t.lines().next().unwrap().to_owned() + "\n"); };
    inventory_unknown_column: |s| { s.replace(INVENTORY, "POOL", "POOOL"); };
    inventory_repeated_column: |s| { s.replace(INVENTORY, "CORE\tNOTES", "CORE\tCORE"); };
    inventory_not_utf8: |s| { s.write(INVENTORY, b"ENV\xff\n"); };
    inventory_too_few_cells: |s| { s.replace(INVENTORY, "root\tqueue-pool", "root queue-pool"); };
    inventory_empty_cell: |s| { s.replace(INVENTORY, "root\tqueue-pool", "\tqueue-pool"); };
    inventory_bad_address: |s| { s.replace(INVENTORY, "10.0.0.126", "10.0.0.1266"); };
    inventory_loopback_address: |s| { s.replace(INVENTORY, "10.0.0.120", "127.0.0.1"); };
    inventory_bad_host_name: |s| { s.replace(INVENTORY, "\tdb-01\t", "\tDB_01\t"); };
    inventory_duplicate_address: |s| { s.replace(INVENTORY, "10.0.0.121", "10.0.0.120"); };
    inventory_duplicate_name: |s| { s.replace(INVENTORY, "\tdb-02\t", "\tdb-01\t"); };
    inventory_core_neither_yes_nor_no: |s| { s.replace(INVENTORY, "patroni-node\tyes", "patroni-node\tmaybe"); };
    inventory_secret_in_notes: |s| { s.replace(INVENTORY, "RabbitMQ quorum", "password=Tr0ub4dor"); };
    inventory_operator_gone: |s| { s.replace("strata.toml", "operator = \"install-01\"", "operator = \"install-1\""); };
    balancer_address_on_a_host: |s| { s.replace(INVENTORY, "10.0.0.11\t", "10.0.0.10\t"); };
    group_count_differs: |s| { s.replace(GROUPS, "expect = 28", "expect = 27"); };
    group_without_count: |s| { s.replace(GROUPS, "select = { ENV = \"prod\" }\nexpect = 28", "select = { ENV = \"prod\" }"); };
    group_selects_unknown_column: |s| { s.replace(GROUPS, "{ ROLE = \"k3s\" }", "{ ROL = \"k3s\" }"); };
    group_selects_nothing: |s| { s.replace(GROUPS, "redis-ha-docker\" }", "redis-ha\" }"); };
    group_names_unknown_host: |s| { s.replace(GROUPS, "[\"install-01\"]", "[\"install-02\"]"); };
    group_fixed_address_differs: |s| { s.replace(GROUPS, "\"10.0.0.134\"", "\"10.0.0.133\""); };
    group_excluded_host: |s| { s.replace(INVENTORY, "k3s\tworker\tk3s-worker-extra", "k3s\tworker\tminio-docker"); };
    balancer_unknown_group: |s| { s.replace(GROUPS, "targets = \"proxysql\"", "targets = \"proxy\""); };
    balancer_bad_port: |s| { s.replace(GROUPS, "[3306]", "[33066666]"); };
    toml_syntax_everywhere: |s| {
        s.replace("strata.toml", "port            = 22", "port            = ").replace(GROUPS, "expect = 28", "expect = = 28");
    };
    setting_unknown: |s| { s.replace("strata.toml", "connect_timeout", "conect_timeout"); };
    setting_out_of_range: |s| { s.replace("strata.toml", "= 22\n", "= 0\n"); };
    setting_wrong_type: |s| { s.replace("strata.toml", "step_timeout = 600", "step_timeout = \"ten minutes\""); };
    setting_bad_network: |s| { s.replace("strata.toml", "10.0.0.0/16", "10.0.0.0/66"); };
    layer_requires_unknown: |s| { s.replace("strata.toml", "name  = \"base\"", "name  = \"base\"\nrequires = [\"bsae\"]"); };
    layer_unknown_role: |s| { s.replace("strata.toml", "role = \"docker\"", "role = \"dokcer\""); };
    layer_unknown_group: |s| { s.replace("strata.toml", "on = \"docker\"", "on = \"dockers\""); };
    cluster_followed_by_unknown_group: |s| { s.replace("roles/redis/role.toml", "on = \"haproxy\"", "on = \"haprox\""); };
    placement_turns: |s| {
        s.replace("strata.toml", "serial = 1 }", "serial = [1, 0, \"20\"], max_failures = \"half\" }")
            .replace("strata.toml", "{ role = \"docker\", on = \"docker\" }", "{ role = \"docker\", on = \"docker\", max_failures = 1 }");
    };
    setting_deadline: |s| { s.replace("strata.toml", "step_timeout = 600", "step_timeout = 600\ndeadline = \"4h\""); };
    out_of_service_unreadable: |s| { s.write("state/hosts/out.json", b"{ \"format\": 1, \"hosts\": { \"db-01\": {} } }"); };
    variable_reserved: |s| { s.replace("strata.toml", "timezone =", "facts = 1\ntimezone ="); };
    variable_is_a_template: |s| { s.replace("strata.toml", "\"/opt/keybuzz\"", "\"/opt/{{ site.name }}\""); };
    variable_conflict: |s| {
        s.edit(GROUPS, |t| t.to_owned() + "\n[group.all.vars]\ncolor = \"red\"\n\n[group.db.vars]\ncolor = \"blue\"\n");
    };
    version_latest: |s| { s.replace("versions.yaml", "redis:7.2.5-alpine", "redis:latest"); };
    version_unquoted: |s| { s.replace("versions.yaml", "\"haproxy:2.8.5\"", "haproxy:2.8.5"); };
    version_twice: |s| { s.edit("versions.yaml", |t| t.to_owned() + "haproxy_image: \"haproxy:2.8.6\"\n"); };
    image_lock_malformed: |s| {
        s.write("images.lock.yaml", b"redis_image:\n  ref: \"redis:latest\"\n  digset: \"sha256:1\"\n  id: \"sha256:1\"\n  digest: sha256:1\nhaproxy_image:\n  from: \"a/b:1\"\n");
    };
    image_lock_of_another_image: |s| {
        let id = "a".repeat(64);
        let entry = |pin: &str, image: &str| format!("{pin}:\n  ref: \"{image}\"\n  id: \"sha256:{id}\"\n");
        let text = [entry("redis_image", "redis:7.2.4-alpine"), entry("gone_image", "a:1")].concat();
        s.write("images.lock.yaml", text.as_bytes());
    };
    step_without_resource: |s| { s.replace(BASE, "hostname = { name = \"{{ host.name }}\" }", ""); };
    step_with_two_resources: |s| { s.replace(BASE, "timezone = { name", "hostname = { name = \"x\" }\ntimezone = { name"); };
    step_unknown_resource: |s| { s.replace(BASE, "package = {", "pakage = {"); };
    step_unknown_setting: |s| { s.replace(BASE, "enabled = true }", "enable = true }"); };
    step_wrong_type: |s| { s.replace(BASE, "enabled = true }", "enabled = \"yes\" }"); };
    step_bad_mode: |s| { s.replace(BASE, "mode = \"0755\"", "mode = \"rwxr-xr-x\""); };
    step_relative_path: |s| { s.replace(BASE, "\"{{ data }}\"", "\"opt/data\""); };
    step_repeated_name: |s| { s.replace(BASE, "\"Time zone\"", "\"Host name\""); };
    handler_unknown: |s| { s.replace(BASE, "notify   = \"restart chrony\"", "notify   = \"restart cron\""); };
    undefined_variable_in_role: |s| { s.replace(BASE, "{{ timezone }}", "{{ time_zone }}"); };
    undefined_variable_in_template: |s| { s.replace("templates/base/chrony.conf.j2", "ntp_servers", "ntp_server"); };
    undefined_secret: |s| { s.replace("templates/base/limits.conf.j2", "# Managed", "{{ secrets.NO_SUCH_NAME }} # Managed"); };
    template_missing: |s| { s.remove("templates/base/limits.conf.j2"); };
    template_syntax: |s| { s.replace("templates/base/chrony.conf.j2", "{% endfor %}", ""); };
    template_endless: |s| { s.replace("templates/base/chrony.conf.j2", "{% for server", "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}\n{% for server"); };
    firewall_unknown_source: |s| { s.replace(BASE, "from  = [\"operator\"]", "from  = [\"operators\"]"); };
    sysctl_disagreement: |s| {
        s.edit("roles/docker/role.toml", |t| t.replacen("[[step]]", "[sysctl]\n\"net.core.somaxconn\" = 1\n\n[[step]]", 1));
    };
    two_owners_of_a_file: |s| {
        s.replace("roles/docker/role.toml", "/etc/docker/daemon.json", "/etc/chrony/chrony.conf");
    };
    two_owners_in_two_layers: |s| {
        s.replace("strata.toml", "  { role = \"docker\", on = \"docker\" },\n", "")
            .edit("strata.toml", |t| t.to_owned() + "\n[[layer]]\nname = \"containers\"\nrequires = [\"base\"]\nplace = [{ role = \"docker\", on = \"docker\" }]\n");
        s.edit("roles/docker/role.toml", |t| t.to_owned() + "\n[[step]]\nname = \"Zone\"\nlink = { path = \"/etc/localtime\", target = \"/usr/share/zoneinfo/UTC\" }\n");
    };
    a_line_in_a_file_of_another_step: |s| {
        s.edit("roles/docker/role.toml", |t| t.to_owned() + "\n[[step]]\nname = \"Clock\"\nline = { path = \"/etc/chrony/chrony.conf\", line = \"rtcsync\" }\n\n[[step]]\nname = \"Names\"\nfile = { path = \"/etc/hosts\" }\n");
    };
    secret_in_argv: |s| {
        s.edit(BASE, |t| t.to_owned() + "\n[[step]]\nname = \"Log in\"\ncommand = { argv = [\"login\", \"--token={{ secrets.K3S_TOKEN | upper }}\"], env = { TOKEN = \"{{ secrets.K3S_TOKEN }}\" }, stdin = \"{{ secrets.K3S_TOKEN }}\" }\n\n[[step]]\nname = \"Token\"\ntemplate = { src = \"base/limits.conf.j2\", dest = \"/etc/{{ secrets.K3S_TOKEN }}\" }\n").replace(BASE, "[sysctl]", "[sysctl]\n\"kernel.domainname\" = \"{{ secrets.K3S_TOKEN }}\"");
    };
    what_is_made_of_a_secret_in_argv: |s| {
        s.edit(BASE, |t| t.to_owned() + "\n[[step]]\nname = \"Log in\"\ncommand = { argv = [\"login\", \"{{ secrets.K3S_TOKEN[:4] }}\", \"--length={{ secrets.K3S_TOKEN | length }}\"], env = { A = \"{% for c in secrets.K3S_TOKEN %}{{ c }}-{% endfor %}\" }, stdin = \"{{ secrets.K3S_TOKEN }}\", creates = \"{{ '/a' if secrets.K3S_TOKEN is startingwith('a') else '/b' }}\" }\n\n[[step]]\nname = \"By parts\"\nsysctl = { name = \"60-x\", settings = { \"kernel.domainname\" = \"{% if secrets.K3S_TOKEN < 'm' %}a{% else %}b{% endif %}\" } }\n\n[[step]]\nname = \"Content\"\nfile = { path = \"/etc/token\", content = \"{{ secrets.K3S_TOKEN | upper }}\", mode = \"0600\" }\n").replace(BASE, "[sysctl]", "[sysctl]\n\"kernel.domainname\" = \"{{ secrets.K3S_TOKEN | reverse }}\"");
    };
    a_value_that_is_none: |s| {
        s.replace(INVENTORY, "\t192.0.2.120\t", "\t\t")
            .replace(BASE, "\"socat\"]", "\"{{ host.public }}\"]")
            .edit(BASE, |t| t.to_owned() + "\n[[step]]\nname = \"Addresses\"\nwhen = \"host.public\"\nfile = { path = \"/etc/public\", content = \"{{ host.public }}\" }\n\n[[step]]\nname = \"Rows\"\nauthorized_key = { user = \"root\", keys = \"{{ [host.public] }}\" }\n");
    };
    gate_unknown_test: |s| { s.replace("roles/base/gate.toml", "\"names\"", "\"name\""); };
    gate_bad_bound: |s| { s.replace("roles/base/gate.toml", "max_skew_ms = 500", "max_skew_ms = \"half a second\""); };
    gate_unknown_group: |s| { s.replace("roles/base/gate.toml", "\"maria\"", "\"mariadb\""); };
    notify_that_tells_nobody: |s| {
        s.replace("strata.toml", "[vars]", "[notify]\ncommand = [\"strata-notify\"]\non = [\"drift\", \"red_gate\"]\ntimeout = 0\n\n[vars]");
    };
    report_files_that_nobody_reads: |s| {
        s.replace("strata.toml", "[vars]", "[report]\nhtml = \"\"\njunit = 1\nprometheus = \"/no/such/place/strata.txt\"\npdf = true\n\n[vars]");
    };
    notify_without_a_command: |s| { s.replace("strata.toml", "[vars]", "[notify]\non = []\n\n[vars]"); };
    waivers_that_cover_nothing: |s| {
        let rest = "reason = \"r\"\nuntil = 2999-12-31\nby = \"b\"\n\n";
        let waiver = |what: &str| format!("[[waiver]]\n{what}\n{rest}");
        let text: String = [
            "test = \"clock-sorce\"",
            "test = \"clock\"\nhost = \"db-09\"",
            "role = \"bse\"\nstep = \"Time zone\"",
            "role = \"base\"\nstep = \"Time zne\"",
            "role = \"site\"\nstep = \"Packet filters\"",
            "role = \"base\"",
            "test = \"clock\"\nlayer = \"base\"",
        ].iter().map(|what| waiver(what)).collect();
        let bad = "[[waiver]]\ntest = \"clock\"\nreason = \"\"\nuntil = \"next week\"\n";
        s.write("waivers.toml", (text + bad).as_bytes());
    };
    plain_and_encrypted_credentials: |s| {
        s.write("credentials/redis.env", b"REDIS_PASSWORD=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n").write("credentials/redis.env.age", b"x");
    };
    artifact_missing_or_another: |s| {
        let step = |source: &str, digest: &str| {
            format!("\n[[step]]\nname = \"{source}\"\nartifact = {{ path = \"/usr/local/bin/{source}\", source = \"{source}\", sha256 = \"{digest}\" }}\n")
        };
        let (zeros, short) = ("0".repeat(64), "abc".to_owned());
        s.write("artifacts/k3s", b"not what was pinned").edit(BASE, |text| {
            text.to_owned() + &step("k3s", &zeros) + &step("k3", &zeros) + &step("../k3s", &short)
        });
    };
    everything_at_once: |s| {
        s.replace(INVENTORY, "10.0.0.121", "10.0.0.120")
            .replace(GROUPS, "expect = 28", "expect = 27")
            .replace("versions.yaml", "redis:7.2.5-alpine", "redis:latest")
            .replace(BASE, "{{ timezone }}", "{{ time_zone }}")
            .replace("strata.toml", "connect_timeout", "conect_timeout");
    };
}

#[test]
fn a_bad_selection_is_refused_before_any_connection() {
    let site = Damaged::new();
    insta::assert_snapshot!(site.strata(&["install", "--layer", "bse", "--host", "db-0"]));
}

#[test]
fn layers_hosts_and_steps_that_are_not_there_are_refused_before_any_connection() {
    let site = Damaged::new();
    let words: [&[&str]; 9] = [
        &["install", "--from", "bse", "--to", "rdis", "--host", "@dbb", "--host", "!k9s*"],
        &["install", "--from", "redis", "--to", "base"],
        &["install", "--layer", "base", "--from", "base"],
        &["verify", "--to", "bas"],
        &["install", "--layer", "base", "--step", "Time zome", "--start-at", "Nowhere at all"],
        &["plan", "--layer", "base", "--step", "Updater's timer"],
        &["install", "--step", "Time zone", "--start-at", "Updater", "--host", "haproxy-01"],
        &["install", "--deadline", "half an hour"],
        &["install", "--plan-file", "x.plan", "--step", "Time zone"],
    ];
    let said: Vec<String> = words.iter().map(|words| site.strata(words)).collect();
    insta::assert_snapshot!(said.join("\n---\n"));
}

#[test]
fn a_host_is_taken_out_with_a_reason_and_an_end_or_not_at_all() {
    let site = Damaged::new();
    let words: [&[&str]; 6] = [
        &["hosts", "out"],
        &["hosts", "out", "db-0", "install-01", "--until", "soon"],
        &["hosts", "out", "--reason", "x"],
        &["hosts", "out", "db-01", "--reason", "two\nlines", "--until", "2001-01-01"],
        &["hosts", "in", "db-01"],
        &["hosts", "in"],
    ];
    let said: Vec<String> = words.iter().map(|words| site.strata(words)).collect();
    insta::assert_snapshot!(said.join("\n---\n"));
}

#[test]
fn a_host_whose_time_is_over_counts_again_and_is_warned_of() {
    let site = Damaged::new();
    let entry = |until: &str| {
        format!(
            r#"{{ "reason": "new disks", "until": "{until}", "since": "2026-11-01T00:00:00Z", "by": "root@install-01" }}"#
        )
    };
    let file = format!(
        r#"{{ "format": 1, "hosts": {{ "db-01": {}, "db-02": {}, "gone-01": {} }} }}"#,
        entry("2026-11-02T00:00:00Z"),
        entry("9999-01-01T00:00:00Z"),
        entry("9999-01-01T00:00:00Z"),
    );
    site.write("state/hosts/out.json", file.as_bytes());
    let words: [&[&str]; 4] = [
        &["check"],
        &["hosts", "out"],
        &["verify", "--host", "db-02"],
        &["run", "--host", "db-02", "--", "true"],
    ];
    let said: Vec<String> = words.iter().map(|words| site.strata(words)).collect();
    insta::assert_snapshot!(said.join("\n---\n"));
}

#[test]
fn an_exception_that_excepts_nothing_is_an_error() {
    let site = Damaged::new();
    site.replace(
        "inventory/lab/exceptions.toml",
        "test   = \"clock-source\"",
        "test   = \"clocks\"",
    )
    .replace("inventory/lab/exceptions.toml", "bound  = \"p99_ms\"", "bound  = \"p98_ms\"")
    .replace("inventory/lab/exceptions.toml", "bound  = \"max_percent\"", "sysctl = \"a.b\"");
    insta::assert_snapshot!(site.strata(&["--rehearsal", "check"]));
}

#[test]
fn an_expired_waiver_is_warned_of_and_one_that_holds_is_not() {
    let site = Damaged::new();
    let waiver = |until: &str| {
        format!("[[waiver]]\ntest = \"clock\"\nreason = \"r\"\nuntil = {until}\nby = \"b\"\n\n")
    };
    site.write("waivers.toml", (waiver("2020-01-31") + &waiver("2999-12-31")).as_bytes());
    insta::assert_snapshot!(site.strata(&["check"]));
}

#[test]
fn faults_need_a_confirmation() {
    let site = Damaged::new();
    insta::assert_snapshot!(site.strata(&["verify", "--kind", "failover"]));
}

#[test]
fn a_test_that_would_not_run_is_an_error() {
    let site = Damaged::new();
    let test = "redis-kil-master";
    insta::assert_snapshot!(
        site.strata(&["verify", "--layer", "redis", "--test", test, "--kind", "failover"])
    );
    insta::assert_snapshot!(site.strata(&[
        "verify",
        "--layer",
        "base",
        "--test",
        "redis-kill-master"
    ]));
}

#[test]
fn the_site_at_the_root_is_sound_and_names_the_pins_that_are_gone() {
    let output = Command::new(env!("CARGO_BIN_EXE_strata"))
        .args(["--site", env!("CARGO_MANIFEST_DIR"), "check"])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_rehearsal_profile_is_sound() {
    let output = Command::new(env!("CARGO_BIN_EXE_strata"))
        .args(["--site", env!("CARGO_MANIFEST_DIR"), "--rehearsal", "check", "--strict"])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn json_has_one_object_a_problem() {
    let site = Damaged::new();
    site.replace(GROUPS, "expect = 28", "expect = 27");
    insta::assert_snapshot!(site.strata(&["check", "--json"]));
}

#[test]
fn a_program_that_cannot_run_anywhere_is_refused_before_any_connection() {
    let site = Damaged::new();
    let words: [&[&str]; 7] = [
        &["run"],
        &["run", "uptime"],
        &["run", "--timeout", "0", "--", "true"],
        &["run", "--limit", "none", "--", "true"],
        &["run", "--layer", "bse", "--host", "db-0", "--", "true"],
        &["run", "--layer", "redis", "--host", "k3s-worker-05", "--", "true"],
        &["run", "--stdin", "no/such/file", "--", "true"],
    ];
    let said: Vec<String> = words.iter().map(|words| site.strata(words)).collect();
    insta::assert_snapshot!(said.join("\n---\n"));
}

#[test]
fn pins_are_replaced_for_one_known_host_with_a_whole_fingerprint_only() {
    let site = Damaged::new();
    let words: [&[&str]; 5] = [
        &["hosts", "rebuild", "db-0"],
        &["hosts", "rebuild", "db-01"],
        &["hosts", "rebuild", "db-01", "--fingerprint", "yes"],
        &["hosts", "rebuild", "db-01", "--from", "no-such-file"],
        &["hosts", "show", "db"],
    ];
    let said: Vec<String> = words.iter().map(|words| site.strata(words)).collect();
    insta::assert_snapshot!(said.join("\n---\n"));
}

#[test]
fn nothing_to_resume() {
    let site = Damaged::new();
    let none = site.strata(&["resume"]);
    let unknown = site.strata(&["resume", "--retry-failed", "20260101-000000-abcd"]);
    insta::assert_snapshot!(format!("{none}\n{unknown}"));
}

#[test]
fn one_host_on_one_screen() {
    insta::assert_snapshot!(Damaged::new().strata(&["hosts", "show", "redis-01"]));
}
