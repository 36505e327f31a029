//! Bounded load on PostgreSQL: directly, through HAProxy and through PgBouncer, and a storm of
//! clients on PgBouncer.
//!
//! The load is dialled by strata itself, not relayed by an agent: what is measured is the service.

use super::judge::primary;
use super::names::{APPLICATION, Cluster};
use super::seen::look;
use crate::event::Measurement;
use crate::gate::drill::Host;
use crate::gate::judge::Judge;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::speed::{Speed, Work, costs_too_much, figures, hammer, is_here};
use crate::postgres_client::{Client, Login, identifier};
use futures::future::{join_all, try_join_all};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The load and its bounds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Connections that work at the same time. Default: 16.
    #[serde(default = "default_clients")]
    clients: u16,
    /// Seconds for each statement and way. Default: 5.
    #[serde(default = "default_seconds")]
    seconds: u64,
    /// Clients of the storm on PgBouncer. Default: 500.
    #[serde(default = "default_storm")]
    storm: u16,
    /// Connections to PostgreSQL that the storm may take: PgBouncer's pool (PV-6). Default: 50.
    #[serde(default = "default_pool")]
    max_backends: u64,
    /// Bytes that a standby may be behind during the load. Default: 16777216.
    #[serde(default = "default_lag")]
    max_lag: u64,
    /// Seconds until every standby has replayed all of it. Default: 10.
    #[serde(default = "default_settled")]
    settled_within: u64,
    /// Per cent of the direct throughput that the way through HAProxy may cost.
    max_overhead: Option<u32>,
    /// Per cent of the site's baseline that each figure must reach.
    baseline_percent: Option<u32>,
}

fn default_clients() -> u16 {
    16
}

fn default_seconds() -> u64 {
    5
}

fn default_storm() -> u16 {
    500
}

fn default_pool() -> u64 {
    50
}

fn default_lag() -> u64 {
    16 * 1024 * 1024
}

fn default_settled() -> u64 {
    10
}

/// How long a call of the load may take: a storm queues.
const PATIENCE: Duration = Duration::from_secs(60);

/// Transactions of each client of the storm.
const TRANSACTIONS: usize = 5;

/// Between two looks at the primary during load.
const LOOK: Duration = Duration::from_millis(500);

/// What the primary showed at worst during load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Peak {
    backends: u64,
    lag: u64,
}

/// A client with its statement.
struct Working {
    client: Client,
    statement: String,
}

impl Work for Working {
    async fn once(&self) -> Result<(), String> {
        let done = self.client.batch("a statement of the load", &self.statement).await;
        done.map_err(|error| error.to_string())
    }
}

/// Measures writes and reads by each way, then the storm.
pub async fn load(surroundings: Surroundings<'_>, bounds: Load) -> Finding {
    let cluster = match Cluster::of(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    if !is_here(&cluster.place.operator) {
        return Finding::not_run("load is dialled from the operator host: run strata there");
    }
    let members = look(&cluster).await;
    let leader = match primary(&members).map(|leader| cluster.place.member(&leader.name)) {
        Ok(Some(leader)) => leader.clone(),
        Ok(None) => return Finding::not_run("the primary is no member"),
        Err(why) => return Finding::not_run(why),
    };
    let server = match cluster.server(&leader).await {
        Ok(server) => server,
        Err(why) => return Finding::not_run(why),
    };
    let expected = format!(
        "{} clients at the site's baseline; {} clients of PgBouncer without an error on {} connections at most, standbys at most {} bytes behind",
        bounds.clients, bounds.storm, bounds.max_backends, bounds.max_lag
    );
    if let Err(why) = make(&cluster, &server, bounds.clients.max(bounds.storm)).await {
        return Finding::not_run(why);
    }
    let mut judge = Judge::new(&surroundings);
    let stopped = measured(&cluster, &leader, &server, &bounds, &mut judge).await;
    let gone = format!("DROP TABLE IF EXISTS {}", cluster.tables().writes);
    if let Err(error) = server.batch("the load's table", &gone).await {
        judge.wrong(format!("the load's table is left: {error}"));
    }
    match stopped {
        Ok(()) => judge.finish(&expected, bounds.baseline_percent),
        Err(why) => Finding::not_run(why),
    }
}

/// A row for each client.
async fn make(cluster: &Cluster<'_>, server: &Client, clients: u16) -> Result<(), String> {
    let (table, app) = (cluster.tables().writes, identifier(cluster.app.user.expose()));
    let statements = format!(
        "CREATE TABLE {table} (client int PRIMARY KEY, count bigint NOT NULL) WITH (fillfactor = 50); \
         INSERT INTO {table} SELECT n, 0 FROM generate_series(0, {clients}) n; \
         GRANT SELECT, UPDATE ON {table} TO {app}"
    );
    server.batch("the load's table", &statements).await.map_err(|error| error.to_string())
}

/// The ways that are measured: what each is called, its address and its port.
fn ways(cluster: &Cluster<'_>, leader: &Host) -> Vec<(String, Ipv4Addr, u16)> {
    let mut ways = vec![("direct".to_owned(), leader.address, cluster.port)];
    let proxies = cluster.place.proxies.iter();
    ways.extend(proxies.map(|proxy| (proxy.name.clone(), proxy.address, cluster.port)));
    let balancer = |port| cluster.place.balancer(port);
    ways.extend(balancer(cluster.port).map(|at| ("balancer".to_owned(), at, cluster.port)));
    ways.extend(pooler(cluster).map(|at| ("PgBouncer".to_owned(), at.0, at.1)));
    ways
}

/// Clients' way to PgBouncer, where there is one.
fn pooler(cluster: &Cluster<'_>) -> Option<(Ipv4Addr, u16)> {
    let port = cluster.pooler_port?;
    let proxy = cluster.place.proxies.first().map(|proxy| proxy.address);
    Some((cluster.place.balancer(port).or(proxy)?, port))
}

/// All measurements; an error when the operator stopped them.
async fn measured(
    cluster: &Cluster<'_>,
    leader: &Host,
    server: &Client,
    bounds: &Load,
    judge: &mut Judge<'_>,
) -> Result<(), String> {
    let stop = cluster.place.surroundings.stop;
    let mut peak = Peak::default();
    for word in ["writes", "reads"] {
        let mut direct = None;
        for (name, address, port) in ways(cluster, leader) {
            if stop.wished() {
                return Err(stop.why().to_owned());
            }
            let at = SocketAddr::new(IpAddr::V4(address), port);
            // Where the site lets only members and HAProxies in, nothing can be compared with.
            if name == "direct"
                && let Err(why) = connect(cluster, at).await
            {
                judge.not_applicable(format!("{word} direct is not measured: {why}"));
                continue;
            }
            let work = speed_of(cluster, at, bounds, word);
            let speed: Speed = match watched(cluster, leader, server, &mut peak, work).await {
                Ok(speed) => speed,
                Err(why) => {
                    judge.wrong(format!("{word} {name} ({at}): {why}"));
                    continue;
                }
            };
            figures(judge, &name, word, format!("{} clients", bounds.clients), speed);
            match (direct, bounds.max_overhead) {
                (None, _) if name == "direct" => direct = Some(speed),
                (Some(direct), Some(most)) if name != "PgBouncer" => {
                    let wrong = costs_too_much(direct, speed, most, word, &name);
                    judge.bound("max_overhead", wrong);
                }
                _ => {}
            }
        }
    }
    if stop.wished() {
        return Err(stop.why().to_owned());
    }
    storm(cluster, leader, server, bounds, judge, &mut peak).await;
    judge.measured(Measurement::new("standbys", "behind at most", peak.lag as f64, "bytes"));
    let wrong = (peak.lag > bounds.max_lag).then(|| {
        format!("a standby was {} bytes behind, at most {} are allowed", peak.lag, bounds.max_lag)
    });
    judge.bound("max_lag", wrong.into_iter().collect());
    let start = Instant::now();
    let wrong = settled(server, Duration::from_secs(bounds.settled_within)).await.err();
    let took = start.elapsed().as_secs_f64();
    judge.measured(Measurement::new("standbys", "in step after", took, "s"));
    judge.bound("settled_within", wrong.into_iter().collect());
    Ok(())
}

async fn speed_of(
    cluster: &Cluster<'_>,
    at: SocketAddr,
    bounds: &Load,
    word: &str,
) -> Result<Speed, String> {
    let clients = try_join_all((0..bounds.clients).map(|_| connect(cluster, at))).await?;
    let table = cluster.tables().writes;
    let working = (0..).zip(clients).map(|(number, client)| Working {
        client,
        statement: match word {
            "writes" => update(&table, number),
            _ => format!("SELECT count FROM {table} WHERE client = {number}"),
        },
    });
    hammer(working.collect(), Duration::from_secs(bounds.seconds)).await
}

fn update(table: &str, number: u16) -> String {
    format!("UPDATE {table} SET count = count + 1 WHERE client = {number}")
}

/// Many clients at once, each with a few short transactions.
async fn storm(
    cluster: &Cluster<'_>,
    leader: &Host,
    server: &Client,
    bounds: &Load,
    judge: &mut Judge<'_>,
    peak: &mut Peak,
) {
    let Some((address, port)) = pooler(cluster) else {
        judge.not_applicable("no storm: no way leads to PgBouncer".to_owned());
        return;
    };
    let at = SocketAddr::new(IpAddr::V4(address), port);
    let table = cluster.tables().writes;
    let start = Instant::now();
    // Its own peak: only the storm is held to the pool.
    let mut own = Peak::default();
    let clients = async {
        let each = (0..bounds.storm).map(|number| {
            let statement = update(&table, number);
            async move {
                let client = connect(cluster, at).await?;
                for _ in 0..TRANSACTIONS {
                    client
                        .batch("a transaction of the storm", &statement)
                        .await
                        .map_err(|error| error.to_string())?;
                }
                Ok::<(), String>(())
            }
        });
        join_all(each).await
    };
    let results = watched(cluster, leader, server, &mut own, clients).await;
    peak.lag = peak.lag.max(own.lag);
    let errors: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    if let Some(first) = errors.first() {
        judge.wrong(format!("{} of {} clients failed: {first}", errors.len(), bounds.storm));
    }
    for (name, value, unit) in [
        ("clients", f64::from(bounds.storm), "clients"),
        ("failed", errors.len() as f64, "clients"),
        ("connections to PostgreSQL at most", own.backends as f64, "connections"),
        ("took", start.elapsed().as_secs_f64(), "s"),
    ] {
        judge.measured(Measurement::new("storm", name, value, unit));
    }
    let wrong = (own.backends > bounds.max_backends).then(|| {
        format!("{} connections to PostgreSQL, the pool is {}", own.backends, bounds.max_backends)
    });
    judge.bound("max_backends", wrong.into_iter().collect());
}

/// Does the work, and looks at the primary meanwhile.
async fn watched<T>(
    cluster: &Cluster<'_>,
    leader: &Host,
    server: &Client,
    peak: &mut Peak,
    work: impl Future<Output = T>,
) -> T {
    let mut pace = interval(LOOK);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = pace.tick() => {
                // A look that fails under load is made again: what counts is the worst one seen.
                if let Ok(seen) = peak_now(cluster, leader, server).await {
                    peak.backends = peak.backends.max(seen.backends);
                    peak.lag = peak.lag.max(seen.lag);
                }
            }
        }
    }
}

/// Connections of PgBouncer, and how far the last standby is behind.
async fn peak_now(cluster: &Cluster<'_>, leader: &Host, server: &Client) -> Result<Peak, String> {
    let app = crate::postgres_client::literal(cluster.app.user.expose());
    let statement = format!(
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE usename = {app} AND host(client_addr) IN ('127.0.0.1', '{}')), \
         (SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint FROM pg_stat_replication)",
        leader.address
    );
    let rows = server.rows("the load", &statement).await.map_err(|error| error.to_string())?;
    let mut fields = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    let mut next = || fields.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Peak { backends: next(), lag: next() })
}

/// Waits until every standby has replayed what is written now.
async fn settled(server: &Client, within: Duration) -> Result<(), String> {
    let text = |error: crate::postgres_client::Error| error.to_string();
    let now = server.value("the end", "SELECT pg_current_wal_lsn()").await.map_err(text)?;
    let statement = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn < '{}'",
        now.unwrap_or_default()
    );
    probe::wait_until(within, || async {
        match server.value("who is behind", &statement).await.map_err(text)?.as_deref() {
            Some("0") => Ok(()),
            other => Err(format!("{} standbys are behind", other.unwrap_or("?"))),
        }
    })
    .await
}

async fn connect(cluster: &Cluster<'_>, to: SocketAddr) -> Result<Client, String> {
    let stream = timeout(PATIENCE, TcpStream::connect(to))
        .await
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let login = Login {
        user: cluster.app.user.expose(),
        password: cluster.app.password.expose(),
        database: &cluster.database,
        application: APPLICATION,
    };
    Client::login(stream, &login, PATIENCE).await.map_err(|error| error.to_string())
}
