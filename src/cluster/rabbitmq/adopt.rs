//! Records a cluster that another made.

use super::RabbitMq;
use super::decide::{decide, formed, missing};
use super::view::Observation;

impl RabbitMq<'_> {
    /// Looks, marks and records; gives what differs from the role, one line a member.
    pub(super) async fn take_over(&self) -> Result<Vec<String>, String> {
        let observation = self.look().await;
        let formed = formed(&observation, &self.wanted.marker);
        let (record, members) = formed.as_if_ours(&observation.record, &observation.members)?;
        let pretended = Observation { record: Ok(Some(record.clone())), members };
        // What differs from the role is left for an install to show and mend.
        if let Some(missing) = missing(&pretended, &decide(&pretended, &self.wanted)) {
            return Err(missing);
        }
        for member in &observation.members {
            self.reach.mark(&member.name, &self.wanted.marker).await?;
        }
        self.reach.records.write(&record)?;
        Ok(observation
            .members
            .iter()
            .filter_map(|member| {
                let differing = member.view()?.stale.reasons().join(", ");
                (!differing.is_empty()).then(|| format!("{}: {differing}", member.name))
            })
            .collect())
    }
}
