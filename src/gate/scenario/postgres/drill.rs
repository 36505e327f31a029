//! How PostgreSQL is asked while a test breaks something: its part of the frame.

use super::judge::{leader_of, primary, wrong_members};
use super::names::{Account, CALL, Cluster, Tables, login};
use super::path::{identity, lead_to};
use super::seen::{look, view};
use super::switchover::hand_over_to;
use crate::gate::drill::{self, Drill, Host, Limits, Place, Promise, Technology};
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::authority::Answer;
use crate::gate::writer::journal::{Outcome, key, value};
use crate::gate::writer::{Connect, DEADLINE, Dial, Put, Watch};
use crate::postgres_client::{Client, Error, Type, identifier, literal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that a standby may be behind while writes go on.
const LAG: u64 = 16 * 1024 * 1024;

/// How long reading everything back may take.
const READ_BACK: Duration = Duration::from_secs(20);

/// Runs `body` inside the frame.
pub async fn drill(
    surroundings: &Surroundings<'_>,
    expected: String,
    limits: Limits,
    body: impl AsyncFnOnce(&mut Drill<'_, Cluster<'_>>) -> Result<(), String>,
) -> Finding {
    match Cluster::of(surroundings) {
        Ok(cluster) => drill::drill(&cluster, expected, limits, body).await,
        Err(finding) => *finding,
    }
}

/// Clients of a test.
pub struct Clients {
    ways: Vec<Arc<dyn Dial>>,
    app: Account,
    database: String,
    table: String,
}

/// A client that writes.
pub struct Writing {
    client: Client,
    table: String,
}

/// A node that is looked at.
pub struct Node {
    name: String,
    way: Arc<dyn Dial>,
    superuser: Account,
    database: String,
    table: String,
}

impl Connect for Clients {
    type Client = Writing;

    fn prefix(&self) -> &str {
        &self.table
    }

    async fn connect(&self, attempt: usize) -> Result<Writing, String> {
        let count = self.ways.len().max(1);
        let way = self.ways.get(attempt % count).ok_or("there is no way to the service")?;
        let client = login(way.dial().await?, &self.app, &self.database, CALL).await;
        let client = client.map_err(|error| error.to_string())?.with_deadline(DEADLINE);
        Ok(Writing { client, table: self.table.clone() })
    }
}

impl Put for Writing {
    /// One statement is one transaction: its acknowledgement is that of its COMMIT.
    async fn put(&self, id: u64) -> (Outcome, Option<String>) {
        let insert = format!("INSERT INTO {} (id, value) VALUES ($1, $2)", self.table);
        let number = i64::try_from(id).unwrap_or(i64::MAX);
        let text = value(&self.table, id);
        let parameters: [(&(dyn crate::postgres_client::ToSql + Sync), Type); 2] =
            [(&number, Type::INT8), (&text, Type::TEXT)];
        match self.client.execute("a write", &insert, &parameters).await {
            Ok(_) => (Outcome::Acked(0), None),
            Err(error) => {
                let reason = error.to_string();
                let outcome = if error.is_refusal() { Outcome::Refused } else { Outcome::Unknown };
                (outcome(reason.clone()), Some(reason))
            }
        }
    }
}

impl Watch for Node {
    type Client = Client;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<Client, String> {
        let stream = self.way.dial().await?;
        let client = login(stream, &self.superuser, &self.database, CALL).await;
        let client = client.map_err(|error| error.to_string())?;
        Ok(client.with_deadline(DEADLINE))
    }

    /// The write waits for no standby: what is looked for is a server that would take any.
    async fn look(&self, client: &Client) -> (Instant, Answer) {
        let began = Instant::now();
        match client.value("whether it follows", "SELECT pg_is_in_recovery()").await {
            Ok(Some(follows)) if follows == "f" => {}
            Ok(_) => return (began, Answer::Follows),
            Err(error) => return (began, Answer::Silent(error.to_string())),
        }
        let sent = Instant::now();
        let write = format!(
            "BEGIN; SET LOCAL synchronous_commit = local; INSERT INTO {} VALUES ({}); COMMIT",
            self.table,
            literal(&self.name)
        );
        let answer = match client.batch("a write", &write).await {
            Ok(()) => Answer::Accepted,
            Err(error) if error.is_refusal() => Answer::Fenced(error.to_string()),
            Err(error) => Answer::Silent(error.to_string()),
        };
        // A refused transaction stays open until the connection's end.
        if let Answer::Fenced(_) = answer {
            client.batch("its end", "ROLLBACK").await.ok();
        }
        (sent, answer)
    }
}

impl Cluster<'_> {
    /// Runs statements on the primary, as superuser.
    async fn on_primary(&self, what: &str, statements: &str) -> Result<(), String> {
        let members = look(self).await;
        let leader = &primary(&members)?.name;
        let leader = self.place.member(leader).ok_or_else(|| format!("{leader} is no member"))?;
        let client = self.server(leader).await?;
        client.batch(what, statements).await.map_err(|error: Error| error.to_string())
    }
}

impl Technology for Cluster<'_> {
    type Clients = Clients;
    type Node = Node;

    const LEADER: &'static str = "primary";
    const PROMISE: Promise = Promise::Acknowledged;

    fn place(&self) -> &Place<'_> {
        &self.place
    }

    fn clients(&self) -> Clients {
        Clients {
            ways: self.place.clients_ways(self.port),
            app: self.app.clone(),
            database: self.database.clone(),
            table: self.tables().writes,
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let node = |member: &Host| Node {
            name: member.name.clone(),
            way: member.local(self.port),
            superuser: self.superuser.clone(),
            database: self.database.clone(),
            table: self.tables().fence,
        };
        self.place.members.iter().map(node).collect()
    }

    async fn prepare(&self) -> Result<(), String> {
        let (Tables { writes, fence }, app) = (self.tables(), identifier(self.app.user.expose()));
        let statements = format!(
            "CREATE TABLE {writes} (id bigint PRIMARY KEY, value text NOT NULL); \
             GRANT SELECT, INSERT ON {writes} TO {app}; CREATE TABLE {fence} (node text NOT NULL)"
        );
        self.on_primary("the test's tables", &statements).await
    }

    async fn healthy(&self) -> Result<Host, String> {
        let members = look(self).await;
        let wrong = wrong_members(&members, LAG, self.sync);
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        let leader = &primary(&members)?.name;
        self.place.member(leader).cloned().ok_or_else(|| format!("{leader} is no member"))
    }

    async fn successor(&self, old: &Host) -> Result<Host, String> {
        let mut agreed: Option<String> = None;
        for member in self.place.members.iter().filter(|member| member.name != old.name) {
            let name = leader_of(&view(self, member).await?)?.name.clone();
            if agreed.as_ref().is_some_and(|other| *other != name) {
                return Err("the members do not agree on a leader".to_owned());
            }
            agreed = Some(name);
        }
        let name = agreed.ok_or("there is no other member")?;
        if name == old.name {
            return Err(format!("{name} is still taken for the leader"));
        }
        let new = self.place.member(&name).ok_or_else(|| format!("{name} is no member"))?;
        let client = self.server(new).await?;
        let follows = client.value("whether it follows", "SELECT pg_is_in_recovery()").await;
        match follows.map_err(|error| error.to_string())?.as_deref() {
            Some("f") => Ok(new.clone()),
            _ => Err(format!("{name} takes no writes yet")),
        }
    }

    async fn follows(&self, member: &Host, leader: &Host) -> Result<(), String> {
        let members = look(self).await;
        let seen = |name: &str| members.iter().find(|member| member.name == name);
        let own = seen(&member.name).ok_or("it is no member")?;
        let server = own.server.as_ref().map_err(|why| format!("{}: {why}", member.name))?;
        if !server.recovery {
            return Err(format!("{} follows nobody", member.name));
        }
        let lead = seen(&leader.name).ok_or("the leader is no member")?;
        let lead = lead.server.as_ref().map_err(|why| format!("{}: {why}", leader.name))?;
        match lead.streams.iter().find(|stream| stream.name == member.name) {
            Some(stream) if stream.state == "streaming" => Ok(()),
            Some(stream) => Err(format!("{}: its stream is {}", member.name, stream.state)),
            None => Err(format!("{} does not stream from {}", member.name, leader.name)),
        }
    }

    async fn lead_to(&self, leader: &Host, except: Option<&str>) -> Result<(), String> {
        lead_to(self, &identity(self, leader).await?, except).await
    }

    async fn readable(&self, prefix: &str) -> Result<BTreeMap<String, String>, String> {
        let way = self.place.clients_ways(self.port).into_iter().next();
        let way = way.ok_or("there is no way to the service")?;
        let client = login(way.dial().await?, &self.app, &self.database, READ_BACK).await;
        let client = client.map_err(|error| error.to_string())?;
        let statement = format!("SELECT id, value FROM {prefix}");
        let rows = client.rows("what was written", &statement).await;
        let rows = rows.map_err(|error| error.to_string())?;
        let pair = |row: Vec<Option<String>>| {
            let mut fields = row.into_iter().flatten();
            let id = fields.next()?.parse::<u64>().ok()?;
            Some((key(prefix, id), fields.next()?))
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    async fn hand_over(&self, to: &Host) -> Result<(), String> {
        hand_over_to(self, to).await
    }

    async fn clean(&self) -> Result<(), String> {
        let Tables { writes, fence } = self.tables();
        let statements = format!("DROP TABLE IF EXISTS {writes}, {fence}");
        self.on_primary("the test's tables", &statements).await
    }
}
