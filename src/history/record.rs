//! Records of gates: which layer was proved, when, against which digest.
//!
//! A record carries an HMAC under a key that only this site has, so that an edited or copied
//! record does not count (E7).

use crate::event::{GateVerdict, TestKind, Waiving};
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One gate's verdict for one kind of tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRecord {
    /// The layer.
    pub layer: String,
    /// The kind of tests.
    pub kind: TestKind,
    /// The verdict.
    pub verdict: GateVerdict,
    /// The digest of what the layer reads.
    pub digest: String,
    /// The hosts that were looked at.
    pub hosts: Vec<String>,
    /// The layer's hosts that were out of service: an older proof of them counts no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub out: Vec<String>,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// The run.
    pub run: String,
    /// The tests that were red and waived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<RecordedWaiver>,
}

/// A red test that counted as borne.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedWaiver {
    /// The test.
    pub test: String,
    /// The last day on which it is borne, as `2026-12-31`, in UTC.
    pub until: String,
    /// The waivers.
    pub waivers: Vec<Waiving>,
}

/// What a record is held against.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The layer's digest as it is now.
    pub digest: &'a str,
    /// The hosts that must have been looked at.
    pub hosts: &'a [String],
    /// The site's waivers that have not ended.
    pub waivers: &'a [Waiving],
    /// Milliseconds since the epoch.
    pub now_ms: u64,
    /// Days after which a proof is too old.
    pub max_age_days: u32,
}

/// What a record is worth now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// Never proved.
    Missing,
    /// Green, for the layer as it is now.
    Green(GateRecord),
    /// Red.
    Red(GateRecord),
    /// Was green; the text says why it does not count any more.
    Stale(GateRecord, String),
    /// Not written by this site, or changed since.
    Forged(String),
}

#[derive(Serialize, Deserialize)]
struct Signed<T> {
    record: T,
    hmac: String,
}

/// What a signed file holds.
pub(super) enum Stored<T> {
    /// There is none.
    Missing,
    /// Not written by this site, or changed since.
    Forged,
    /// As it was written.
    Genuine(T),
}

/// The records of a site.
#[derive(Debug, Clone)]
pub struct Records {
    folder: PathBuf,
    key: Vec<u8>,
}

impl Records {
    /// Opens the records below `.strata/`; the key is made when there is none.
    ///
    /// # Errors
    /// When the key cannot be read or made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let path = state.join("record.key");
        let key = match std::fs::read(&path) {
            Ok(key) if key.len() == 32 => key,
            Ok(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "record.key is damaged"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = vec![0_u8; 32];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                file.write_all(&key)?;
                file.sync_all()?;
                key
            }
            Err(error) => return Err(error),
        };
        Ok(Self { folder: state.join("gates"), key })
    }

    /// Writes a record in place of the last one of its layer and kind. A green one of a part of the
    /// hosts joins a green one of the same digest, and never hides a red one of other hosts.
    ///
    /// # Errors
    /// When the disk does not take it; the last record then still stands.
    pub fn write(&self, record: &GateRecord) -> io::Result<()> {
        let path = self.path(&record.layer, record.kind);
        let last = match self.stored(&path) {
            Ok(Stored::Genuine(last)) => Some(last),
            _ => None,
        };
        self.store(&path, &joined(record, last))
    }

    /// What the last record of a layer and kind is worth now.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn state(&self, layer: &str, kind: TestKind, terms: Terms<'_>) -> io::Result<RecordState> {
        Ok(match self.stored(&self.path(layer, kind))? {
            Stored::Missing => RecordState::Missing,
            Stored::Forged => {
                RecordState::Forged("the record was changed, copied or damaged".to_owned())
            }
            Stored::Genuine(record) => worth(record, terms),
        })
    }

    /// Writes something with its signature.
    pub(super) fn store<T: Serialize>(&self, path: &Path, content: &T) -> io::Result<()> {
        let signed = Signed { hmac: self.sign(content)?, record: content };
        let temporary = path.with_extension("new");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&signed)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(&self.folder)?.sync_all()
    }

    /// Reads what [`Self::store`] wrote.
    pub(super) fn stored<T: Serialize + DeserializeOwned>(
        &self,
        path: &Path,
    ) -> io::Result<Stored<T>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Missing),
            Err(error) => return Err(error),
        };
        let Ok(Signed { record, hmac }) = serde_json::from_slice(&bytes) else {
            return Ok(Stored::Forged);
        };
        Ok(if self.sign(&record)? == hmac { Stored::Genuine(record) } else { Stored::Forged })
    }

    /// Where records are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn sign<T: Serialize>(&self, content: &T) -> io::Result<String> {
        self.keyed_digest(&serde_json::to_vec(content)?)
    }

    /// A digest that nobody can make, or try values against, without this site's key.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn keyed_digest(&self, content: &[u8]) -> io::Result<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(io::Error::other)?;
        mac.update(content);
        Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn path(&self, layer: &str, kind: TestKind) -> PathBuf {
        self.folder.join(format!("{layer}.{}.json", kind.word()))
    }
}

/// A new record together with what the last one says of other hosts.
fn joined(new: &GateRecord, last: Option<GateRecord>) -> GateRecord {
    let mut record = new.clone();
    let Some(last) = last.filter(|last| last.digest == new.digest) else { return record };
    let still = |host: &&String| !new.hosts.contains(host) && !new.out.contains(host);
    let others: Vec<String> = last.hosts.iter().filter(still).cloned().collect();
    if others.is_empty() {
        return record;
    }
    if !last.verdict.is_green() && new.verdict.is_green() {
        // Nothing tells which of its hosts made the last one red.
        record.verdict = last.verdict;
    } else if new.verdict == GateVerdict::Green && !last.waived.is_empty() {
        record.verdict = GateVerdict::GreenWithWaivers;
    }
    record.waived.extend(last.waived);
    record.hosts.extend(others);
    record.at_ms = record.at_ms.min(last.at_ms);
    record
}

/// What a genuine record is worth.
fn worth(record: GateRecord, terms: Terms<'_>) -> RecordState {
    let Terms { digest, hosts, waivers, now_ms, max_age_days } = terms;
    if !record.verdict.is_green() {
        return RecordState::Red(record);
    }
    let today = day_of(now_ms);
    if let Some(over) = record.waived.iter().find(|waived| waived.until < today) {
        let why = format!("the waiver of its red test {} ended on {}", over.test, over.until);
        return RecordState::Stale(record, why);
    }
    let gone = |waived: &&RecordedWaiver| !waived.waivers.iter().all(|one| stands(one, waivers));
    if let Some(gone) = record.waived.iter().find(gone) {
        let why = format!("a waiver of its red test {} is gone or was changed", gone.test);
        return RecordState::Stale(record, why);
    }
    if record.digest != digest {
        return RecordState::Stale(record, "the layer's files have changed since".to_owned());
    }
    let missing = hosts.iter().filter(|host| !record.hosts.contains(host)).count();
    if missing > 0 {
        let why = format!("{missing} of {} hosts were not looked at", hosts.len());
        return RecordState::Stale(record, why);
    }
    let age_days = now_ms.saturating_sub(record.at_ms) / 86_400_000;
    if age_days > u64::from(max_age_days) {
        return RecordState::Stale(record, format!("it is {age_days} days old"));
    }
    RecordState::Green(record)
}

/// True while a recorded waiver is one of the site's, word for word. What an old record does not say
/// is not compared.
fn stands(recorded: &Waiving, waivers: &[Waiving]) -> bool {
    let comparable = |of_site: &Waiving| match recorded.covers.is_empty() {
        true => Waiving { covers: String::new(), ..of_site.clone() },
        false => of_site.clone(),
    };
    waivers.iter().any(|of_site| comparable(of_site) == *recorded)
}

/// The day of a moment in UTC, as `2026-12-31`.
fn day_of(at_ms: u64) -> String {
    i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "9999-12-31".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> GateRecord {
        GateRecord {
            layer: "base".into(),
            kind: TestKind::Diag,
            verdict: GateVerdict::Green,
            digest: "d".into(),
            hosts: vec!["h".into()],
            out: Vec::new(),
            at_ms: 1_000,
            run: "r".into(),
            waived: Vec::new(),
        }
    }

    fn terms<'a>(digest: &'a str, hosts: &'a [String], now_ms: u64) -> Terms<'a> {
        Terms { digest, hosts, waivers: &[], now_ms, max_age_days: 30 }
    }

    fn waiving(covers: &str, until: &str) -> Waiving {
        let until = until.to_owned();
        Waiving { covers: covers.into(), reason: "r".into(), until, by: "b".into() }
    }

    /// A record that is green with these waivers of its test `clock`.
    fn waived(waivers: &[Waiving]) -> GateRecord {
        let of = |waiver: &Waiving| {
            let (until, waivers) = (waiver.until.clone(), vec![waiver.clone()]);
            RecordedWaiver { test: "clock".into(), until, waivers }
        };
        let waived = waivers.iter().map(of).collect();
        GateRecord { verdict: GateVerdict::GreenWithWaivers, waived, ..record() }
    }

    #[test]
    fn green_with_waivers_counts_until_the_first_one_ends_and_never_hides_itself() {
        let day = |day: u64| day * 86_400_000;
        let waivers = [waiving("test clock", "1970-01-05"), waiving("host h", "1970-01-03")];
        let with = waived(&waivers);
        let hosts = ["h".to_owned()];
        let state =
            |now| worth(with.clone(), Terms { waivers: &waivers, ..terms("d", &hosts, now) });
        assert!(matches!(state(day(2)), RecordState::Green(_)));
        assert!(matches!(state(day(3)), RecordState::Stale(_, why) if why.contains("ended on")));
        let other = GateRecord { hosts: vec!["i".into()], ..record() };
        let both = joined(&other, Some(with));
        assert_eq!((both.verdict, both.waived.len()), (GateVerdict::GreenWithWaivers, 2));
        // A record without waivers reads as before, so that its signature holds.
        assert!(!serde_json::to_string(&record()).unwrap().contains("waived"));
    }

    #[test]
    fn a_waiver_that_is_taken_back_or_changed_takes_the_record_with_it() {
        let (clock, host) = (waiving("test clock", "1970-01-05"), waiving("host h", "1970-01-05"));
        let hosts = ["h".to_owned()];
        let green = |record: &GateRecord, site: &[Waiving]| {
            let terms = Terms { waivers: site, ..terms("d", &hosts, 1_000) };
            match worth(record.clone(), terms) {
                RecordState::Green(_) => true,
                RecordState::Stale(_, why) => {
                    assert!(why.contains("red test clock is gone or was changed"), "{why}");
                    false
                }
                other => panic!("{other:?}"),
            }
        };
        let both = waived(&[clock.clone(), host.clone()]);
        assert!(green(&both, &[host.clone(), waiving("test other", "1970-01-09"), clock.clone()]));
        assert!(!green(&both, std::slice::from_ref(&clock)));
        assert!(!green(&both, &[]));
        for changed in [
            Waiving { until: "1970-01-06".into(), ..clock.clone() },
            Waiving { reason: "another".into(), ..clock.clone() },
            Waiving { by: "another".into(), ..clock.clone() },
            Waiving { covers: "test clock, host h".into(), ..clock.clone() },
        ] {
            assert!(!green(&waived(std::slice::from_ref(&clock)), &[changed]));
        }
        // What a record of before does not say is not compared; the rest is.
        let old = waived(&[Waiving { covers: String::new(), ..clock.clone() }]);
        assert!(!serde_json::to_string(&old).unwrap().contains("covers"));
        assert!(green(&old, &[clock]));
        assert!(!green(&old, &[Waiving { by: "another".into(), ..host }]));
        // Nothing was waived: the site's waivers are of no account.
        assert!(green(&record(), &[]));
    }

    #[test]
    fn a_record_counts_only_as_written_and_for_what_it_proved() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("gates")).unwrap();
        let records = Records::open(folder.path()).unwrap();
        let hosts = ["h".to_owned()];
        let state = |digest: &str, now| {
            records.state("base", TestKind::Diag, terms(digest, &hosts, now)).unwrap()
        };
        assert_eq!(state("d", 2_000), RecordState::Missing);
        records.write(&record()).unwrap();
        assert_eq!(state("d", 2_000), RecordState::Green(record()));
        assert!(matches!(state("other", 2_000), RecordState::Stale(..)));
        assert!(matches!(state("d", 40 * 86_400_000), RecordState::Stale(..)));
        let path = folder.path().join("gates/base.diag.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"d\"", "\"e\"")).unwrap();
        assert!(matches!(state("e", 2_000), RecordState::Forged(_)));
    }

    #[test]
    fn a_part_of_the_hosts_is_not_the_layer() {
        let both = ["h".to_owned(), "i".to_owned()];
        assert!(matches!(worth(record(), terms("d", &both, 2_000)), RecordState::Stale(..)));
        let other = GateRecord { hosts: vec!["i".into()], at_ms: 5_000, ..record() };
        let union = joined(&other, Some(record()));
        assert_eq!((union.hosts.len(), union.at_ms), (2, 1_000));
        assert!(matches!(worth(union, terms("d", &both, 6_000)), RecordState::Green(_)));
        let red = GateRecord { verdict: GateVerdict::Red, ..record() };
        assert_eq!(joined(&other, Some(red)).verdict, GateVerdict::Red);
        let changed = GateRecord { digest: "e".into(), ..other };
        assert_eq!(joined(&changed, Some(record())).hosts.len(), 1);
    }

    #[test]
    fn a_host_that_was_out_of_service_is_proved_anew() {
        let both = ["h".to_owned(), "i".to_owned()];
        let whole = GateRecord { hosts: both.to_vec(), ..record() };
        let without = GateRecord { out: vec!["i".into()], at_ms: 5_000, ..record() };
        let kept = joined(&without, Some(whole));
        assert_eq!(kept.hosts, ["h"]);
        assert!(matches!(
            worth(kept.clone(), terms("d", &both[..1], 6_000)),
            RecordState::Green(_)
        ));
        assert!(matches!(worth(kept.clone(), terms("d", &both, 6_000)), RecordState::Stale(..)));
        // Back in service and looked at by itself.
        let back = GateRecord { hosts: vec!["i".into()], at_ms: 7_000, ..record() };
        let whole = joined(&back, Some(kept));
        assert!(matches!(worth(whole, terms("d", &both, 8_000)), RecordState::Green(_)));
    }

    #[test]
    fn red_is_red_whatever_its_digest() {
        let red = GateRecord { verdict: GateVerdict::Red, ..record() };
        assert!(matches!(worth(red, terms("x", &[], 0)), RecordState::Red(_)));
    }
}
