//! Whether the host may swap.

use super::converge::{Converge, Progress};
use super::mount_table::without_swap;
use super::outcome::{Change, Failure};
use super::system::{FileWrite, Program, System, read_text, run_checked};
use super::validity::Problem;
use serde::{Deserialize, Serialize};

/// Swap off, now and after a boot: kubelets refuse to work with it.
///
/// ```toml
/// swap = { state = "off" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// `"off"`: no swap is in use, and fstab's swap lines are comments.
    pub state: SwapState,
}

/// What is wanted of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwapState {
    /// None.
    Off,
}

/// Swap areas in use, and fstab.
#[derive(Debug)]
pub struct SwapFound {
    areas: Vec<String>,
    fstab: Vec<u8>,
}

impl Converge for Swap {
    type Found = SwapFound;

    fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn find(&self, system: &mut dyn System) -> Result<SwapFound, Failure> {
        let swaps = read_text(system, "/proc/swaps")?.unwrap_or_default();
        let areas = String::from_utf8_lossy(&swaps)
            .lines()
            .skip(1)
            .filter_map(|line| line.split_ascii_whitespace().next().map(str::to_owned))
            .collect();
        Ok(SwapFound { areas, fstab: read_text(system, "/etc/fstab")?.unwrap_or_default() })
    }

    fn shown_files(&self) -> Vec<String> {
        vec!["/etc/fstab".to_owned()]
    }

    fn compare(&self, found: &SwapFound) -> Vec<Change> {
        let mut changes: Vec<Change> =
            found.areas.iter().map(|area| Change::new("swap", Some(area.clone()), None)).collect();
        if without_swap(&found.fstab) != found.fstab {
            let before = Some(found.fstab.clone());
            changes
                .push(Change { before, ..Change::new("/etc/fstab", None, Some("no swap".into())) });
        }
        changes
    }

    fn apply(
        &self,
        found: &SwapFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let fstab = without_swap(&found.fstab);
        if fstab != found.fstab {
            system.write(&FileWrite::of_root("/etc/fstab", &fstab))?;
        }
        for area in &found.areas {
            let program = Program::new(["swapoff", "--", area]);
            run_checked(system, &program, &format!("cannot turn off swap on {area}"))
                .map_err(|failure| failure.hint("memory may be too full to take the pages back"))?;
        }
        Ok(())
    }
}
