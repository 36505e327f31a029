//! Records a cluster that another made, and lets members go for a while.

use super::PatroniCluster;
use super::decide::{decide, formed, missing};
use super::renew::candidate;
use super::view::Observation;
use crate::cluster::Technology;

impl PatroniCluster<'_> {
    /// Hands leadership over if this member leads; only a whole cluster lets a member go.
    pub(super) async fn give_up(&self, host: &str) -> Result<bool, String> {
        let observation = self.look().await;
        if let Some(missing) = self.missing(&observation, &decide(&observation, &self.wanted)) {
            return Err(missing);
        }
        let Some(leader) = observation.leader().filter(|leader| leader.name == host) else {
            return Ok(false);
        };
        let to = candidate(&observation, leader, &self.wanted)
            .ok_or("no standby has everything that was acknowledged: nobody could take over")?;
        self.hand_over(host, &to).await?;
        Ok(true)
    }

    /// Looks, marks and records; gives what differs from the role, one line a member.
    pub(super) async fn take_over(&self) -> Result<Vec<String>, String> {
        let observation = self.look().await;
        let marker = self.wanted.marker.clone();
        let formed = formed(&observation, &marker);
        let (record, members) = formed.as_if_ours(&observation.record, &observation.members)?;
        let pretended =
            Observation { record: Ok(Some(record.clone())), members, ..observation.clone() };
        // What differs from the role is left for an install to show and mend.
        if let Some(missing) = missing(&pretended, &decide(&pretended, &self.wanted)) {
            return Err(missing);
        }
        for member in &observation.members {
            self.reach.mark(&member.name, &marker).await?;
        }
        self.reach.records.write(&record)?;
        let mut differing: Vec<String> = observation
            .members
            .iter()
            .filter_map(|member| {
                let stale = &member.view()?.stale;
                let differing = [stale.files.clone(), stale.daemon.clone()].concat().join(", ");
                (!differing.is_empty()).then(|| format!("{}: {differing}", member.name))
            })
            .collect();
        differing.extend(observation.dynamic.iter().map(|name| format!("setting {name}")));
        differing.extend(observation.objects.iter().cloned());
        Ok(differing)
    }
}
