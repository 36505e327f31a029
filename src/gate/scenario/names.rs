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
                let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
                let mut argv = vec!["getent", "ahostsv4"];
                argv.extend(&names);
                let (_, text, _) = probe::run(&session, &argv, Vec::new()).await?;
                let found = answers(&names, &text);
                let mut wrong = Vec::new();
                for (name, address) in wanted {
                    let alone;
                    let first = match &found {
                        Some(found) => found.get(name.as_str()).copied(),
                        // One of them is unknown, and the lines do not tell which.
                        None => {
                            let argv = ["getent", "ahostsv4", name];
                            alone = probe::output(&session, &argv).await.unwrap_or_default();
                            alone.split_whitespace().next()
                        }
                    };
                    if first != Some(address.as_str()) {
                        let first = first.unwrap_or("nothing");
                        wrong.push(format!("{name} is {first}, not {address}"));
                    }
                }
                Ok(wrong)
            }
        })
        .await
}

/// The address of each name, out of what `getent ahostsv4` prints for all of them; `None` unless each
/// has an answer. Answers come in the order of the names, each beginning with the one line that has a
/// name, which is the canonical one: an alias does not stand there.
fn answers<'a>(names: &[&'a str], text: &'a str) -> Option<BTreeMap<&'a str, &'a str>> {
    let firsts: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (address, kind, _name) = (words.next()?, words.next()?, words.next()?);
            (kind == "STREAM").then_some(address)
        })
        .collect();
    (firsts.len() == names.len()).then(|| names.iter().copied().zip(firsts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_has_the_answer_in_its_place() {
        let names = ["db-01", "db-01.example.org", "two"];
        let text = "10.0.0.1        STREAM db-01\n10.0.0.1        DGRAM  \n10.0.0.1        RAW    \n\
                    10.0.0.1        STREAM db-01\n10.0.0.1        DGRAM  \n10.0.0.1        RAW    \n\
                    10.0.0.2        STREAM two\n10.0.0.2        DGRAM  \n10.0.0.2        RAW    \n\
                    10.0.0.3        STREAM \n10.0.0.3        DGRAM  \n10.0.0.3        RAW    \n";
        let found = answers(&names, text).unwrap();
        assert_eq!(found["db-01.example.org"], "10.0.0.1");
        assert_eq!(found["two"], "10.0.0.2");
        let one_unknown = &text[..text.find("10.0.0.2").unwrap()];
        assert_eq!(answers(&names, one_unknown), None);
        assert_eq!(answers(&names, ""), None);
    }
}
