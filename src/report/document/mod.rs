//! Reports of runs as documents: one self-contained HTML page, JUnit for CI systems, metrics for
//! Prometheus, one JSON object. Pure: events become a [`Document`], a document becomes text. Nothing
//! here reads a clock or a file, so a report of a journal is always the same.

mod changes;
mod figures;
mod gather;
mod html;
mod junit;
mod model;
mod outage;
mod prometheus;
mod timeline;

pub use figures::{Past, PastFigure};
pub use html::{HtmlError, html};
pub use junit::{JunitError, junit};
pub use model::Document;
pub use prometheus::{Drifting, Figure, Metrics, Proof, prometheus};
