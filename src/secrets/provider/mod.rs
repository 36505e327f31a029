//! Where the values of a site's secrets come from.
//!
//! What secrets there are is declared in the site, whatever keeps their values. A provider gives the
//! values of names; everything behind it (rules, masking, templates) is the same for all.

mod age_files;
pub mod vault;

pub use vault::{Login, Vault};

use super::declaration::Declared;
use super::lookup::Secrets;
use crate::diag::Diagnostics;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The environment's variable that may hold the token for Vault. Programs that strata starts do not
/// get it.
pub const TOKEN_VARIABLE: &str = "VAULT_TOKEN";

/// What keeps the values of a site's secrets.
pub trait Provider {
    /// The values. `asked` are the names that the site's roles and settings ask for: a provider that
    /// reads names one by one reads no others, and says which of them have no value.
    ///
    /// # Errors
    /// Everything that keeps the values away; then none is given.
    fn load(
        &self,
        declared: &Declared,
        asked: &BTreeSet<String>,
    ) -> Result<(Secrets, Diagnostics), Diagnostics>;
}

/// The provider of a site, with what it needs.
#[derive(Debug, Clone)]
pub enum Source {
    /// The encrypted files below `credentials/`.
    AgeFiles {
        /// The identity that opens them.
        identity: PathBuf,
    },
    /// A server that speaks the interface of HashiCorp Vault.
    Vault(Box<Vault>),
}

impl Source {
    /// The provider for the site at `root`.
    pub fn provider(&self, root: &Path) -> Box<dyn Provider + '_> {
        match self {
            Self::AgeFiles { identity } => {
                Box::new(age_files::AgeFiles { root: root.to_owned(), identity })
            }
            Self::Vault(vault) => Box::new(&**vault),
        }
    }
}
