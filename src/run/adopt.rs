//! `strata adopt`: clusters that strata did not make become known to it; nothing of them changes.

use super::ending::{AGAIN, Ending};
use super::underway::Underway;
use super::{Exit, Request};
use crate::cluster::{self, FleetHosts, Members, Records};
use crate::event::EventKind;
use crate::fleet::{Events, Stop};

/// Adopts the clusters of the layers.
pub async fn adopt(request: &Request<'_>, events: &Events, stop: &Stop) -> (Exit, String) {
    let run = match Underway::begin(request, events, stop).await {
        Ok(run) => run,
        Err(end) => return end,
    };
    let site = request.site;
    let mut ending = Ending::new(stop);
    let mut adopted = 0;
    for layer in &request.layers {
        for (role, cluster) in cluster::clusters_of(site, layer) {
            if stop.wished() {
                break;
            }
            let hosts = site.groups.get(&cluster.members.0).map(|group| group.hosts.clone());
            let hosts = hosts.unwrap_or_default();
            ending.add(run.reach(&hosts).await, String::new());
            let members = Members::connected(site, &run.resolver, &run.fleet, role, cluster);
            let through = FleetHosts::quiet(&run.fleet);
            let records = Records::new(&site.root);
            match cluster::adopt(&members, cluster, &through, &records).await {
                Ok(differing) => {
                    adopted += 1;
                    let mut text = format!("  cluster {} adopted as it is", role.name);
                    for line in differing {
                        text.push_str(&format!("\n      differs from its role: {line}"));
                    }
                    events.emit(EventKind::Note { text });
                }
                Err(reason) => ending.add(
                    Exit::Refused,
                    format!(
                        "cluster `{}` was not adopted: {reason}; nothing was changed",
                        role.name
                    ),
                ),
            }
        }
    }
    run.fleet.close().await;
    let done = match adopted {
        0 => "no cluster in these layers".to_owned(),
        count => {
            format!("{count} adopted; `strata install --check` shows what an install would change")
        }
    };
    ending.finish(&done, AGAIN, events).await
}
