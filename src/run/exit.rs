//! Exit codes, everywhere the same.

use crate::event::HostProblem;
use crate::fleet::Stop;
use std::process::ExitCode;

/// How a command ended. Where several apply the order is: interrupted, not healed, refused, gate
/// red, unreachable, step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, or nothing to do.
    Done,
    /// A step failed.
    StepFailed,
    /// Invalid input; no host was touched.
    InvalidInput,
    /// A gate is red.
    GateRed,
    /// A fault that a gate injected could not be healed.
    NotHealed,
    /// A host is unreachable or its identity changed.
    Unreachable,
    /// Locked by another run.
    Locked,
    /// Refused: the layer below is not green, or a cluster is not as it must be.
    Refused,
    /// Differences found.
    Differences,
    /// A fault of strata itself.
    Internal,
    /// Interrupted by the operator.
    Interrupted,
    /// The status of a program that strata passed through, for example `strata lab exec`.
    Program(u8),
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::StepFailed => 1,
            Self::InvalidInput => 2,
            Self::GateRed => 3,
            Self::NotHealed => 4,
            Self::Unreachable => 5,
            Self::Locked => 6,
            Self::Refused => 7,
            Self::Differences => 8,
            Self::Internal => 70,
            Self::Interrupted => 130,
            Self::Program(code) => code,
        }
    }

    /// Of what was stopped: by the operator, or because the run's time is over.
    pub fn stopped(stop: &Stop) -> Self {
        if stop.expired() { Self::StepFailed } else { Self::Interrupted }
    }

    /// The one to report when both happened.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        const ORDER: [Exit; 11] = [
            Exit::Interrupted,
            Exit::NotHealed,
            Exit::Refused,
            Exit::GateRed,
            Exit::Unreachable,
            Exit::StepFailed,
            Exit::Internal,
            Exit::Locked,
            Exit::InvalidInput,
            Exit::Differences,
            Exit::Done,
        ];
        if let (Self::Program(0), other) | (other, Self::Program(0)) = (self, other) {
            return other;
        }
        ORDER.into_iter().find(|exit| *exit == self || *exit == other).unwrap_or(self)
    }
}

impl From<HostProblem> for Exit {
    fn from(problem: HostProblem) -> Self {
        match problem {
            HostProblem::Unreachable | HostProblem::Identity => Self::Unreachable,
            HostProblem::Locked => Self::Locked,
            HostProblem::Unfit => Self::Refused,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_worse_of_two_is_reported() {
        assert_eq!(Exit::StepFailed.worse(Exit::Unreachable), Exit::Unreachable);
        assert_eq!(Exit::Done.worse(Exit::StepFailed), Exit::StepFailed);
        assert_eq!(Exit::NotHealed.worse(Exit::GateRed), Exit::NotHealed);
        assert_eq!(Exit::GateRed.worse(Exit::Interrupted), Exit::Interrupted);
    }
}
