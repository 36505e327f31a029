//! Consumers of a run's events that people or programs read: plain lines, a progress display on a
//! terminal, JSON lines. Nothing else in the library prints.

mod audited;
mod beside;
mod json;
mod line;
mod notice;
mod plain;
mod planned;
mod progress;
mod style;
mod summary;

pub use beside::Lines;
pub use json::Json;
pub use notice::{Cause, Notice};
pub use plain::Plain;
pub use planned::{Collected, Gathered, Planned, difference};
pub use progress::Progress;
pub use style::{Palette, bytes, duration, moment, plural};
pub use summary::Summary;
