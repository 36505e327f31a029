//! One owner per thing: two steps of one host that decide over the same thing are an error.

use super::resolve::{HostPlan, SITE_ROLE};
use crate::diag::{Code, Diagnostic, Diagnostics, Span};
use crate::resource::Share;
use std::collections::BTreeMap;

/// Who decides over what on one host, over as many layers as are given.
#[derive(Default)]
pub struct Owners(BTreeMap<String, Vec<Owner>>);

struct Owner {
    role: String,
    step: String,
    share: Share,
    place: Option<Span>,
}

impl Owners {
    /// Adds the steps of a plan; whoever undoes another's work is reported. The same step in two
    /// layers is one owner.
    pub fn add(&mut self, plan: &HostPlan, problems: &mut Diagnostics) {
        for batch in plan.batches.iter().chain(&plan.members) {
            for (item, place) in batch.work.items.iter().zip(&batch.places) {
                for claim in item.resource.claims() {
                    let owner = Owner {
                        role: batch.work.role.clone(),
                        step: item.name.clone(),
                        share: claim.share,
                        place: place.clone(),
                    };
                    self.claim(claim.thing, owner, problems);
                }
            }
        }
    }

    fn claim(&mut self, thing: String, owner: Owner, problems: &mut Diagnostics) {
        let Some(others) = self.0.get_mut(&thing) else {
            self.0.insert(thing, vec![owner]);
            return;
        };
        if others.iter().any(|other| (&other.role, &other.step) == (&owner.role, &owner.step)) {
            return;
        }
        if let Some(first) = others.iter().find(|other| other.share.conflicts(owner.share)) {
            problems.push(conflict(&thing, first, &owner));
        }
        others.push(owner);
    }
}

fn conflict(thing: &str, first: &Owner, second: &Owner) -> Diagnostic {
    let mut problem =
        Diagnostic::error(Code::RESOURCE_OWNER, format!("two steps own {thing} on the same host"));
    if let Some(place) = &second.place {
        problem = problem.at(place.clone(), "second owner");
    }
    if let Some(place) = &first.place {
        problem = problem.also(place.clone(), "first owner");
    }
    let hint = if first.role == SITE_ROLE {
        "strata itself writes it on every host, from what the whole site asks for: leave it out"
    } else if Share::Whole.conflicts(first.share) && first.share != second.share {
        "one writes the whole of it and undoes the other's part: put both into one step"
    } else {
        "one owner per thing: give it to one role"
    };
    problem.hint(hint)
}
