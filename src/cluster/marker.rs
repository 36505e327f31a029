//! Markers: what proves that a cluster was formed, beside its data and on the operator host (E2).

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Version of both files.
const FORMAT: u32 = 1;

/// What stands beside each member's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster: the name of its role.
    pub cluster: String,
    /// The driver that formed it.
    pub driver: String,
    /// Made at the formation and never changed: two clusters never share it.
    pub id: String,
    /// When, milliseconds since the epoch.
    pub created_ms: u64,
}

/// What stands on the operator host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What stands beside the data.
    #[serde(flatten)]
    pub marker: Marker,
    /// How far the formation is.
    pub formation: Formation,
    /// The member that the formation began with.
    pub leader: Ipv4Addr,
    /// The members' hosts at the formation.
    pub members: Vec<String>,
}

impl Record {
    /// What writing it down means, as the action of a run.
    pub const fn action(&self) -> &'static str {
        match self.formation {
            Formation::Begun => "write down that the formation begins",
            Formation::Complete => "write down that the cluster is formed",
        }
    }
}

/// How far a formation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Formation {
    /// It began; every later run goes on with the same leader.
    Begun,
    /// It ended; there will never be another.
    Complete,
}

impl Marker {
    /// The marker of a cluster that is formed now.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(cluster: &str, driver: &str, now_ms: u64) -> Result<Self, String> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
        Ok(Self {
            format: FORMAT,
            cluster: cluster.to_owned(),
            driver: driver.to_owned(),
            id: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            created_ms: now_ms,
        })
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it: a marker that cannot be read proves nothing, in neither direction.
    pub fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// Where the marker stands on a member's host: beside the data, so that emptying the data
/// directory leaves it.
pub fn marker_path(data: &str) -> String {
    let parent = Path::new(data).parent().unwrap_or(Path::new("/"));
    parent.join(".strata-cluster").to_string_lossy().into_owned()
}

/// The records on the operator host, one file a cluster.
#[derive(Debug, Clone)]
pub struct Records(PathBuf);

impl Records {
    /// The records of the site in `root`.
    pub fn new(root: &Path) -> Self {
        Self(root.join("state"))
    }

    /// The record's file.
    pub fn path(&self, cluster: &str) -> PathBuf {
        self.0.join(format!("{cluster}.json"))
    }

    /// The record of a cluster; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read: then nothing is known, and nothing may be formed.
    pub fn read(&self, cluster: &str) -> Result<Option<Record>, String> {
        let path = self.path(cluster);
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| said(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(said(&error)),
        }
    }

    /// Writes a record: the old one or the whole new one is there, never less.
    ///
    /// # Errors
    /// When it cannot be kept; nothing may then be formed.
    pub fn write(&self, record: &Record) -> Result<(), String> {
        let path = self.path(&record.marker.cluster);
        self.replace(&path, record).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn replace(&self, path: &Path, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let new = path.with_extension("json.new");
        let mut file = File::create(&new)?;
        let text = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path());
        assert_eq!(records.read("redis"), Ok(None));
        let record = Record {
            marker: Marker::new("redis", "redis-sentinel", 7).unwrap(),
            formation: Formation::Begun,
            leader: Ipv4Addr::new(10, 0, 0, 1),
            members: vec!["redis-01".to_owned()],
        };
        records.write(&record).unwrap();
        assert_eq!(records.read("redis"), Ok(Some(record.clone())));
        assert_eq!(Marker::read(&record.marker.text()), Ok(record.marker));
        fs::write(records.path("redis"), "half a fi").unwrap();
        assert!(records.read("redis").is_err(), "a damaged record is not an absent one");
    }

    #[test]
    fn the_marker_outlives_the_data() {
        assert_eq!(marker_path("/opt/x/redis/data"), "/opt/x/redis/.strata-cluster");
    }
}
