//! A small typed client of PostgreSQL, over any byte stream.
//!
//! Every call has a deadline. What a server refuses is a typed [`Error`] with its SQLSTATE, since
//! what a refusal means decides: a wrong password is no outage, a standby's "read-only" is no lost
//! write. Texts of errors hold what the server says, never a statement or a value of it. It knows
//! nothing else of strata and keeps no secret.

mod client;
mod error;
mod words;

pub use client::{Client, Login, TextRow};
pub use error::{Error, state};
pub use tokio_postgres::types::{ToSql, Type};
pub use tokio_postgres::{Row, Statement};
pub use words::{identifier, literal, scram_verifier};
