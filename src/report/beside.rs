//! Which layers are in hand while a run's events go by. Where several are, a line says of which it
//! is: their hosts differ, but their tests have the same names.

use super::line::line_of;
use super::style::Palette;
use crate::event::{Event, EventKind};

/// Follows a run.
#[derive(Debug, Default)]
pub struct Beside {
    converging: Vec<String>,
    /// Gates that run, each with the test in hand.
    gates: Vec<(String, Option<String>)>,
}

impl Beside {
    /// Takes an event; gives the layer that its line has to name.
    fn event<'a>(&mut self, kind: &'a EventKind) -> Option<&'a str> {
        let several = self.converging.len() + self.gates.len() > 1;
        match kind {
            EventKind::LayerStarted { layer, .. } => self.converging.push(layer.clone()),
            EventKind::LayerFinished { layer, .. } => self.converging.retain(|one| one != layer),
            EventKind::GateStarted { layer, .. } => self.gates.push((layer.clone(), None)),
            EventKind::GateFinished { layer, .. } => self.gates.retain(|(one, _)| one != layer),
            EventKind::TestStarted { layer, test } => {
                for (_, in_hand) in self.gates.iter_mut().filter(|(one, _)| one == layer) {
                    *in_hand = Some(test.clone());
                }
            }
            _ => {}
        }
        layer_of(kind).filter(|_| several)
    }

    /// True when no layer converges.
    pub fn none_converges(&self) -> bool {
        self.converging.is_empty()
    }

    /// What is in hand, for the display.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        match self.converging.as_slice() {
            [] => {}
            [one] => parts.push(format!("layer {one}")),
            several => parts.push(format!("layers {}", several.join(", "))),
        }
        parts.extend(self.gates.iter().map(|(layer, test)| match test {
            Some(test) => format!("gate {layer}: {test}"),
            None => format!("gate {layer}"),
        }));
        parts.join(", ")
    }
}

/// The lines of a run, one event after the other.
#[derive(Debug)]
pub struct Lines {
    palette: Palette,
    verbose: bool,
    /// What is in hand.
    pub(super) beside: Beside,
}

impl Lines {
    /// No event has gone by.
    pub fn new(palette: Palette, verbose: bool) -> Self {
        Self { palette, verbose, beside: Beside::default() }
    }

    /// The text for the next event, if it deserves one.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        let layer = self.beside.event(&event.kind);
        let line = line_of(event, &self.palette, self.verbose)?;
        Some(named(line, layer, &self.palette))
    }
}

/// A line that names its layer, after the spaces that it begins with.
fn named(line: String, layer: Option<&str>, palette: &Palette) -> String {
    let Some(layer) = layer else { return line };
    let text = line.trim_start_matches(' ');
    let indent = &line[..line.len() - text.len()];
    format!("{indent}{} {text}", palette.dim(format!("[{layer}]")))
}

/// The layer of an event whose line does not name it.
fn layer_of(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::StepWaiting { step, .. } | EventKind::StepFinished { step, .. } => {
            Some(&step.layer)
        }
        EventKind::Excepted { layer, .. }
        | EventKind::HostFinished { layer, .. }
        | EventKind::ClusterFound { layer, .. }
        | EventKind::ClusterNext { layer, .. }
        | EventKind::ClusterAction { layer, .. }
        | EventKind::ClusterWaiting { layer, .. }
        | EventKind::ClusterFinished { layer, .. }
        | EventKind::Fault { layer, .. }
        | EventKind::TestFinished { layer, .. } => Some(layer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{GateVerdict, TestKind};

    fn started(layer: &str) -> EventKind {
        EventKind::LayerStarted { layer: layer.into(), hosts: Vec::new() }
    }

    fn finished(layer: &str) -> EventKind {
        EventKind::LayerFinished { layer: layer.into(), complete: true, took_ms: 1 }
    }

    fn gate(layer: &str) -> EventKind {
        EventKind::GateStarted { layer: layer.into(), kinds: vec![TestKind::Diag] }
    }

    fn fault(layer: &str) -> EventKind {
        let (test, what) = ("reboot".into(), "reboot a".into());
        EventKind::Fault { layer: layer.into(), test, what, healed: false }
    }

    #[test]
    fn a_line_names_its_layer_only_beside_another() {
        let mut beside = Beside::default();
        beside.event(&started("db"));
        assert_eq!(beside.event(&fault("db")), None);
        beside.event(&started("redis"));
        assert_eq!(beside.text(), "layers db, redis");
        assert_eq!(beside.event(&fault("db")), Some("db"));
        assert_eq!(beside.event(&finished("db")), None, "its line names it already");
        beside.event(&gate("db"));
        let test = EventKind::TestStarted { layer: "db".into(), test: "names".into() };
        beside.event(&test);
        assert_eq!(beside.text(), "layer redis, gate db: names");
        assert_eq!(beside.event(&fault("redis")), Some("redis"));
        beside.event(&finished("redis"));
        assert_eq!(beside.event(&fault("db")), None);
        let (layer, verdict) = ("db".into(), GateVerdict::Green);
        beside.event(&EventKind::GateFinished {
            layer,
            verdict,
            counts: [1, 0, 0, 0],
            waived: 0,
            took_ms: 1,
        });
        assert_eq!((beside.text().as_str(), beside.none_converges()), ("", true));
    }

    #[test]
    fn the_name_stands_after_the_indent() {
        let plain = Palette { color: false };
        assert_eq!(
            named("  pass  diag names".to_owned(), Some("db"), &plain),
            "  [db] pass  diag names"
        );
        assert_eq!(named("  pass".to_owned(), None, &plain), "  pass");
    }
}
