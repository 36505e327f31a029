//! Measures strata: beside other tools on real hosts, over distance, and with simulated hosts by
//! the thousand. Nothing here is part of the product.
//!
//! Every figure goes into one file of results; the tables and plots of `docs/performance.md` are
//! made from that file and from nothing else.

pub mod compare;
pub mod distance;
pub mod document;
pub mod grounds;
pub mod large;
pub mod plot;
pub mod program;
pub mod record;
pub mod scale;
pub mod sim;
pub mod sites;

/// What a measurement failed with: it is told to a person and nothing else is done about it.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The result of everything here.
pub type Outcome<T> = Result<T, Problem>;
