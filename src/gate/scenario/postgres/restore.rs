//! The newest backup, restored: what would be lost, and how long it takes.
//!
//! Writes go on through the clients' path until two segments of WAL were archived. Then the disaster
//! is taken to happen: nothing that is not in the repository counts any more. A scratch server on
//! the repository's host is made of the newest backup and all archived WAL, and asked what it has.
//! The service itself is not touched.

use super::judge::primary;
use super::names::Cluster;
use super::seen::look;
use crate::event::Measurement;
use crate::gate::drill::{Host, Technology as _};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::Writer;
use crate::gate::writer::journal::{Journal, Outcome, Write, key, value};
use crate::postgres_client::Client;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What may be lost, and how long a restore may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Seconds of acknowledged writes that may be lost (KG-2). Default: 300.
    #[serde(default = "default_rpo")]
    max_rpo: u64,
    /// Seconds until the restored server answers (KG-2). Default: 3600.
    #[serde(default = "default_rto")]
    max_rto: u64,
}

fn default_rpo() -> u64 {
    300
}

fn default_rto() -> u64 {
    3600
}

/// The role of the repository's host.
const ROLE: &str = "pgbackrest-repository";

/// What restores there.
const REHEARSE: &str = "/usr/local/bin/pgbackrest-rehearse";

/// Whose figures these are.
const SUBJECT: &str = "backup";

/// Restores the newest backup into a scratch server.
pub async fn restore(surroundings: Surroundings<'_>, bounds: Restore) -> Finding {
    let cluster = match Cluster::of(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let repository = match cluster.place.hosts_of(ROLE) {
        Ok(hosts) => hosts.into_iter().next(),
        Err(why) => return Finding::not_run(why),
    };
    let Some(repository) = repository else {
        return Finding::not_run(format!("the layer places the role {ROLE} nowhere"));
    };
    if let Err(why) = cluster.prepare().await {
        return Finding::not_run(format!("its writes cannot begin: {why}"));
    }
    let mut figures = Vec::new();
    let mut wrong = Vec::new();
    let tried = tried(&cluster, &repository, &bounds, &mut wrong, &mut figures).await;
    wrong.extend(tried.err());
    let gone = probe::output(&repository.session, &[REHEARSE, "stop"]).await;
    wrong.extend(gone.err().map(|why| format!("the scratch server is left: {why}")));
    let clean = cluster.clean().await;
    wrong.extend(clean.err().map(|why| format!("what the test wrote is left: {why}")));
    let expected = format!(
        "all but the last {} s of acknowledged writes, within {} s",
        bounds.max_rpo, bounds.max_rto
    );
    Finding { measured: figures, ..Finding::of(expected, wrong) }
}

async fn tried(
    cluster: &Cluster<'_>,
    repository: &Host,
    bounds: &Restore,
    wrong: &mut Vec<String>,
    figures: &mut Vec<Measurement>,
) -> Result<(), String> {
    let mut figure =
        |name: &str, value: f64, unit| figures.push(Measurement::new(SUBJECT, name, value, unit));
    let (table, allowed) = (cluster.tables().writes, Duration::from_secs(bounds.max_rpo));
    let members = look(cluster).await;
    let leader = &primary(&members)?.name;
    let leader = cluster.place.member(leader).ok_or("the primary is no member")?;
    let server = cluster.server(leader).await?;

    let writer = Writer::start(cluster.clients());
    probe::wait_until(allowed, || async { writer.acked_since(Duration::ZERO).map(drop) }).await?;
    let first = archived(&server, &last(&server).await?, allowed).await?;
    let began = Instant::now();
    archived(&server, &first, allowed).await?;
    let gap = began.elapsed();
    let (journal, disaster) = writer.finish().await;
    figure("longest time between archived segments", gap.as_secs_f64(), "s");

    let began = Instant::now();
    let within = Duration::from_secs(bounds.max_rto);
    probe::output_within(&repository.session, &[REHEARSE, "start"], within).await?;
    let query = format!("SELECT id, value FROM {table}");
    let ask = [REHEARSE, "ask", &cluster.database, &query];
    let rows = probe::output_within(&repository.session, &ask, within).await?;
    let took = began.elapsed();
    figure("restored and asked after (RTO)", took.as_secs_f64(), "s");
    if took > within {
        wrong.push(format!("restored after {:.0} s", took.as_secs_f64()));
    }

    let found = recovered(&journal, &table, &rows);
    figure("acknowledged", found.acknowledged as f64, "writes");
    figure("restored", found.restored as f64, "writes");
    figure("acknowledged and not restored", found.missing as f64, "writes");
    figure("of these older than a restored one", found.holes as f64, "writes");
    let Some(point) = found.point else {
        return Err("no write of the test was restored".to_owned());
    };
    let lost = disaster.saturating_sub(point).max(gap);
    figure("what a disaster may cost (RPO)", lost.as_secs_f64(), "s");
    if lost > allowed {
        wrong.push(format!("the last {:.0} s are lost", lost.as_secs_f64()));
    }
    if found.holes > 0 {
        wrong.push(format!("{} writes are missing between restored ones", found.holes));
    }
    if found.phantoms > 0 {
        wrong.push(format!("{} rows were restored that nobody wrote", found.phantoms));
    }
    Ok(())
}

/// The segment that was archived last; empty where none was yet.
async fn last(server: &Client) -> Result<String, String> {
    let statement = "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver";
    let found = server.value("what was archived", statement).await;
    Ok(found.map_err(|error| error.to_string())?.unwrap_or_default())
}

/// Waits until another segment than `before` was archived.
async fn archived(server: &Client, before: &str, within: Duration) -> Result<String, String> {
    probe::wait_until(within, || async {
        let now = last(server).await?;
        if now == before { Err(format!("no WAL is archived after {now}")) } else { Ok(now) }
    })
    .await
}

/// What a restored server has of a writer's work.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recovered {
    acknowledged: u64,
    restored: usize,
    /// Acknowledged and not restored.
    missing: usize,
    /// Of these, acknowledged before a write that was restored was sent: no disaster takes them.
    holes: usize,
    /// Restored, and never written like that.
    phantoms: usize,
    /// When the newest of the restored ones was acknowledged, on the writer's clock.
    point: Option<Duration>,
}

/// Holds the rows, an id and a value each, against what was written.
fn recovered(journal: &Journal, prefix: &str, rows: &str) -> Recovered {
    let rows: BTreeMap<String, String> = rows
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(id, value)| Some((key(prefix, id.parse().ok()?), value.to_owned())))
        .collect();
    let account = journal.account(prefix, &rows, Duration::ZERO);
    let there = |write: &&Write| rows.get(&key(prefix, write.id)) == Some(&value(prefix, write.id));
    let acked = |write: &&Write| matches!(write.outcome, Outcome::Acked(_));
    let newest = journal.writes.iter().filter(there).map(|write| write.sent).max();
    let older = |write: &&Write| {
        account.lost.contains(&write.id) && newest.is_some_and(|newest| write.ended < newest)
    };
    Recovered {
        acknowledged: account.acked,
        restored: rows.len() - account.phantoms.len(),
        missing: account.lost.len(),
        holes: journal.writes.iter().filter(older).count(),
        phantoms: account.phantoms.len(),
        point: journal.writes.iter().filter(acked).filter(there).map(|write| write.ended).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "public.\"t\"";

    fn journal(outcomes: &[Outcome]) -> Journal {
        let ms = Duration::from_millis;
        let write = |(id, outcome): (u64, &Outcome)| Write {
            id,
            sent: ms(id * 20),
            ended: ms(id * 20 + 5),
            outcome: outcome.clone(),
        };
        Journal { writes: (0..).zip(outcomes).map(write).collect(), ..Journal::default() }
    }

    fn rows(ids: &[u64]) -> String {
        ids.iter().map(|id| format!("{id}\t{}\n", value(TABLE, *id))).collect()
    }

    #[test]
    fn the_end_may_be_missing_and_nothing_before_it() {
        let unknown = Outcome::Unknown("lost".to_owned());
        let journal = journal(&[
            Outcome::Acked(0),
            Outcome::Acked(0),
            unknown,
            Outcome::Acked(0),
            Outcome::Acked(0),
        ]);
        let whole = recovered(&journal, TABLE, &rows(&[0, 1, 2, 3]));
        assert_eq!((whole.acknowledged, whole.restored, whole.missing), (4, 4, 1));
        assert_eq!((whole.holes, whole.phantoms), (0, 0));
        assert_eq!(whole.point, Some(Duration::from_millis(65)));
        let hole = recovered(&journal, TABLE, &rows(&[0, 3]));
        assert_eq!((hole.missing, hole.holes), (2, 1));
        assert_eq!(recovered(&journal, TABLE, "").point, None);
    }

    #[test]
    fn rows_that_nobody_wrote_are_counted() {
        let journal = journal(&[Outcome::Acked(0)]);
        let found = recovered(&journal, TABLE, &format!("{}7\tx\n0\tother\n", rows(&[])));
        assert_eq!((found.phantoms, found.missing), (2, 1));
    }
}
