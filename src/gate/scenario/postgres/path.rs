//! The path of clients: that every way leads to the primary, and that HAProxy sees one.

use super::judge::primary;
use super::names::Cluster;
use super::seen::{STARTED, look};
use crate::gate::drill::Host;
use crate::gate::haproxy::{self, Server};
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::Dial;
use crate::postgres_client::{Client, literal};
use futures::future::join_all;
use serde::Deserialize;
use std::time::Duration;

/// The backends that lead to the primary.
const BACKENDS: [&str; 2] = ["be_postgres_primary", "be_pgbouncer_primary"];

/// Bounds of the ways.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ways {
    /// Seconds until every way leads to the primary: after a change of the leader HAProxy looks
    /// three times first. Default: 20.
    #[serde(default = "default_within")]
    within: u64,
}

/// Bounds of what HAProxy sees.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backends {
    /// Seconds until it sees one. Default: 20.
    #[serde(default = "default_within")]
    within: u64,
}

fn default_within() -> u64 {
    20
}

/// Which server leads.
pub struct Identity {
    /// Its host.
    pub host: Host,
    /// When it was started.
    pub started: String,
}

/// The primary, as it says itself.
///
/// # Errors
/// What there is instead.
pub async fn identity(cluster: &Cluster<'_>, leader: &Host) -> Result<Identity, String> {
    let client = cluster.server(leader).await?;
    let started = client.value("its start", &format!("SELECT {STARTED}")).await;
    let started = started.map_err(|error| error.to_string())?.unwrap_or_default();
    Ok(Identity { host: leader.clone(), started })
}

/// An error unless every way (but one through `except`) to both ports leads to this server.
///
/// # Errors
/// Where else one leads.
pub async fn lead_to(
    cluster: &Cluster<'_>,
    leader: &Identity,
    except: Option<&str>,
) -> Result<(), String> {
    let ports = cluster.ports().into_iter();
    let ways = ports.flat_map(|(what, port)| {
        cluster.ways(port).into_iter().map(move |(name, way)| (what, port, name, way))
    });
    let ways = ways.filter(|(_, _, name, _)| Some(name.as_str()) != except);
    let looks = ways.map(|(what, port, name, way)| async move {
        let leads = async {
            let client = cluster.login(&*way, &cluster.app).await?;
            leads(cluster, &client, leader, port).await
        };
        leads.await.map_err(|error| format!("{what} through {name}: {error}"))
    });
    join_all(looks).await.into_iter().collect()
}

async fn leads(
    cluster: &Cluster<'_>,
    client: &Client,
    leader: &Identity,
    port: u16,
) -> Result<(), String> {
    let statement = format!("SELECT pg_is_in_recovery(), {STARTED}, host(inet_server_addr())");
    let rows = client.rows("who answers", &statement).await.map_err(|error| error.to_string())?;
    let mut fields = rows.into_iter().next().unwrap_or_default().into_iter();
    let mut next = || fields.next().flatten().unwrap_or_default();
    let (recovery, started, address) = (next(), next(), next());
    if recovery != "f" {
        return Err("a standby answers".to_owned());
    }
    // PgBouncer dials the server of its own host by another address.
    let elsewhere = port == cluster.port && address != leader.host.address.to_string();
    if started != leader.started || elsewhere {
        return Err(format!("another server than {}'s answers ({address})", leader.host.name));
    }
    Ok(())
}

/// Through each HAProxy and the balancer, on both ports: the very primary, for reading and writing.
pub async fn ways(surroundings: Surroundings<'_>, bounds: Ways) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let all = cluster.ways(cluster.port);
    if all.is_empty() {
        return Finding::not_run("no way leads to PostgreSQL: no HAProxy is placed in this layer");
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let ports: Vec<String> = cluster.ports().iter().map(|(_, port)| port.to_string()).collect();
    let expected = format!(
        "the primary through {}, on {}; what is written there can be read",
        names.join(", "),
        ports.join(" and ")
    );
    // Right after a member came back, commits may wait for a standby that is not in step yet.
    haproxy::until_right(expected, Duration::from_secs(bounds.within), async || {
        let led = async {
            let members = look(&cluster).await;
            let leader = primary(&members)?;
            let leader = cluster.place.member(&leader.name).ok_or("the primary is no member")?;
            lead_to(&cluster, &identity(&cluster, leader).await?, None).await?;
            Ok::<Host, String>(leader.clone())
        };
        match led.await {
            Ok(leader) => written(&cluster, &leader).await,
            Err(why) => vec![why],
        }
    })
    .await
}

/// Writes through every way and reads it back there; what is wrong.
async fn written(cluster: &Cluster<'_>, leader: &Host) -> Vec<String> {
    let table = cluster.tables().writes;
    let server = match cluster.server(leader).await {
        Ok(server) => server,
        Err(why) => return vec![why],
    };
    let make = format!(
        "CREATE TABLE IF NOT EXISTS {table} (way text PRIMARY KEY); GRANT SELECT, INSERT ON {table} TO {}",
        crate::postgres_client::identifier(cluster.app.user.expose())
    );
    if let Err(error) = server.batch("the test's table", &make).await {
        return vec![error.to_string()];
    }
    let ports = cluster.ports().into_iter();
    let ways = ports.flat_map(|(what, port)| {
        cluster.ways(port).into_iter().map(move |(name, way)| (format!("{what} {name}"), way))
    });
    let table = table.as_str();
    let each = ways.map(|(name, way)| async move {
        let back = write_and_read(cluster, &*way, table, &name).await;
        back.err().map(|why| format!("{name}: {why}"))
    });
    let mut wrong: Vec<String> = join_all(each).await.into_iter().flatten().collect();
    let gone = server.batch("the test's table", &format!("DROP TABLE {table}")).await;
    wrong.extend(gone.err().map(|error| format!("the test's table is left: {error}")));
    wrong
}

async fn write_and_read(
    cluster: &Cluster<'_>,
    way: &dyn Dial,
    table: &str,
    name: &str,
) -> Result<(), String> {
    let client = cluster.login(way, &cluster.app).await?;
    let (text, wrong) = (literal(name), |error: crate::postgres_client::Error| error.to_string());
    client
        .batch("a write", &format!("INSERT INTO {table} VALUES ({text}) ON CONFLICT DO NOTHING"))
        .await
        .map_err(wrong)?;
    let read = format!("SELECT way FROM {table} WHERE way = {text}");
    let read = client.value("a read", &read).await.map_err(wrong)?;
    if read.as_deref() == Some(name) { Ok(()) } else { Err(format!("reads back {read:?}")) }
}

/// Each HAProxy sees exactly one server of each backend up, and binds all addresses.
pub async fn backends(surroundings: Surroundings<'_>, bounds: Backends) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected =
        "one server up in each backend of each HAProxy, and every port bound to all addresses";
    let within = Duration::from_secs(bounds.within);
    haproxy::on_each(&cluster.place, expected, within, async |proxy| {
        let members: Vec<&str> = cluster.place.members.iter().map(|at| at.name.as_str()).collect();
        let mut wrong = Vec::new();
        for backend in BACKENDS {
            wrong.extend(wrong_state(backend, &haproxy::servers(proxy, backend).await?, &members));
        }
        wrong.extend(haproxy::wrong_binds(proxy, &cluster.ports()).await?);
        Ok(wrong)
    })
    .await
}

/// What is wrong with HAProxy's own account of a backend.
fn wrong_state(backend: &str, servers: &[Server], members: &[&str]) -> Vec<String> {
    let mut wrong: Vec<String> = members
        .iter()
        .filter(|member| !servers.iter().any(|server| server.name == **member))
        .map(|member| format!("{backend} has no server {member}"))
        .collect();
    let up: Vec<&str> =
        servers.iter().filter(|server| server.up).map(|server| server.name.as_str()).collect();
    if up.len() != 1 {
        let shown = if up.is_empty() { "none".to_owned() } else { up.join(", ") };
        wrong.push(format!("{backend}: {shown} up, not one"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_up_and_every_member_is_known() {
        let servers = |up: [bool; 2]| {
            let server = |(name, up): (&str, bool)| Server { name: name.to_owned(), up };
            [("db-01", up[0]), ("db-02", up[1])].map(server)
        };
        let wrong =
            |up, members: &[&str]| wrong_state("be_postgres_primary", &servers(up), members);
        let members = ["db-01", "db-02"];
        assert_eq!(wrong([true, false], &members), Vec::<String>::new());
        assert_eq!(
            wrong([true, true], &members),
            ["be_postgres_primary: db-01, db-02 up, not one"]
        );
        assert_eq!(wrong([false, false], &members), ["be_postgres_primary: none up, not one"]);
        let three = ["db-01", "db-02", "db-03"];
        assert_eq!(wrong([true, false], &three), ["be_postgres_primary has no server db-03"]);
        assert_eq!(wrong_state("be_pgbouncer_primary", &[], &members).len(), 3);
    }
}
