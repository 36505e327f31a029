//! The kinds of faults: how each is injected, undone, and looked for. Pure: programs as argv.

use crate::wire::ExecOutcome;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The packet filter table of cuts; no other table is touched.
const TABLE: &str = "strata_gate_fault";

/// Kills all of a unit before systemd hears of a stop.
const KILL_UNIT: &str = "systemctl kill --signal=KILL \"$1\" && systemctl stop \"$1\"";

/// What a test breaks on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL to a container's main process; it stays dead, since the engine takes it for a stop
    /// by hand.
    KillContainer(String),
    /// Stops a container without a grace period.
    StopContainer(String),
    /// Stops a systemd unit.
    StopUnit(String),
    /// SIGKILL to every process of a systemd unit; it stays dead.
    KillUnit(String),
    /// Freezes a container's processes; its connections stay open.
    FreezeContainer(String),
    /// Drops all packets from and to some addresses.
    Cut(Cut),
    /// Sends connections that this host opens somewhere else.
    Detour(Detour),
}

/// Connections of a host that end elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    /// Whom they are for.
    pub to: Vec<Ipv4Addr>,
    /// The TCP port that they are for.
    pub port: u16,
    /// The port of the same address where they end.
    pub instead: u16,
}

/// A network cut on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The addresses that are cut off; the host's own are never among them.
    pub from: Vec<Ipv4Addr>,
    /// Only these TCP ports, of whichever side; all traffic where it is empty.
    pub ports: Vec<u16>,
    /// The operator host: it always keeps SSH, whatever `from` says.
    pub operator: Ipv4Addr,
    /// TCP port of sshd.
    pub ssh: u16,
}

/// A program with bytes for its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    program: Vec<String>,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

impl Step {
    fn new(argv: &[&str]) -> Self {
        Self { program: argv.iter().map(ToString::to_string).collect(), stdin: Vec::new() }
    }

    /// Loads a packet filter table.
    fn table(script: String) -> Self {
        Self { stdin: script.into_bytes(), ..Self::new(&["nft", "-f", "-"]) }
    }

    /// Program and arguments.
    pub fn argv(&self) -> Vec<&str> {
        self.program.iter().map(String::as_str).collect()
    }
}

/// What a look must show when a fault is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// The program prints this line.
    Line(&'static str),
    /// The program ends with another status than 0: what it lists is not there.
    Nothing,
}

impl Shows {
    /// Whether it does.
    pub fn holds(self, outcome: &ExecOutcome, stdout: &str) -> bool {
        match self {
            Self::Line(line) => *outcome == ExecOutcome::Exited(0) && stdout.trim() == line,
            Self::Nothing => matches!(outcome, ExecOutcome::Exited(status) if *status != 0),
        }
    }
}

impl Kind {
    /// For people, for example `redis-01: container redis killed`.
    pub fn what(&self, host: &str) -> String {
        match self {
            Self::KillContainer(name) => format!("{host}: container {name} killed"),
            Self::StopContainer(name) => format!("{host}: container {name} stopped"),
            Self::StopUnit(name) => format!("{host}: {name} stopped"),
            Self::KillUnit(name) => format!("{host}: {name} killed"),
            Self::FreezeContainer(name) => format!("{host}: container {name} frozen"),
            Self::Cut(cut) => format!("{host}: cut off from {} addresses", cut.from.len()),
            Self::Detour(detour) => format!("{host}: port {} leads elsewhere", detour.port),
        }
    }

    /// A word for the name of the dead-man unit.
    pub(super) fn tag(&self) -> String {
        match self {
            Self::KillContainer(name) | Self::StopContainer(name) => format!("start-{name}"),
            Self::StopUnit(name) | Self::KillUnit(name) => {
                format!("unit-{}", name.trim_end_matches(".service"))
            }
            Self::FreezeContainer(name) => format!("thaw-{name}"),
            Self::Cut(_) | Self::Detour(_) => "network".to_owned(),
        }
    }

    /// What breaks the host.
    pub(super) fn inject(&self) -> Step {
        match self {
            Self::KillContainer(name) => Step::new(&["docker", "kill", "--signal", "KILL", name]),
            Self::StopContainer(name) => Step::new(&["docker", "stop", "--time", "0", name]),
            Self::StopUnit(name) => Step::new(&["systemctl", "stop", name]),
            // The stop keeps systemd from starting it again.
            Self::KillUnit(name) => Step::new(&["sh", "-c", KILL_UNIT, "sh", name]),
            Self::FreezeContainer(name) => Step::new(&["docker", "pause", name]),
            Self::Cut(cut) => Step::table(cut.script()),
            Self::Detour(detour) => Step::table(detour.script()),
        }
    }

    /// What undoes it: one program, since it is also what the host's timer runs.
    pub(super) fn heal(&self) -> Vec<&str> {
        match self {
            Self::KillContainer(name) | Self::StopContainer(name) => vec!["docker", "start", name],
            Self::StopUnit(name) | Self::KillUnit(name) => vec!["systemctl", "start", name],
            Self::FreezeContainer(name) => vec!["docker", "unpause", name],
            Self::Cut(_) | Self::Detour(_) => vec!["nft", "delete", "table", "inet", TABLE],
        }
    }

    /// What shows that it is gone.
    pub(super) fn look(&self) -> (Vec<&str>, Shows) {
        let state = "{{.State.Running}} {{.State.Paused}}";
        match self {
            Self::KillContainer(name) | Self::StopContainer(name) | Self::FreezeContainer(name) => {
                (vec!["docker", "inspect", "-f", state, name], Shows::Line("true false"))
            }
            Self::StopUnit(name) | Self::KillUnit(name) => {
                (vec!["systemctl", "is-active", name], Shows::Line("active"))
            }
            Self::Cut(_) | Self::Detour(_) => {
                (vec!["nft", "list", "table", "inet", TABLE], Shows::Nothing)
            }
        }
    }
}

impl Cut {
    /// The packet filter's script. Established connections are cut too; another table's `accept`
    /// does not weaken a `drop` here.
    pub(super) fn script(&self) -> String {
        let (operator, ssh) = (self.operator, self.ssh);
        let (set, ports) = (addresses(&self.from), list(&self.ports));
        let drops = |side: &str| {
            if self.ports.is_empty() {
                return format!("\t\tip {side} @away drop\n");
            }
            format!(
                "\t\tip {side} @away tcp dport {ports} drop\n\t\tip {side} @away tcp sport {ports} drop\n"
            )
        };
        let (incoming, outgoing) = (drops("saddr"), drops("daddr"));
        format!(
            "{RESET}table inet {TABLE} {{\n\tset away {{ type ipv4_addr;{set} }}\n\
             \tchain input {{\n\t\ttype filter hook input priority raw; policy accept;\n\
             \t\tip saddr {operator} tcp dport {ssh} accept\n{incoming}\t}}\n\
             \tchain forward {{\n\t\ttype filter hook forward priority raw; policy accept;\n\
             {incoming}{outgoing}\t}}\n\
             \tchain output {{\n\t\ttype filter hook output priority raw; policy accept;\n\
             \t\tip daddr {operator} tcp sport {ssh} accept\n{outgoing}\t}}\n}}\n"
        )
    }
}

impl Detour {
    pub(super) fn script(&self) -> String {
        let mut rules = String::new();
        for address in &self.to {
            let _infallible = writeln!(
                rules,
                "\t\tip daddr {address} tcp dport {} dnat ip to {address}:{}",
                self.port, self.instead
            );
        }
        format!(
            "{RESET}table inet {TABLE} {{\n\tchain output {{\n\
             \t\ttype nat hook output priority -100; policy accept;\n{rules}\t}}\n}}\n"
        )
    }
}

/// Loads the table anew, whatever was there.
const RESET: &str = "table inet strata_gate_fault {\n}\ndelete table inet strata_gate_fault\n";

fn addresses(of: &[Ipv4Addr]) -> String {
    let list: Vec<String> = of.iter().map(ToString::to_string).collect();
    if list.is_empty() { String::new() } else { format!(" elements = {{ {} }};", list.join(", ")) }
}

fn list(ports: &[u16]) -> String {
    let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<Kind> {
        let cut = Cut {
            from: vec!["10.0.0.124".parse().unwrap(), "10.0.0.250".parse().unwrap()],
            ports: Vec::new(),
            operator: "10.0.0.250".parse().unwrap(),
            ssh: 22,
        };
        vec![
            Kind::KillContainer("redis".into()),
            Kind::StopContainer("redis".into()),
            Kind::StopUnit("haproxy.service".into()),
            Kind::KillUnit("strata-patroni.service".into()),
            Kind::FreezeContainer("redis".into()),
            Kind::Cut(cut),
        ]
    }

    #[test]
    fn every_kind_has_a_way_back_and_a_name_for_its_unit() {
        for kind in kinds() {
            assert!(kind.heal().iter().all(|word| !word.is_empty()), "{kind:?}");
            assert_ne!(kind.heal(), kind.inject().argv(), "{kind:?}");
            assert!(kind.tag().chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        }
    }

    #[test]
    fn a_cut_lets_the_operator_in_before_it_drops() {
        let Some(Kind::Cut(cut)) = kinds().pop() else { panic!("the last kind is a cut") };
        let mut some = cut.clone();
        some.ports = vec![26379];
        assert!(some.script().contains("ip daddr @away tcp dport { 26379 } drop"));
        let script = cut.script();
        for (keeps, drops) in [
            ("ip saddr 10.0.0.250 tcp dport 22 accept\n", "\t\tip saddr @away drop\n"),
            ("ip daddr 10.0.0.250 tcp sport 22 accept\n", "\t\tip daddr @away drop\n"),
        ] {
            assert!(script.contains(&format!("{keeps}{drops}")), "{script}");
        }
        assert!(script.contains("elements = { 10.0.0.124, 10.0.0.250 };"), "{script}");
    }

    #[test]
    fn a_container_that_is_gone_is_not_healed() {
        let (_, shows) = Kind::KillContainer("redis".into()).look();
        assert!(!shows.holds(&ExecOutcome::Exited(1), ""));
        assert!(!shows.holds(&ExecOutcome::Exited(0), "false false\n"));
        assert!(!shows.holds(&ExecOutcome::Exited(0), "true true\n"), "still frozen");
        assert!(shows.holds(&ExecOutcome::Exited(0), "true false\n"));
        // A look that could not be made shows nothing.
        assert!(!Shows::Nothing.holds(&ExecOutcome::TimedOut, ""));
    }
}
