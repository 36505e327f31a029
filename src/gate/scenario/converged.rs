//! Idempotence: a second look finds nothing to change. It covers the effective value of every
//! resource: kernel settings, services, the live firewall, modes and owners.

use super::{Context, Finding, Surroundings};
use crate::diag::Diagnostics;
use crate::plan::{HostPlan, StepFilter};
use crate::resource::{Batch, ItemEvent, ItemReport, ItemSlot, Mode, Outcome};
use crate::ssh::AgentSession;
use serde::Deserialize;

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {}

/// Checks every step of the layer on every host.
pub async fn run(surroundings: Surroundings<'_>, _: Bounds) -> Finding {
    surroundings
        .on_each("no step would change anything", |host, session| {
            let plan = plan_of(surroundings.context, &host, &session);
            async move { differences(&session, plan?).await }
        })
        .await
}

/// The host's plan, to look only.
pub fn plan_of(
    context: &Context<'_>,
    host: &str,
    session: &AgentSession,
) -> Result<HostPlan, String> {
    let host = context.site.hosts.get(host).ok_or_else(|| format!("no host {host}"))?;
    let mut problems = Diagnostics::new();
    let facts = &session.hello().facts;
    let every = StepFilter::ALL;
    let plan =
        context.resolver.host(host, context.layer, &every, facts, Mode::Check, &mut problems);
    match problems.iter().next() {
        Some(problem) => Err(problem.message.clone()),
        None => Ok(plan),
    }
}

/// What would change or cannot be looked at.
///
/// # Errors
/// When the connection is lost.
pub async fn differences(session: &AgentSession, plan: HostPlan) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for batch in plan.batches {
        let work = batch.work;
        let mut lines = Vec::new();
        let described = work.clone();
        let mut seen = 0;
        let complete = session
            .converge(work, |report| {
                let step = matches!(report.slot, ItemSlot::Step(_));
                seen += usize::from(step && matches!(report.event, ItemEvent::Finished { .. }));
                lines.extend(difference(&described, report));
            })
            .await
            .map_err(|error| error.to_string())?
            .complete;
        if lines.is_empty() && (!complete || seen < described.items.len()) {
            lines.push(format!(
                "{}: only {seen} of {} steps were looked at",
                described.role,
                described.items.len()
            ));
        }
        wrong.extend(lines);
    }
    Ok(wrong)
}

/// What a report says is not as wanted.
fn difference(work: &Batch, report: ItemReport) -> Option<String> {
    let (item, prefix) = match report.slot {
        ItemSlot::Step(index) => (work.items.get(index as usize), ""),
        // A handler is looked at only when a change still waits for it.
        ItemSlot::Handler(index) => (work.handlers.get(index as usize), "waiting handler "),
    };
    let name = item.map_or("", |item| item.name.as_str());
    let ItemEvent::Finished { outcome, .. } = report.event else { return None };
    let what = match outcome {
        Outcome::Unchanged => return None,
        Outcome::Changed(changes) => {
            changes.iter().map(|change| change.what.as_str()).collect::<Vec<_>>().join(", ")
        }
        Outcome::Failed(failure) => failure.message,
    };
    Some(format!("{} › {prefix}{name}: {what}", work.role))
}
