//! The one filter in front of every consumer of events.

use crate::event::{Consumer, Event};
use std::io;

/// Redacts each event before it reaches the consumers (KB-H11, E9).
pub struct Redacting {
    redact: Box<dyn Fn(&str) -> String + Send>,
    consumers: Vec<Box<dyn Consumer>>,
}

impl Redacting {
    /// `redact` is applied to every string of every event.
    pub fn new(
        redact: Box<dyn Fn(&str) -> String + Send>,
        consumers: Vec<Box<dyn Consumer>>,
    ) -> Self {
        Self { redact, consumers }
    }
}

impl Consumer for Redacting {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut value = serde_json::to_value(event)?;
        redact_strings(&mut value, &self.redact);
        let event: Event = serde_json::from_value(value)?;
        // Every consumer sees the event even when one of them fails.
        let mut result = Ok(());
        for consumer in &mut self.consumers {
            result = result.and(consumer.event(&event));
        }
        result
    }
}

fn redact_strings(value: &mut serde_json::Value, redact: &dyn Fn(&str) -> String) {
    match value {
        serde_json::Value::String(text) => {
            let redacted = redact(text);
            if redacted != *text {
                *text = redacted;
            }
        }
        serde_json::Value::Array(values) => {
            values.iter_mut().for_each(|value| redact_strings(value, redact));
        }
        serde_json::Value::Object(map) => {
            map.values_mut().for_each(|value| redact_strings(value, redact));
        }
        _ => {}
    }
}
