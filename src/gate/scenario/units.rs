//! Units of systemd: what the roles enable is enabled and active, and nothing has failed.

use super::converged::plan_of;
use super::{Finding, Surroundings};
use crate::gate::{bounds, probe};
use crate::plan::HostPlan;
use crate::resource::{Resource, ServiceState};
use crate::site::Site;
use crate::ssh::AgentSession;
use serde::Deserialize;
use std::time::Duration;

/// A unit that was started a moment ago gets this long.
const SETTLE: Duration = Duration::from_secs(5);

/// Which units are looked at beside those of the roles.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Units that must be enabled and active although no role names them. Default: none.
    #[serde(default)]
    also: Vec<String>,
    /// Units that may have failed. Default: none.
    #[serde(default)]
    may_fail: Vec<String>,
}

/// A unit and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    enabled: bool,
    active: bool,
}

/// Looks at every host.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let expected = "every unit of the roles enabled and active, none failed";
    surroundings
        .on_each(expected, |host, session| {
            let plan = plan_of(surroundings.context, &host, &session);
            let site = surroundings.context.site;
            let bounds = &bounds;
            async move {
                let look = Look::of(site, &plan?, bounds);
                let settled = probe::wait_until(SETTLE, || async {
                    let wrong = look.wrong(&session).await?;
                    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
                })
                .await;
                Ok(settled.err().into_iter().collect())
            }
        })
        .await
}

/// What to look at on one host.
pub struct Look {
    wanted: Vec<Wanted>,
    may_fail: Vec<String>,
}

impl Look {
    /// The look of the test `units`, with its bounds, for another test of the same layer; `None`
    /// when the layer does not have it.
    pub fn of_layer(surroundings: &Surroundings<'_>, plan: &HostPlan) -> Option<Self> {
        let context = surroundings.context;
        let test = context
            .layer
            .place
            .iter()
            .filter_map(|placement| context.site.gates.get(&placement.role))
            .flatten()
            .find(|test| test.name == "units")?;
        Some(Self::of(context.site, plan, &bounds::typed(test).ok()?))
    }

    fn of(site: &Site, plan: &HostPlan, bounds: &Bounds) -> Self {
        let also = |name: &String| Wanted { name: name.clone(), enabled: true, active: true };
        let items = plan.batches.iter().flat_map(|batch| &batch.work.items);
        let mut wanted: Vec<Wanted> = items.filter_map(|item| wanted(&item.resource)).collect();
        wanted.extend(bounds.also.iter().map(also));
        let mut may_fail = bounds.may_fail.clone();
        may_fail.extend(left_out(site));
        Self { wanted, may_fail }
    }

    /// What is wrong on the session's host.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub async fn wrong(&self, session: &AgentSession) -> Result<Vec<String>, String> {
        let list = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"];
        let mut wrong = failed(&probe::output(session, &list).await?, &self.may_fail);
        if !self.wanted.is_empty() {
            let mut argv = vec![
                "systemctl",
                "show",
                "--property=LoadState",
                "--property=ActiveState",
                "--property=UnitFileState",
                "--",
            ];
            argv.extend(self.wanted.iter().map(|unit| unit.name.as_str()));
            wrong.extend(not_as_wanted(&probe::output(session, &argv).await?, &self.wanted));
        }
        Ok(wrong)
    }
}

/// What a resource wants of a unit, if it wants it to run.
fn wanted(resource: &Resource) -> Option<Wanted> {
    let (name, enabled, state) = match resource {
        Resource::Service(service) => (&service.name, service.enabled, service.state),
        Resource::Unit(unit) => (&unit.name, unit.enabled, unit.state),
        _ => return None,
    };
    let enabled = enabled == Some(true);
    let active = matches!(state, Some(ServiceState::Started | ServiceState::Restarted));
    (enabled || active).then(|| Wanted { name: name.clone(), enabled, active })
}

/// The units of the steps that a rehearsal leaves out, whatever the layer: nothing was done for them,
/// and what their packages started says nothing.
fn left_out(site: &Site) -> Vec<String> {
    let steps =
        site.roles.values().flat_map(|role| role.steps.iter().map(move |step| (role, step)));
    let left_out = steps.filter(|(role, step)| {
        let of_units = matches!(step.kind.as_str(), "service" | "unit");
        of_units && site.exceptions.step(&role.name, &step.name).is_some()
    });
    left_out
        .filter_map(|(_, step)| {
            let name = step.body.entries()?.iter().find(|entry| entry.key == "name")?;
            name.node.as_str().map(ToOwned::to_owned)
        })
        .collect()
}

/// The failed units of a listing that may not fail.
fn failed(listing: &str, may_fail: &[String]) -> Vec<String> {
    let bare = |name: &str| name.strip_suffix(".service").unwrap_or(name).to_owned();
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| *word != "●"))
        .filter(|unit| !may_fail.iter().any(|allowed| bare(allowed) == bare(unit)))
        .map(|unit| format!("{unit} has failed"))
        .collect()
}

/// What of `systemctl show`, one block a unit in the order asked for, is not as wanted.
fn not_as_wanted(text: &str, wanted: &[Wanted]) -> Vec<String> {
    let blocks: Vec<&str> = text.trim().split("\n\n").collect();
    if blocks.len() != wanted.len() {
        return vec![format!("systemd described {} of {} units", blocks.len(), wanted.len())];
    }
    let mut wrong = Vec::new();
    for (unit, block) in wanted.iter().zip(blocks) {
        let property = |key: &str| {
            block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or("")
        };
        let name = &unit.name;
        let load = property("LoadState");
        if load != "loaded" {
            wrong.push(format!("{name} is {}", if load.is_empty() { "unknown" } else { load }));
            continue;
        }
        // The words of units that nobody can enable count as enabled: others start them.
        let file = property("UnitFileState");
        let starts = matches!(
            file,
            "enabled" | "linked" | "static" | "indirect" | "generated" | "alias" | "transient"
        );
        if unit.enabled && !starts {
            wrong.push(format!("{name} does not start at boot: {file}"));
        }
        let active = property("ActiveState");
        if unit.active && !matches!(active, "active" | "reloading") {
            wrong.push(format!("{name} is {active}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> Wanted {
        Wanted { name: name.into(), enabled: true, active: true }
    }

    #[test]
    fn a_unit_must_be_there_start_at_boot_and_run() {
        let wanted = [unit("ssh"), unit("a"), unit("b"), unit("c"), unit("d.timer")];
        let text = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n\
                    LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n\n\
                    LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n\n\
                    LoadState=not-found\nActiveState=inactive\nUnitFileState=\n\n\
                    LoadState=loaded\nActiveState=activating\nUnitFileState=static\n";
        assert_eq!(
            not_as_wanted(text, &wanted),
            [
                "a is inactive",
                "b does not start at boot: disabled",
                "c is not-found",
                "d.timer is activating"
            ]
        );
    }

    #[test]
    fn an_answer_about_fewer_units_is_no_answer() {
        let text = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n";
        assert_eq!(not_as_wanted(text, &[unit("a")]), [""; 0]);
        assert_eq!(
            not_as_wanted(text, &[unit("a"), unit("b")]),
            ["systemd described 1 of 2 units"]
        );
        assert_eq!(not_as_wanted("", &[unit("a")]), ["a is unknown"]);
    }

    #[test]
    fn only_what_may_fail_may_have_failed() {
        let listing = "auditd.service loaded failed failed Audit\n\
                       ● x.timer not-found failed failed X\n";
        assert_eq!(failed(listing, &["auditd".into()]), ["x.timer has failed"]);
        assert_eq!(failed(listing, &["auditd.service".into(), "x.timer".into()]), [""; 0]);
        assert_eq!(failed(listing, &["audit".into()]).len(), 2);
        assert_eq!(failed("", &[]), [""; 0]);
    }

    #[test]
    fn a_stopped_or_untouched_service_is_not_wanted_to_run() {
        let service = |enabled, state| {
            wanted(&Resource::Service(crate::resource::Service {
                name: "s".into(),
                state,
                enabled,
                masked: None,
            }))
        };
        assert_eq!(service(Some(true), Some(ServiceState::Started)), Some(unit("s")));
        assert_eq!(service(Some(false), Some(ServiceState::Stopped)), None);
        assert_eq!(service(None, None), None);
        let only_enabled = service(Some(true), None).unwrap();
        assert!(only_enabled.enabled && !only_enabled.active);
    }
}
