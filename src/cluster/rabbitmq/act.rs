//! Does what was decided.

use super::RabbitMq;
use super::action::Action;
use super::decide::{START, decide};
use super::settings::node;
use super::view::{Observation, Server};
use crate::cluster::until::{Look, until_within};
use crate::cluster::{Technology, program};
use crate::resource::{File, Item, Resource};
use crate::wire::ExecSpec;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Milliseconds that a node may take for what moves leaders or copies, or for its start.
const LONG_MS: u32 = 330_000;

/// Seconds that a node has to stop in good order, or to wait for its turn.
const STOP_S: &str = "120";

/// Seconds that queues may take until none needs a node for its majority.
const SPARED_S: &str = "300";

/// Time between two looks at a node that starts.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// How long a connection to another node may take.
const DIAL: Duration = Duration::from_secs(3);

/// What a file is called while it is tried: RabbitMQ reads names that end in `.conf` alone.
const TRIAL: &str = ".trial";

impl RabbitMq<'_> {
    /// Moves a node's leaders away and closes it for clients; only a whole cluster lets one go.
    pub(super) async fn give_up(&self, host: &str) -> Result<bool, String> {
        let observation = self.look().await;
        let decision = decide(&observation, &self.wanted);
        if let Some(missing) = self.missing(&observation, &decision) {
            return Err(missing);
        }
        if observation.owes_nothing() {
            return Ok(false);
        }
        self.drain(host).await?;
        Ok(true)
    }

    pub(super) async fn perform(
        &self,
        action: &Action,
        observation: &Observation,
    ) -> Result<(), String> {
        match action {
            Action::Record(record) => self.reach.records.write(record),
            Action::Mark { member, marker } => self.reach.mark(member, marker).await,
            Action::Create { member } => {
                self.reaches_others(member, observation).await?;
                let record = observation.record.clone()?;
                let marker = record.ok_or("there is no record of this cluster")?.marker;
                // Before its data: what is there after a cut is known to be ours.
                self.reach.mark(member, &marker).await?;
                self.bring_about(member).await
            }
            Action::Start { member } => {
                let runs = |server: &Server| *server != Server::Down;
                let seen = observation.members.iter().find(|other| other.name == *member);
                if seen.and_then(|other| other.view()).is_some_and(|seen| runs(&seen.server)) {
                    self.stop(member).await?;
                }
                self.bring_about(member).await
            }
            Action::Renew { member } => self.renew(member).await,
            Action::Remove { member } => {
                self.forget(member);
                let name = self.settings.container.as_str();
                self.reach.checked(member, &["docker", "rm", "-f", name]).await.map(drop)
            }
            Action::Forget { member, by } => {
                self.cli(by, &["rabbitmqctl", "forget_cluster_node", &node(member)]).await
            }
            Action::Grow { member, by } => {
                self.cli(by, &["rabbitmq-queues", "grow", &node(member), "all"]).await
            }
            Action::EnableFeatures { by } => {
                self.cli(by, &["rabbitmqctl", "enable_feature_flag", "all"]).await
            }
            Action::Declare { by, .. } => {
                let address = self.reach.address(by)?;
                let management = self.management(by, address);
                management.declare().await.map_err(|error| error.to_string())
            }
            Action::Revive { member } => self.revive(member).await,
        }
    }

    /// Tries the new files, drains the node and stops it, brings everything about, and lets it take
    /// clients again. Stopped before its files change: a run that is cut off leaves a stopped node,
    /// and none that runs with less than its files say.
    async fn renew(&self, member: &str) -> Result<(), String> {
        self.forget(member);
        self.try_files(member).await?;
        self.drain(member).await?;
        self.stop(member).await?;
        self.bring_about(member).await?;
        self.comes_up(member).await?;
        self.revive(member).await
    }

    /// Has every file that can be checked checked under another name: one that is refused is refused
    /// while the node still serves clients.
    async fn try_files(&self, member: &str) -> Result<(), String> {
        let plan = self.reach.plan_of_any(member)?;
        let differing = self.reach.differing(member, &plan.items).await?;
        let trials: Vec<Item> = differing.into_iter().filter_map(|(item, _)| trial(item)).collect();
        let paths: Vec<String> = trials.iter().filter_map(path_of).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let tried = self.reach.apply(member, trials).await;
        let mut remove = vec!["rm", "-f", "--"];
        remove.extend(paths.iter().map(String::as_str));
        let removed = self.reach.checked(member, &remove).await.map(drop);
        tried.and(removed)
    }

    /// Waits until a node that was started answers. `rabbitmqctl await_startup` fails at once on a
    /// node that is not known to its epmd yet, and says nothing of one that ended.
    async fn comes_up(&self, member: &str) -> Result<(), String> {
        until_within(START, LOOK_EVERY, async || {
            let server = match self.server_of(member).await {
                Ok(server) => server,
                Err(reason) => return Look::Break(Err(reason)),
            };
            match server {
                Server::Up(_) => Look::Break(Ok(())),
                Server::Fails(failing) => {
                    let hint = failing.hint(member);
                    Look::Break(Err(format!("it does not stay up: {failing}; {hint}")))
                }
                Server::Refuses(why) | Server::Unready(why) => Look::Continue(why),
                Server::Down => Look::Continue("its container does not run".to_owned()),
            }
        })
        .await
    }

    async fn bring_about(&self, member: &str) -> Result<(), String> {
        self.forget(member);
        let items = self.reach.plan_of_any(member)?.items;
        self.reach.apply(member, items).await
    }

    /// A node without data that finds nobody begins a cluster of its own: whether it would find the
    /// nodes that run is asked first.
    async fn reaches_others(&self, member: &str, observation: &Observation) -> Result<(), String> {
        for other in observation.members.iter().filter(|other| other.up().is_some()) {
            let found = self.reach.checked(member, &["getent", "ahostsv4", &other.name]).await;
            let address = other.address.to_string();
            if !found.is_ok_and(|text| text.split_whitespace().next() == Some(&address)) {
                return Err(format!("{} is not {address} by its name there", other.name));
            }
            for port in [self.settings.epmd_port, self.settings.node_port] {
                let to = SocketAddr::new(IpAddr::V4(other.address), port);
                self.reach.hosts.dial(member, to, DIAL).await.map_err(|error| {
                    format!("port {port} of {} is not reached: {error}", other.name)
                })?;
            }
        }
        Ok(())
    }

    /// Waits until no queue needs this node for its majority, then closes it for clients and gives
    /// its leaders to others.
    async fn drain(&self, member: &str) -> Result<(), String> {
        self.forget(member);
        let awaited = ["rabbitmq-upgrade", "await_online_quorum_plus_one", "-t", SPARED_S];
        self.cli(member, &awaited).await?;
        self.cli(member, &["rabbitmq-upgrade", "drain"]).await
    }

    /// Lets a node take clients again, and its part of the queues' leaders.
    async fn revive(&self, member: &str) -> Result<(), String> {
        self.cli(member, &["rabbitmq-upgrade", "revive"]).await?;
        self.cli(member, &["rabbitmq-queues", "rebalance", "quorum"]).await
    }

    async fn stop(&self, member: &str) -> Result<(), String> {
        let name = self.settings.container.as_str();
        self.long(member, &["docker", "stop", "--time", STOP_S, name]).await
    }

    async fn cli(&self, member: &str, words: &[&str]) -> Result<(), String> {
        let mut argv = vec!["docker", "exec", self.settings.container.as_str()];
        argv.extend(words);
        self.long(member, &argv).await.map_err(|why| format!("{}: {why}", words.join(" ")))
    }

    async fn long(&self, member: &str, argv: &[&str]) -> Result<(), String> {
        self.forget(member);
        let spec = ExecSpec { timeout_ms: LONG_MS, ..program(argv) };
        self.reach.checked_as(member, spec).await.map(drop)
    }

    /// Something was done on a member: it is compared with its role again.
    fn forget(&self, member: &str) {
        self.stale.borrow_mut().remove(member);
    }
}

/// A file that can be checked, under another name beside its own.
fn trial(item: &Item) -> Option<Item> {
    let Resource::File(file) = &item.resource else { return None };
    file.validate.as_ref()?;
    let path = format!("{}{TRIAL}", file.path);
    let resource = Resource::File(File { path, ..file.clone() });
    Some(Item { resource, notify: Vec::new(), ..item.clone() })
}

fn path_of(item: &Item) -> Option<String> {
    match &item.resource {
        Resource::File(file) => Some(file.path.clone()),
        _ => None,
    }
}
