//! The path of clients: that every way leads to the primary, and that HAProxy sees one.

use super::judge::primary;
use super::names::Cluster;
use super::seen::{STARTED, look};
use crate::gate::drill::Host;
use crate::gate::probe;
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
    let right = probe::wait_until(Duration::from_secs(bounds.within), || async {
        let members = look(&cluster).await;
        let leader = primary(&members)?;
        let leader = cluster.place.member(&leader.name).ok_or("the primary is no member")?;
        lead_to(&cluster, &identity(&cluster, leader).await?, None).await?;
        Ok(leader.clone())
    });
    let wrong = match right.await {
        Ok(leader) => written(&cluster, &leader).await,
        Err(why) => vec![why],
    };
    Finding::of(expected, wrong)
}

/// Writes through every way and reads it back there; what is wrong.
async fn written(cluster: &Cluster<'_>, leader: &Host) -> Vec<String> {
    let table = cluster.tables().writes;
    let server = match cluster.server(leader).await {
        Ok(server) => server,
        Err(why) => return vec![why],
    };
    let make = format!(
        "CREATE TABLE {table} (way text PRIMARY KEY); GRANT SELECT, INSERT ON {table} TO {}",
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
        .batch("a write", &format!("INSERT INTO {table} VALUES ({text})"))
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
    if cluster.place.proxies.is_empty() {
        return Finding::not_run("no HAProxy is placed in this layer");
    }
    let right = probe::wait_until(Duration::from_secs(bounds.within), || async {
        let looks = cluster.place.proxies.iter().map(|proxy| async {
            let lines = wrong_proxy(&cluster, proxy).await.unwrap_or_else(|why| vec![why]);
            lines.into_iter().map(|line| format!("{}: {line}", proxy.name)).collect::<Vec<_>>()
        });
        let wrong = join_all(looks).await.concat();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    });
    let wrong = right.await.err().map(|text| text.lines().map(str::to_owned).collect());
    Finding::of(
        "one server up in each backend of each HAProxy, and every port bound to all addresses",
        wrong.unwrap_or_default(),
    )
}

async fn wrong_proxy(cluster: &Cluster<'_>, proxy: &Host) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let members: Vec<String> =
        cluster.place.members.iter().map(|member| member.name.clone()).collect();
    for backend in BACKENDS {
        let argv = ["socat", "-t", "2", "-", "UNIX-CONNECT:/run/haproxy/admin.sock"];
        let ask = format!("show servers state {backend}\n");
        let text = probe::output_of(&proxy.session, &argv, ask.into_bytes()).await?;
        wrong.extend(wrong_state(backend, &text, &members));
    }
    let listening = probe::output(&proxy.session, &["ss", "-H", "-ltn"]).await?;
    for (what, port) in cluster.ports() {
        wrong.extend(wrong_bind(&listening, port).map(|line| format!("{what}: {line}")));
    }
    Ok(wrong)
}

/// What is wrong with HAProxy's own account of a backend.
fn wrong_state(backend: &str, text: &str, members: &[String]) -> Vec<String> {
    // Its columns: backend's number and name, server's number, name, address, state (2 is up).
    let servers: Vec<(&str, bool)> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 6 && fields[1] == backend)
        .map(|fields| (fields[3], fields[5] == "2"))
        .collect();
    let mut wrong: Vec<String> = members
        .iter()
        .filter(|member| !servers.iter().any(|(name, _)| name == member))
        .map(|member| format!("{backend} has no server {member}"))
        .collect();
    let up: Vec<&str> = servers.iter().filter(|(_, up)| *up).map(|(name, _)| *name).collect();
    if up.len() != 1 {
        let shown = if up.is_empty() { "none".to_owned() } else { up.join(", ") };
        wrong.push(format!("{backend}: {shown} up, not one"));
    }
    wrong
}

/// What is wrong with the address that a port is bound to.
fn wrong_bind(listening: &str, port: u16) -> Option<String> {
    let suffix = format!(":{port}");
    let sockets = listening.lines().filter_map(|line| line.split_whitespace().nth(3));
    let mut bound: Vec<&str> = sockets.filter_map(|socket| socket.strip_suffix(&suffix)).collect();
    bound.sort_unstable();
    bound.dedup();
    match bound[..] {
        ["0.0.0.0" | "*"] => None,
        [] => Some(format!("nobody listens on {port}")),
        _ => Some(format!("{port} is bound to {}, not to 0.0.0.0", bound.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state …\n\
        4 be_postgres_primary 1 db-01 10.0.0.120 2 0 1 1 45 6 3 4 6 0 0 0 - 5432 - 0 0 - - 0\n\
        4 be_postgres_primary 2 db-02 10.0.0.121 0 0 1 1 45 8 2 0 6 0 0 0 - 5432 - 0 0 - - 0\n";

    #[test]
    fn one_server_is_up_and_every_member_is_known() {
        let members = ["db-01".to_owned(), "db-02".to_owned()];
        assert_eq!(wrong_state("be_postgres_primary", STATE, &members), Vec::<String>::new());
        let two = STATE.replace("10.0.0.121 0", "10.0.0.121 2");
        assert_eq!(wrong_state("be_postgres_primary", &two, &members).len(), 1);
        let none = STATE.replace("10.0.0.120 2", "10.0.0.120 0");
        assert_eq!(wrong_state("be_postgres_primary", &none, &members).len(), 1);
        let three = [members.as_slice(), &["db-03".to_owned()]].concat();
        assert_eq!(wrong_state("be_postgres_primary", STATE, &three).len(), 1);
        assert_eq!(wrong_state("be_pgbouncer_primary", STATE, &members).len(), 3);
    }

    #[test]
    fn a_port_is_bound_to_all_addresses_and_to_no_balancers() {
        let line = |at: &str| format!("LISTEN 0 4096 {at} 0.0.0.0:*\n");
        assert_eq!(wrong_bind(&line("0.0.0.0:5432"), 5432), None);
        assert_eq!(wrong_bind(&(line("0.0.0.0:5432") + &line("0.0.0.0:5432")), 5432), None);
        assert!(wrong_bind(&line("10.0.0.10:5432"), 5432).is_some());
        assert!(wrong_bind(&(line("0.0.0.0:5432") + &line("10.0.0.10:5432")), 5432).is_some());
        assert!(wrong_bind(&line("0.0.0.0:15432"), 5432).is_some());
    }
}
