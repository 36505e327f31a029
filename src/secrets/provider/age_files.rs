//! The default: files of the site, encrypted with age to their readers.

use super::Provider;
use crate::diag::Diagnostics;
use crate::secrets::declaration::Declared;
use crate::secrets::lookup::Secrets;
use crate::secrets::store::SecretStore;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of one site.
pub(super) struct AgeFiles<'a> {
    pub(super) root: PathBuf,
    pub(super) identity: &'a Path,
}

impl Provider for AgeFiles<'_> {
    fn load(
        &self,
        _declared: &Declared,
        _asked: &BTreeSet<String>,
    ) -> Result<(Secrets, Diagnostics), Diagnostics> {
        // A file is opened as a whole, so nothing is gained by leaving names out.
        SecretStore::open(&self.root, self.identity)?.load()
    }
}
