//! Secrets: the age store, the `.env` grammar, the [`Secret`] type, redaction and providers.

mod annotation;
pub mod codes;
mod declaration;
mod document;
mod encodings;
mod lookup;
mod name;
mod redact;
mod rules;
mod secret;

pub use declaration::{DIRECTORY as DECLARATIONS_DIRECTORY, Declaration, Declared, Origin};
pub use document::{Entry, EnvDocument, violation_diagnostic};
pub use lookup::{Loaded, Secrets};
pub use name::{is_brick_name, is_secret_name};
pub use redact::{Redactor, SharedRedactor, StreamRedactor};
pub use rules::{Alphabet, Excluded, Rules, SHORTEST_MASKED, Violation};
pub use secret::{REDACTED, Secret};
