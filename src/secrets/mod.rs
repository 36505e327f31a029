//! Secrets: the age store, the `.env` grammar, the [`Secret`] type, redaction and providers.

mod secret;

pub use secret::{REDACTED, Secret};
