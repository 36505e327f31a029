//! Baselines: what a site measured when a test was green for the first time (X17). They stand
//! beside the records of gates and are signed like them, so that an edited one does not count.

use super::record::{Records, Stored};
use crate::event::Measurement;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// A figure that later runs are compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The test.
    pub test: String,
    /// What was measured.
    #[serde(flatten)]
    pub measurement: Measurement,
    /// What else the figure depends on.
    pub conditions: String,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// The run.
    pub run: String,
}

impl Baseline {
    /// Whether this is the baseline of a figure, as far as both were measured in the same way.
    pub fn is_of(&self, test: &str, figure: &Measurement) -> bool {
        let own = &self.measurement;
        self.test == test
            && own.subject == figure.subject
            && own.name == figure.name
            && own.unit == figure.unit
    }
}

impl Records {
    /// The baselines of a layer; none before its first green run.
    ///
    /// # Errors
    /// When they cannot be read, or were not written by this site; the text names the file.
    pub fn baselines(&self, layer: &str) -> io::Result<Vec<Baseline>> {
        let path = self.baseline_path(layer);
        match self.stored(&path)? {
            Stored::Missing => Ok(Vec::new()),
            Stored::Genuine(baselines) => Ok(baselines),
            Stored::Forged => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} was not written by this site or was edited; remove it, and the next green run records anew",
                    path.display()
                ),
            )),
        }
    }

    /// Adds baselines; one of the same figure, measured in another way, is replaced.
    ///
    /// # Errors
    /// When they cannot be read or written; the last ones then still stand.
    pub fn add_baselines(&self, layer: &str, new: Vec<Baseline>) -> io::Result<()> {
        let mut all = self.baselines(layer)?;
        all.retain(|old| !new.iter().any(|one| one.is_of(&old.test, &old.measurement)));
        all.extend(new);
        self.store(&self.baseline_path(layer), &all)
    }

    fn baseline_path(&self, layer: &str) -> PathBuf {
        self.folder().join(format!("{layer}.baseline.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(subject: &str, value: f64) -> Baseline {
        Baseline {
            test: "t".into(),
            measurement: Measurement {
                subject: subject.into(),
                name: "n".into(),
                value,
                unit: "ms".into(),
            },
            conditions: "c".into(),
            at_ms: 1,
            run: "r".into(),
        }
    }

    #[test]
    fn baselines_add_up_and_an_edited_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("gates")).unwrap();
        let records = Records::open(folder.path()).unwrap();
        assert_eq!(records.baselines("base").unwrap(), []);
        records.add_baselines("base", vec![baseline("a", 1.5)]).unwrap();
        records.add_baselines("base", vec![baseline("b", 2.5), baseline("a", 3.5)]).unwrap();
        let all = records.baselines("base").unwrap();
        assert_eq!(all, [baseline("b", 2.5), baseline("a", 3.5)]);
        let path = folder.path().join("gates/base.baseline.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("3.5", "0.5")).unwrap();
        let error = records.baselines("base").unwrap_err().to_string();
        assert!(error.contains("base.baseline.json was not written by this site"), "{error}");
        assert!(records.add_baselines("base", vec![baseline("c", 1.0)]).is_err());
    }
}
