//! The same work with strata and with other tools, interleaved.

use crate::Outcome;
use crate::grounds::Grounds;
use crate::program::{Cost, Program};
use crate::record::{Entry, Results};
use crate::sites::WORK;
use clap::ValueEnum;

/// Nothing of the work is there, its packages aside.
pub const FIRST: &str = "first run";
/// Nothing of the work is there, nor its packages.
pub const FIRST_WITH_PACKAGES: &str = "first run with packages";
/// Everything is as wanted.
pub const SECOND: &str = "second run";
/// One of the twenty files has another content, on every host.
pub const CHANGED: &str = "one file changed";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Nothing of the work is there, its packages aside.
    First,
    /// Nothing of the work is there.
    Packages,
    /// Everything is as wanted.
    Second,
    /// One file has another content.
    Changed,
}

impl Scenario {
    /// As the results name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => FIRST,
            Self::Packages => FIRST_WITH_PACKAGES,
            Self::Second => SECOND,
            Self::Changed => CHANGED,
        }
    }
}

/// With what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// `ssh HOST true` to all hosts at once, as OpenSSH ships.
    Ssh,
    /// The same with curve25519 as its key exchange.
    SshCurve,
    /// strata, its gate included.
    Strata,
    /// pyinfra.
    Pyinfra,
    /// Ansible with Mitogen's strategy.
    Mitogen,
    /// Ansible with pipelining and as many forks as hosts.
    Ansible,
}

impl Tool {
    /// As the results name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh true",
            Self::SshCurve => "ssh true, curve25519",
            Self::Strata => "strata",
            Self::Pyinfra => "pyinfra",
            Self::Mitogen => "Ansible with Mitogen",
            Self::Ansible => "Ansible",
        }
    }

    const fn works(self) -> bool {
        !matches!(self, Self::Ssh | Self::SshCurve)
    }

    fn program(self, grounds: &Grounds, revision: u32) -> Outcome<Program> {
        Ok(match self {
            Self::Ssh => grounds.ssh(&grounds.nodes, ""),
            Self::SshCurve => grounds.ssh(&grounds.nodes, "-o KexAlgorithms=curve25519-sha256"),
            Self::Strata => {
                grounds.put_site(revision)?;
                grounds.strata(&["install", "--layer", "work"])
            }
            Self::Pyinfra => grounds.pyinfra(revision)?,
            Self::Mitogen => grounds.ansible("mitogen", revision)?,
            Self::Ansible => grounds.ansible("ansible", revision)?,
        })
    }

    /// How many changes a run says that it made; `None` where it says nothing that is understood.
    fn changes(self, output: &str) -> Option<u32> {
        match self {
            Self::Ssh | Self::SshCurve => Some(0),
            Self::Strata => {
                let (before, _) = output.split_once(" steps changed")?;
                before.rsplit("; ").next()?.split_whitespace().next()?.parse().ok()
            }
            Self::Ansible | Self::Mitogen => {
                let counts = output.split("changed=").skip(1);
                let mut sum = None;
                for count in counts {
                    let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
                    sum = Some(sum.unwrap_or(0) + digits.parse::<u32>().ok()?);
                }
                sum
            }
            Self::Pyinfra => {
                let line = output.lines().find(|line| line.trim().starts_with("Grand total"))?;
                // Hosts, successes, errors, unchanged; nothing is a dash.
                line.split_whitespace().nth(3).map(|text| text.parse().unwrap_or(0))
            }
        }
    }
}

/// How often each tool is measured; a tool that is not named is left out.
#[derive(Debug, Clone)]
pub struct Rounds(pub Vec<(Tool, u32)>);

impl std::str::FromStr for Rounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| {
            let (tool, count) = part.split_once('=').ok_or("wanted: TOOL=ROUNDS,…".to_owned())?;
            let count = count.parse().map_err(|_| format!("{count} is no number"))?;
            Ok((Tool::from_str(tool, true)?, count))
        };
        text.split(',').map(one).collect::<Result<_, String>>().map(Self)
    }
}

/// Measures scenario after scenario, round after round, tool after tool.
///
/// # Errors
/// When a tool fails, or changes another number of things than the scenario has.
pub fn run(
    grounds: &Grounds,
    scenarios: &[Scenario],
    rounds: &Rounds,
    results: &mut Results,
) -> Outcome<()> {
    let most = rounds.0.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let mut revision = 1;
    // Everything is there once, so that a second run finds nothing to do.
    settle(grounds, revision)?;
    for scenario in scenarios {
        for round in 0..most {
            let tools = rounds.0.iter().filter(|(_, count)| round < *count).map(|(tool, _)| *tool);
            for tool in tools.filter(|tool| tool.works() || *scenario == Scenario::Second) {
                match scenario {
                    Scenario::First => grounds.undo(false)?,
                    Scenario::Packages => grounds.undo(true)?,
                    Scenario::Second => {}
                    Scenario::Changed => revision += 1,
                }
                let entry = one(grounds, tool, *scenario, revision)?;
                results.add(entry)?;
            }
        }
        settle(grounds, revision)?;
    }
    Ok(())
}

/// The wanted state, unmeasured: agents are on the nodes and every step is done.
fn settle(grounds: &Grounds, revision: u32) -> Outcome<()> {
    Tool::Strata.program(grounds, revision)?.succeed()?;
    Ok(())
}

fn one(grounds: &Grounds, tool: Tool, scenario: Scenario, revision: u32) -> Outcome<Entry> {
    let program = tool.program(grounds, revision)?;
    let before = grounds.wire_bytes()?;
    let cost = program.succeed()?;
    let bytes = grounds.wire_bytes()?.saturating_sub(before);
    let hosts = u32::try_from(grounds.nodes.len())?;
    judge(tool, scenario, hosts, &cost)?;
    let resources = if tool.works() { WORK } else { 0 };
    let entry = Entry::of(scenario.name(), tool.name(), (hosts, resources), &cost);
    Ok(Entry { wire_bytes: bytes, ..entry })
}

/// A run that did other work than the others' is no measurement.
fn judge(tool: Tool, scenario: Scenario, hosts: u32, cost: &Cost) -> Outcome<()> {
    let changes = tool.changes(&cost.output);
    let fits = match (scenario, changes) {
        (_, None) => false,
        (Scenario::Second, Some(count)) => count == 0,
        (Scenario::Changed, Some(count)) => count == hosts,
        // What a tool counts as one differs.
        (Scenario::First | Scenario::Packages, Some(count)) => count >= 5 * hosts,
    };
    match fits {
        true => Ok(()),
        false => Err(format!(
            "{} in `{}` on {hosts} hosts made {changes:?} changes:\n{}",
            tool.name(),
            scenario.name(),
            cost.output
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_read_and_mistakes_are_said() {
        let rounds: Rounds = "strata=5,ssh-curve=2".parse().unwrap();
        assert_eq!(rounds.0, [(Tool::Strata, 5), (Tool::SshCurve, 2)]);
        assert!("strata".parse::<Rounds>().is_err());
        assert!("other=1".parse::<Rounds>().is_err());
    }

    #[test]
    fn each_tool_says_what_it_changed_in_its_own_words() {
        let said = "    20 hosts converged, 0 not; 40 of 1020 steps changed\n";
        assert_eq!(Tool::Strata.changes(said), Some(40));
        let said = "node-0001 : ok=7 changed=2 unreachable=0\nnode-0002 : ok=7 changed=3 u\n";
        assert_eq!(Tool::Ansible.changes(said), Some(5));
        assert_eq!(Tool::Mitogen.changes("an error"), None);
        let said =
            "    Operation  Hosts   Success   Error   No Change\n    Grand total  150  60  -  90\n";
        assert_eq!(Tool::Pyinfra.changes(said), Some(60));
        assert_eq!(Tool::Pyinfra.changes("    Grand total  150  -  -  150\n"), Some(0));
    }
}
