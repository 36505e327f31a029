//! Does what was decided.

use super::Etcd;
use super::action::{Action, Begins};
use super::decide::{decide, missing};
use super::gateway::{self, call};
use super::settings::{Runtime, beginning};
use super::view::{Named, Observation};
use crate::cluster::until::{Look, until, until_within};
use crate::cluster::{NoAnswer, program};
use crate::resource::{Content, File, Item, Resource};
use crate::wire::ExecSpec;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a server may take to listen after its start.
const LISTEN: Duration = Duration::from_secs(60);

/// How long a learner may take until it has everything.
const LEARN: Duration = Duration::from_secs(300);

/// How long the members may take to agree to a change of their list.
const CHANGE: Duration = Duration::from_secs(30);

/// How long another member may take to lead.
const MOVE: Duration = Duration::from_secs(15);

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Seconds that etcd has to stop in good order.
const STOP_S: &str = "30";

/// Milliseconds that a stop, or a copy of all keys, may take.
const LONG_MS: u32 = 300_000;

/// Lines of a server's own words that an error repeats.
const WORDS: usize = 3;

impl Etcd<'_> {
    /// Lets another member lead if this one does; only a whole cluster lets a member go.
    pub(super) async fn give_up(&self, host: &str) -> Result<bool, String> {
        let observation = self.look().await;
        if let Some(missing) = missing(&observation, &decide(&observation, &self.wanted)) {
            return Err(missing);
        }
        if observation.leader().is_none_or(|leader| leader.name != host) {
            return Ok(false);
        }
        let others = observation.members.iter().filter(|member| member.name != host);
        let (to, view) = others
            .filter_map(|member| Some((member, member.up()?)))
            .find(|(_, view)| !view.learner)
            .ok_or("no other member could lead")?;
        self.move_leader(host, &to.name, view.id).await.map(|()| true)
    }

    pub(super) async fn perform(
        &self,
        action: &Action,
        observation: &Observation,
    ) -> Result<(), String> {
        match action {
            Action::Record(record) => self.reach.records.write(record),
            Action::Mark { member, marker } => self.reach.mark(member, marker).await,
            Action::Begin { member, begins } => {
                let record = observation.record.clone()?;
                let marker = record.ok_or("there is no record of this cluster")?.marker;
                // Before its data: what is there after a cut is known to be ours.
                self.reach.mark(member, &marker).await?;
                self.bring_up(member, Some(begins)).await
            }
            Action::Start { member, begins } => self.bring_up(member, begins.as_ref()).await,
            Action::SetAside { member } => self.set_aside(member).await,
            Action::Remove { id, .. } => {
                let body = json!({ "ID": id.to_string() });
                let done = |said: &str| said.contains("member not found");
                self.change_list(observation, gateway::REMOVE, &body, done, CHANGE).await
            }
            Action::Add { member } => self.add(observation, member).await,
            Action::Promote { member, id } => {
                self.forget(member);
                let body = json!({ "ID": id.to_string() });
                let done = |said: &str| {
                    said.contains("can only promote a learner") && !said.contains("in sync")
                };
                self.change_list(observation, gateway::PROMOTE, &body, done, LEARN).await
            }
            Action::MoveLeader { from, to, id } => self.move_leader(from, to, *id).await,
            Action::Save { member } => self.save(member).await,
            Action::Write { member } => {
                let items = self.reach.plan_of_any(member)?.items;
                self.apply(member, items.into_iter().filter(|item| !self.runs(item)).collect())
                    .await
            }
            Action::Renew { member } => {
                // Stopped first: a run that is cut off here leaves a stopped member, and none that
                // runs with less than its file says.
                self.forget(member);
                self.stop(member).await?;
                self.bring_up(member, None).await
            }
        }
    }

    /// True for the part that is the server.
    fn runs(&self, item: &Item) -> bool {
        match &item.resource {
            Resource::Container(container) => container.name == self.settings.server,
            Resource::Unit(unit) => unit.name == self.settings.server,
            _ => false,
        }
    }

    /// Brings everything of a member about, and waits until it listens.
    async fn bring_up(&self, member: &str, begins: Option<&Begins>) -> Result<(), String> {
        let mut items = self.reach.plan_of_any(member)?.items;
        if let Some(begins) = begins {
            self.begin_with(&mut items, begins)?;
        }
        self.apply(member, items).await?;
        self.listens(member).await
    }

    /// Puts into the member's file what it begins with.
    fn begin_with(&self, items: &mut [Item], begins: &Begins) -> Result<(), String> {
        let config = &self.settings.config;
        let file: Option<&mut File> = items.iter_mut().find_map(|item| match &mut item.resource {
            Resource::File(file) if file.path == *config => Some(file),
            _ => None,
        });
        let file = file.ok_or_else(|| format!("no part of a member is the file {config}"))?;
        let text = std::str::from_utf8(file.content.as_bytes()).map_err(|e| e.to_string())?;
        let port = self.settings.peer_port;
        file.content = Content::from(beginning(text, &begins.members, port, begins.how)?);
        Ok(())
    }

    async fn apply(&self, member: &str, items: Vec<Item>) -> Result<(), String> {
        self.forget(member);
        self.reach.apply(member, items).await
    }

    /// Waits until the server listens; one that waits for the others listens too.
    async fn listens(&self, member: &str) -> Result<(), String> {
        let address = self.reach.address(member)?;
        let listens = until(LISTEN, LOOK_EVERY, async || {
            let status = call(gateway::STATUS, &json!({}));
            match self.ask::<Value>(member, address, status).await {
                Err(NoAnswer::Down) => Look::Continue(String::new()),
                _ => Look::Break(()),
            }
        });
        if listens.await.is_err() {
            let words = self.last_words(member).await;
            return Err(format!("etcd does not listen after {} s{words}", LISTEN.as_secs()));
        }
        Ok(())
    }

    /// The last lines that the server logged.
    async fn last_words(&self, member: &str) -> String {
        let server = &self.settings.server;
        let argv: &[&str] = match self.settings.runtime {
            Runtime::Container => &["docker", "logs", "--tail", "20", server],
            Runtime::Native => &["journalctl", "-u", server, "-n", "20", "-o", "cat"],
        };
        let Ok(ran) = self.reach.hosts.run(member, program(argv)).await else {
            return String::new();
        };
        let text = format!("{}{}", ran.stdout, ran.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.iter().rev().take(WORDS).rev();
        last.fold(String::new(), |all, line| format!("{all}\n{line}"))
    }

    async fn stop(&self, member: &str) -> Result<(), String> {
        let server = &self.settings.server;
        let argv: &[&str] = match self.settings.runtime {
            Runtime::Container => &["docker", "stop", "--time", STOP_S, server],
            Runtime::Native => &["systemctl", "stop", "--", server],
        };
        let spec = ExecSpec { timeout_ms: LONG_MS, ..program(argv) };
        self.reach.checked_as(member, spec).await.map(drop)
    }

    /// Stops the server so that nothing but a run starts it again, and keeps what is in its data
    /// directory under another name (E3).
    async fn set_aside(&self, member: &str) -> Result<(), String> {
        self.forget(member);
        let server = &self.settings.server;
        let argv: &[&str] = match self.settings.runtime {
            Runtime::Container => &["docker", "rm", "-f", server],
            Runtime::Native => &["systemctl", "disable", "--now", "--", server],
        };
        let spec = ExecSpec { timeout_ms: LONG_MS, ..program(argv) };
        let ran = self.reach.hosts.run(member, spec).await?;
        let absent = ["No such container", "does not exist", "not loaded"];
        if !ran.success && !absent.iter().any(|text| ran.stderr.contains(text)) {
            return Err(format!("{} cannot be stopped: {}", server, ran.stderr.trim()));
        }
        let data = self.reach.plan_of_any(member)?.data;
        if !self.reach.on_disk(member, &[]).await?.data {
            return Ok(());
        }
        let aside = format!("{data}.aside.{}", crate::event::now_ms());
        self.reach.checked(member, &["mv", "-T", "--", &data, &aside]).await.map(drop)
    }

    /// Asks the member that leads.
    async fn tell_leader(
        &self,
        observation: &Observation,
        path: &str,
        body: &Value,
    ) -> Result<(), String> {
        let leader = observation.leader().ok_or("nobody leads any more")?;
        let asked = self.ask::<Value>(&leader.name, leader.address, call(path, body)).await;
        asked.map(drop).map_err(|error| format!("etcd on {}: {error}", leader.name))
    }

    /// Has the list of members changed. etcd refuses for some seconds after a member came or went,
    /// and until a learner has everything. `done` is how it says that nothing is left to do: the
    /// answer to an earlier try may have been lost.
    async fn change_list(
        &self,
        observation: &Observation,
        path: &str,
        body: &Value,
        done: fn(&str) -> bool,
        limit: Duration,
    ) -> Result<(), String> {
        until_within(limit, LOOK_EVERY * 5, async || {
            match self.tell_leader(observation, path, body).await {
                Ok(()) => Look::Break(Ok(())),
                Err(error) if done(&error) => Look::Break(Ok(())),
                Err(error) => Look::Continue(error),
            }
        })
        .await
    }

    async fn add(&self, observation: &Observation, member: &Named) -> Result<(), String> {
        let url = format!("http://{}:{}", member.address, self.settings.peer_port);
        let body = json!({ "peerURLs": [url], "isLearner": true });
        let done = |said: &str| said.contains("Peer URLs already exists");
        self.change_list(observation, gateway::ADD, &body, done, CHANGE).await
    }

    /// Lets another member lead, and waits until it does.
    async fn move_leader(&self, from: &str, to: &str, id: u64) -> Result<(), String> {
        let body = json!({ "targetID": id.to_string() });
        let address = self.reach.address(from)?;
        self.ask::<Value>(from, address, call(gateway::MOVE_LEADER, &body))
            .await
            .map_err(|error| format!("etcd on {from}: {error}"))?;
        let address = self.reach.address(to)?;
        until_within(MOVE, LOOK_EVERY, async || {
            let asked = call(gateway::STATUS, &json!({}));
            match self.ask::<gateway::Status>(to, address, asked).await {
                Ok(status) if status.leader == id => Look::Break(Ok(())),
                Ok(_) => Look::Continue(format!("{to} does not lead yet")),
                Err(error) => Look::Continue(format!("etcd on {to}: {error}")),
            }
        })
        .await
    }

    /// Saves all keys to a file on a member's host, and keeps the newest few.
    async fn save(&self, member: &str) -> Result<(), String> {
        let folder = self.settings.snapshots.trim_end_matches('/');
        let file = format!("{folder}/etcd-{}.db", crate::event::now_ms());
        let endpoint = format!("http://127.0.0.1:{}", self.settings.client_port);
        let save = ["etcdctl", "--endpoints", &endpoint, "snapshot", "save", &file];
        let argv: Vec<&str> = match self.settings.runtime {
            Runtime::Container => {
                let inside = ["docker", "exec", "-e", "ETCDCTL_API=3", &self.settings.server];
                inside.into_iter().chain(save).collect()
            }
            Runtime::Native => ["env", "ETCDCTL_API=3"].into_iter().chain(save).collect(),
        };
        let spec = ExecSpec { timeout_ms: LONG_MS, ..program(&argv) };
        self.reach.checked_as(member, spec).await?;
        self.saved.set(true);
        let list = ["find", folder, "-maxdepth", "1", "-type", "f", "-name", "etcd-*.db"];
        let mut all: Vec<String> =
            self.reach.checked(member, &list).await?.lines().map(str::to_owned).collect();
        // Their names end with the time, which has as many digits for centuries.
        all.sort_unstable();
        let old = all.len().saturating_sub(self.settings.keep_snapshots.max(1));
        if old > 0 {
            let mut argv = vec!["rm", "-f", "--"];
            argv.extend(all.iter().take(old).map(String::as_str));
            self.reach.checked(member, &argv).await?;
        }
        Ok(())
    }

    /// Something was done on a member: it is compared with its role again.
    fn forget(&self, member: &str) {
        self.stale.borrow_mut().remove(member);
    }
}
