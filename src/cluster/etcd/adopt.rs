//! Records a cluster that another made.

use super::Etcd;
use super::action::Action;
use super::decide::{decide, missing, record_of};
use super::view::Observation;
use crate::cluster::{Formation, Marker};

impl Etcd<'_> {
    /// Looks, marks and records; gives what differs from the role, one line a member.
    pub(super) async fn take_over(&self) -> Result<Vec<String>, String> {
        let observation = self.look().await;
        let marker = self.wanted.marker.clone();
        let pretended = as_if_ours(&observation, &marker)?;
        // What differs from the role is left for an install to show and mend.
        if let Some(missing) = missing(&pretended, &decide(&pretended, &self.wanted)) {
            return Err(missing);
        }
        for member in &observation.members {
            let mark = Action::Mark { member: member.name.clone(), marker: marker.clone() };
            self.perform(&mark, &observation).await?;
        }
        self.reach.records.write(&record_of(&pretended, marker, Formation::Complete))?;
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

/// The look as it would be with a record and markers of ours.
fn as_if_ours(observation: &Observation, marker: &Marker) -> Result<Observation, String> {
    if let Some(record) = observation.record.clone()? {
        return Err(format!("it is known already, as cluster {}", record.marker.id));
    }
    let mut pretended = observation.clone();
    for member in &mut pretended.members {
        let Ok(seen) = &mut member.seen else { continue };
        match &seen.marker {
            Ok(None) => seen.marker = Ok(Some(marker.clone())),
            Ok(Some(other)) => {
                return Err(format!(
                    "{} has a marker of cluster {}: an install restores its record",
                    member.name, other.id
                ));
            }
            Err(_) => {}
        }
    }
    pretended.record = Ok(Some(record_of(&pretended, marker.clone(), Formation::Complete)));
    Ok(pretended)
}
