//! What is found out about a layer on all its hosts before the first change on any of them: that
//! every image can be had, and that no cluster forbids the run.

use super::clusters;
use super::images::Supply;
use super::layer::LayerWork;
use super::underway::Underway;
use super::{Exit, Tally};
use crate::diag::Diagnostics;
use crate::image::{HostImages, Preflight};
use crate::plan::{HostPlan, StepFilter};
use crate::resource::{Mode, Resource};
use std::collections::BTreeSet;

impl LayerWork<'_> {
    /// Looks at everything, then brings the images to the hosts. `Err` stops the layer before its
    /// first change.
    pub(super) async fn prepare(&self, hosts: &[String]) -> Result<Tally, (Exit, String)> {
        let members = clusters::members_of(self);
        if members.is_empty() && !self.wants_images(hosts) {
            return Ok(Tally::default());
        }
        let everyone: BTreeSet<String> = hosts.iter().cloned().chain(members).collect();
        let everyone: Vec<String> = everyone.into_iter().collect();
        self.run.connect(&everyone).await;
        if self.run.stop.wished() {
            return Err((Exit::stopped(self.run.stop), String::new()));
        }
        let preflight = self.images(hosts).await?;
        let tally = clusters::look(self).await?;
        if self.run.request.mode == Mode::Apply {
            self.load(&preflight).await?;
        }
        Ok(tally)
    }

    /// True when a role of the layer names an image: then all hosts are looked at before one is
    /// changed.
    fn wants_images(&self, hosts: &[String]) -> bool {
        let roles =
            self.layer.place.iter().filter_map(|at| self.run.request.site.roles.get(&at.role));
        let mut steps = roles.flat_map(|role| &role.steps);
        !hosts.is_empty()
            && !self.run.request.steps.is_part()
            && steps.any(|step| matches!(step.kind.as_str(), "image" | "container"))
    }

    async fn images(&self, hosts: &[String]) -> Result<Preflight, (Exit, String)> {
        let wanted: Vec<HostImages> = hosts
            .iter()
            .filter_map(|name| {
                let session = self.run.fleet.session(name)?;
                let host = self.run.request.site.hosts.get(name)?;
                // What does not fit the facts is reported where the host is converged.
                let mut unheard = Diagnostics::new();
                let facts = &session.hello().facts;
                let (all, mode) = (StepFilter::ALL, Mode::Check);
                let plan =
                    self.run.resolver.host(host, self.layer, &all, facts, mode, &mut unheard);
                let images = images_of(&plan);
                (!images.is_empty()).then_some(HostImages { session, images })
            })
            .collect();
        let supply = self.supply();
        let preflight = supply.look(&wanted).await;
        match supply.tell_problems(&preflight) {
            0 => Ok(preflight),
            count => Err((
                Exit::Refused,
                format!(
                    "layer `{}`: {count} images cannot be had; nothing was changed",
                    self.layer.name
                ),
            )),
        }
    }

    fn supply(&self) -> Supply<'_> {
        let Underway { request, fleet, events, stop, .. } = self.run;
        Supply { site: request.site, fleet, connection: &request.connection, events, stop }
    }

    async fn load(&self, preflight: &Preflight) -> Result<(), (Exit, String)> {
        let supplied = self.supply().bring(preflight).await;
        let failed = supplied.iter().filter(|one| one.result.is_err()).count();
        if self.run.stop.wished() {
            return Err((Exit::stopped(self.run.stop), String::new()));
        }
        if failed == 0 {
            return Ok(());
        }
        let layer = &self.layer.name;
        Err((Exit::StepFailed, format!("layer `{layer}`: {failed} images could not be brought")))
    }
}

/// The names of all images that a host's plan asks for.
fn images_of(plan: &HostPlan) -> Vec<String> {
    let items = plan.batches.iter().chain(&plan.members).flat_map(|batch| {
        let work = &batch.work;
        work.items.iter().chain(&work.handlers)
    });
    let names: BTreeSet<&str> = items
        .filter_map(|item| match &item.resource {
            Resource::Image(image) => Some(image.name.as_str()),
            Resource::Container(container) => container.image.as_deref(),
            _ => None,
        })
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
