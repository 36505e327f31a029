//! The end of a run on one screen: what failed, in full, and the next command to type.

use super::line::line_of;
use super::style::{Palette, plural};
use crate::event::{Consumer, Event, EventKind, HostState, StepOutcome, Verdict};
use std::io;
use std::sync::{Arc, Mutex};

/// Gathers what the closing screen says.
#[derive(Debug, Clone, Default)]
pub struct Summary(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    problems: Vec<Event>,
    converged: usize,
    not_converged: usize,
    changed: u32,
    steps: u32,
}

impl Summary {
    /// The closing text; empty when nothing ran.
    pub fn text(&self, palette: &Palette) -> String {
        let Ok(gathered) = self.0.lock() else { return String::new() };
        let hosts = gathered.converged + gathered.not_converged;
        let mut text = String::new();
        if !gathered.problems.is_empty() {
            text.push_str("\nproblems\n");
            for event in &gathered.problems {
                if let Some(line) = line_of(event, palette, false) {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
        if hosts > 0 {
            text.push_str(&format!(
                "\n{} converged, {} not; {} of {} changed\n",
                plural(gathered.converged, "host"),
                gathered.not_converged,
                gathered.changed,
                plural(gathered.steps as usize, "step"),
            ));
        }
        text
    }
}

impl Consumer for Summary {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let Ok(mut gathered) = self.0.lock() else { return Ok(()) };
        match &event.kind {
            EventKind::HostUnusable { .. } => {
                gathered.problems.push(event.clone());
                gathered.not_converged += 1;
            }
            EventKind::StepFinished { outcome: StepOutcome::Failed { .. }, .. } => {
                gathered.problems.push(event.clone());
            }
            EventKind::TestFinished { verdict: Verdict::Fail | Verdict::NotRun, .. } => {
                gathered.problems.push(event.clone());
            }
            EventKind::HostFinished { state, changed, steps, .. } => {
                if *state == HostState::Converged {
                    gathered.converged += 1;
                } else {
                    gathered.not_converged += 1;
                }
                gathered.changed += changed;
                gathered.steps += steps;
            }
            _ => {}
        }
        Ok(())
    }
}
