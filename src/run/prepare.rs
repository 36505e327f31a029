//! What is found out about a layer on all its hosts before the first change on any of them: that
//! every image can be had, which files are missing, and that no cluster forbids the run.

use super::clusters;
use super::images::{LackingFiles, Supply};
use super::layer::LayerWork;
use super::underway::Underway;
use super::{Exit, Tally};
use crate::diag::Diagnostics;
use crate::image::{HostImages, Preflight, SiteFile, WantedFile};
use crate::plan::{HostPlan, StepFilter};
use crate::resource::{Artifact, Item, Mode, Resource};
use crate::ssh::AgentSession;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl LayerWork<'_> {
    /// Looks at everything, then brings the images to the hosts. `Err` stops the layer before its
    /// first change.
    pub(super) async fn prepare(&self, hosts: &[String]) -> Result<Tally, (Exit, String)> {
        let members = clusters::members_of(self);
        let (images, files) = (self.wants_images(hosts), self.wants_files(hosts));
        if members.is_empty() && !images && !files {
            return Ok(Tally::default());
        }
        let everyone: BTreeSet<String> = hosts.iter().cloned().chain(members).collect();
        let everyone: Vec<String> = everyone.into_iter().collect();
        self.run.connect(&everyone).await;
        if self.run.stop.wished() {
            return Err((Exit::stopped(self.run.stop), String::new()));
        }
        let preflight = if self.run.request.steps.is_part() {
            Preflight::default()
        } else {
            self.images(hosts).await?
        };
        let tally = clusters::look(self).await?;
        if self.run.request.mode == Mode::Apply {
            let files = if files { self.lacking(hosts).await? } else { BTreeMap::new() };
            self.load(&preflight, &files).await?;
        }
        Ok(tally)
    }

    /// True when a role of the layer names an image: then all hosts are looked at before one is
    /// changed.
    fn wants_images(&self, hosts: &[String]) -> bool {
        !self.run.request.steps.is_part() && self.has_steps(hosts, &["image", "container"])
    }

    /// True when a role of the layer has a large file.
    fn wants_files(&self, hosts: &[String]) -> bool {
        self.has_steps(hosts, &["artifact"])
    }

    fn has_steps(&self, hosts: &[String], kinds: &[&str]) -> bool {
        let roles =
            self.layer.place.iter().filter_map(|at| self.run.request.site.roles.get(&at.role));
        let mut steps = roles.flat_map(|role| &role.steps);
        !hosts.is_empty() && steps.any(|step| kinds.contains(&step.kind.as_str()))
    }

    /// What each host's plan is, as far as `steps` goes. What does not fit the facts is reported where
    /// the host is converged.
    fn plans(
        &self,
        hosts: &[String],
        steps: &StepFilter,
    ) -> impl Iterator<Item = (Arc<AgentSession>, HostPlan)> {
        hosts.iter().filter_map(move |name| {
            let session = self.run.fleet.session(name)?;
            let host = self.run.request.site.hosts.get(name)?;
            let mut unheard = Diagnostics::new();
            let (facts, mode) = (&session.hello().facts, Mode::Check);
            let plan = self.run.resolver.host(host, self.layer, steps, facts, mode, &mut unheard);
            Some((session, plan))
        })
    }

    /// The files that hosts lack.
    async fn lacking(&self, hosts: &[String]) -> Result<LackingFiles, (Exit, String)> {
        let folder = self.run.request.site.artifacts.folder();
        let plans = self.plans(hosts, &self.run.request.steps);
        let wanted = plans.map(|(session, plan)| {
            let files = files_of(&plan).map(|artifact| WantedFile {
                path: artifact.path.clone(),
                file: SiteFile {
                    place: folder.join(&artifact.source),
                    sha256: artifact.sha256.clone(),
                },
            });
            (session.host().to_owned(), files.collect::<Vec<_>>())
        });
        let wanted = wanted.filter(|(_, files)| !files.is_empty()).collect();
        self.supply().lacking(&wanted).await.map_err(|problem| {
            let layer = &self.layer.name;
            let hint = problem.hint();
            (Exit::StepFailed, format!("layer `{layer}`: {problem}; nothing was changed ({hint})"))
        })
    }

    async fn images(&self, hosts: &[String]) -> Result<Preflight, (Exit, String)> {
        let all = StepFilter::ALL;
        let plans = self.plans(hosts, &all);
        let wanted = plans.map(|(session, plan)| {
            let images = images_of(&plan);
            HostImages { session, images }
        });
        let wanted: Vec<HostImages> = wanted.filter(|host| !host.images.is_empty()).collect();
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

    async fn load(
        &self,
        preflight: &Preflight,
        files: &LackingFiles,
    ) -> Result<(), (Exit, String)> {
        let supplied = self.supply().bring(preflight, files).await;
        let failed = supplied.iter().filter(|one| one.result.is_err()).count();
        if self.run.stop.wished() {
            return Err((Exit::stopped(self.run.stop), String::new()));
        }
        if failed == 0 {
            return Ok(());
        }
        let layer = &self.layer.name;
        Err((
            Exit::StepFailed,
            format!("layer `{layer}`: {failed} images or files could not be brought"),
        ))
    }
}

fn items_of(plan: &HostPlan) -> impl Iterator<Item = &Arc<Item>> {
    plan.batches.iter().chain(&plan.members).flat_map(|batch| {
        let work = &batch.work;
        work.items.iter().chain(&work.handlers)
    })
}

/// The large files that a host's plan asks for.
fn files_of(plan: &HostPlan) -> impl Iterator<Item = &Artifact> {
    items_of(plan).filter_map(|item| match &item.resource {
        Resource::Artifact(artifact) => Some(artifact),
        _ => None,
    })
}

/// The names of all images that a host's plan asks for.
fn images_of(plan: &HostPlan) -> Vec<String> {
    let names: BTreeSet<&str> = items_of(plan)
        .filter_map(|item| match &item.resource {
            Resource::Image(image) => Some(image.name.as_str()),
            Resource::Container(container) => container.image.as_deref(),
            _ => None,
        })
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
