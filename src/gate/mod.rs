//! Gates: the tests that a layer must pass before the next one may start (E7, KB-G3).
//!
//! Scenarios are code, their selection and bounds are data (`roles/<role>/gate.toml`). A gate is
//! green only when no test failed and none was left out; what cannot mean anything on this site is
//! computed to be n/a, never chosen.

mod bounds;
mod fault;
mod probe;
mod runner;
mod scenario;
mod writer;

pub use runner::{Context, check, has_tests, run};
pub use scenario::{SCENARIOS, ScenarioInfo};
