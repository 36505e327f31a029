use super::*;
use crate::plan::select_hosts;
use crate::site::Profile;
use proptest::prelude::*;
use std::path::Path;

fn own_site() -> Site {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Site::load(root, Profile::Production, &mut Diagnostics::new()).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What is left of each host's list, as `layer › role › step`, and the problems.
fn left(
    site: &Site,
    layers: &[&str],
    hosts: &[&str],
    selection: StepSelection<'_>,
) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
    let mut problems = Diagnostics::new();
    let layers: Vec<&Layer> = layers.iter().map(|name| site.layer(name).unwrap()).collect();
    let hosts = words(hosts);
    let filter = StepFilter::new(site, &layers, &hosts, selection, &mut problems);
    let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in &hosts {
        for layer in &layers {
            let mut here = filter.on(host, &layer.name);
            for step in list(site, layer, host) {
                if here.takes(step.role, step.index, step.name, step.tags) {
                    let line = format!("{} › {} › {}", layer.name, step.role, step.name);
                    left.entry(host.clone()).or_default().push(line);
                }
            }
        }
    }
    let said = problems.iter().map(|problem| problem.message.clone()).collect();
    (left, said)
}

#[test]
fn a_name_or_a_glob_selects_steps_wherever_they_are() {
    let site = own_site();
    let names = words(&["Time zone", "Packet*"]);
    let selection = StepSelection { names: &names, ..StepSelection::default() };
    let (left, said) = left(&site, &["base"], &["db-01"], selection);
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(
        left["db-01"],
        [
            "base › site › Packet filter tools",
            "base › site › Packet filter",
            "base › base › Time zone"
        ]
    );
}

#[test]
fn a_run_begins_where_each_host_has_the_step() {
    let site = own_site();
    let first = site.roles["haproxy"].steps[0].name.clone();
    let selection = StepSelection { start_at: Some(&first), ..StepSelection::default() };
    let (left, said) = left(&site, &["base", "redis"], &["haproxy-01", "redis-01"], selection);
    assert_eq!(said, Vec::<String>::new());
    let begins = |host: &str| left[host].first().map(String::as_str);
    assert_eq!(begins("haproxy-01"), Some(format!("redis › haproxy › {first}")).as_deref());
    // What comes before it in the same layer is left out, what comes after it is not.
    assert!(left["haproxy-01"].iter().any(|line| line.starts_with("redis › haproxy-redis › ")));
    assert!(!left["haproxy-01"].iter().any(|line| line.starts_with("redis › site › ")));
}

#[test]
fn a_host_without_the_step_begins_with_the_next_layer() {
    let site = own_site();
    let first = site.roles["docker"].steps[0].name.clone();
    let selection = StepSelection { start_at: Some(&first), ..StepSelection::default() };
    let (left, _) = left(&site, &["base", "redis"], &["install-01", "haproxy-01"], selection);
    assert_eq!(left.get("install-01"), None);
    assert!(left["haproxy-01"][0].starts_with("base › docker › "));
    assert!(left["haproxy-01"].contains(&"redis › site › Packet filter".to_owned()));
}

#[test]
fn what_selects_nothing_is_reported_all_at_once() {
    let site = own_site();
    let names = words(&["Time zome", "No such thing"]);
    let selection =
        StepSelection { names: &names, start_at: Some("nowhere"), ..StepSelection::default() };
    let (_, said) = left(&site, &["base"], &["db-01"], selection);
    assert_eq!(said.len(), 3, "{said:?}");
    let names = words(&["Time zone"]);
    let tags = words(&["no-such-tag"]);
    let selection = StepSelection { names: &names, tags: &tags, start_at: None };
    let (_, said) = left(&site, &["base"], &["db-01"], selection);
    assert_eq!(said.len(), 1, "{said:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Where a run begins is a place in the list: what is worked on is the rest of it, whole.
    #[test]
    fn what_is_begun_goes_to_the_end(host in 0_usize..28, step in 0_usize..60) {
        let site = own_site();
        let everyone = select_hosts(&site, &[], &mut Diagnostics::new());
        let host = everyone[host].as_str();
        let (all, _) = left(&site, &["base", "redis"], &[host], StepSelection::default());
        let all = &all[host];
        let at = &all[step % all.len()];
        let name = at.rsplit(" › ").next().unwrap();
        let first = all.iter().position(|line| line.rsplit(" › ").next() == Some(name)).unwrap();
        let selection = StepSelection { start_at: Some(name), ..StepSelection::default() };
        let (begun, said) = left(&site, &["base", "redis"], &[host], selection);
        prop_assert!(said.is_empty(), "{:?}", said);
        prop_assert_eq!(&begun[host][..], &all[first..]);
    }
}
