//! What is found out about a layer on all its hosts before the first change on any of them: that
//! every image can be had, and that no cluster forbids the run.

use super::clusters;
use super::layer::LayerWork;
use super::{Exit, Tally};
use crate::diag::Diagnostics;
use crate::event::EventKind;
use crate::image::{self, HostImages};
use crate::plan::{HostPlan, StepFilter};
use crate::resource::{Mode, Resource};
use futures::future::join_all;
use std::collections::BTreeSet;

/// Archives of images stand here, below the site's directory (X1).
const IMAGES: &str = "images";

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

    async fn images(&self, hosts: &[String]) -> Result<image::Preflight, (Exit, String)> {
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
        let directory = self.run.request.site.root.join(IMAGES);
        let preflight = image::preflight(&wanted, &directory).await;
        let problems = preflight.problems();
        if problems.is_empty() {
            return Ok(preflight);
        }
        for problem in &problems {
            let text = format!("  {problem}\n      hint: {}", problem.hint());
            self.run.events.emit(EventKind::Note { text });
        }
        Err((
            Exit::Refused,
            format!(
                "layer `{}`: {} images cannot be had; nothing was changed",
                self.layer.name,
                problems.len()
            ),
        ))
    }

    async fn load(&self, preflight: &image::Preflight) -> Result<(), (Exit, String)> {
        let loads = preflight.to_load().filter_map(|(host, bundle)| {
            let session = self.run.fleet.session(host)?;
            Some(async move { image::load(&session, bundle, std::sync::Arc::new(|_| {})).await })
        });
        let mut failed = 0;
        for result in join_all(loads).await {
            let text = match result {
                Ok(loaded) => format!(
                    "  {}  image {} loaded, {} MiB in {:.1} s",
                    loaded.host,
                    loaded.image,
                    loaded.bytes >> 20,
                    loaded.took.as_secs_f64()
                ),
                Err(problem) => {
                    failed += 1;
                    format!("  {problem}\n      hint: {}", problem.hint())
                }
            };
            self.run.events.emit(EventKind::Note { text });
        }
        if failed == 0 {
            return Ok(());
        }
        let layer = &self.layer.name;
        Err((Exit::StepFailed, format!("layer `{layer}`: {failed} images could not be loaded")))
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
