//! Looks at every member.

use super::connection::{self, NoClient};
use super::settings::{DOWN_AFTER, HELD_MS, drift, sentinel_drift, text_of};
use super::view::{
    Member, Observation, Role, Seen, Sentinel, SentinelView, Server, ServerView, Stale,
};
use super::{RedisSentinel, leader, passwords};
use crate::cluster::{container_of, program};
use crate::plan::{ClusterFacts, MemberPlan};
use crate::redis_client::{Client, Endpoint, Quorum};
use crate::site::Host;
use std::net::Ipv4Addr;

impl RedisSentinel<'_> {
    /// One look at everything. Members that have not been compared with their role since something
    /// was done there are compared now.
    pub(super) async fn look(&self) -> Observation {
        let hosts = self.reach.members.hosts();
        let looks = hosts.iter().map(|host| self.look_at(host));
        let members = futures::future::join_all(looks).await;
        let mut observation =
            Observation { record: self.reach.records.read(self.reach.members.name()), members };
        let live = match leader::leader(&observation) {
            leader::Leader::Known(address) => address,
            _ => hosts.first().map_or(Ipv4Addr::UNSPECIFIED, |host| host.address),
        };
        let compared = observation.members.iter().map(|member| self.compare(member, live));
        let compared = futures::future::join_all(compared).await;
        for (member, stale) in observation.members.iter_mut().zip(compared) {
            match (stale, &mut member.seen) {
                (Ok(stale), Ok(seen)) => seen.stale = stale,
                (Err(error), seen) => *seen = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
        passwords::in_order(&mut observation.members);
        observation
    }

    async fn look_at(&self, host: &Host) -> Member {
        let name = host.name.clone();
        let files = self.files(&name);
        let server = self.server(host);
        let sentinel = self.sentinel(host);
        let (files, server, sentinel) = futures::join!(files, server, sentinel);
        let seen = files.map(|files| Seen { server, sentinel, ..files });
        Member { name, address: host.address, seen }
    }

    /// Which of the member's files are there, and its marker.
    async fn files(&self, host: &str) -> Result<Seen, String> {
        let (config, sentinel) = (&self.settings.config, &self.settings.sentinel_config);
        let disk = self.reach.on_disk(host, &[config, sentinel]).await?;
        Ok(Seen {
            marker: disk.marker,
            data: disk.data,
            server_config: disk.paths.contains(config),
            sentinel_config: disk.paths.contains(sentinel),
            server: Server::Down,
            sentinel: Sentinel::Down,
            stale: Stale::default(),
        })
    }

    async fn server(&self, host: &Host) -> Server {
        let connecting =
            connection::redis(self.reach.hosts, &host.name, host.address, &self.settings);
        let client = match connecting.await {
            Ok(client) => client,
            Err(NoClient::Down) => return Server::Down,
            Err(NoClient::Refuses(why)) => return Server::Refuses(why),
            Err(NoClient::Unready(why)) => return Server::Unready(why),
        };
        let info = match client.info("persistence").await {
            Ok(info) if info.get("loading") == Some("1") => {
                return Server::Unready("it loads its data".to_owned());
            }
            Ok(_) => client.replication().await,
            Err(error) => Err(error),
        };
        let replication = match info {
            Ok(replication) => replication,
            Err(error) => return Server::Unready(error.to_string()),
        };
        let role = if replication.master {
            let online = replication.replicas.iter().filter(|replica| replica.state == "online");
            Role::Master(online.filter_map(|replica| address(&replica.endpoint)).collect())
        } else {
            Role::Replica {
                of: replication.follows.as_ref().and_then(address),
                linked: replication.link_up && !replication.sync_in_progress,
            }
        };
        Server::Up(ServerView { role, replid: replication.replid, offset: replication.offset })
    }

    async fn sentinel(&self, host: &Host) -> Sentinel {
        let connecting =
            connection::sentinel(self.reach.hosts, &host.name, host.address, &self.settings);
        let client = match connecting.await {
            Ok(client) => client,
            Err(NoClient::Down) => return Sentinel::Down,
            Err(error) => return Sentinel::Unready(error.to_string()),
        };
        match self.sentinel_view(&client).await {
            Ok(view) => Sentinel::Up(view),
            Err(error) => Sentinel::Unready(error),
        }
    }

    async fn sentinel_view(&self, client: &Client) -> Result<SentinelView, String> {
        let name = &self.settings.master;
        let text = |error: crate::redis_client::Error| error.to_string();
        let master = client.sentinel_master(name).await.map_err(text)?;
        let followed = client.sentinel_master_address(name).await.map_err(text)?;
        let unsettled = ["s_down", "o_down", "failover_in_progress"]
            .iter()
            .any(|flag| master.flags.contains(*flag));
        Ok(SentinelView {
            id: client.sentinel_id().await.map_err(text)?,
            master: followed.as_ref().and_then(address),
            unsettled,
            held: master.fields.get(DOWN_AFTER).is_some_and(|after| after == HELD_MS),
            replicas: master.number("num-slaves").map_err(text)?,
            others: master.number("num-other-sentinels").map_err(text)?,
            quorum: matches!(client.sentinel_quorum(name).await.map_err(text)?, Quorum::Enough(_)),
        })
    }

    /// What differs from the role on a member, looked at once until something is done there.
    async fn compare(&self, member: &Member, live: Ipv4Addr) -> Result<Stale, String> {
        let Some(seen) = member.view() else { return Ok(Stale::default()) };
        if let Some(known) = self.stale.borrow().get(&member.name) {
            return Ok(known.clone());
        }
        if !matches!(seen.server, Server::Up(_)) {
            return Ok(Stale::default());
        }
        let facts = ClusterFacts { leader: live, forming: false };
        let plan = self.reach.plan(&member.name, facts)?;
        let mut stale = self.differing(&member.name, &plan).await?;
        self.server_settings(member, &plan, &mut stale).await;
        self.sentinel_settings(member, seen, &plan, &mut stale).await;
        self.stale.borrow_mut().insert(member.name.clone(), stale.clone());
        Ok(stale)
    }

    /// Files and containers that differ.
    async fn differing(&self, host: &str, plan: &MemberPlan) -> Result<Stale, String> {
        let mut stale = Stale::default();
        for (item, why) in self.reach.differing(host, &plan.items).await? {
            match container_of(&item.resource) {
                Some(name) if name == self.settings.sentinel => stale.sentinel.push(why),
                Some(_) => stale.server.push(why),
                None => stale.files.push(why),
            }
        }
        Ok(stale)
    }

    async fn server_settings(&self, member: &Member, plan: &MemberPlan, stale: &mut Stale) {
        let Some(text) = text_of(&plan.items, &self.settings.settings) else { return };
        let client =
            connection::redis(self.reach.hosts, &member.name, member.address, &self.settings).await;
        let Ok(client) = client else { return };
        let Ok(live) = client.config_get("*").await else { return };
        let found = drift(text, &live);
        stale.settings = found.live;
        if let Ok(accepted) = client.user_passwords(passwords::USER).await {
            let steps = passwords::of_server(&self.settings, &accepted, &live);
            stale.settings.extend(steps);
        }
        stale.at_start = found.at_start;
    }

    async fn sentinel_settings(
        &self,
        member: &Member,
        seen: &Seen,
        plan: &MemberPlan,
        stale: &mut Stale,
    ) {
        let Sentinel::Up(_) = seen.sentinel else { return };
        let Some(text) = text_of(&plan.items, &self.settings.sentinel_config) else { return };
        let client =
            connection::sentinel(self.reach.hosts, &member.name, member.address, &self.settings)
                .await;
        let Ok(client) = client else { return };
        let Ok(master) = client.sentinel_master(&self.settings.master).await else { return };
        stale.sentinel_settings = sentinel_drift(text, &self.settings.master, &master.fields);
        let script = passwords::sentinel_password(&self.settings);
        let Ok(found) = self.reach.hosts.run(&member.name, program(&script)).await else { return };
        if found.success && !passwords::is_sentinels(&self.settings, &found.stdout) {
            stale.sentinel_settings.push((passwords::WATCH.to_owned(), String::new()));
        }
    }
}

fn address(endpoint: &Endpoint) -> Option<Ipv4Addr> {
    endpoint.host.parse().ok()
}
