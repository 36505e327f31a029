//! Which hosts, ports, containers and roles the tests work with: of the site, of the role's
//! variables, and of the requirements where neither says otherwise.

use crate::gate::drill::{Host, Place, Roles};
use crate::gate::fault::Kind;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::Dial;
use crate::http_client::{Request, Response};
use crate::postgres_client::{Client, Error, Login, identifier};
use crate::secrets::Secret;
use std::sync::Arc;
use std::time::Duration;

/// The role of the members, and that of the HAProxies that lead to their primary.
const ROLES: Roles = Roles { members: "postgres", proxies: "haproxy-db" };

/// The role of the store that Patroni keeps its leader in.
const STORE_ROLE: &str = "etcd";

/// That of PgBouncer on the members' hosts.
const POOLER_ROLE: &str = "pgbouncer";

/// How long a call may take.
pub const CALL: Duration = Duration::from_secs(3);

/// How long a switchover may take: Patroni answers when it is done.
const LONG_CALL: Duration = Duration::from_secs(75);

/// The container of a member: Patroni, and PostgreSQL as its child; its unit where it runs without.
const SERVER: &str = "patroni";
/// As above.
const SERVER_UNIT: &str = "strata-patroni.service";
/// That of the store, and its unit where it runs without a container.
const STORE: &str = "etcd";
/// As above.
const STORE_UNIT: &str = "strata-etcd.service";

/// How the gate's connections are called in `pg_stat_activity`.
pub const APPLICATION: &str = "strata-gate";

/// A role of the servers with its password.
#[derive(Clone)]
pub struct Account {
    /// Its name.
    pub user: Secret<String>,
    /// Its password.
    pub password: Secret<String>,
}

/// The cluster as tests reach it.
pub struct Cluster<'a> {
    /// Its hosts, and the ways to it.
    pub place: Place<'a>,
    /// The hosts of the store.
    pub store: Vec<Host>,
    /// Port of PostgreSQL, on members, HAProxies and the balancer alike (KB-A2).
    pub port: u16,
    /// Port of PgBouncer, likewise, where the layer has it.
    pub pooler_port: Option<u16>,
    /// Port of Patroni.
    pub patroni_port: u16,
    /// Port of the store's clients.
    pub store_port: u16,
    /// Standbys that every acknowledged commit waits for.
    pub sync: usize,
    /// Who may everything.
    pub superuser: Account,
    /// Whom applications are.
    pub app: Account,
    /// Who may ask Patroni for changes.
    pub patroni: Account,
    /// The applications' database.
    pub database: String,
}

impl<'a> Cluster<'a> {
    /// The whole cluster with its proxies: hosts, ports and passwords.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason: also while a host of it is out of
    /// service.
    pub fn of(surroundings: &'a Surroundings<'a>) -> Result<Self, Box<Finding>> {
        Self::at(Place::whole(surroundings, ROLES)?)
    }

    /// As [`Self::of`], without the hosts that are out of service: for tests that only look.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason.
    pub fn in_service(surroundings: &'a Surroundings<'a>) -> Result<Self, Box<Finding>> {
        Self::at(Place::in_service(surroundings, ROLES)?)
    }

    fn at(place: Place<'a>) -> Result<Self, Box<Finding>> {
        let account = |user: &str, password: &str| {
            Ok::<_, Box<Finding>>(Account {
                user: place.secret(user)?,
                password: place.secret(password)?,
            })
        };
        Ok(Self {
            store: place.hosts_of(STORE_ROLE).map_err(|why| Box::new(Finding::not_run(why)))?,
            port: place.number("postgres_port", 5432),
            pooler_port: match place.hosts_of(POOLER_ROLE) {
                Ok(hosts) if hosts.is_empty() => None,
                Ok(_) => Some(place.number("pgbouncer_port", 6432)),
                Err(why) => return Err(Box::new(Finding::not_run(why))),
            },
            patroni_port: place.number("patroni_port", 8008),
            store_port: place.number("etcd_port", 2379),
            sync: usize::from(place.number("postgres_sync", 1)),
            superuser: account("POSTGRES_SUPERUSER", "POSTGRES_SUPERPASS")?,
            app: account("POSTGRES_APP_USER", "POSTGRES_APP_PASSWORD")?,
            patroni: account("PATRONI_RESTAPI_USER", "PATRONI_RESTAPI_PASSWORD")?,
            database: place.secret("POSTGRES_APP_DB")?.expose().clone(),
            place,
        })
    }

    /// The ports of the service, with what each is called.
    pub fn ports(&self) -> Vec<(&'static str, u16)> {
        let pooler = self.pooler_port.map(|port| ("PgBouncer", port));
        [("PostgreSQL", self.port)].into_iter().chain(pooler).collect()
    }

    /// PostgreSQL on a member, as superuser.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn server(&self, member: &Host) -> Result<Client, String> {
        self.login(&*member.local(self.port), &self.superuser).await
    }

    /// PostgreSQL by a way, in the applications' database.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn login(&self, way: &dyn Dial, account: &Account) -> Result<Client, String> {
        let stream = way.dial().await?;
        login(stream, account, &self.database, CALL).await.map_err(|error| error.to_string())
    }

    /// Patroni's answer on a member.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, member: &Host, path: &str) -> Result<Response, String> {
        let stream = member.local(self.patroni_port).dial().await?;
        let answer = Request::get(&member.name, path).send(stream, CALL).await;
        answer.map_err(|error| format!("Patroni of {}: {error}", member.name))
    }

    /// Asks Patroni on a member for a change; its words when it refuses.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn change(
        &self,
        member: &Host,
        method: hyper::Method,
        path: &str,
        wanted: &serde_json::Value,
    ) -> Result<Response, String> {
        let stream = member.local(self.patroni_port).dial().await?;
        let (user, password) = (self.patroni.user.expose(), self.patroni.password.expose());
        let request = Request::json(method, &member.name, path, wanted).login(user, password);
        let answer = request.send(stream, LONG_CALL).await.and_then(Response::succeeded);
        answer.map_err(|error| format!("Patroni of {}: {path}: {error}", member.name))
    }

    /// The fault of a member that dies: Patroni and PostgreSQL with it.
    pub fn death(&self) -> Kind {
        match self.place.text("postgres_runtime", "container").as_str() {
            "native" => Kind::KillUnit(SERVER_UNIT.to_owned()),
            _ => Kind::KillContainer(SERVER.to_owned()),
        }
    }

    /// The fault of a member of the store that is gone.
    pub fn store_stopped(&self, host: &Host) -> Kind {
        match self.place.text_of(STORE_ROLE, host, "etcd_runtime", "container").as_str() {
            "native" => Kind::StopUnit(STORE_UNIT.to_owned()),
            _ => Kind::StopContainer(STORE.to_owned()),
        }
    }

    /// The ways to a port of the service with what each is called.
    pub fn ways(&self, port: u16) -> Vec<(String, Arc<dyn Dial>)> {
        self.place.ways(port)
    }

    /// The tables of this test.
    pub fn tables(&self) -> Tables {
        Tables::of(self.place.surroundings.context.run, &self.place.surroundings.test.name)
    }
}

/// Logs in over a stream.
///
/// # Errors
/// What the server refuses.
pub async fn login(
    stream: Box<dyn crate::gate::writer::Stream>,
    account: &Account,
    database: &str,
    deadline: Duration,
) -> Result<Client, Error> {
    let login = Login {
        user: account.user.expose(),
        password: account.password.expose(),
        database,
        application: APPLICATION,
    };
    Client::login(stream, &login, deadline).await
}

/// The tables of one test, as SQL takes their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// For the clients' writes.
    pub writes: String,
    /// For the sampler's.
    pub fence: String,
}

impl Tables {
    fn of(run: &str, test: &str) -> Self {
        let plain: String = format!("strata_gate_{run}_{test}")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .take(57)
            .collect();
        let name = |name: &str| format!("public.{}", identifier(name));
        Self { writes: name(&plain), fence: name(&format!("{plain}_fence")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_are_short_enough_for_the_server() {
        let tables = Tables::of("20261122-004109-abcd", "postgres-kill-leader");
        assert_eq!(
            tables.writes,
            "public.\"strata_gate_20261122_004109_abcd_postgres_kill_leader\""
        );
        let long = Tables::of("20261122-004109-abcd", &"x".repeat(60));
        assert!(long.fence.len() <= "public.\"\"".len() + 63, "{}", long.fence);
        assert_ne!(long.fence, long.writes);
    }
}
