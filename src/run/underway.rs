//! A run that has begun: what all of its layers share.

use super::{Exit, Request};
use crate::diag::Diagnostics;
use crate::fleet::{Events, Fleet, Stop};
use crate::plan::Resolver;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A run that has begun.
pub(super) struct Underway<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) resolver: Resolver<'a>,
    pub(super) fleet: Fleet,
    /// A place for each host that may be at work, of whatever layer.
    pub(super) places: Semaphore,
    pub(super) events: &'a Events,
    pub(super) stop: &'a Stop,
}

impl<'a> Underway<'a> {
    /// Begins a run; no host is connected yet.
    ///
    /// # Errors
    /// How the run ends at once: its journal cannot be written.
    pub(super) async fn begin(
        request: &'a Request<'a>,
        events: &'a Events,
        stop: &'a Stop,
    ) -> Result<Self, (Exit, String)> {
        if let Some(refusal) = no_journal(events).await {
            return Err(refusal);
        }
        // What is wrong in a template was reported when the site was read.
        let mut problems = Diagnostics::new();
        let resolver = Resolver::new(request.site, Arc::clone(&request.secrets), &mut problems);
        let resolver = resolver.knowing(request.found);
        let places = Semaphore::new(request.connection.parallel.max(1));
        Ok(Self { request, resolver, fleet: Fleet::default(), places, events, stop })
    }

    /// Connects hosts that are not connected yet.
    pub(super) async fn connect(&self, hosts: &[String]) {
        let Request { site, connection, .. } = self.request;
        self.fleet.connect(site, hosts, connection, self.events, self.stop).await;
    }

    /// As [`Self::connect`]; gives the worst of what hosts come to that cannot be used.
    pub(super) async fn reach(&self, hosts: &[String]) -> Exit {
        self.connect(hosts).await;
        let problems = hosts.iter().filter_map(|host| self.fleet.problem(host));
        problems.map(Exit::from).fold(Exit::Done, Exit::worse)
    }
}

/// Why a run does not begin: its journal cannot be written.
pub(super) async fn no_journal(events: &Events) -> Option<(Exit, String)> {
    let error = events.flush().await.err()?;
    let reason = format!("the journal cannot be written ({error}); no host was touched");
    Some((Exit::Internal, reason))
}
