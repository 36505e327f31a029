//! A layer as an audit found it, as text.

use super::style::{Palette, moment, plural};
use crate::event::{Audited, Drifted};

/// The lines for a layer.
pub fn audited(layer: &str, audited: &Audited, p: &Palette) -> String {
    let (differences, waived) = (audited.differences(), audited.waived());
    let looked = plural(audited.looked_at.len(), "host");
    let mut text = format!("audit {}  ", p.name(layer));
    text.push_str(&match (differences, waived) {
        (0, 0) if audited.looked_at.is_empty() => p.bad("no host could be looked at"),
        (0, 0) => format!("{} on {looked}", p.good("everything is as wanted")),
        (0, waived) => format!("{} on {looked}", p.warn(format!("{}, waived", count(waived)))),
        (found, 0) => format!("{} on {looked}", p.bad(count(found))),
        (found, waived) => {
            format!("{}, {waived} waived, on {looked}", p.bad(count(found)))
        }
    });
    if !audited.not_looked_at.is_empty() {
        let hosts = audited.not_looked_at.join(", ");
        text.push_str(&format!("\n  {} {hosts}", p.bad("not looked at:")));
    }
    for one in &audited.drifted {
        text.push_str(&drifted(one, p));
    }
    text
}

fn count(differences: usize) -> String {
    plural(differences, "difference")
}

fn drifted(one: &Drifted, p: &Palette) -> String {
    let since = match &one.since {
        Some(since) => format!("as wanted in run {}, {}", since.run, moment(since.at_ms)),
        None => "no run has seen it as wanted".to_owned(),
    };
    let mut text = format!("\n  {}  last {since}", one.place);
    if one.since.is_none() {
        text = format!("\n  {}  {since}", one.place);
    }
    for difference in &one.differences {
        text.push_str(&format!("\n      {} {difference}", p.bad("differs")));
    }
    for waived in &one.waived {
        let word = p.warn("waived ");
        text.push_str(&format!("\n      {word} {}: {}", waived.difference, waived.waiving));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{LastWanted, WaivedDifference, Waiving};

    #[test]
    fn each_place_says_what_differs_and_since_when() {
        let waiving = Waiving {
            covers: "test converged".into(),
            reason: "r".into(),
            until: "2026-12-31".into(),
            by: "b".into(),
        };
        let drifted = vec![
            Drifted {
                place: "db-01".into(),
                differences: vec!["base › Zone: content".into()],
                waived: vec![WaivedDifference {
                    difference: "base › Clock: mode".into(), waiving
                }],
                since: Some(LastWanted {
                    run: "20260101-000000-abcd".into(),
                    at_ms: 1_767_225_600_000,
                }),
            },
            Drifted {
                place: "cluster redis".into(),
                differences: vec!["roll redis-02".into()],
                waived: vec![],
                since: None,
            },
        ];
        let found = Audited {
            looked_at: vec!["db-01".into(), "db-02".into()],
            not_looked_at: vec!["db-03".into()],
            drifted,
        };
        insta::assert_snapshot!(audited("base", &found, &Palette { color: false }), @"
        audit base  2 differences, 1 waived, on 2 hosts
          not looked at: db-03
          db-01  last as wanted in run 20260101-000000-abcd, 2026-01-01 00:00:00 UTC
              differs base › Zone: content
              waived  base › Clock: mode: r, until 2026-12-31 (b)
          cluster redis  no run has seen it as wanted
              differs roll redis-02
        ");
        let all = Audited { looked_at: vec!["a".into()], ..Audited::default() };
        let text = audited("base", &all, &Palette { color: false });
        assert_eq!(text, "audit base  everything is as wanted on 1 host");
    }
}
