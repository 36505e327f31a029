//! Gates: the tests that a layer must pass before the next one may start (E7, KB-G3).
//!
//! Scenarios are code, their selection and bounds are data (`roles/<role>/gate.toml`). A gate is
//! green only when no test failed and none was left out; what cannot mean anything on this site is
//! computed to be n/a, never chosen.

mod baseline;
mod bounds;
mod check;
mod drift;
mod drill;
mod fault;
mod haproxy;
mod judge;
mod probe;
mod runner;
mod scenario;
mod speed;
mod waive;
mod writer;

pub use check::check;
pub use drift::{Looked, look};
pub use runner::{Context, Judged, has_tests, names_of, run};
pub use scenario::{SCENARIOS, ScenarioInfo};
pub use waive::{CONVERGED, standing};
