//! Faults that tests inject into hosts, and their healing.
//!
//! Before anything is broken, a timer of the host's own systemd is armed that undoes it, so that a
//! fault ends even when strata, its agent and the operator host are gone. Healing is explicit and
//! looked at; only then is the timer disarmed. A fault that was not healed stays in the test's
//! [`Ledger`], whatever happens to the value that stands for it: the gate then says so and exits
//! with 4.

mod kind;
mod ledger;

pub use kind::{Cut, Detour, Kind};
pub use ledger::Ledger;

use super::probe;
use super::scenario::Surroundings;
use crate::ssh::AgentSession;
use std::sync::Arc;
use std::time::Duration;

/// How long a healed host may take until it shows it.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);

/// What the names of dead-man units begin with.
const UNIT: &str = "strata-gate-heal-";

/// A fault on one host. Dropped without [`Fault::heal`], it stays in the ledger and the host's own
/// timer ends it.
#[must_use = "a fault is healed explicitly"]
pub struct Fault<'a> {
    surroundings: &'a Surroundings<'a>,
    session: Arc<AgentSession>,
    kind: Kind,
    what: String,
    unit: String,
}

impl<'a> Fault<'a> {
    /// Arms the way back on the host, then breaks it. `heals_after` is when the host undoes it by
    /// itself.
    ///
    /// # Errors
    /// When the fault could not be injected. What was done of it is undone again; if that fails
    /// too, it stays in the ledger.
    pub async fn inject(
        surroundings: &'a Surroundings<'a>,
        host: &str,
        kind: Kind,
        heals_after: Duration,
    ) -> Result<Self, String> {
        if surroundings.stop.wished() {
            return Err(format!("{} before the fault", surroundings.stop.why()));
        }
        let session =
            surroundings.fleet.session(host).ok_or_else(|| format!("{host} is not connected"))?;
        let what = kind.what(host);
        let unit = unit_name(surroundings.context.run, &kind);
        let step = kind.inject();
        arm(&session, &unit, &kind, heals_after)
            .await
            .map_err(|error| format!("{what}: its way back could not be armed: {error}"))?;
        surroundings.fault(&what, false);
        let fault = Self { surroundings, session, kind, what, unit };
        let Err(error) = probe::output_of(&fault.session, &step.argv(), step.stdin.clone()).await
        else {
            return Ok(fault);
        };
        let what = fault.what.clone();
        let undone = fault.heal().await.err().map(|error| format!("; {error}")).unwrap_or_default();
        Err(format!("{what} failed: {error}{undone}"))
    }

    /// Undoes it, looks whether it is gone, and disarms the host's timer.
    ///
    /// # Errors
    /// When it is still there: the ledger keeps it and the timer stays armed.
    pub async fn heal(self) -> Result<(), String> {
        let healed = self.undo().await;
        match &healed {
            Ok(()) => self.surroundings.fault(&self.what, true),
            Err(error) => return Err(format!("not healed: {}: {error}", self.what)),
        }
        healed
    }

    async fn undo(&self) -> Result<(), String> {
        let undone = probe::output(&self.session, &self.kind.heal()).await;
        // The look decides: what the timer already healed cannot be undone once more.
        let shown = probe::wait_until(SHOWN_WITHIN, || self.gone()).await;
        if let Err(reason) = shown {
            return Err(undone.err().unwrap_or(reason));
        }
        let timer = format!("{}.timer", self.unit);
        // It may have run already and be gone.
        probe::run(&self.session, &["systemctl", "stop", &timer], Vec::new()).await.map(drop)
    }

    async fn gone(&self) -> Result<(), String> {
        let (argv, wanted) = self.kind.look();
        let (outcome, stdout, stderr) = probe::run(&self.session, &argv, Vec::new()).await?;
        if wanted.holds(&outcome, &stdout) {
            return Ok(());
        }
        let said = if stderr.trim().is_empty() { &stdout } else { &stderr };
        Err(format!("{}: {}", argv.join(" "), said.trim()))
    }
}

/// Heals all faults, the last one first; the errors of those that are still there.
pub async fn heal_all(faults: Vec<Fault<'_>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for fault in faults.into_iter().rev() {
        wrong.extend(fault.heal().await.err());
    }
    wrong
}

/// The dead-man unit's name: of this run and this fault, so that runs never share one.
fn unit_name(run: &str, kind: &Kind) -> String {
    let plain: String = run.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{UNIT}{plain}-{}", kind.tag())
}

/// Starts the timer that undoes the fault.
async fn arm(
    session: &AgentSession,
    unit: &str,
    kind: &Kind,
    after: Duration,
) -> Result<(), String> {
    // What an earlier test of this run left under the name has done its work.
    for suffix in ["timer", "service"] {
        let name = format!("{unit}.{suffix}");
        probe::run(session, &["systemctl", "stop", &name], Vec::new()).await?;
        probe::run(session, &["systemctl", "reset-failed", &name], Vec::new()).await?;
    }
    let unit = format!("--unit={unit}");
    let after = format!("--on-active={}s", after.as_secs().max(1));
    let mut argv = vec![
        "systemd-run",
        unit.as_str(),
        after.as_str(),
        "--timer-property=AccuracySec=100ms",
        "--description=strata: heals a fault of a gate",
        "--",
    ];
    argv.extend(kind.heal());
    probe::output(session, &argv).await.map(drop)
}
