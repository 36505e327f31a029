//! The host's own packet filter, with an armed rollback.
//!
//! One table of strata's own holds all rules; no other table is touched, so that a container
//! engine's chains survive. What the kernel has is compared as text with what the kernel said
//! right after the last change: an edit by hand is seen.

use super::converge::{Converge, Progress};
use super::firewall_rules::{
    FirewallRule, Published, TABLE, remember, script, shut_out, validate, validate_interfaces,
    without_older,
};
use super::outcome::{Change, Failure};
use super::system::{
    FileWrite, GuardPlan, PathKind, Program, RevertStep, System, read_text, run_checked,
};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// The host's packet filter. Everything new that comes in is dropped unless a rule lets it pass;
/// loopback, established connections, neighbour discovery and error messages always pass. Rules
/// for `"any"` are about IPv4: IPv6 stays closed unless a rule names an IPv6 source.
///
/// A change is taken back unless the host is reachable over a new connection afterwards, and is
/// made permanent only after that.
///
/// ```toml
/// [step.firewall]
/// rules = [{ name = "ssh", ports = ["22"], from = ["10.0.0.250"] }]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// What may come in.
    pub rules: Vec<FirewallRule>,
    /// Who may reach ports that containers publish. Default: those ports are not filtered.
    #[serde(default)]
    pub published: Published,
    /// Whether everybody may ping the host over IPv4 (at most 100 a second). Default: true.
    #[serde(default = "yes")]
    pub ping: bool,
    /// Refuse rules that would not let in again those who are logged in over SSH now: for the host
    /// from which strata runs, where a connection to itself proves nothing. Default: false.
    #[serde(default)]
    pub keep_logins: bool,
    /// Seconds within which the host must be reachable over a new connection. Default: 30.
    #[serde(default = "default_revert_after")]
    pub revert_after: u32,
}

fn yes() -> bool {
    true
}

fn default_revert_after() -> u32 {
    30
}

const DIRECTORY: &str = "/etc/strata";
const SCRIPT: &str = "/etc/strata/firewall.nft";
const UNIT: &str = "/etc/systemd/system/strata-firewall.service";
const WANTS_DIRECTORY: &str = "/etc/systemd/system/sysinit.target.wants";
const WANTS: &str = "/etc/systemd/system/sysinit.target.wants/strata-firewall.service";
/// What it writes as a whole.
pub(super) const PATHS: [&str; 2] = [SCRIPT, UNIT];
/// What the kernel said right after the last proved change.
const LIVE: &str = "/var/lib/strata/firewall.live";

const UNIT_TEXT: &str = "[Unit]
Description=strata: packet filter
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
DefaultDependencies=no

[Service]
Type=oneshot
RemainAfterExit=yes
StandardInput=null
ProtectSystem=full
ProtectHome=true
ExecStart=/usr/sbin/nft -f /etc/strata/firewall.nft

[Install]
WantedBy=sysinit.target
";

/// What was found of the packet filter.
#[derive(Debug)]
pub struct FirewallFound {
    live: Option<String>,
    expected: Option<String>,
    script: Option<String>,
    unit: Option<Vec<u8>>,
    wanted_at_boot: bool,
}

impl Firewall {
    fn script(&self) -> String {
        script(&self.rules, &self.published, self.ping)
    }

    /// True when the kernel has the wanted rules, unchanged by others.
    fn live_is_wanted(&self, found: &FirewallFound) -> bool {
        let script = self.script();
        let digest = script.lines().find(|line| line.starts_with("\tcomment "));
        found.live.is_some()
            && found.live == found.expected
            && found.live.as_ref().is_some_and(|live| live.lines().any(|line| Some(line) == digest))
    }

    fn load(&self, script: &str, system: &mut dyn System) -> Result<(), Failure> {
        let program = Program::new(["nft", "-f", "-"]).stdin(script);
        run_checked(system, &program, "cannot load the packet filter").map(|_| ())
    }

    /// Loads the rules under guard.
    fn change_live(&self, found: &FirewallFound, system: &mut dyn System) -> Result<(), Failure> {
        let mut script = self.script();
        let connections = text(system, "/proc/net/tcp")?.unwrap_or_default();
        if self.keep_logins
            && let Some(shut) = shut_out(&self.rules, &connections)
        {
            return Err(Failure::new(format!(
                "{shut} is logged in over SSH and would not be let in again; nothing was changed"
            ))
            .hint("add its network to `admin` in strata.toml"));
        }
        script.push_str(&remember(&connections));
        accepts(system, &script)?;
        let back = way_back(found, system)?;
        let argv = ["nft", "-f", "-"].map(str::to_owned).to_vec();
        let plan = GuardPlan {
            name: "firewall".to_owned(),
            revert: vec![RevertStep::Run { argv, stdin: back.into_bytes(), required: true }],
            deadline: Duration::from_secs(self.revert_after.into()),
            hint: "look at the [[firewall]] rules of the roles: one must let the operator host in at the port of sshd".to_owned(),
        };
        system.guarded(&plan, &mut |system| self.load(&script, system))
    }

    /// Makes proved rules permanent.
    fn persist(&self, system: &mut dyn System) -> Result<(), Failure> {
        for path in [DIRECTORY, "/var/lib/strata"] {
            if system.metadata(path)?.is_none() {
                system.make_directory(path, 0o700, 0, 0)?;
            }
        }
        let live = live(system)?.unwrap_or_default();
        let root = |path, text| FileWrite { mode: 0o600, ..FileWrite::of_root(path, text) };
        system.write(&FileWrite { keep: false, ..root(LIVE, live.as_bytes()) })?;
        let script = self.script();
        system.write(&root(SCRIPT, script.as_bytes()))?;
        if read_text(system, UNIT)?.as_deref() != Some(UNIT_TEXT.as_bytes()) {
            system.write(&FileWrite::of_root(UNIT, UNIT_TEXT.as_bytes()))?;
        }
        if system.metadata(WANTS_DIRECTORY)?.is_none() {
            system.make_directory(WANTS_DIRECTORY, 0o755, 0, 0)?;
        }
        system.make_link(WANTS, UNIT)
    }
}

/// Asks nft whether a script would load, without loading it.
fn accepts(system: &mut dyn System, script: &str) -> Result<(), Failure> {
    let program = Program::new(["nft", "-c", "-f", "-"]).stdin(script);
    run_checked(system, &program, "nft refuses the packet filter").map(|_| ())
}

/// The script that brings the present rules back. It is tried first: nft does not accept every
/// listing that it prints itself, and a way back that fails is none.
fn way_back(found: &FirewallFound, system: &mut dyn System) -> Result<String, Failure> {
    let Some(live) = &found.live else {
        return Ok(format!("table {TABLE} {{\n}}\ndelete table {TABLE}\n"));
    };
    if let Some(script) = found.script.as_ref().filter(|_| found.live == found.expected) {
        return Ok(script.clone());
    }
    let listing = format!("table {TABLE} {{\n}}\ndelete table {TABLE}\n{live}");
    match (accepts(system, &listing), &found.script) {
        (Ok(()), _) => Ok(listing),
        // The rules were edited by hand and cannot be kept: go back to those last proved.
        (Err(_), Some(script)) => Ok(script.clone()),
        (Err(failure), None) => Err(Failure {
            message: "the present rules could not be brought back, so nothing was changed".into(),
            ..failure
        }
        .hint("remove the table `inet strata` on the host by hand if nobody needs it")),
    }
}

/// The table as the kernel has it, without counters.
fn live(system: &mut dyn System) -> Result<Option<String>, Failure> {
    let program = Program::new(["nft", "-s", "list", "table", "inet", "strata"])
        .output_limit(16 * 1024 * 1024);
    let output = system.run(&program)?;
    if output.success() {
        return Ok(Some(without_older(&String::from_utf8_lossy(&output.stdout))));
    }
    if output.text().contains("No such file or directory") {
        return Ok(None);
    }
    Err(output.failure("cannot read the packet filter"))
}

fn text(system: &mut dyn System, path: &str) -> Result<Option<String>, Failure> {
    let bytes = system.read(path, 16 * 1024 * 1024)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Lines of one text that the other lacks, in both directions, as changes.
fn line_changes(from: &str, to: &str, what: &str) -> Vec<Change> {
    fn rules(text: &str) -> BTreeSet<&str> {
        text.lines().map(str::trim).filter(|line| line.len() > 1).collect()
    }
    let (from, to) = (rules(from), rules(to));
    let gone = from.difference(&to).map(|line| Change::new(what, Some((*line).to_owned()), None));
    let new = to.difference(&from).map(|line| Change::new(what, None, Some((*line).to_owned())));
    gone.chain(new)
        .filter(|change| {
            let line = change.from.as_ref().or(change.to.as_ref());
            !line.is_some_and(|line| {
                line.ends_with('{') || line.starts_with("delete ") || line.starts_with("comment ")
            })
        })
        .collect()
}

impl Converge for Firewall {
    type Found = FirewallFound;

    fn validate(&self) -> Vec<Problem> {
        let lets_ssh_in = self.rules.iter().any(|rule| !rule.from.is_empty());
        Rules::new()
            .add(validate("rules", &self.rules))
            .add(validate("published.rules", &self.published.rules))
            .add(validate_interfaces(&self.published))
            .that(lets_ssh_in, || {
                Problem::new("rules", "nobody may reach the host").hint("let the operator host in")
            })
            .that((5..=600).contains(&self.revert_after), || {
                Problem::new("revert_after", "must be from 5 to 600 seconds")
            })
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<FirewallFound, Failure> {
        // Before nftables is installed there is nothing to ask.
        let installed = system.metadata("/usr/sbin/nft")?.is_some();
        let link = system.metadata(WANTS)?.map(|metadata| metadata.kind);
        Ok(FirewallFound {
            live: if installed { live(system)? } else { None },
            expected: text(system, LIVE)?,
            script: text(system, SCRIPT)?,
            unit: read_text(system, UNIT)?,
            wanted_at_boot: link == Some(PathKind::Link),
        })
    }

    fn compare(&self, found: &FirewallFound) -> Vec<Change> {
        let wanted = self.script();
        let mut changes = Vec::new();
        if !self.live_is_wanted(found) {
            let before = found.script.as_deref().filter(|_| found.live.is_some()).unwrap_or("");
            changes.extend(line_changes(before, &wanted, "rule"));
            if let (Some(live), Some(expected)) = (&found.live, &found.expected) {
                changes.extend(line_changes(live, expected, "rule changed by others"));
            }
            if changes.is_empty() {
                let from = found.live.as_ref().map(|_| "not proved".to_owned());
                changes.push(Change::new("rules", from, Some("proved".to_owned())));
            }
        }
        let permanent = found.script.as_deref() == Some(wanted.as_str())
            && found.unit.as_deref() == Some(UNIT_TEXT.as_bytes())
            && found.wanted_at_boot;
        if !permanent {
            let to = Some("loaded before the network".to_owned());
            changes.push(Change::new("boot", None, to));
        }
        changes
    }

    fn apply(
        &self,
        found: &FirewallFound,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        if !self.live_is_wanted(found) {
            if system.metadata("/usr/sbin/nft")?.is_none() {
                return Err(Failure::new("the host has no nft")
                    .hint("install `nftables` in a step before this one"));
            }
            progress(
                "loading the new rules and waiting for the proof of a new connection".to_owned(),
            );
            self.change_live(found, system)?;
        }
        self.persist(system)
    }
}
