//! What a cluster is found to be, and what a driver decides.

use std::fmt;
use std::time::Duration;

/// What a cluster is found to be (E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Proved never to have been: the only state in which a cluster is formed.
    Absent,
    /// Its formation began and has not ended.
    Forming,
    /// Every member does its part.
    Healthy,
    /// It works, and a member is missing or is not as wanted.
    Degraded,
    /// Its data exists and nobody leads.
    Down,
    /// Members disagree on who they are.
    Split,
    /// It is there, and another made it.
    Foreign,
    /// A member could not be looked at.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Forming => "forming",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Split => "split",
            Self::Foreign => "foreign",
            Self::Unknown => "unknown",
        })
    }
}

/// What a driver decides from an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<A> {
    /// What the cluster is.
    pub state: State,
    /// One line on how it stands: who leads, what is missing.
    pub found: String,
    /// What comes next.
    pub next: Next<A>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<A> {
    /// Nothing: the cluster is as wanted.
    Done,
    /// These, at the same time; then another look.
    Act(Vec<A>),
    /// Another look a little later.
    Wait {
        /// For what, and why it is not there yet.
        reason: String,
        /// How long at most, since the last action.
        up_to: Duration,
    },
    /// Nothing may be changed.
    Refuse(Refusal),
}

/// Why nothing may be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was found, with the evidence.
    pub reason: String,
    /// What the operator can do.
    pub hint: String,
}

impl<A: fmt::Display> Decision<A> {
    /// The decision while members are out of service: the rest is looked at and not changed. A
    /// cluster is formed, mended and renewed only with all its members, because nobody can say what
    /// an absent one holds, and because the rest has no member to spare.
    #[must_use]
    pub fn without(self, out: &[String]) -> Self {
        if out.is_empty() {
            return self;
        }
        let names = out.join(", ");
        match self.next {
            Next::Act(actions) => {
                let wanted: Vec<String> = actions.iter().map(ToString::to_string).collect();
                Self::refuse(
                    self.state,
                    format!(
                        "{}; with {names} out of service this is not done: {}",
                        self.found,
                        wanted.join("; ")
                    ),
                    format!(
                        "bring {names} back (`strata hosts in {names}`), or take it out of the inventory for good; until then the cluster is left as it is"
                    ),
                )
            }
            Next::Done => Self {
                state: State::Degraded,
                found: format!("{}; {names} is out of service and was not looked at", self.found),
                next: Next::Done,
            },
            next => Self { next, ..self },
        }
    }
}

impl<A> Decision<A> {
    /// A decision to do something.
    pub fn act(state: State, found: impl Into<String>, actions: Vec<A>) -> Self {
        Self { state, found: found.into(), next: Next::Act(actions) }
    }

    /// A decision to look again a little later.
    pub fn wait(
        state: State,
        found: impl Into<String>,
        reason: impl Into<String>,
        up_to: Duration,
    ) -> Self {
        Self { state, found: found.into(), next: Next::Wait { reason: reason.into(), up_to } }
    }

    /// A decision to change nothing.
    pub fn refuse(state: State, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            state,
            found: reason.clone(),
            next: Next::Refuse(Refusal { reason, hint: hint.into() }),
        }
    }
}
