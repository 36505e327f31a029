//! Looks at every member.

use super::RabbitMq;
use super::failing::{Ends, Failing, last_end, last_words};
use super::management::{Management, Unanswered};
use super::settings::host;
use super::view::{Member, Observation, Seen, Server, Stale, View};
use crate::cluster::{container_of, program};
use crate::resource::Resource;
use crate::site::Host;
use std::collections::BTreeSet;

/// Lines at the end of a container's log that may tell why it does not start.
const LOG_LINES: &str = "12";

/// The same once it ended: a crash prints more after what led to it.
const LAST_LINES: &str = "80";

impl RabbitMq<'_> {
    /// One look at everything.
    pub(super) async fn look(&self) -> Observation {
        let hosts = self.reach.members.hosts();
        let looks = hosts.iter().map(|host| self.look_at(host));
        let members = futures::future::join_all(looks).await;
        Observation { record: self.reach.records.read(self.reach.members.name()), members }
    }

    async fn look_at(&self, host: &Host) -> Member {
        let seen = self.seen(host).await;
        Member { name: host.name.clone(), address: host.address, seen }
    }

    async fn seen(&self, host: &Host) -> Result<Seen, String> {
        let (disk, container) =
            futures::join!(self.reach.on_disk(&host.name, &[]), self.container(&host.name));
        let (disk, container) = (disk?, container?);
        let server = self.server(host, &container).await;
        let stale = match container.is_empty() {
            true => Stale::default(),
            false => self.compare(&host.name).await?,
        };
        let taken = match server {
            Server::Down => self.listeners(&host.name).await?,
            _ => Vec::new(),
        };
        let container = !container.is_empty();
        Ok(Seen { marker: disk.marker, data: disk.data, container, server, taken, stale })
    }

    /// Who listens on a node's ports.
    async fn listeners(&self, host: &str) -> Result<Vec<String>, String> {
        let ports = self.settings.ports().map(|port| format!(":{port}"));
        let mut argv = vec!["ss", "-Hltnp"];
        for (index, port) in ports.iter().enumerate() {
            argv.extend(["or"].iter().take(index.min(1)));
            argv.extend(["sport", "=", port]);
        }
        Ok(self.reach.checked(host, &argv).await?.lines().map(listener).collect())
    }

    /// The state of the member's container in the engine's words; empty where there is none.
    async fn container(&self, host: &str) -> Result<String, String> {
        let name = format!("name=^/{}$", self.settings.container);
        let argv = ["docker", "ps", "-a", "--filter", &name, "--format", "{{.State}}"];
        Ok(self.reach.checked(host, &argv).await?.trim().to_owned())
    }

    /// RabbitMQ on a member.
    pub(super) async fn server_of(&self, member: &str) -> Result<Server, String> {
        let hosts = self.reach.members.hosts();
        let host = hosts.iter().find(|host| host.name == member);
        let host = host.ok_or_else(|| format!("{member} is no member"))?;
        Ok(self.server(host, &self.container(member).await?).await)
    }

    async fn server(&self, host: &Host, state: &str) -> Server {
        if ["", "created", "exited", "dead"].contains(&state) {
            return Server::Down;
        }
        match self.view(host).await {
            Ok(view) => Server::Up(view),
            Err(Unanswered::Refuses(why)) => Server::Refuses(why),
            Err(Unanswered::Unready(why)) => Server::Unready(why),
            Err(Unanswered::Down) => match self.ends(&host.name).await {
                Some(ends) => {
                    let words = self.log(&host.name, LAST_LINES, last_end).await;
                    Server::Fails(Failing { ends, words: words.unwrap_or_default() })
                }
                None => {
                    let said = self.log(&host.name, LOG_LINES, last_words).await;
                    let said = said.map(|words| format!(": {words}")).unwrap_or_default();
                    Server::Unready(format!("its container is {state}{said}"))
                }
            },
        }
    }

    /// The ends of a node that ends again and again.
    async fn ends(&self, host: &str) -> Option<Ends> {
        let argv = ["docker", "inspect", "-f", Ends::FORMAT, &self.settings.container];
        let ends = Ends::read(&self.reach.checked(host, &argv).await.ok()?)?;
        let mut counted = self.restarts.borrow_mut();
        // Whoever starts it by hand makes the engine count anew.
        let first = counted.entry(host.to_owned()).or_insert(ends.restarts);
        *first = ends.restarts.min(*first);
        ends.again_and_again(*first).then_some(ends)
    }

    /// What `read` finds in the last lines of a node's log.
    async fn log(
        &self,
        host: &str,
        lines: &str,
        read: fn(&str) -> Option<String>,
    ) -> Option<String> {
        let argv = ["docker", "logs", "--tail", lines, &self.settings.container];
        let said = self.reach.hosts.run(host, program(&argv)).await.ok()?;
        read(&said.stdout).or_else(|| read(&said.stderr))
    }

    async fn view(&self, at: &Host) -> Result<View, Unanswered> {
        let management = self.management(&at.name, at.address);
        let nodes = management.nodes().await?;
        let names = |of: &dyn Fn(&&super::management::Node) -> bool| -> BTreeSet<String> {
            nodes.iter().filter(of).map(|node| host(&node.name).to_owned()).collect()
        };
        let own = nodes.iter().find(|node| host(&node.name) == at.name);
        let own = own.ok_or_else(|| {
            let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            Unanswered::Unready(format!("it knows only {}", known.join(", ")))
        })?;
        let running = names(&|node| node.running);
        Ok(View {
            cluster: management.cluster_id().await?,
            nodes: names(&|_| true),
            partitions: own.partitions.iter().map(|node| host(node).to_owned()).collect(),
            alarms: management.alarms().await?,
            drained: own.being_drained,
            features: management.unused_features().await?,
            uncopied: management.uncopied(&running).await?,
            undeclared: management.undeclared().await?,
            running,
        })
    }

    pub(super) fn management<'b>(
        &'b self,
        member: &'b str,
        address: std::net::Ipv4Addr,
    ) -> Management<'b> {
        Management { reach: self.reach, settings: &self.settings, member, address }
    }

    /// What differs from the role on a member, looked at once until something is done there.
    async fn compare(&self, member: &str) -> Result<Stale, String> {
        if let Some(known) = self.stale.borrow().get(member) {
            return Ok(known.clone());
        }
        let plan = self.reach.plan_of_any(member)?;
        let mut stale = Stale::default();
        for (item, why) in self.reach.differing(member, &plan.items).await? {
            match &item.resource {
                Resource::File(file) if file.path == self.settings.cookie => stale.cookie = true,
                resource if container_of(resource).is_some() => stale.container.push(why),
                _ => stale.files.push(why),
            }
        }
        self.stale.borrow_mut().insert(member.to_owned(), stale.clone());
        Ok(stale)
    }
}

/// A line of `ss -ltnp`: the address with its port, and the program with its process id.
fn listener(line: &str) -> String {
    let mut fields = line.split_whitespace().skip(3);
    let (address, program) = (fields.next().unwrap_or("?"), fields.nth(1).unwrap_or_default());
    let words = program.trim_start_matches("users:((").trim_end_matches("))");
    let words: Vec<&str> = words.split(',').take(2).map(|word| word.trim_matches('"')).collect();
    format!("{address} ({})", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::listener;

    #[test]
    fn whoever_has_a_port_is_named() {
        let line = "LISTEN 0 4096 0.0.0.0:4369 0.0.0.0:* users:((\"epmd\",pid=812,fd=3))";
        assert_eq!(listener(line), "0.0.0.0:4369 (epmd, pid=812)");
        assert_eq!(listener("LISTEN 0 4096 *:4369 *:*"), "*:4369 ()");
    }
}
