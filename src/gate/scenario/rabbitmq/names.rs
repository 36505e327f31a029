//! Which hosts, ports and users the tests work with: of the site, of the role's variables, and of
//! the requirements where neither says otherwise.

use super::amqp::{Amqp, AmqpError};
use super::drill::Messages;
use super::messages::{Consumer, Ledger};
use crate::gate::drill::{Host, Place, Roles};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::Dial;
use crate::http_client::{Request, Response};
use crate::secrets::Secret;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The role of the nodes, and that of the HAProxies that lead to them.
const ROLES: Roles = Roles { members: "rabbitmq", proxies: "haproxy-rabbitmq" };

/// How long a call may take.
pub const CALL: Duration = Duration::from_secs(3);

/// The container of a node.
pub const SERVER: &str = "rabbitmq";

/// A user of the broker with its password.
#[derive(Clone)]
pub struct Account {
    /// Its name.
    pub user: Secret<String>,
    /// Its password.
    pub password: Secret<String>,
}

/// How clients of a test reach the queue of the test.
#[derive(Clone)]
pub struct Reach {
    /// The ways, tried in turn.
    pub ways: Vec<Arc<dyn Dial>>,
    /// Whom applications are.
    pub app: Account,
    /// Where their queues are.
    pub vhost: String,
    /// The queue of this test; what its messages begin with too.
    pub queue: String,
}

impl Reach {
    /// A connection by the way whose turn it is.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self, attempt: usize, who: &str) -> Result<Amqp, AmqpError> {
        let none = || AmqpError::Broken("there is no way to the service".to_owned());
        let way = self.ways.get(attempt % self.ways.len().max(1)).ok_or_else(none)?;
        self.by(&**way, who).await
    }

    /// A connection by one way.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn by(&self, way: &dyn Dial, who: &str) -> Result<Amqp, AmqpError> {
        let stream = way.dial().await.map_err(AmqpError::Broken)?;
        let name = format!("{} {who}", self.queue);
        Amqp::over(stream, &self.app, &self.vhost, &name, CALL).await
    }
}

/// The cluster as tests reach it.
pub struct Cluster<'a> {
    /// Its hosts, and the ways to it.
    pub place: Place<'a>,
    /// The port of clients, on nodes, HAProxies and the balancer alike (KB-A2).
    pub port: u16,
    /// The port of the management interface.
    pub management_port: u16,
    /// Who may look at everything.
    pub admin: Account,
    /// How clients reach the queue of this test.
    pub reach: Reach,
    /// The account of this test's messages.
    pub ledger: Ledger,
    /// Messages that a write sends without waiting in between.
    pub window: usize,
    /// Confirmed messages after which a write sends one.
    pub enough: usize,
    consumer: Mutex<Option<Consumer>>,
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
        let port = place.number("rabbitmq_port", 5672);
        let (run, test) = (place.surroundings.context.run, &place.surroundings.test.name);
        Ok(Self {
            port,
            management_port: place.number("rabbitmq_management_port", 15672),
            admin: account("RABBITMQ_ADMIN_USER", "RABBITMQ_ADMIN_PASSWORD")?,
            reach: Reach {
                ways: place.clients_ways(port),
                app: account("RABBITMQ_USER", "RABBITMQ_PASSWORD")?,
                vhost: place.text("rabbitmq_vhost", "keybuzz"),
                queue: format!("strata_gate_{run}_{test}_"),
            },
            ledger: Ledger::default(),
            window: 1,
            enough: 0,
            consumer: Mutex::default(),
            place,
        })
    }

    /// The same with writes of so many messages, until there are enough.
    #[must_use]
    pub fn with(self, messages: Messages) -> Self {
        Self { window: messages.window.into(), enough: messages.enough as usize, ..self }
    }

    /// Begins to consume, or begins anew: what the consumer before had and did not acknowledge goes
    /// back to the queue.
    pub fn consume(&self) {
        let new = Consumer::start(self.reach.clone(), self.ledger.clone());
        self.set_consumer(Some(new));
    }

    /// True while a consumer is at work.
    pub fn consumes(&self) -> bool {
        self.consumer.lock().is_ok_and(|consumer| consumer.is_some())
    }

    /// Ends the consumer.
    pub fn stop_consuming(&self) {
        self.set_consumer(None);
    }

    fn set_consumer(&self, consumer: Option<Consumer>) {
        if let Ok(mut current) = self.consumer.lock() {
            *current = consumer;
        }
    }

    /// The management interface's answer on a node's own host; any status is one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, member: &Host, path: &str, who: &Account) -> Result<Response, String> {
        let stream = member.local(self.management_port).dial().await?;
        let request = Request::get(&member.name, path);
        let request = request.login(who.user.expose(), who.password.expose());
        request.send(stream, CALL).await.map_err(|error| format!("{path}: {error}"))
    }

    /// Runs one of the broker's own programs on a node.
    ///
    /// # Errors
    /// What it said.
    pub async fn program(&self, member: &Host, words: &[&str]) -> Result<String, String> {
        let argv: Vec<&str> = ["docker", "exec", SERVER].iter().chain(words).copied().collect();
        probe::output(&member.session, &argv).await.map_err(|why| format!("{}: {why}", member.name))
    }
}
