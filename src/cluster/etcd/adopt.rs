//! Records a cluster that another made.

use super::Etcd;
use super::action::Action;
use super::decide::{decide, formed, missing};
use super::view::Observation;

impl Etcd<'_> {
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
            let mark = Action::Mark { member: member.name.clone(), marker: marker.clone() };
            self.perform(&mark, &observation).await?;
        }
        self.reach.records.write(&record)?;
        Ok(observation
            .members
            .iter()
            .filter_map(|member| {
                let stale = &member.view()?.stale;
                let differing = [stale.files.as_slice(), &stale.server].concat().join(", ");
                (!differing.is_empty()).then(|| format!("{}: {differing}", member.name))
            })
            .collect())
    }
}
