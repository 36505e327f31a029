//! Which layers may still be worked on when one has failed. Pure.

use crate::site::{Layer, Site};
use std::collections::BTreeSet;

/// The layer among those that failed which this one requires, directly or not: the nearest to it in
/// the site's order.
pub fn blocked_by<'a>(site: &'a Site, layer: &Layer, failed: &BTreeSet<&str>) -> Option<&'a str> {
    let below = crate::plan::with_required(site, std::slice::from_ref(&layer.name));
    let mut layers = site.config.layers.iter().rev().map(|layer| layer.name.as_str());
    layers.find(|name| {
        *name != layer.name && failed.contains(name) && below.iter().any(|below| below == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Diagnostics, Source};
    use crate::site::{Profile, config};
    use proptest::prelude::*;
    use std::path::Path;

    /// The repository's site with other layers: each requires those that `requires` says.
    fn site(requires: &[Vec<usize>]) -> Site {
        let mut text = "site = \"s\"\noperator = \"install-01\"\n".to_owned();
        for (index, below) in requires.iter().enumerate() {
            let below: Vec<String> = below.iter().map(|below| format!("\"l{below}\"")).collect();
            text.push_str(&format!(
                "[[layer]]\nname = \"l{index}\"\nrequires = [{}]\nplace = []\n",
                below.join(", ")
            ));
        }
        let mut problems = Diagnostics::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut site = Site::load(root, Profile::Production, &mut problems).unwrap();
        let mut problems = Diagnostics::new();
        site.config = config::read(&Source::new("strata.toml", text), &mut problems).unwrap();
        assert!(!problems.has_errors(), "{problems:?}");
        site
    }

    #[test]
    fn what_requires_a_failed_layer_is_not_begun() {
        let site = site(&[vec![], vec![0], vec![1], vec![]]);
        let failed = BTreeSet::from(["l0"]);
        let blocked = |name: &str| blocked_by(&site, site.layer(name).unwrap(), &failed);
        assert_eq!(blocked("l1"), Some("l0"));
        assert_eq!(blocked("l2"), Some("l0"));
        assert_eq!(blocked("l3"), None);
        assert_eq!(blocked("l0"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// A layer is begun exactly when nothing below it failed.
        #[test]
        fn nothing_is_begun_on_what_failed(
            edges in prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 5),
            fails in prop::collection::vec(any::<bool>(), 5),
        ) {
            let requires: Vec<Vec<usize>> =
                edges.iter().enumerate().map(|(i, e)| (0..i).filter(|j| e[*j]).collect()).collect();
            let site = site(&requires);
            let mut failed = BTreeSet::new();
            let mut sound: Vec<bool> = Vec::new();
            for (index, layer) in site.config.layers.iter().enumerate() {
                let may = requires[index].iter().all(|below| sound[*below]);
                prop_assert_eq!(blocked_by(&site, layer, &failed).is_none(), may);
                sound.push(may && !fails[index]);
                if !sound[index] {
                    failed.insert(layer.name.as_str());
                }
            }
        }
    }
}
