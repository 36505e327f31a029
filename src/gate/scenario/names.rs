//! Name resolution, equal on every host.

use super::{Finding, Surroundings};
use crate::gate::probe;
use serde::Deserialize;
use std::collections::BTreeMap;

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {}

/// Every host resolves every name of the site, its own included, to the inventory's address.
pub async fn run(surroundings: Surroundings<'_>, _: Bounds) -> Finding {
    let wanted: BTreeMap<String, String> = surroundings
        .context
        .site
        .hosts
        .values()
        .flat_map(|host| {
            let address = host.address.to_string();
            [(host.name.clone(), address.clone()), (host.fqdn.clone(), address)]
        })
        .collect();
    let expected = format!("{} names, each to its private address", wanted.len());
    surroundings
        .on_each(&expected, |_, session| {
            let wanted = &wanted;
            async move {
                let mut wrong = Vec::new();
                let mut argv = vec!["getent", "ahostsv4"];
                argv.extend(wanted.keys().map(String::as_str));
                // getent ends with 2 when one name is unknown; the lines tell which.
                let (_, text, _) = probe::run(&session, &argv, Vec::new()).await?;
                let found = stream_lines(&text);
                for (name, address) in wanted {
                    match found.get(name.as_str()) {
                        Some(other) if other == address => {}
                        Some(other) => wrong.push(format!("{name} is {other}, not {address}")),
                        None => {
                            // A name that is an alias is printed under its canonical name.
                            let text = probe::output(&session, &["getent", "ahostsv4", name])
                                .await
                                .unwrap_or_default();
                            let first = text.split_whitespace().next().unwrap_or("nothing");
                            if first != address {
                                wrong.push(format!("{name} is {first}, not {address}"));
                            }
                        }
                    }
                }
                Ok(wrong)
            }
        })
        .await
}

/// `address STREAM name` lines of getent.
fn stream_lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
            (kind == "STREAM").then_some((name, address))
        })
        .collect()
}
