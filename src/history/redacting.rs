//! The one filter in front of every consumer of events.

use crate::event::{Consumer, Event, EventKind, StepId, StepOutcome};
use std::borrow::Cow;
use std::io;

/// Masks what is secret in a text; borrowed where nothing is.
pub type Redact = dyn Fn(&str) -> Cow<'_, str> + Send;

/// Redacts each event before it reaches the consumers (KB-H11, E9). The journal comes first and
/// decides: a display that cannot be written to any more never stops a run.
pub struct Redacting {
    redact: Box<Redact>,
    journal: Box<dyn Consumer>,
    others: Vec<Box<dyn Consumer>>,
}

impl Redacting {
    /// `redact` is applied to every free text of every event.
    pub fn new(
        redact: Box<Redact>,
        journal: Box<dyn Consumer>,
        others: Vec<Box<dyn Consumer>>,
    ) -> Self {
        Self { redact, journal, others }
    }

    /// The event with what is secret masked; `None` where it is clean, which nearly every one is.
    fn masked(&self, event: &Event) -> io::Result<Option<Event>> {
        if names_only(&event.kind)
            .is_some_and(|names| names.into_iter().all(|name| is_clean(name, &self.redact)))
        {
            return Ok(None);
        }
        let mut value = serde_json::to_value(event)?;
        let masked = redact_strings(&mut value, &self.redact);
        Ok(if masked { Some(serde_json::from_value(value)?) } else { None })
    }
}

/// Every text of an event that has nothing but names: those of which there are most, two for each
/// step that changes nothing.
fn names_only(kind: &EventKind) -> Option<[&str; 4]> {
    match kind {
        EventKind::StepStarted { step }
        | EventKind::StepFinished { step, outcome: StepOutcome::Unchanged, took_ms: _ } => {
            let StepId { host, layer, role, step, handler: _ } = step;
            Some([host, layer, role, step])
        }
        _ => None,
    }
}

fn is_clean(text: &str, redact: &Redact) -> bool {
    matches!(redact(text), Cow::Borrowed(same) if same == text)
}

impl Consumer for Redacting {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let masked = self.masked(event)?;
        let event = masked.as_ref().unwrap_or(event);
        let kept = self.journal.event(event);
        self.others.retain_mut(|consumer| consumer.event(event).is_ok());
        kept?;
        let news: Vec<EventKind> =
            self.others.iter_mut().flat_map(|consumer| consumer.follow_ups()).collect();
        for kind in news {
            self.event(&Event { at_ms: event.at_ms, kind })?;
        }
        Ok(())
    }

    fn rest(&mut self) -> io::Result<()> {
        let kept = self.journal.rest();
        self.others.retain_mut(|consumer| consumer.rest().is_ok());
        kept
    }
}

/// Keys whose values are words of the vocabulary: a secret that happens to be such a word would
/// make the event unreadable, and the word tells nothing.
const VOCABULARY: [&str; 7] = ["event", "result", "state", "verdict", "kind", "kinds", "class"];

/// Masks every free text; true when there was something to mask.
fn redact_strings(value: &mut serde_json::Value, redact: &Redact) -> bool {
    match value {
        serde_json::Value::String(text) => match redact(text) {
            Cow::Borrowed(same) if same == text => false,
            masked => {
                *text = masked.into_owned();
                true
            }
        },
        serde_json::Value::Array(values) => {
            values.iter_mut().fold(false, |masked, value| redact_strings(value, redact) | masked)
        }
        serde_json::Value::Object(map) => map
            .iter_mut()
            .filter(|(key, _)| !VOCABULARY.contains(&key.as_str()))
            .fold(false, |masked, (_, value)| redact_strings(value, redact) | masked),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    struct Kept(Arc<Mutex<Vec<Event>>>);

    impl Consumer for Kept {
        fn event(&mut self, event: &Event) -> io::Result<()> {
            self.0.lock().unwrap().push(event.clone());
            Ok(())
        }
    }

    struct Broken;

    impl Consumer for Broken {
        fn event(&mut self, _: &Event) -> io::Result<()> {
            Err(io::Error::other("a closed terminal"))
        }
    }

    /// Answers to every first note.
    #[derive(Default)]
    struct Remembers(bool, Vec<EventKind>);

    impl Consumer for Remembers {
        fn event(&mut self, _: &Event) -> io::Result<()> {
            if !std::mem::replace(&mut self.0, true) {
                self.1.push(EventKind::Note { text: "an older note".into() });
            }
            Ok(())
        }

        fn follow_ups(&mut self) -> Vec<EventKind> {
            std::mem::take(&mut self.1)
        }
    }

    fn masking(word: &'static str) -> Box<Redact> {
        fn masked<'a>(text: &'a str, word: &str) -> Cow<'a, str> {
            match text.contains(word) {
                true => Cow::Owned(text.replace(word, "[secret]")),
                false => Cow::Borrowed(text),
            }
        }
        Box::new(move |text| masked(text, word))
    }

    #[test]
    fn what_follows_is_kept_and_redacted_like_everything_else() {
        let kept = Arc::default();
        let redact = masking("older");
        let journal = Box::new(Kept(Arc::clone(&kept)));
        let mut redacting = Redacting::new(redact, journal, vec![Box::new(Remembers::default())]);
        let event = Event { at_ms: 1, kind: EventKind::Note { text: "a note".into() } };
        redacting.event(&event).unwrap();
        let note = |text: &str| Event { at_ms: 1, kind: EventKind::Note { text: text.into() } };
        assert_eq!(*kept.lock().unwrap(), [note("a note"), note("an [secret] note")]);
    }

    #[test]
    fn a_secret_in_any_name_of_a_step_is_masked() {
        let id = |host: &str, layer: &str, role: &str, step: &str| {
            let text = str::to_owned;
            let (host, layer, role, step) = (text(host), text(layer), text(role), text(step));
            StepId { host, layer, role, step, handler: false }
        };
        let of = |step: StepId, finished: bool| match finished {
            true => EventKind::StepFinished { step, outcome: StepOutcome::Unchanged, took_ms: 1 },
            false => EventKind::StepStarted { step },
        };
        for finished in [false, true] {
            let kept = Arc::default();
            let journal = Box::new(Kept(Arc::clone(&kept)));
            let mut redacting = Redacting::new(masking("hush"), journal, Vec::new());
            for step in [
                id("a", "b", "c", "d"),
                id("hush", "b", "c", "d"),
                id("a", "hush", "c", "d"),
                id("a", "b", "hush", "d"),
                id("a", "b", "c", "say hush"),
            ] {
                redacting.event(&Event { at_ms: 1, kind: of(step, finished) }).unwrap();
            }
            let expected = [
                id("a", "b", "c", "d"),
                id("[secret]", "b", "c", "d"),
                id("a", "[secret]", "c", "d"),
                id("a", "b", "[secret]", "d"),
                id("a", "b", "c", "say [secret]"),
            ]
            .map(|step| Event { at_ms: 1, kind: of(step, finished) });
            assert_eq!(*kept.lock().unwrap(), expected);
        }
    }

    #[test]
    fn texts_are_redacted_words_are_not_and_a_broken_display_stops_nothing() {
        let kept = Arc::default();
        let redact = masking("note");
        let journal = Box::new(Kept(Arc::clone(&kept)));
        let mut redacting = Redacting::new(redact, journal, vec![Box::new(Broken)]);
        let event = Event { at_ms: 1, kind: EventKind::Note { text: "a note".into() } };
        redacting.event(&event).unwrap();
        redacting.event(&event).unwrap();
        let kept = kept.lock().unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0].kind, EventKind::Note { text: "a [secret]".into() });
    }
}
