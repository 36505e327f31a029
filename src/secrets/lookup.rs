//! Loaded secrets by name, as templates use them: `secrets.REDIS_PASSWORD`.

use super::directory::{DIRECTORY, Form};
use super::secret::Secret;
use std::collections::BTreeMap;

/// The loaded values of a site. Names are unique across bricks.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, Loaded>,
    files: BTreeMap<String, CredentialsFile>,
    /// What was used to get at the values.
    keys: Vec<(String, Secret<String>)>,
}

/// The file of a brick as it was loaded.
#[derive(Debug, Clone)]
pub struct CredentialsFile {
    /// How its secrets are kept.
    pub form: Form,
    /// Its path, from the site's root.
    pub path: String,
    /// Its bytes; clear in the plain form.
    pub bytes: Secret<Vec<u8>>,
}

/// One loaded value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The brick that it came from.
    pub brick: String,
    /// The value.
    pub value: Secret<String>,
    /// The value is the one that stands in the declaration, where everyone can read it.
    pub public: bool,
}

impl Secrets {
    /// No secrets.
    pub const fn new() -> Self {
        Self { values: BTreeMap::new(), files: BTreeMap::new(), keys: Vec::new() }
    }

    /// Adds a value; gives back the brick that already holds the name, if one does.
    pub fn insert(&mut self, name: &str, loaded: Loaded) -> Result<(), String> {
        if let Some(earlier) = self.values.get(name) {
            return Err(earlier.brick.clone());
        }
        self.values.insert(name.to_owned(), loaded);
        Ok(())
    }

    /// Keeps the file that a brick was loaded from.
    pub fn keep_file(&mut self, brick: &str, form: Form, bytes: Secret<Vec<u8>>) {
        let path = format!("{DIRECTORY}/{}", form.file(brick));
        self.files.insert(brick.to_owned(), CredentialsFile { form, path, bytes });
    }

    /// Keeps the place that a brick was loaded from, where it is no file, with what was taken from
    /// it, in clear.
    pub fn keep_place(&mut self, brick: &str, path: String, bytes: Secret<Vec<u8>>) {
        self.files.insert(brick.to_owned(), CredentialsFile { form: Form::Plain, path, bytes });
    }

    /// Has something masked that is no secret of the site, for example a token.
    pub fn mask(&mut self, name: String, value: Secret<String>) {
        self.keys.push((name, value));
    }

    /// The file that a name's value was loaded from.
    pub fn file_of(&self, name: &str) -> Option<&CredentialsFile> {
        self.files.get(&self.values.get(name)?.brick)
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Secret<String>> {
        self.values.get(name).map(|loaded| &loaded.value)
    }

    /// The value of a name and where it came from.
    pub fn loaded(&self, name: &str) -> Option<&Loaded> {
        self.values.get(name)
    }

    /// Every name with its value, in alphabetical order.
    pub fn all_values(&self) -> impl Iterator<Item = (&str, &Secret<String>)> {
        self.values.iter().map(|(name, loaded)| (name.as_str(), &loaded.value))
    }

    /// The names and values that output must not show: all but those that stand in a declaration.
    pub fn masked_values(&self) -> impl Iterator<Item = (&str, &Secret<String>)> {
        self.values
            .iter()
            .filter(|(_, loaded)| !loaded.public)
            .map(|(name, loaded)| (name.as_str(), &loaded.value))
            .chain(self.keys.iter().map(|(name, value)| (name.as_str(), value)))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
