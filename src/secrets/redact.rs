//! One filter for every sink: loaded values, in every form they may take, become `[secret:NAME]`
//! (E9, KB-H11).
//!
//! All forms are searched at once, and overlapping finds are masked as one, so that no part of a
//! value stays visible beside another. A stream holds back only what may be the beginning of a
//! value; where the stream was cut makes no difference to what comes out.

use super::encodings::forms;
use super::lookup::Secrets;
use super::rules::SHORTEST_MASKED;
use super::secret::{REDACTED, Secret};
use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// Masks the values of secrets in text.
pub struct Redactor {
    search: Option<Search>,
    /// The search could not be built: nothing at all is shown, rather than everything.
    blind: bool,
}

struct Search {
    automaton: NFA,
    start: StateID,
    /// The length of the longest beginning of a pattern that a state stands for.
    depths: HashMap<StateID, usize>,
    /// What to write for each pattern.
    labels: Vec<Arc<str>>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("patterns", &self.patterns()).finish()
    }
}

/// Bytes to be masked, and what stands in their place.
#[derive(Clone)]
struct Interval {
    start: usize,
    end: usize,
    /// The length of the find that decides the label; of equal starts the longest does.
    length: usize,
    label: Arc<str>,
}

impl Redactor {
    /// A redactor that knows no secret.
    pub const fn empty() -> Self {
        Self { search: None, blind: false }
    }

    /// A redactor for all loaded values that are secret.
    pub fn of(secrets: &Secrets) -> Self {
        Self::new(secrets.masked_values())
    }

    /// A redactor for named values. Values of fewer than six characters cannot be told from
    /// ordinary text and are left alone.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, &'a Secret<String>)>) -> Self {
        let mut patterns: BTreeMap<Secret<String>, Arc<str>> = BTreeMap::new();
        for (name, value) in values {
            if value.expose().chars().count() < SHORTEST_MASKED {
                continue;
            }
            let label: Arc<str> = format!("[secret:{name}]").into();
            for form in forms(value.expose()) {
                // Two secrets may share a form; either name is true.
                patterns.entry(Secret::new(form)).or_insert_with(|| Arc::clone(&label));
            }
        }
        let expected = !patterns.is_empty();
        let search = Search::build(patterns);
        Self { blind: expected && search.is_none(), search }
    }

    /// How many texts are searched for.
    pub fn patterns(&self) -> usize {
        self.search.as_ref().map_or(0, |search| search.labels.len())
    }

    /// The text with every value masked; borrowed when there was none.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.blind {
            return Cow::Borrowed(REDACTED);
        }
        match self.redact_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
        }
    }

    /// The bytes with every value masked; borrowed when there was none.
    pub fn redact_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(search) = &self.search else {
            return Cow::Borrowed(bytes);
        };
        let mut found = Vec::new();
        search.scan(search.start, bytes, 0, &mut found);
        if found.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut masked = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for interval in found {
            masked.extend_from_slice(&bytes[at..interval.start]);
            masked.extend_from_slice(interval.label.as_bytes());
            at = interval.end;
        }
        masked.extend_from_slice(&bytes[at..]);
        Cow::Owned(masked)
    }
}

impl Search {
    fn build(patterns: BTreeMap<Secret<String>, Arc<str>>) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        let texts: Vec<&str> = patterns.keys().map(|text| text.expose().as_str()).collect();
        // Fails beyond two thousand million states only.
        let automaton = NFA::new(&texts).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut depths = HashMap::new();
        for text in &texts {
            let mut state = start;
            for (index, byte) in text.bytes().enumerate() {
                state = automaton.next_state(Anchored::No, state, byte);
                depths.insert(state, index + 1);
            }
        }
        let labels = patterns.values().cloned().collect();
        Some(Self { automaton, start, depths, labels })
    }

    /// Runs over `bytes`, of which the first stands at `base`, and merges finds into `found`,
    /// which is ordered and without overlaps. Returns the state for the bytes that follow.
    fn scan(
        &self,
        mut state: StateID,
        bytes: &[u8],
        base: usize,
        found: &mut Vec<Interval>,
    ) -> StateID {
        for (index, byte) in bytes.iter().enumerate() {
            state = self.automaton.next_state(Anchored::No, state, *byte);
            if !self.automaton.is_special(state) || !self.automaton.is_match(state) {
                continue;
            }
            let end = base + index + 1;
            let longest = (0..self.automaton.match_len(state))
                .map(|nth| self.automaton.match_pattern(state, nth))
                .max_by_key(|pattern| self.automaton.pattern_len(*pattern));
            if let Some(pattern) = longest
                && let Some(label) = self.labels.get(pattern.as_usize())
            {
                let length = self.automaton.pattern_len(pattern);
                merge(
                    found,
                    Interval { start: end - length, end, length, label: Arc::clone(label) },
                );
            }
        }
        state
    }
}

/// Adds a find that ends at or behind all earlier ones.
fn merge(found: &mut Vec<Interval>, mut new: Interval) {
    while let Some(last) = found.pop_if(|last| last.end > new.start) {
        let earlier = (last.start, usize::MAX - last.length) < (new.start, usize::MAX - new.length);
        new.start = new.start.min(last.start);
        if earlier {
            new.label = last.label;
            new.length = last.length;
        }
    }
    found.push(new);
}

/// Masks a stream that comes in pieces of any size.
///
/// Call [`StreamRedactor::finish`] at the end: the last bytes may be held back until then.
pub struct StreamRedactor {
    redactor: Arc<Redactor>,
    state: StateID,
    /// Bytes taken but not given out.
    held: Vec<u8>,
    /// Finds in `held`; positions count from its start.
    found: Vec<Interval>,
    /// The first find's label has been given out already.
    open: bool,
}

impl StreamRedactor {
    /// A filter at the beginning of a stream.
    pub fn new(redactor: Arc<Redactor>) -> Self {
        let state = redactor.search.as_ref().map_or_else(Default::default, |search| search.start);
        Self { redactor, state, held: Vec::new(), found: Vec::new(), open: false }
    }

    /// Takes a piece and returns what can be shown now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(search) = &self.redactor.search else {
            return piece.to_vec();
        };
        let base = self.held.len();
        self.held.extend_from_slice(piece);
        let first = self.found.first().map(|interval| interval.start);
        self.state = search.scan(self.state, piece, base, &mut self.found);
        debug_assert!(
            !self.open || first == self.found.first().map(|interval| interval.start),
            "what was given out is never taken into a later find"
        );
        let depth = search.depths.get(&self.state).copied().unwrap_or(0);
        self.give(self.held.len().saturating_sub(depth))
    }

    /// Ends the stream and returns what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let given = self.give(self.held.len());
        if let Some(search) = &self.redactor.search {
            self.state = search.start;
        }
        given
    }

    /// Gives out the bytes before `safe`; no find to come can start before it.
    fn give(&mut self, safe: usize) -> Vec<u8> {
        let mut given = Vec::with_capacity(safe);
        let mut at = 0;
        let mut kept = Vec::new();
        let mut open = false;
        for (index, interval) in self.found.drain(..).enumerate() {
            let started = self.open && index == 0;
            if interval.start >= safe && !started {
                kept.push(interval);
                continue;
            }
            if !started {
                given.extend_from_slice(&self.held[at..interval.start]);
                given.extend_from_slice(interval.label.as_bytes());
            }
            at = interval.end.min(safe);
            if interval.end > safe {
                open = true;
                kept.push(Interval { start: safe, ..interval });
            }
        }
        if at < safe {
            given.extend_from_slice(&self.held[at..safe]);
        }
        self.held.drain(..safe);
        for interval in &mut kept {
            interval.start -= safe;
            interval.end -= safe;
        }
        self.found = kept;
        self.open = open;
        given
    }
}

/// A redactor that every sink shares and that learns the secrets once they are loaded.
#[derive(Clone, Debug)]
pub struct SharedRedactor(Arc<RwLock<Arc<Redactor>>>);

impl Default for SharedRedactor {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Redactor::empty()))))
    }
}

impl SharedRedactor {
    /// A redactor that knows no secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is masked from now on.
    pub fn learn(&self, redactor: Redactor) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(redactor);
    }

    /// The redactor of this moment.
    pub fn current(&self) -> Arc<Redactor> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The text with every value masked.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.current().redact(text)
    }

    /// A filter for a stream that begins now.
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor::new(self.current())
    }

    /// Makes panics speak through the redactor; `sink` gets the message with its place.
    pub fn install_panic_hook(&self, sink: impl Fn(&str) + Send + Sync + 'static) {
        let shared = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let mut text = panic.to_string();
            let trace = std::backtrace::Backtrace::capture();
            if trace.status() == std::backtrace::BacktraceStatus::Captured {
                text.push_str(&format!("\n{trace}"));
            }
            sink(&shared.redact(&text));
        }));
    }
}

#[cfg(test)]
mod tests;
