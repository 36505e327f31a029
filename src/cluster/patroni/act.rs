//! Does what was decided.

use super::action::Action;
use super::settings::{Runtime, is_daemon, lacking};
use super::view::{Observation, Patroni};
use super::{PatroniCluster, objects, rest, store};
use crate::cluster::reach::program;
use crate::cluster::until::{Look, until};
use crate::plan::ClusterFacts;
use crate::resource::Item;
use crate::wire::ExecSpec;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// How long Patroni may take to listen after its start.
const LISTEN: Duration = Duration::from_secs(90);

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long an answer may take that is given at once.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a restart of PostgreSQL may take: a checkpoint, and the recovery of what came after it.
const RESTART: Duration = Duration::from_secs(600);

/// Seconds that a daemon has to stop in good order.
const STOP_S: &str = "120";

/// Milliseconds that it may take to stop and to move data aside.
const STOP_MS: u32 = 200_000;

impl PatroniCluster<'_> {
    pub(super) async fn perform(
        &self,
        action: &Action,
        observation: &Observation,
    ) -> Result<(), String> {
        match action {
            Action::Record(record) => self.reach.records.write(record),
            Action::Mark { member, marker } => self.reach.mark(member, marker).await,
            Action::Form { member } | Action::Join { member } => {
                let record = observation.record.clone()?;
                let marker = record.ok_or("there is no record of this cluster")?.marker;
                self.reach.mark(member, &marker).await?;
                self.bring_about(member, matches!(action, Action::Form { .. })).await
            }
            Action::Start { member } | Action::Renew { member } => {
                self.bring_about(member, false).await
            }
            Action::SetAside { member } => self.set_aside(member).await,
            Action::Configure { .. } => self.configure(observation).await,
            Action::Declare { .. } => {
                let leader = observation.leader().ok_or("nobody leads any more")?;
                self.memory.borrow_mut().objects.clear();
                objects::bring_about(&self.reach, &leader.name, leader.address, &self.settings)
                    .await
            }
            Action::Write { member } => self.write(member).await,
            Action::Restart { member } => self.restart(member, observation).await,
            Action::HandOver { from, to } => self.hand_over(from, to).await,
        }
    }

    /// Brings a member about with everything that it consists of, and waits until Patroni listens.
    async fn bring_about(&self, member: &str, forming: bool) -> Result<(), String> {
        self.forget(member);
        let address = self.reach.address(member)?;
        let plan = self.reach.plan(member, ClusterFacts { leader: address, forming })?;
        self.reach.apply(member, plan.items).await?;
        let answers = until(LISTEN, LOOK_EVERY, async || {
            match rest::status(&self.reach, member, address, &self.settings).await {
                Patroni::Up(_) => Look::Break(()),
                Patroni::Down => Look::Continue("nobody listens".to_owned()),
                Patroni::Unready(why) => Look::Continue(why),
            }
        });
        let Err(reason) = answers.await else { return Ok(()) };
        let said = self.last_words(member).await;
        Err(format!("Patroni does not answer after {} s: {reason}{said}", LISTEN.as_secs()))
    }

    /// The last lines of the daemon's log, where there are any.
    async fn last_words(&self, member: &str) -> String {
        let daemon = self.settings.daemon.as_str();
        let argv: &[&str] = match self.settings.runtime {
            Runtime::Container => &["docker", "logs", "--tail", "8", daemon],
            Runtime::Native => &["journalctl", "--no-pager", "-o", "cat", "-n", "8", "-u", daemon],
        };
        match self.reach.hosts.run(member, program(argv)).await {
            Ok(ran) => format!("\n{}{}", ran.stdout, ran.stderr).trim_end().to_owned(),
            Err(_) => String::new(),
        }
    }

    /// Stops a member and keeps its data under another name, if another copy has room beside it.
    async fn set_aside(&self, member: &str) -> Result<(), String> {
        self.forget(member);
        let data = self.reach.plan_of_any(member)?.data;
        let slow = |argv: &[&str]| ExecSpec { timeout_ms: STOP_MS, ..program(argv) };
        let size = self.reach.checked_as(member, slow(&["du", "-sB1", "--", &data])).await?;
        let room = ["df", "-B1", "--output=avail", "--", &data];
        let room = self.reach.checked(member, &room).await?;
        let number = |text: &str| text.split_whitespace().find_map(|word| word.parse::<u64>().ok());
        let (size, room) = (number(&size).unwrap_or(u64::MAX), number(&room).unwrap_or(0));
        if size >= room {
            return Err(format!(
                "its data has {size} bytes and {room} are free: there is no room for a second copy beside it"
            ));
        }
        let daemon = self.settings.daemon.as_str();
        let stop: &[&str] = match self.settings.runtime {
            Runtime::Container => &["docker", "stop", "--time", STOP_S, daemon],
            Runtime::Native => &["systemctl", "stop", daemon],
        };
        self.reach.checked_as(member, slow(stop)).await?;
        let aside = format!("{data}.aside.{}", crate::event::now_ms());
        self.reach.checked(member, &["mv", "-T", "--", &data, &aside]).await.map(drop)
    }

    /// Sets what differs of Patroni's dynamic settings, and waits until every member has read it.
    async fn configure(&self, observation: &Observation) -> Result<(), String> {
        let leader = observation.leader().ok_or("nobody leads any more")?;
        let wanted = self.dynamic(&leader.name)?;
        let (_, live) = store::read(&self.reach, &leader.name, &self.settings).await?;
        let patch = lacking(&wanted, &live);
        if patch.is_null() {
            return Ok(());
        }
        let request = (Method::PATCH, "/config", &patch);
        rest::ask(&self.reach, &leader.name, &self.settings, request, ANSWER).await?;
        let members = observation.members.iter().filter(|member| member.status().is_some());
        let rounds = members.map(|member| self.two_rounds(&member.name));
        futures::future::try_join_all(rounds).await.map(drop)
    }

    /// Writes a member's files; Patroni and PostgreSQL read them while they run.
    async fn write(&self, member: &str) -> Result<(), String> {
        self.forget(member);
        let address = self.reach.address(member)?;
        let plan = self.reach.plan(member, ClusterFacts { leader: address, forming: false })?;
        let files: Vec<Item> =
            plan.items.into_iter().filter(|item| !is_daemon(&item.resource)).collect();
        self.reach.apply(member, files).await?;
        let request = (Method::POST, "/reload", &json!({}));
        rest::ask(&self.reach, member, &self.settings, request, ANSWER).await?;
        self.two_rounds(member).await
    }

    /// Waits until Patroni has begun two rounds: the first may have been under way before, and
    /// after the second one it has read what it was told to.
    async fn two_rounds(&self, member: &str) -> Result<(), String> {
        let limit = Duration::from_secs(4 * self.settings.loop_wait + 30);
        let (mut last, mut rounds) = (None, 0);
        let begun = until(limit, LOOK_EVERY, async || {
            let at = match rest::last_round(&self.reach, member, &self.settings).await {
                Ok(at) => at,
                Err(error) => return Look::Continue(error),
            };
            if last.replace(at).is_some_and(|last| at > last) {
                rounds += 1;
            }
            match rounds {
                2.. => Look::Break(()),
                _ => Look::Continue(format!("it has begun {rounds} of two new rounds")),
            }
        });
        begun.await.map_err(|reason| {
            let seconds = limit.as_secs();
            format!("Patroni on {member} has not read its settings after {seconds} s: {reason}")
        })
    }

    /// Restarts PostgreSQL on a member.
    async fn restart(&self, member: &str, observation: &Observation) -> Result<(), String> {
        self.forget(member);
        let request = (Method::POST, "/restart", &json!({}));
        rest::ask(&self.reach, member, &self.settings, request, RESTART).await?;
        let mut memory = self.memory.borrow_mut();
        if observation.leader().is_some_and(|leader| leader.name == member) {
            memory.restarted.clear();
        } else {
            memory.restarted.insert(member.to_owned());
        }
        Ok(())
    }

    /// Hands leadership over, and waits until the other one leads.
    pub(super) async fn hand_over(&self, from: &str, to: &str) -> Result<(), String> {
        self.forget(from);
        self.forget(to);
        let limit = Duration::from_secs(2 * self.settings.loop_wait.max(10) + 10);
        let wish = json!({ "leader": from, "candidate": to });
        let ask = || {
            let request: (Method, &str, &Value) = (Method::POST, "/switchover", &wish);
            rest::ask(&self.reach, from, &self.settings, request, limit)
        };
        // Whether the other one is fit is seen by Patroni a round later than by a look: once more.
        let mut refused = ask().await.err();
        if refused.is_some() && !self.leads(to).await {
            refused = ask().await.err();
        }
        let leads = until(limit, LOOK_EVERY, async || match self.leads(to).await {
            true => Look::Break(()),
            false => Look::Continue("it is not seen to lead".to_owned()),
        });
        leads.await.map_err(|reason| {
            let why = refused.unwrap_or(reason);
            format!("{to} does not lead after {} s: {why}", limit.as_secs())
        })
    }

    async fn leads(&self, member: &str) -> bool {
        let Ok(address) = self.reach.address(member) else { return false };
        let status = rest::status(&self.reach, member, address, &self.settings);
        let store = store::read(&self.reach, member, &self.settings);
        let (status, store) = futures::join!(status, store);
        let locks = store.is_ok_and(|(store, _)| store.leader.as_deref() == Some(member));
        locks && matches!(status, Patroni::Up(status) if status.runs() && status.primary)
    }

    /// Something was done on a member: it is compared with its role again.
    fn forget(&self, member: &str) {
        let mut memory = self.memory.borrow_mut();
        memory.stale.remove(member);
        memory.stopped.remove(member);
        memory.proved.remove(member);
        memory.failing.remove(member);
    }
}
