//! Which secrets a run's plans ask for.

use super::SecretLookup;
use crate::secrets::Secret;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Passes questions on, and remembers the names that have a value.
pub struct Asked {
    lookup: Arc<dyn SecretLookup>,
    names: Mutex<BTreeSet<String>>,
}

impl Asked {
    /// Nothing was asked for yet.
    pub fn new(lookup: Arc<dyn SecretLookup>) -> Arc<Self> {
        Arc::new(Self { lookup, names: Mutex::default() })
    }

    /// The names that were asked for so far.
    pub fn names(&self) -> BTreeSet<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SecretLookup for Asked {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        let value = self.lookup.lookup(name)?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        Some(value)
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
