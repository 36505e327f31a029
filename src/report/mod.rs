//! Consumers of a run's events that people or programs read: plain lines, a progress display on a
//! terminal, JSON lines, and documents about whole runs. Nothing else in the library prints.

mod audited;
mod beside;
mod document;
mod json;
mod line;
mod notice;
mod plain;
mod planned;
mod progress;
mod style;
mod summary;

pub use beside::Lines;
pub use document::{
    Document, Drifting, Figure, HtmlError, JunitError, Metrics, Past, PastFigure, Proof, html,
    junit, prometheus,
};
pub use json::Json;
pub use notice::{Cause, Notice};
pub use plain::Plain;
pub use planned::{Collected, Gathered, Planned, difference};
pub use progress::Progress;
pub use style::{Palette, bytes, duration, moment, plural};
pub use summary::Summary;
