//! `strata audit`: everything that strata owns is looked at and nothing is changed: every step of
//! every layer, what the site asks of each host, every cluster, and the diag tests.
//!
//! The records of gates stay as they are: a look by itself proves no layer and takes no proof away.

use super::ending::{Ending, no_journal};
use super::{Exit, Request};
use crate::cluster::{self, FleetHosts, Intent, Members, Records};
use crate::diag::Diagnostics;
use crate::event::{Audited, Drifted, EventKind, GateVerdict, LastWanted, TestKind};
use crate::fleet::{Events, Fleet, Stop};
use crate::gate;
use crate::plan::Resolver;
use crate::resource::Batch;
use crate::site::Layer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// When hosts were last as wanted, by layer and host.
pub type Since = BTreeMap<(String, String), LastWanted>;

/// Looks at all selected layers, also when one has drifted; the worst is the exit.
pub async fn audit(
    request: &Request<'_>,
    since: &Since,
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    if let Some(refusal) = no_journal(events).await {
        return refusal;
    }
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(request.site, Arc::clone(&request.secrets), &mut problems);
    let fleet = Fleet::default();
    let mut ending = Ending::new(stop);
    for layer in &request.layers {
        let Some(hosts) = ending.hosts_of_next(layer, request, events).await else { break };
        if hosts.is_empty() || stop.wished() {
            continue;
        }
        let audit = Audit { request, layer, resolver: &resolver, fleet: &fleet, events, stop };
        audit.layer(&hosts, since, &mut ending).await;
    }
    fleet.close().await;
    ending.finish("everything is as wanted", events).await
}

struct Audit<'a> {
    request: &'a Request<'a>,
    layer: &'a Layer,
    resolver: &'a Resolver<'a>,
    fleet: &'a Fleet,
    events: &'a Events,
    stop: &'a Stop,
}

impl Audit<'_> {
    async fn layer(&self, hosts: &[String], since: &Since, ending: &mut Ending<'_>) {
        let site = self.request.site;
        let connection = &self.request.connection;
        self.fleet.connect(site, hosts, connection, self.events, self.stop).await;
        for host in hosts {
            ending.add(self.fleet.problem(host).map_or(Exit::Done, Exit::from), String::new());
        }
        let name = &self.layer.name;
        let context = gate::Context {
            site,
            layer: self.layer,
            hosts,
            resolver: self.resolver,
            connection,
            records: &self.request.records,
            run: &self.request.run,
            only: &self.tests(),
            keep: false,
        };
        let looked = tokio::select! {
            looked = gate::look(&context, self.fleet) => looked,
            () = self.stop.now() => return,
        };
        let mut audited = Audited::default();
        for one in looked {
            let known = since.get(&(name.clone(), one.host.clone())).cloned();
            audited.drifted.extend(one.drifted(&site.waivers, known));
            match &one.differences {
                Ok(_) => audited.looked_at.push(one.host),
                Err(reason) => {
                    if self.fleet.problem(&one.host).is_none() {
                        let text = format!("  {}  could not be looked at: {reason}", one.host);
                        self.events.emit(EventKind::Note { text });
                        ending.add(Exit::Unreachable, String::new());
                    }
                    audited.not_looked_at.push(one.host);
                }
            }
        }
        audited.drifted.extend(self.clusters(hosts, ending).await);
        let differences = audited.differences();
        if differences > 0 {
            let what = if differences == 1 { "difference" } else { "differences" };
            let text = format!("{differences} {what} in layer `{name}`");
            ending.add(Exit::Differences, text);
        }
        self.events.emit(EventKind::LayerAudited { layer: name.clone(), audited });
        // Tests ask those who answer: that the others do not is said already.
        let answering: Vec<String> =
            hosts.iter().filter(|host| self.fleet.session(host).is_some()).cloned().collect();
        if self.stop.wished() || context.only.is_empty() || answering.is_empty() {
            return;
        }
        let context = gate::Context { hosts: &answering, ..context };
        let kinds = vec![TestKind::Diag];
        let judged = gate::run(&context, kinds, self.fleet, self.events, self.stop).await;
        match judged.map(|judged| (judged.verdict, judged.cut_short)) {
            Ok((GateVerdict::Green | GateVerdict::GreenWithWaivers, _)) => {}
            Ok((GateVerdict::Red, true)) => ending.add(
                Exit::stopped(self.stop),
                format!("the diag tests of `{name}` were not finished"),
            ),
            Ok((GateVerdict::Red, false)) => {
                ending.add(Exit::GateRed, format!("diag tests of `{name}` are red"));
            }
            Ok((GateVerdict::NotHealed, _)) => ending.add(
                Exit::NotHealed,
                format!("a fault injected by the gate of `{name}` could not be healed"),
            ),
            Err(error) => ending.add(Exit::Internal, format!("the gate of `{name}`: {error}")),
        }
    }

    /// The diag tests but for the one whose look the audit makes itself.
    fn tests(&self) -> Vec<String> {
        let tests = gate::names_of(self.request.site, self.layer, &[TestKind::Diag]);
        tests.into_iter().filter(|test| *test != gate::CONVERGED).map(str::to_owned).collect()
    }

    /// What drivers would do to the clusters that have a member among the hosts. A cluster is
    /// looked at whole.
    async fn clusters(&self, hosts: &[String], ending: &mut Ending<'_>) -> Vec<Drifted> {
        let site = self.request.site;
        let mut drifted = Vec::new();
        for (role, cluster) in cluster::clusters_of(site, self.layer) {
            let Some(group) = site.groups.get(&cluster.members.0) else { continue };
            if !group.hosts.iter().any(|host| hosts.contains(host)) || self.stop.wished() {
                continue;
            }
            let connection = &self.request.connection;
            self.fleet.connect(site, &group.hosts, connection, self.events, self.stop).await;
            let members = Members::connected(site, self.resolver, self.fleet, role, cluster);
            let quiet = |_: &str, _: &Batch, _: &crate::resource::ItemReport| {};
            let reached = FleetHosts::new(self.fleet, &quiet);
            let records = Records::new(&site.root);
            let report = match cluster::look(&members, cluster, &reached, &records).await {
                Ok(report) => report,
                Err(error) => {
                    ending.add(Exit::Refused, format!("cluster `{}`: {error}", role.name));
                    continue;
                }
            };
            self.events.emit(EventKind::ClusterFound {
                layer: self.layer.name.clone(),
                cluster: role.name.clone(),
                state: report.state.to_string(),
                found: report.found.clone(),
            });
            let differences = match report.next {
                Intent::Nothing => continue,
                Intent::Act(actions) => actions,
                Intent::Wait(reason) => vec![format!("not settled: {reason}")],
                Intent::Refuse(reason, hint) => {
                    let text = format!("  {reason}\n      hint: {hint}");
                    self.events.emit(EventKind::Note { text });
                    let why = format!("cluster `{}` is {}: {reason}", role.name, report.state);
                    ending.add(Exit::Refused, why);
                    continue;
                }
            };
            let place = format!("cluster {}", role.name);
            drifted.push(Drifted { place, differences, waived: Vec::new(), since: None });
        }
        drifted
    }
}
