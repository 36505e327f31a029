//! `strata audit`: everything that strata owns is looked at and nothing is changed: every step of
//! every layer, what the site asks of each host, every cluster, and the diag tests.
//!
//! The records of gates stay as they are: a look by itself proves no layer and takes no proof away.

use super::clusters::{found, note_refusal};
use super::ending::{AGAIN, Ending};
use super::underway::Underway;
use super::{Exit, Request};
use crate::cluster::{self, Intent, Members};
use crate::event::{Audited, Drifted, EventKind, GateVerdict, LastWanted, TestKind};
use crate::fleet::{Events, Stop};
use crate::gate;
use crate::site::Layer;
use std::collections::BTreeMap;

/// When hosts were last as wanted, by layer and host.
pub type Since = BTreeMap<(String, String), LastWanted>;

/// Looks at all selected layers, also when one has drifted; the worst is the exit.
pub async fn audit(
    request: &Request<'_>,
    since: &Since,
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    let run = match Underway::begin(request, events, stop).await {
        Ok(run) => run,
        Err(end) => return end,
    };
    let mut ending = Ending::new(stop);
    for layer in &request.layers {
        let Some(hosts) = ending.hosts_of_next(layer, request, events).await else { break };
        if hosts.is_empty() || stop.wished() {
            continue;
        }
        let audit = Audit { run: &run, layer };
        audit.layer(&hosts, since, &mut ending).await;
    }
    run.fleet.close().await;
    ending.finish("everything is as wanted", AGAIN, events).await
}

struct Audit<'a> {
    run: &'a Underway<'a>,
    layer: &'a Layer,
}

impl Audit<'_> {
    async fn layer(&self, hosts: &[String], since: &Since, ending: &mut Ending<'_>) {
        let Underway { request, fleet, events, stop, .. } = self.run;
        let site = request.site;
        ending.add(self.run.reach(hosts).await, String::new());
        let name = &self.layer.name;
        let context = gate::Context {
            site,
            layer: self.layer,
            hosts,
            resolver: &self.run.resolver,
            connection: &request.connection,
            records: &request.records,
            run: &request.run,
            only: &self.tests(),
            keep: false,
        };
        let looked = tokio::select! {
            looked = gate::look(&context, fleet) => looked,
            () = stop.now() => return,
        };
        let mut audited = Audited::default();
        for one in looked {
            let known = since.get(&(name.clone(), one.host.clone())).cloned();
            audited.drifted.extend(one.drifted(&site.waivers, known));
            match &one.differences {
                Ok(_) => audited.looked_at.push(one.host),
                Err(reason) => {
                    if fleet.problem(&one.host).is_none() {
                        let text = format!("  {}  could not be looked at: {reason}", one.host);
                        events.emit(EventKind::Note { text });
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
        events.emit(EventKind::LayerAudited { layer: name.clone(), audited });
        // Tests ask those who answer: that the others do not is said already.
        let answering: Vec<String> =
            hosts.iter().filter(|host| fleet.session(host).is_some()).cloned().collect();
        if stop.wished() || context.only.is_empty() || answering.is_empty() {
            return;
        }
        let context = gate::Context { hosts: &answering, ..context };
        let kinds = vec![TestKind::Diag];
        let judged = gate::run(&context, kinds, fleet, events, stop).await;
        match judged.map(|judged| (judged.verdict, judged.cut_short)) {
            Ok((GateVerdict::Green | GateVerdict::GreenWithWaivers, _)) => {}
            Ok((GateVerdict::Red, true)) => ending
                .add(Exit::stopped(stop), format!("the diag tests of `{name}` were not finished")),
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
        let tests = gate::names_of(self.run.request.site, self.layer, &[TestKind::Diag]);
        tests.into_iter().filter(|test| *test != gate::CONVERGED).map(str::to_owned).collect()
    }

    /// What drivers would do to the clusters that have a member among the hosts. A cluster is
    /// looked at whole.
    async fn clusters(&self, hosts: &[String], ending: &mut Ending<'_>) -> Vec<Drifted> {
        let site = self.run.request.site;
        let mut drifted = Vec::new();
        for (role, cluster) in cluster::clusters_of(site, self.layer) {
            let Some(group) = site.groups.get(&cluster.members.0) else { continue };
            if !group.hosts.iter().any(|host| hosts.contains(host)) || self.run.stop.wished() {
                continue;
            }
            self.run.connect(&group.hosts).await;
            let Underway { resolver, fleet, .. } = self.run;
            let members = Members::connected(site, resolver, fleet, role, cluster);
            let report = match found(self.run, self.layer, &members, cluster).await {
                Ok(report) => report,
                Err(reason) => {
                    ending.add(Exit::Refused, reason);
                    continue;
                }
            };
            let differences = match report.next {
                Intent::Nothing => continue,
                Intent::Act(actions) => actions,
                Intent::Wait(reason) => vec![format!("not settled: {reason}")],
                Intent::Refuse(reason, hint) => {
                    note_refusal(self.run, &reason, &hint);
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
