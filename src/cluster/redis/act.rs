//! Does what was decided.

use super::action::{Action, Part};
use super::connection::{self, NoClient};
use super::decide::decide;
use super::hand_over::{Node, hand_over};
use super::leader::Leader;
use super::settings::{DOWN_AFTER, HELD_MS, REDIS_DOWN_AFTER_MS, sentinel_settings, text_of};
use super::view::Observation;
use super::{RedisSentinel, leader, passwords};
use crate::cluster::until::{Look, until};
use crate::cluster::{Technology, container_of, program};
use crate::plan::{ClusterFacts, MemberPlan};
use crate::resource::{Item, Resource};
use crate::wire::ExecSpec;
use futures::future::join_all;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a daemon may take to listen after its start.
const LISTEN: Duration = Duration::from_secs(60);

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Seconds that Redis has to stop in good order.
const STOP_S: &str = "60";

/// Milliseconds that one part of a member may take.
const ITEM_MS: u32 = 300_000;

impl RedisSentinel<'_> {
    /// Hands leadership over if this member leads; only a whole cluster lets a member go.
    pub(super) async fn give_up(&self, host: &str) -> Result<bool, String> {
        let observation = self.look().await;
        if let Some(missing) = self.missing(&observation, &decide(&observation, &self.wanted)) {
            return Err(missing);
        }
        let leads = observation.members.iter().any(|member| {
            member.name == host && leader::leader(&observation) == Leader::Known(member.address)
        });
        if leads {
            self.hand_over(host, &observation).await?;
        }
        Ok(leads)
    }

    pub(super) async fn perform(
        &self,
        action: &Action,
        observation: &Observation,
    ) -> Result<(), String> {
        // Files that name the leader are written once, by `Create` alone, which carries it.
        let live = match leader::leader(observation) {
            leader::Leader::Known(address) => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let facts = |leader, forming| ClusterFacts { leader, forming };
        match action {
            Action::Record(record) => self.reach.records.write(record),
            Action::Mark { member, marker } => self.reach.mark(member, marker).await,
            Action::Create { member, leader, part, forming } => {
                let record = observation.record.clone()?;
                let marker = record.ok_or("there is no record of this cluster")?.marker;
                self.reach.mark(member, &marker).await?;
                let own = match part {
                    Part::Server => &self.settings.config,
                    Part::Sentinel => &self.settings.sentinel_config,
                };
                let facts = facts(*leader, *forming);
                self.bring_about(member, facts, Some(*part), Some(own)).await
            }
            Action::Start { member, part } => {
                self.bring_about(member, facts(live, false), Some(*part), None).await
            }
            Action::SetAside { member } => self.set_aside(member).await,
            Action::HandOver { from } => self.hand_over(from, observation).await,
            Action::Write { member } => {
                self.bring_about(member, facts(live, false), None, None).await
            }
            Action::Renew { member, part } => {
                self.renew(member, facts(live, false), *part, observation).await
            }
            Action::Set { member, settings } => {
                let client = self.redis(member).await?;
                for (name, value) in settings {
                    match passwords::is_step(name) {
                        true => passwords::step(&client, name, &self.settings).await,
                        false => client.config_set(name, value).await,
                    }
                    .map_err(|error| error.to_string())?;
                }
                self.forget(member);
                Ok(())
            }
            Action::SetSentinel { member, settings } => {
                let client = self.sentinel_client(member).await?;
                for (name, value) in settings {
                    // A password stands in no list of settings.
                    let value = match name == passwords::WATCH {
                        true => self.settings.password.expose(),
                        false => value,
                    };
                    let setting = client.sentinel_set(&self.settings.master, name, value);
                    setting.await.map_err(|error| error.to_string())?;
                }
                self.forget(member);
                Ok(())
            }
            Action::Hold { member } => {
                let client = self.sentinel_client(member).await?;
                let held = client.sentinel_set(&self.settings.master, DOWN_AFTER, HELD_MS);
                self.forget(member);
                held.await.map_err(|error| error.to_string())
            }
            Action::Release { member } => self.release(member).await,
            Action::ForgetStrangers { member } => {
                let client = self.sentinel_client(member).await?;
                let reset = client.sentinel_reset(&self.settings.master);
                reset.await.map_err(|error| error.to_string())
            }
        }
    }

    /// Brings files about, and the container of one daemon; then waits until it listens. Of the
    /// files that the daemons own only `own` is written: the other one may name a leader, and this
    /// is not the moment to choose it.
    async fn bring_about(
        &self,
        member: &str,
        facts: ClusterFacts,
        part: Option<Part>,
        own: Option<&str>,
    ) -> Result<(), String> {
        let plan = self.reach.plan(member, facts)?;
        let items = self.items_for(&plan, part, own);
        self.apply(member, items).await?;
        match part {
            Some(part) => self.listens(member, plan.address, part).await,
            None => Ok(()),
        }
    }

    /// Files, and the container of one daemon if any.
    fn items_for(&self, plan: &MemberPlan, part: Option<Part>, own: Option<&str>) -> Vec<Item> {
        let owned = [&self.settings.config, &self.settings.sentinel_config];
        let keep = |item: &&Item| match (container_of(&item.resource), part) {
            (None, _) => match &item.resource {
                Resource::File(file) if owned.contains(&&file.path) => {
                    own == Some(file.path.as_str())
                }
                _ => true,
            },
            (Some(name), Some(Part::Sentinel)) => name == self.settings.sentinel,
            (Some(name), Some(Part::Server)) => name != self.settings.sentinel,
            (Some(_), None) => false,
        };
        plan.items.iter().filter(keep).cloned().collect()
    }

    async fn apply(&self, member: &str, items: Vec<Item>) -> Result<(), String> {
        self.forget(member);
        self.reach.apply(member, items).await
    }

    /// Waits until a daemon listens.
    async fn listens(&self, member: &str, address: Ipv4Addr, part: Part) -> Result<(), String> {
        let (hosts, settings) = (self.reach.hosts, &self.settings);
        let listens = until(LISTEN, LOOK_EVERY, async || {
            let connected = match part {
                Part::Server => connection::redis(hosts, member, address, settings).await,
                Part::Sentinel => connection::sentinel(hosts, member, address, settings).await,
            };
            // It listens as soon as it says anything, also that it loads.
            match connected {
                Err(NoClient::Down) => Look::Continue("does not listen".to_owned()),
                _ => Look::Break(()),
            }
        });
        let late = |reason| format!("{part} {reason} after {} s", LISTEN.as_secs());
        listens.await.map_err(late)
    }

    /// Stops Redis on a member whose data is gone, and keeps its own file under another name, so
    /// that the member joins as a new one.
    async fn set_aside(&self, member: &str) -> Result<(), String> {
        self.forget(member);
        self.reach.checked(member, &["docker", "rm", "-f", &self.settings.server]).await?;
        let config = &self.settings.config;
        let aside = format!("{config}.aside.{}", crate::event::now_ms());
        self.reach.checked(member, &["mv", "-T", "--", config, &aside]).await.map(drop)
    }

    async fn renew(
        &self,
        member: &str,
        facts: ClusterFacts,
        part: Part,
        observation: &Observation,
    ) -> Result<(), String> {
        let seen = observation.members.iter().find(|other| other.name == member);
        let stale = seen.and_then(|member| member.view()).map(|seen| &seen.stale);
        self.bring_about(member, facts, Some(part), None).await?;
        // A setting that counts only at the start changes no container: it needs one all the same.
        let only_settings =
            part == Part::Server && stale.is_some_and(|stale| stale.server.is_empty());
        if only_settings {
            let name = &self.settings.server;
            let restart = ["docker", "restart", "--time", STOP_S, name.as_str()];
            let spec = ExecSpec { timeout_ms: ITEM_MS, ..program(&restart) };
            self.reach.checked_as(member, spec).await?;
            let address = self.reach.address(member)?;
            self.listens(member, address, part).await?;
        }
        Ok(())
    }

    async fn hand_over(&self, from: &str, observation: &Observation) -> Result<(), String> {
        let node = |name: &str| {
            observation
                .members
                .iter()
                .find(|member| member.name == name)
                .map(|member| Node { host: member.name.clone(), address: member.address })
        };
        let old = node(from).ok_or_else(|| format!("{from} is no member"))?;
        let others: Vec<Node> = observation
            .members
            .iter()
            .filter(|member| member.name != from)
            .filter_map(|member| node(&member.name))
            .collect();
        let limit = self.wanted.settle;
        hand_over(self.reach.hosts, &self.settings, &old, &others, limit).await?;
        self.follow().await
    }

    /// Clients follow now and not only when a timer has its turn. A host that cannot be told has
    /// its timer.
    async fn follow(&self) -> Result<(), String> {
        let Some(follow) = &self.settings.follow else { return Ok(()) };
        let start = ["systemctl", "start", "--", &follow.unit];
        let told = self.reach.members.group(&follow.on)?.iter().map(|host| async move {
            // One that the timer had begun before may have asked too early, and the first start
            // only joins it: how that one ended says nothing.
            self.reach.hosts.run(host, program(&start)).await?;
            self.reach.hosts.run(host, program(&start)).await
        });
        for (host, told) in self.reach.members.group(&follow.on)?.iter().zip(join_all(told).await) {
            let why = match told {
                Ok(ran) if ran.success => continue,
                Ok(ran) => ran.stderr,
                Err(error) => error,
            };
            tracing::info!(host, why, "clients follow when the timer has its turn");
        }
        Ok(())
    }

    /// Gives a Sentinel its own patience back.
    async fn release(&self, member: &str) -> Result<(), String> {
        let plan = self.reach.plan_of_any(member)?;
        let text = text_of(&plan.items, &self.settings.sentinel_config).unwrap_or_default();
        let own = sentinel_settings(text, &self.settings.master)
            .into_iter()
            .find(|(name, _)| name == DOWN_AFTER)
            .map_or_else(|| REDIS_DOWN_AFTER_MS.to_owned(), |(_, value)| value);
        let client = self.sentinel_client(member).await?;
        self.forget(member);
        let released = client.sentinel_set(&self.settings.master, DOWN_AFTER, &own);
        released.await.map_err(|error| error.to_string())
    }

    async fn redis(&self, member: &str) -> Result<crate::redis_client::Client, String> {
        let address = self.reach.address(member)?;
        connection::redis(self.reach.hosts, member, address, &self.settings)
            .await
            .map_err(|error| format!("Redis: {error}"))
    }

    async fn sentinel_client(&self, member: &str) -> Result<crate::redis_client::Client, String> {
        let address = self.reach.address(member)?;
        connection::sentinel(self.reach.hosts, member, address, &self.settings)
            .await
            .map_err(|error| format!("Sentinel: {error}"))
    }

    /// Something was done on a member: it is compared with its role again.
    fn forget(&self, member: &str) {
        self.stale.borrow_mut().remove(member);
    }
}
