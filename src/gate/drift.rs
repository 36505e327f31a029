//! What would change on hosts now, one answer a host: the look of the test `converged`, for those
//! who want to know who differs in what rather than a verdict.

use super::scenario::converged;
use super::waive;
use crate::event::{Drifted, LastWanted, WaivedDifference};
use crate::fleet::Fleet;
use crate::gate::Context;
use crate::site::waiver::Waivers;
use futures::stream::{self, StreamExt};

/// What a look at a host came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The host.
    pub host: String,
    /// What would change, `role › step: what`; or why it could not be looked at.
    pub differences: Result<Vec<String>, String>,
}

/// Looks at every step of the layer on every selected host.
pub async fn look(context: &Context<'_>, fleet: &Fleet) -> Vec<Looked> {
    let looks = context.hosts.iter().map(|host| async move {
        let differences = match fleet.session(host) {
            None => Err("it is not connected".to_owned()),
            Some(session) => match converged::plan_of(context, host, &session) {
                Ok(plan) => converged::differences(&session, plan).await,
                Err(reason) => Err(reason),
            },
        };
        Looked { host: host.clone(), differences }
    });
    stream::iter(looks).buffered(64).collect().await
}

impl Looked {
    /// The differences as an audit tells them, those that are waived apart; `None` where the host
    /// is as wanted or could not be looked at.
    pub fn drifted(&self, waivers: &Waivers, since: Option<LastWanted>) -> Option<Drifted> {
        let found = self.differences.as_ref().ok().filter(|found| !found.is_empty())?;
        let (mut differences, mut waived) = (Vec::new(), Vec::new());
        let today = waive::today();
        for difference in found.iter().cloned() {
            match waive::of_difference(waivers, &self.host, &difference, today) {
                Some(waiving) => waived.push(WaivedDifference { difference, waiving }),
                None => differences.push(difference),
            }
        }
        Some(Drifted { place: self.host.clone(), differences, waived, since })
    }
}
