//! Secrets: the age store, the `.env` grammar, the [`Secret`] type, redaction and providers.

mod annotation;
mod change;
pub mod codes;
mod declaration;
mod document;
mod encodings;
mod files;
mod identity;
mod init;
mod lookup;
mod manifest;
mod name;
mod prompt;
mod redact;
mod rules;
mod secret;
mod store;

pub use change::{Change, Editing, LONGEST_INPUT, check_name, edit, set, value_of_input};
pub use declaration::{DIRECTORY as DECLARATIONS_DIRECTORY, Declaration, Declared, Origin};
pub use document::{Entry, EnvDocument, violation_diagnostic};
pub use init::{InitBrick, InitReport, State, init, states};
pub use lookup::{Loaded, Secrets};
pub use name::{is_brick_name, is_secret_name};
pub use prompt::read_hidden;
pub use redact::{Redactor, SharedRedactor, StreamRedactor};
pub use rules::{Alphabet, Excluded, Rules, SHORTEST_MASKED, Violation};
pub use secret::{REDACTED, Secret};
pub use store::{DIRECTORY, Form, Present, SecretStore};
