//! What waivers make of a red test or of a difference. Pure, but for the day that it is.
//!
//! A waiver covers a failed test only when every line that was found is covered; a test that could
//! not be run only when it is waived as a whole. What a test did not heal is never covered.

use super::scenario::{Finding, SCENARIOS};
use crate::diag::Diagnostics;
use crate::event::{Verdict, Waiving};
use crate::plan::{SITE_ROLE, SITE_STEPS};
use crate::site::waiver::{self, Waiver, Waivers};
use crate::site::{Site, suggest};
use jiff::civil::Date;
use std::collections::BTreeSet;

/// The test that finds differences.
pub const CONVERGED: &str = "converged";

/// The day that it is, in UTC.
pub fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// The waivers that cover a red finding as a whole; none when it stays red.
pub fn of_finding(waivers: &Waivers, test: &str, finding: &Finding, today: Date) -> Vec<Waiving> {
    if finding.not_healed {
        return Vec::new();
    }
    let valid = || waivers.0.iter().filter(|waiver| !waiver.expired(today));
    let whole = valid().find(|waiver| {
        waiver.test.as_deref() == Some(test) && waiver.host.is_none() && waiver.step.is_none()
    });
    match (finding.verdict, whole) {
        (Verdict::Fail | Verdict::NotRun, Some(whole)) => vec![applied(whole)],
        (Verdict::Fail, None) => {
            let mut used = BTreeSet::new();
            for line in &finding.found {
                let Some(waiver) = valid().find(|waiver| covers(waiver, test, line)) else {
                    return Vec::new();
                };
                used.insert(applied(waiver));
            }
            used.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// The waivers of the site that count today, as gates record them where they apply.
pub fn standing(waivers: &Waivers) -> Vec<Waiving> {
    let today = today();
    waivers.0.iter().filter(|waiver| !waiver.expired(today)).map(applied).collect()
}

/// The waiver that covers a difference of a host, `role › step: what`.
pub fn of_difference(
    waivers: &Waivers,
    host: &str,
    difference: &str,
    today: Date,
) -> Option<Waiving> {
    let line = format!("{host}: {difference}");
    let covering = |waiver: &&Waiver| {
        let whole = waiver.test.as_deref() == Some(CONVERGED) && waiver.host.is_none();
        !waiver.expired(today) && (whole || covers(waiver, CONVERGED, &line))
    };
    waivers.0.iter().find(covering).map(applied)
}

/// True when one line of what a test found, `host: what`, is covered.
fn covers(waiver: &Waiver, test: &str, line: &str) -> bool {
    let Some((host, what)) = line.split_once(": ") else { return false };
    let test_fits = waiver.test.as_ref().is_none_or(|name| name == test);
    let host_fits = waiver.host.as_ref().is_none_or(|name| name == host);
    let step_fits = waiver.step.as_ref().is_none_or(|(role, step)| {
        test == CONVERGED && what.starts_with(&format!("{role} › {step}: "))
    });
    test_fits && host_fits && step_fits
}

fn applied(waiver: &Waiver) -> Waiving {
    let named =
        |what: &str, name: &Option<String>| name.as_ref().map(|name| format!("{what} {name}"));
    let step = waiver.step.as_ref().map(|(role, step)| format!("step {role} › {step}"));
    let parts = [named("test", &waiver.test), step, named("host", &waiver.host)];
    Waiving {
        covers: parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        reason: waiver.reason.clone(),
        until: waiver.until.to_string(),
        by: waiver.by.clone(),
    }
}

/// Reports waivers that cover nothing that exists, and those that have expired.
pub fn check(site: &Site, problems: &mut Diagnostics) {
    waiver::check(site, today(), problems);
    for waiver in &site.waivers.0 {
        if let Some(test) = &waiver.test
            && !site.gates.values().flatten().any(|other| other.name == *test)
        {
            let known = site.gates.values().flatten().map(|other| other.name.as_str());
            let hint = match SCENARIOS.iter().any(|scenario| scenario.name == *test) {
                true => "no role of a layer has it in its gate.toml".to_owned(),
                false => suggest::among(test, known),
            };
            let message = format!("no role's gate has the test `{test}`");
            problems.push(waiver::nothing(waiver, message).hint(hint));
        }
        let Some((role, step)) = &waiver.step else { continue };
        let steps: Vec<&str> = match site.roles.get(role) {
            _ if role == SITE_ROLE => SITE_STEPS.to_vec(),
            Some(role) => role.steps.iter().map(|step| step.name.as_str()).collect(),
            None => {
                let known = site.roles.keys().map(String::as_str).chain([SITE_ROLE]);
                let message = format!("there is no role `{role}`");
                problems.push(waiver::nothing(waiver, message).hint(suggest::among(role, known)));
                continue;
            }
        };
        if !steps.contains(&step.as_str()) {
            let message = format!("role `{role}` has no step `{step}`");
            problems.push(waiver::nothing(waiver, message).hint(suggest::among(step, steps)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Source;
    use proptest::prelude::*;

    const HOSTS: [&str; 3] = ["a", "b", "a-2"];
    const TESTS: [&str; 3] = [CONVERGED, "clock", "units"];
    const STEPS: [(&str, &str); 3] =
        [("base", "Zone"), ("base", "Zone: two"), ("site", "Packet filter")];

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn waiver() -> impl Strategy<Value = Waiver> {
        use proptest::option::of;
        let what = (of(0..3_usize), of(0..3_usize), of(0..3_usize));
        (what, 1..4_i8).prop_filter_map("covers nothing", |((test, host, step), last)| {
            if (test.is_none() && host.is_none() && step.is_none())
                || (test.is_some() && step.is_some())
            {
                return None;
            }
            Some(Waiver {
                test: test.map(|at| TESTS[at].to_owned()),
                host: host.map(|at| HOSTS[at].to_owned()),
                step: step.map(|at| (STEPS[at].0.to_owned(), STEPS[at].1.to_owned())),
                reason: "r".into(),
                until: jiff::civil::date(2026, 1, last),
                by: "b".into(),
                span: Source::new("w", "").span(0..0),
            })
        })
    }

    fn line() -> impl Strategy<Value = String> {
        (0..3_usize, 0..3_usize).prop_map(|(host, step)| {
            let (role, step) = STEPS[step];
            format!("{}: {role} › {step}: content", HOSTS[host])
        })
    }

    fn finding(verdict: Verdict, found: Vec<String>) -> Finding {
        Finding { verdict, ..Finding::of("e", found) }
    }

    proptest! {
        #[test]
        fn what_is_not_healed_or_not_red_is_never_waived(
            waivers in proptest::collection::vec(waiver(), 0..5),
            found in proptest::collection::vec(line(), 0..4), test in 0..3_usize,
        ) {
            let waivers = Waivers(waivers);
            let today = day("2026-01-01");
            for verdict in [Verdict::Pass, Verdict::NotApplicable] {
                let finding = finding(verdict, found.clone());
                prop_assert!(of_finding(&waivers, TESTS[test], &finding, today).is_empty());
            }
            for verdict in [Verdict::Fail, Verdict::NotRun] {
                let finding = Finding { not_healed: true, ..finding(verdict, found.clone()) };
                prop_assert!(of_finding(&waivers, TESTS[test], &finding, today).is_empty());
            }
        }

        #[test]
        fn an_expired_waiver_is_as_good_as_none(
            waivers in proptest::collection::vec(waiver(), 0..5),
            found in proptest::collection::vec(line(), 1..4), test in 0..3_usize, today in 1..5_i8,
        ) {
            let today = jiff::civil::date(2026, 1, today);
            let valid = waivers.iter().filter(|waiver| !waiver.expired(today)).cloned().collect();
            let (all, valid) = (Waivers(waivers), Waivers(valid));
            let finding = finding(Verdict::Fail, found);
            let of = |waivers| of_finding(waivers, TESTS[test], &finding, today);
            prop_assert_eq!(of(&all), of(&valid));
        }

        #[test]
        fn a_line_that_nothing_covers_keeps_the_test_red(
            waivers in proptest::collection::vec(waiver(), 0..5),
            found in proptest::collection::vec(line(), 0..4),
        ) {
            let waivers = Waivers(waivers);
            let today = day("2026-01-01");
            let whole = waivers.0.iter().any(|waiver| {
                waiver.test.as_deref() == Some(CONVERGED) && waiver.host.is_none()
            });
            let mut more = found.clone();
            more.push("c: base › Zone: content".to_owned());
            let of_c = waivers.0.iter().any(|waiver| {
                waiver.host.is_none()
                    && waiver.step.as_ref().is_some_and(|step| *step == ("base".into(), "Zone".into()))
            });
            let waived = of_finding(&waivers, CONVERGED, &finding(Verdict::Fail, more), today);
            if !whole && !of_c {
                prop_assert!(waived.is_empty());
            }
            // A test that fails without saying where is covered only as a whole.
            let silent = of_finding(&waivers, CONVERGED, &finding(Verdict::Fail, vec![]), today);
            prop_assert_eq!(silent.is_empty(), !whole);
        }

        #[test]
        fn a_test_and_its_differences_are_waived_alike(
            waivers in proptest::collection::vec(waiver(), 0..5), found in line(),
        ) {
            let waivers = Waivers(waivers);
            let today = day("2026-01-01");
            let (host, difference) = found.split_once(": ").unwrap();
            let one = of_difference(&waivers, host, difference, today);
            let all = of_finding(&waivers, CONVERGED, &finding(Verdict::Fail, vec![found.clone()]), today);
            prop_assert_eq!(one.is_some(), !all.is_empty());
        }
    }

    #[test]
    fn a_step_whose_name_begins_like_another_is_another() {
        let text = "[[waiver]]\nrole = \"base\"\nstep = \"Zone\"\nhost = \"a\"\nreason = \"r\"\nby = \"b\"\nuntil = 2026-01-01\n";
        let waivers = waiver::read(&Source::new("w", text), &mut Diagnostics::new());
        let covered = |host, line| of_difference(&waivers, host, line, day("2026-01-01")).is_some();
        assert!(covered("a", "base › Zone: content"));
        assert!(!covered("a", "base › Zones: content"));
        assert!(!covered("a-2", "base › Zone: content"));
        assert!(!covered("a", "base › waiting handler Zone: content"));
        assert!(of_difference(&waivers, "a", "base › Zone: content", day("2026-01-02")).is_none());
    }
}
