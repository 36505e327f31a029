//! What an audit finds.

use super::{Verdict, Waiving};
use serde::{Deserialize, Serialize};

/// A layer as an audit found it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Hosts that were looked at.
    pub looked_at: Vec<String>,
    /// Hosts that could not be looked at.
    pub not_looked_at: Vec<String>,
    /// What is not as wanted, by host or cluster.
    pub drifted: Vec<Drifted>,
}

/// A host or a cluster that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drifted {
    /// The host, or `cluster NAME`.
    pub place: String,
    /// What differs, `role › step: what`.
    pub differences: Vec<String>,
    /// What differs and is waived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<WaivedDifference>,
    /// The last run that found or made everything as wanted; none is known where there is none.
    pub since: Option<LastWanted>,
}

/// A difference that a waiver covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaivedDifference {
    /// What differs.
    pub difference: String,
    /// The waiver.
    #[serde(flatten)]
    pub waiving: Waiving,
}

/// When a host was last as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWanted {
    /// The run that saw it.
    pub run: String,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
}

impl Audited {
    /// Differences that no waiver covers.
    pub fn differences(&self) -> usize {
        self.drifted.iter().map(|one| one.differences.len()).sum()
    }

    /// Differences that are waived.
    pub fn waived(&self) -> usize {
        self.drifted.iter().map(|one| one.waived.len()).sum()
    }

    /// The verdict on the layer: a difference that was seen counts more than what was not seen,
    /// and what was not seen is never as wanted.
    pub fn verdict(&self) -> Verdict {
        if self.differences() > 0 {
            Verdict::Fail
        } else if !self.not_looked_at.is_empty() || self.looked_at.is_empty() {
            Verdict::NotRun
        } else if self.waived() > 0 {
            Verdict::Waived
        } else {
            Verdict::Pass
        }
    }

    /// The hosts that are as wanted.
    pub fn as_wanted(&self) -> impl Iterator<Item = &str> {
        let drifted = |host: &str| self.drifted.iter().any(|one| one.place == host);
        self.looked_at.iter().map(String::as_str).filter(move |host| !drifted(host))
    }
}
