//! Looks at every member.

use super::Etcd;
use super::gateway::{self, Status, call};
use super::settings::{Runtime, differs_in_its_beginning_only};
use super::view::{Member, Observation, Seen, Server, Stale, View};
use crate::cluster::{NoAnswer, container_of};
use crate::http_client::Request;
use crate::resource::{Item, Resource};
use crate::site::Host;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

impl Etcd<'_> {
    /// One look at everything. Members that have not been compared with their role since something
    /// was done there are compared now.
    pub(super) async fn look(&self) -> Observation {
        let hosts = self.reach.members.hosts();
        let members = futures::future::join_all(hosts.iter().map(|host| self.look_at(host))).await;
        let record = self.reach.records.read(self.reach.members.name());
        let mut observation = Observation { record, members, saved: self.saved.get() };
        let compared = observation.members.iter().map(|member| self.compare(member));
        let compared = futures::future::join_all(compared).await;
        for (member, stale) in observation.members.iter_mut().zip(compared) {
            match (stale, &mut member.seen) {
                (Ok(stale), Ok(seen)) => seen.stale = stale,
                (Err(error), seen) => *seen = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
        observation
    }

    async fn look_at(&self, host: &Host) -> Member {
        let (disk, server) = futures::join!(self.disk(&host.name), self.server(host));
        let seen = disk.map(|seen| Seen { server, ..seen });
        Member { name: host.name.clone(), address: host.address, seen }
    }

    /// Which of the member's files are there, and its marker.
    async fn disk(&self, member: &str) -> Result<Seen, String> {
        let log = format!("{}/member/wal", self.reach.plan_of_any(member)?.data);
        let config = &self.settings.config;
        let disk = self.reach.on_disk(member, &[&log, config]).await?;
        Ok(Seen {
            marker: disk.marker,
            data: disk.paths.contains(&log),
            anything: disk.data,
            config: disk.paths.contains(config),
            server: Server::Down,
            stale: Stale::default(),
        })
    }

    async fn server(&self, host: &Host) -> Server {
        match self.view(host).await {
            Ok(view) => Server::Up(view),
            Err(NoAnswer::Down) => Server::Down,
            Err(NoAnswer::Unready(why)) => Server::Unready(why),
        }
    }

    async fn view(&self, host: &Host) -> Result<View, NoAnswer> {
        let (name, address) = (&host.name, host.address);
        let status: Status = self.ask(name, address, call(gateway::STATUS, &json!({}))).await?;
        let leader = (status.leader != 0).then_some(status.leader);
        let mut view = View {
            cluster: status.header.cluster_id,
            id: status.header.member_id,
            leader,
            learner: status.learner,
            index: status.index,
            applied: status.applied,
            trouble: None,
            alarms: status.alarms(),
            list: Vec::new(),
        };
        // A member without a vote answers nothing else.
        if status.learner {
            return Ok(view);
        }
        let list = call(gateway::MEMBERS, &json!({}));
        let list: gateway::Members = self.ask(name, address, list).await?;
        view.list = list.members;
        if leader.is_some() {
            let agreed = self.ask::<serde_json::Value>(name, address, gateway::agreed_read()).await;
            view.trouble = agreed.err().map(|error| error.to_string());
        }
        Ok(view)
    }

    /// Asks a member from its own host.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        member: &str,
        address: Ipv4Addr,
        request: Request,
    ) -> Result<T, NoAnswer> {
        let to = SocketAddr::new(IpAddr::V4(address), self.settings.client_port);
        let answer = self.reach.http(member, to, request).await?;
        Ok(answer.succeeded()?.read()?)
    }

    /// What differs from the role on a member, looked at once until something is done there.
    async fn compare(&self, member: &Member) -> Result<Stale, String> {
        let Some(seen) = member.view() else { return Ok(Stale::default()) };
        if !matches!(seen.server, Server::Up(_)) {
            return Ok(Stale::default());
        }
        if let Some(known) = self.stale.borrow().get(&member.name) {
            return Ok(known.clone());
        }
        let plan = self.reach.plan_of_any(&member.name)?;
        let mut stale = Stale::default();
        for (item, why) in self.reach.differing(&member.name, &plan.items).await? {
            if self.needs_a_start(&member.name, item).await? {
                stale.server.push(why);
            } else {
                stale.files.push(why);
            }
        }
        self.stale.borrow_mut().insert(member.name.clone(), stale.clone());
        Ok(stale)
    }

    /// True for what a running server does not take over by itself.
    async fn needs_a_start(&self, member: &str, item: &Item) -> Result<bool, String> {
        match &item.resource {
            Resource::File(file) if file.path == self.settings.config => {
                let found = self.reach.checked(member, &["cat", "--", &file.path]).await?;
                let wanted = String::from_utf8_lossy(file.content.as_bytes());
                Ok(!differs_in_its_beginning_only(&found, &wanted))
            }
            resource if container_of(resource).is_some() => Ok(true),
            Resource::Unit(unit) => Ok(unit.name == self.settings.server),
            Resource::Package(_) => Ok(self.settings.runtime == Runtime::Native),
            _ => Ok(false),
        }
    }
}
