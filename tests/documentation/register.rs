//! What becomes of each example of the documents: executed, typed on hosts, or only shown, and why.

/// How an example is proved.
pub enum How {
    /// By a test that reads it out of the document and executes it: settings in a site, commands in a shell.
    Executed(&'static str),
    /// Likewise; the test finds it by the path that stands above it.
    ByPath(&'static str),
    /// By a campaign that types it on hosts of a lab.
    OnHosts(&'static str),
    /// Nothing runs it: its command lines are understood by the program, no more.
    CommandsParse(&'static str),
    /// Nothing executes it, for a reason.
    Shown(&'static str),
}

use How::{ByPath, CommandsParse, Executed, OnHosts, Shown};

const SETTINGS: How = Executed("tests/examples.rs::settings_are_accepted");
const FILES: How = Executed("tests/examples.rs::files_of_the_examples_are_accepted");
const ERRORS: How = Executed("tests/examples.rs::errors_are_shown_as_they_are");
const SECRETS: How = Executed("tests/examples.rs::sessions_with_secrets_print_what_is_shown");
const ALONE: How = Executed("tests/examples.rs::commands_without_hosts_do_what_is_said");
const GUIDE: How = OnHosts("tests/lab_guide.rs::campaign_of_the_operating_guide");
const PARSE: How = CommandsParse("tests/documentation.rs::command_lines_are_understood");
/// The blocks that make up the site of docs/roles.md are found by the path above each.
const SITE: How = ByPath("tests/documentation.rs::the_example_site_is_without_a_mistake");
const CAMPAIGN: How = Shown("a command line of cargo for one of the tests themselves");
const OUTPUT: How = Shown("lines of one run, kept for how they look; other tests read such lines");
const DRAWING: How = Shown("a drawing in letters");
const BY_HAND: How =
    Shown("for an operator's hand on a host; the role's own tests run these programs");

/// Document, the beginning of a line of the block, and what becomes of it.
pub const EXAMPLES: &[(&str, &str, How)] = &[
    ("architecture.md", "site files ──load──", DRAWING),
    ("architecture.md", "cli → run →", DRAWING),
    ("clusters.md", "driver  = \"redis-sentinel\"", SETTINGS),
    ("clusters.md", "strata adopt --layer redis", PARSE),
    ("clusters.md", "docker exec pgbackrest", BY_HAND),
    ("clusters.md", "systemctl start postgres-dump", BY_HAND),
    ("clusters.md", "docker run --rm -v /opt/keybuzz/etcd", BY_HAND),
    ("clusters.md", "roles     = [{ name", SETTINGS),
    ("connections.md", "jump = \"ops@bastion.example.org:2222\"", SETTINGS),
    ("connections.md", "strata hosts trust --jump", PARSE),
    ("connections.md", "config = \"~/.ssh/config\"", SETTINGS),
    ("connections.md", "@cert-authority", Shown("tests/transport signs certificates of its own")),
    ("connections.md", "strata install --layer base --ask-sudo-password", SETTINGS),
    ("connections.md", "strata hosts enrol", PARSE),
    ("connections.md", "db-01  link lost", OUTPUT),
    ("connections.md", "cargo test", CAMPAIGN),
    ("connections.md", "name = \"apt proxy\"", FILES),
    ("errors.md", "error[E0302]:", ERRORS),
    ("gates.md", "name   = \"clock\"", SETTINGS),
    ("gates.md", "$ strata verify --layer base --host db-01", GUIDE),
    ("gates.md", "$ strata rehearse", PARSE),
    ("gates.md", "pass  failover redis-kill-master", OUTPUT),
    ("gates.md", "cargo test", CAMPAIGN),
    ("gates.md", "$ strata verify --kind failover", ERRORS),
    ("gates.md", "[[waiver]]", SETTINGS),
    ("images.md", "strata images status ", PARSE),
    ("images.md", "redis_image:", FILES),
    ("images.md", "vi versions.yaml", PARSE),
    ("images.md", "strata images lock --alias", PARSE),
    ("images.md", "docker pull", Shown("it needs a registry of the internet")),
    ("images.md", "cargo test", CAMPAIGN),
    (
        "images.md",
        "artifact = { path",
        Shown("tests/lab_supply.rs brings such a file to hosts, tests/bad_input.rs has its errors"),
    ),
    ("lab.md", "strata rehearse --layer base", PARSE),
    ("lab.md", "$ strata rehearse", PARSE),
    ("lab.md", "strata lab fault cut", PARSE),
    ("lab.md", "trixie = [", SETTINGS),
    ("lab.md", "preinstalled = [", SETTINGS),
    ("operating.md", "strata hosts trust --from", GUIDE),
    ("operating.md", "strata run --host redis", GUIDE),
    ("operating.md", "strata 0.1.0  install", GUIDE),
    ("operating.md", "db-01  base › handler restart fail2ban", GUIDE),
    ("operating.md", "20261121-083930-xkcg  2026", GUIDE),
    ("operating.md", "cargo test", CAMPAIGN),
    ("operating.md", "$ strata undo", GUIDE),
    ("operating.md", "strata reboot --host redis", GUIDE),
    ("operating.md", "$ strata audit", GUIDE),
    ("operating.md", "on      = [\"drift\"", SETTINGS),
    ("operating.md", "exec mail -s", FILES),
    ("operating.md", "strata hosts out redis-03 --reason", ALONE),
    ("operating.md", "strata site backup", GUIDE),
    ("operating.md", "strata --site /opt/keybuzz-installer site restore", GUIDE),
    ("reports.md", "strata report  ", ALONE),
    ("reports.md", "prometheus = \"/var/lib/prometheus", SETTINGS),
    ("reports.md", "strata verify --layer base", ALONE),
    ("reports.md", "- name: strata", FILES),
    ("roles.md", "site     = \"example\"", SITE),
    ("roles.md", "ENV\tIP_PUBLIQUE", SITE),
    ("roles.md", "[group.cache]", SITE),
    ("roles.md", "redis_package:", SITE),
    ("roles.md", "CACHE_PASSWORD=", SITE),
    ("roles.md", "description = \"A cache", SITE),
    ("roles.md", "name = \"listeners\"", SITE),
    ("roles.md", "maxmemory {{", SITE),
    ("roles.md", "site example: 3 hosts", SITE),
    ("roles.md", "error[E0510]", SITE),
    ("roles.md", "content: [secret]", OUTPUT),
    ("roles.md", "gate cache  green", OUTPUT),
    ("roles.md", "parallel_layers = 4", SETTINGS),
    ("roles.md", "place = [{ role = \"haproxy\"", SETTINGS),
    ("roles.md", "validate = [", Shown("one key of a step; the role base has it")),
    ("roles.md", "backend be_redis_master", Shown("a part of the template of haproxy-redis")),
    ("roles.md", "directory = { path = \"{{ data }}/cache/data\"", FILES),
    ("secrets.md", "$ strata secrets init", SECRETS),
    ("secrets.md", "#: reader install-01", SECRETS),
    ("secrets.md", "$ strata secrets rekey --add", SECRETS),
    ("secrets.md", "$ strata secrets check", SECRETS),
    ("secrets.md", "$ strata secrets diff main~3", SECRETS),
    ("secrets.md", "$ printf 'postmaster@example.org'", SECRETS),
    ("secrets.md", "$ strata secrets rotate redis", OUTPUT),
    ("secrets.md", "#: generate length=40 alphabet=alnum", FILES),
    ("secrets.md", "provider       = \"vault\"", SETTINGS),
    ("secrets.md", "path \"secret/data", Shown("a policy for Vault, which was not tried")),
    ("secrets.md", "cargo test", CAMPAIGN),
    ("secrets.md", "NAME=value", FILES),
    ("secrets.md", "error[E0411]:", ERRORS),
    (
        "performance.md",
        "sh bench/run",
        Shown("it measures for an hour; the bench has tests of its own"),
    ),
];
