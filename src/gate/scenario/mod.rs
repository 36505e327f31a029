//! The scenarios, one file per subject.

mod ban;
mod clock;
pub mod converged;
mod disk;
mod docker;
mod etcd;
mod names;
mod network;
mod ports;
mod postgres;
mod processor;
mod rabbitmq;
mod reboot;
mod redis;
mod space;
mod sshd;
mod throughput;
mod units;

use super::fault::Ledger;
use super::runner::Context;
use crate::event::{EventKind, Measurement, TestKind, Verdict};
use crate::fleet::{Events, Fleet, Stop};
use crate::site::GateTest;
use crate::site::deserialize::TypeError;
use crate::ssh::AgentSession;
use futures::future::LocalBoxFuture;
use futures::stream::{self, StreamExt};
use std::future::Future;
use std::sync::Arc;

/// What a scenario gets.
pub struct Surroundings<'a> {
    /// Site, layer, records.
    pub context: &'a Context<'a>,
    /// Selected hosts that have the test's role.
    pub hosts: Vec<String>,
    /// Its entry in the gate file.
    pub test: &'a GateTest,
    /// Sessions.
    pub fleet: &'a Fleet,
    /// Where faults are announced.
    pub events: &'a Events,
    /// The operator's wish to stop; looked at before each fault.
    pub stop: &'a Stop,
    /// Faults injected and not healed yet.
    pub faults: &'a Ledger,
}

/// What a scenario found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// What was wanted.
    pub expected: String,
    /// What was found.
    pub found: Vec<String>,
    /// What was measured.
    pub measured: Vec<Measurement>,
    /// True when a fault that the test injected is still there.
    pub not_healed: bool,
}

/// A scenario.
#[derive(Clone, Copy)]
pub struct ScenarioInfo {
    /// Its name in gate files.
    pub name: &'static str,
    /// Its kind.
    pub kind: TestKind,
    /// What it shows.
    pub summary: &'static str,
    /// Types its bounds.
    pub check: fn(&GateTest) -> Result<(), TypeError>,
    /// Runs it.
    pub run: for<'a> fn(Surroundings<'a>) -> LocalBoxFuture<'a, Finding>,
}

macro_rules! scenarios {
    ($($name:literal, $kind:ident, $summary:literal, $module:ident :: $function:ident, $bounds:ty;)*) => {
        /// Every scenario.
        pub const SCENARIOS: &[ScenarioInfo] = &[$(ScenarioInfo {
            name: $name,
            kind: TestKind::$kind,
            summary: $summary,
            check: |test| super::bounds::typed::<$bounds>(test).map(|_| ()),
            run: |surroundings| Box::pin(async move {
                match super::bounds::typed::<$bounds>(surroundings.test) {
                    Ok(bounds) => $module::$function(surroundings, bounds).await,
                    Err(error) => Finding::not_run(error.message),
                }
            }),
        }),*];
    };
}

scenarios! {
    "converged", Diag, "a second look finds nothing to change", converged::run, converged::Bounds;
    "sshd", Diag, "the effective settings of sshd", sshd::effective, sshd::Effective;
    "password-login", Diag, "a login by password is not even offered", sshd::password, sshd::Password;
    "names", Diag, "every name resolves to the same address on every host", names::run, names::Bounds;
    "ports-from-peers", Diag, "ports are open to whom the site opens them, and to nobody else", ports::from_peers, ports::Bounds;
    "ports-from-outside", Diag, "nothing but the site's public ports answers on public addresses", ports::from_outside, ports::Bounds;
    "listeners", Diag, "nothing listens that the site does not know", ports::listeners, ports::Listeners;
    "clock", Diag, "the hosts' clocks agree", clock::run, clock::Bounds;
    "clock-source", Diag, "the clock follows a time server closely", clock::source, clock::Source;
    "packet-size", Diag, "full-sized packets pass between all pairs of hosts", network::packet_size, network::PacketSize;
    "free-space", Diag, "disks have room", space::run, space::Bounds;
    "units", Diag, "every unit that the roles enable is enabled and active, and none has failed", units::run, units::Bounds;
    "docker-settings", Diag, "the effective settings of the container engine", docker::settings, docker::Settings;
    "docker-run", Diag, "a container runs without a registry", docker::run, docker::Run;
    "ban", Failover, "an address can be banned and is let in again", ban::run, ban::Bounds;
    "docker-restart", Failover, "containers live through a restart of the container engine", docker::restart, docker::Restart;
    "reboot", Failover, "each host comes back from a reboot as it was, one at a time", reboot::run, reboot::Bounds;
    "disk-sync", Perf, "small writes reach the disk of the data directory in time", disk::run, disk::Bounds;
    "throughput", Perf, "one TCP connection between neighbours is fast enough", throughput::run, throughput::Bounds;
    "steal", Perf, "the hypervisor does not take the processors away", processor::run, processor::Bounds;
    "etcd-health", Diag, "etcd's members are all there, agree, and have room", etcd::health, etcd::Health;
    "etcd-kill-leader", Failover, "the leader of etcd dies: another leads, and no confirmed write is lost", etcd::kill_leader, etcd::KillLeader;
    "postgres-members", Diag, "one leader, every other member streams from it, one of them synchronously", postgres::members, postgres::Members;
    "postgres-passwords", Diag, "a wrong password is refused, and applications have no powers", postgres::passwords, postgres::Login;
    "postgres-path", Diag, "every way of clients leads to the primary, with PgBouncer and without", postgres::ways, postgres::Ways;
    "haproxy-db", Diag, "every HAProxy sees one primary, and binds all addresses", postgres::backends, postgres::Backends;
    "postgres-backup", Diag, "the backup repository has a young backup, and WAL reaches it", postgres::backup, postgres::Backup;
    "postgres-switchover", Failover, "a planned change of the leader costs seconds and no write", postgres::planned, postgres::Switchover;
    "postgres-kill-leader", Failover, "the leader dies: another leads, and no acknowledged write is lost", postgres::kill_leader, postgres::Crash;
    "postgres-isolated-leader", Failover, "a leader that nobody reaches takes no write after the new one's first", postgres::isolated, postgres::Crash;
    "postgres-leader-without-etcd", Failover, "a leader that loses etcd alone goes on, and nobody takes over", postgres::without_store, postgres::WithoutStore;
    "postgres-etcd-member-down", Failover, "etcd's leader is gone: PostgreSQL does not feel it", postgres::one_down, postgres::StoreDown;
    "postgres-etcd-majority-down", Failover, "etcd has no majority: the leader goes on, and all recovers by itself", postgres::majority_down, postgres::StoreLost;
    "postgres-replicas-down", Failover, "both standbys are gone: the leader goes on alone, and is synchronous again with them", postgres::replicas_down, postgres::ReplicasDown;
    "postgres-haproxy-down", Failover, "one HAProxy is gone: the other and the balancer go on", postgres::haproxy_down, postgres::ProxyDown;
    "postgres-restore", Failover, "the newest backup is restored into a scratch server: what is lost, and how long it takes", postgres::restore, postgres::Restore;
    "postgres-load", Perf, "PostgreSQL directly, through HAProxy and through PgBouncer, and a storm of clients", postgres::load, postgres::Load;
    "rabbitmq-nodes", Diag, "the nodes of RabbitMQ run in one cluster, without alarms", rabbitmq::nodes, rabbitmq::Nodes;
    "rabbitmq-queues", Diag, "queues are quorum queues with all their copies", rabbitmq::quorum, rabbitmq::Queues;
    "rabbitmq-passwords", Diag, "a wrong password is refused, and guest is nobody", rabbitmq::passwords, rabbitmq::Login;
    "rabbitmq-path", Diag, "every way of clients leads to every node in turn", rabbitmq::ways, rabbitmq::Ways;
    "haproxy-rabbitmq", Diag, "every HAProxy sees every node up, and binds all addresses", rabbitmq::backends, rabbitmq::Ways;
    "rabbitmq-kill-leader", Failover, "the node that leads a queue dies: another leads, and no confirmed message is lost", rabbitmq::kill_leader, rabbitmq::Crash;
    "rabbitmq-partition", Failover, "a node that nobody reaches pauses, and the others go on", rabbitmq::partition, rabbitmq::Partition;
    "rabbitmq-majority-down", Failover, "without a majority nothing is confirmed, and all recovers by itself", rabbitmq::majority_down, rabbitmq::MajorityDown;
    "rabbitmq-drain", Failover, "a node that is drained and revived costs seconds and no message", rabbitmq::drain, rabbitmq::Drain;
    "rabbitmq-haproxy-down", Failover, "one HAProxy is gone: the other and the balancer go on", rabbitmq::haproxy_down, rabbitmq::ProxyDown;
    "rabbitmq-cold-start", Failover, "every node dies at once: started again, every confirmed message is there", rabbitmq::cold_start, rabbitmq::MajorityDown;
    "rabbitmq-load", Perf, "confirmed messages a second, directly and through the clients' path", rabbitmq::load, rabbitmq::Load;
    "redis-roles", Diag, "one master, every other member its replica, in step", redis::roles, redis::Roles;
    "redis-sentinels", Diag, "the Sentinels agree, and are enough for a failover", redis::sentinels, redis::Sentinels;
    "redis-auth", Diag, "a wrong password is refused, and none too", redis::auth, redis::Auth;
    "redis-settings", Diag, "the live settings of Redis", redis::settings, redis::Settings;
    "redis-config-writable", Diag, "Redis and Sentinel can write their own files", redis::rewrite, redis::Rewrite;
    "redis-path", Diag, "every way of clients leads to the master that Sentinel names", redis::paths, redis::Paths;
    "haproxy-redis", Diag, "what makes HAProxy follow the master runs, and wrote the right text", redis::follows, redis::Follows;
    "redis-kill-master", Failover, "the master dies: another leads, and no confirmed write is lost", redis::kill_master, redis::Crash;
    "redis-frozen-master", Failover, "a master that hangs with open connections is replaced, and steps down when it wakes", redis::frozen_master, redis::Crash;
    "redis-first-down", Failover, "the first member is gone, whom updaters ask first", redis::first_down, redis::FirstDown;
    "redis-isolated-master", Failover, "a master that nobody reaches stops taking writes", redis::isolated, redis::Isolated;
    "redis-no-quorum", Failover, "a minority of Sentinels makes nobody master", redis::no_quorum, redis::NoQuorum;
    "redis-hand-over", Failover, "a planned change of the master costs seconds and no write", redis::planned, redis::HandOver;
    "haproxy-down", Failover, "one HAProxy is gone: the other and the balancer go on", redis::haproxy_down, redis::ProxyDown;
    "sentinel-garbage", Failover, "Sentinels that give no sense change nothing", redis::garbage, redis::Garbage;
    "haproxy-quiet", Failover, "HAProxy does not reload while the master stays the same", redis::haproxy_quiet, redis::HaproxyQuiet;
    "redis-load", Perf, "throughput and latency of Redis, directly and through the clients' path", redis::load, redis::Load;
}

impl Finding {
    /// It could not be run.
    pub fn not_run(why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::NotRun,
            expected: "to be run".to_owned(),
            found: vec![why.into()],
            measured: Vec::new(),
            not_healed: false,
        }
    }

    /// It means nothing here.
    pub fn not_applicable(why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::NotApplicable,
            expected: "nothing here".to_owned(),
            found: vec![why.into()],
            measured: Vec::new(),
            not_healed: false,
        }
    }

    /// Pass when nothing was found to be wrong.
    pub fn of(expected: impl Into<String>, wrong: Vec<String>) -> Self {
        Self {
            verdict: if wrong.is_empty() { Verdict::Pass } else { Verdict::Fail },
            expected: expected.into(),
            found: wrong,
            measured: Vec::new(),
            not_healed: false,
        }
    }
}

impl Surroundings<'_> {
    /// Announces a fault, or its healing, and notes it.
    pub fn fault(&self, what: &str, healed: bool) {
        self.faults.note(what, healed);
        self.events.emit(EventKind::Fault {
            layer: self.context.layer.name.clone(),
            test: self.test.name.clone(),
            what: what.to_owned(),
            healed,
        });
    }

    /// Asks every host at the same time, answers in the order of the hosts.
    ///
    /// # Errors
    /// When a host has no session: the finding that the test was not run.
    pub async fn ask_each<T, F>(
        &self,
        look: impl Fn(String, Arc<AgentSession>) -> F,
    ) -> Result<Vec<(String, Result<T, String>)>, Finding>
    where
        F: Future<Output = Result<T, String>>,
    {
        let missing = self.hosts.iter().find(|host| self.fleet.session(host).is_none());
        if let Some(host) = missing {
            return Err(Finding::not_run(format!("{host} is not connected")));
        }
        let looks = self.hosts.iter().filter_map(|host| {
            let session = self.fleet.session(host)?;
            let looking = look(host.clone(), session);
            Some(async move { (host.clone(), looking.await) })
        });
        Ok(stream::iter(looks).buffered(64).collect().await)
    }

    /// Looks at every host at the same time; `look` gives what is wrong there. A host without a
    /// session makes the test not run.
    pub async fn on_each<F>(
        &self,
        expected: &str,
        look: impl Fn(String, Arc<AgentSession>) -> F,
    ) -> Finding
    where
        F: Future<Output = Result<Vec<String>, String>>,
    {
        let results = match self.ask_each(look).await {
            Ok(results) => results,
            Err(finding) => return finding,
        };
        let mut wrong: Vec<String> = results
            .into_iter()
            .flat_map(|(host, result)| {
                let lines = result.unwrap_or_else(|error| vec![error]);
                lines.into_iter().map(move |line| format!("{host}: {line}"))
            })
            .collect();
        wrong.sort();
        Finding::of(expected, wrong)
    }
}
