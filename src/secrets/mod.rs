//! Secrets: the age store, the `.env` grammar, the [`Secret`] type, redaction and providers.
//!
//! Nothing here prints a value, and no diagnostic holds one: parsers build their excerpts from a
//! masked copy of the text. Clear values live in [`Secret`] only.

#![expect(
    clippy::result_large_err,
    reason = "a diagnostic is built once and ends the command; boxing it would buy nothing"
)]

mod annotation;
mod change;
mod check;
pub mod codes;
mod declaration;
mod diff;
mod directory;
mod document;
mod encodings;
mod exchange;
mod files;
mod identity;
mod init;
mod lookup;
mod manifest;
mod name;
mod prompt;
pub mod provider;
mod readers;
mod redact;
mod rekey;
mod rotate;
mod rules;
mod sealed;
mod secret;
mod stale;
mod store;
mod unlock;

pub use change::{Change, Editing, LONGEST_INPUT, check_name, edit, set, value_of_input};
pub use check::{CheckReport, check, fails};
pub use declaration::{DIRECTORY as DECLARATIONS_DIRECTORY, Declaration, Declared, Origin};
pub use diff::{Became, Differences, diff};
pub use directory::{DIRECTORY, Form, Present};
pub use document::{Entry, EnvDocument, violation_diagnostic};
#[cfg(debug_assertions)]
pub use files::dies_after;
pub use init::{InitBrick, InitReport, State, init, states};
pub use lookup::{CredentialsFile, Loaded, Secrets};
pub use name::{is_brick_name, is_secret_name};
pub use prompt::read_hidden;
pub use redact::{Redactor, SharedRedactor, StreamRedactor};
pub use rekey::{NewSet, RekeyReport, rekey};
pub use rotate::{finish, previous_of, rotate};
pub use rules::{Alphabet, Excluded, Rules, SHORTEST_MASKED, Violation};
pub use sealed::{Opener, SealTo, wants_passphrase};
pub use secret::{REDACTED, Secret};
pub use store::SecretStore;
