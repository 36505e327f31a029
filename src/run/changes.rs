//! Differences as text: what the agent found against what was wanted.

use crate::event::{ChangeText, StepOutcome};
use crate::resource::{Change, Item, Outcome, Resource};
use similar::TextDiff;

/// Longest content in bytes of which a diff is made.
const DIFF_LIMIT: usize = 256 * 1024;

/// An outcome as events carry it. Content of secret items never appears.
pub fn outcome_text(item: &Item, outcome: Outcome) -> StepOutcome {
    match outcome {
        Outcome::Unchanged => StepOutcome::Unchanged,
        Outcome::Changed(changes) => StepOutcome::Changed {
            changes: changes.into_iter().map(|change| change_text(item, change)).collect(),
        },
        Outcome::Failed(failure) => StepOutcome::Failed {
            message: failure.message,
            output: failure.output,
            hint: failure.hint,
        },
    }
}

fn change_text(item: &Item, change: Change) -> ChangeText {
    let diff = change.before.as_ref().filter(|_| !item.secret).and_then(|before| {
        let wanted = wanted_content(&item.resource)?;
        unified(before, wanted)
    });
    ChangeText { what: change.what, from: change.from, to: change.to, diff }
}

/// The text that the item writes as a whole, if it does.
fn wanted_content(resource: &Resource) -> Option<&str> {
    resource.content()
}

fn unified(before: &[u8], after: &str) -> Option<String> {
    let before = std::str::from_utf8(before).ok()?;
    if before.len().max(after.len()) > DIFF_LIMIT {
        return None;
    }
    Some(TextDiff::from_lines(before, after).unified_diff().context_radius(2).to_string())
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn a_diff_names_what_changes() {
        let diff = unified(b"a\nb\n", "a\nc\n").unwrap();
        assert!(diff.contains("-b\n+c\n"), "{diff}");
        assert_eq!(unified(&[0xff], "x"), None);
    }
}
