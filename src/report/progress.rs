//! The display on a terminal: one bar for the whole, and what each visible host is doing.
//!
//! One owner draws everything. Nothing is drawn in the first quarter second, so that a run with
//! nothing to do leaves only its summary.

use super::beside::Lines;
use super::style::Palette;
use crate::event::{Consumer, Event, EventKind, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

/// Hosts shown at the same time: terminals flicker with more.
const VISIBLE_HOSTS: usize = 8;

/// The display.
pub struct Progress {
    bars: MultiProgress,
    overall: ProgressBar,
    hosts: HashMap<String, ProgressBar>,
    lines: Lines,
}

impl Progress {
    /// Draws on standard error.
    pub fn new(palette: Palette, verbose: bool) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15));
        let overall = bars.add(ProgressBar::new(0));
        overall.set_style(style("{spinner} {msg}  {pos}/{len} hosts  {elapsed}"));
        overall.enable_steady_tick(Duration::from_millis(250));
        Self { bars, overall, hosts: HashMap::new(), lines: Lines::new(palette, verbose) }
    }

    fn show(&mut self, step: &StepId, text: String) {
        if !self.hosts.contains_key(&step.host) {
            if self.hosts.len() >= VISIBLE_HOSTS {
                return;
            }
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(style("  {prefix:20} {wide_msg}"));
            bar.set_prefix(step.host.clone());
            self.hosts.insert(step.host.clone(), bar);
        }
        if let Some(bar) = self.hosts.get(&step.host) {
            bar.set_message(text);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Consumer for Progress {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let first = self.lines.beside.none_converges();
        let line = self.lines.line(event);
        match &event.kind {
            EventKind::LayerStarted { hosts, .. } => {
                // The hosts of layers that are in hand together are counted together.
                if first {
                    self.overall.set_length(0);
                    self.overall.set_position(0);
                }
                self.overall.inc_length(hosts.len() as u64);
                self.overall.set_message(self.lines.beside.text());
            }
            EventKind::StepStarted { step } => {
                self.show(step, format!("{} › {}", step.role, step.step));
            }
            EventKind::StepWaiting { step, reason } => {
                self.show(step, format!("{} › {}: {reason}", step.role, step.step));
                return Ok(());
            }
            EventKind::HostFinished { host, .. } | EventKind::HostUnusable { host, .. } => {
                self.overall.inc(1);
                if let Some(bar) = self.hosts.remove(host) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
            }
            EventKind::GateStarted { .. } | EventKind::TestStarted { .. } => {
                self.overall.set_message(self.lines.beside.text());
            }
            EventKind::LayerFinished { .. } | EventKind::GateFinished { .. } => {
                let text = self.lines.beside.text();
                // Between a layer and its gate the last word stays.
                if !text.is_empty() {
                    self.overall.set_message(text);
                }
            }
            EventKind::RunFinished { .. } => self.overall.finish_and_clear(),
            _ => {}
        }
        if let Some(line) = line {
            return self.bars.suspend(|| writeln!(io::stderr(), "{line}"));
        }
        Ok(())
    }
}
