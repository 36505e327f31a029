//! What the records say of a layer as it is now.

use super::hosts_of;
use crate::event::{TestKind, now_ms};
use crate::gate;
use crate::history::{RecordState, Records, Terms};
use crate::plan::layer_digest;
use crate::site::{Layer, Site};
use std::io;

/// What the record of one kind is worth, with these hosts selected.
///
/// # Errors
/// When the record is there and cannot be read.
pub(super) fn proof_of(
    site: &Site,
    records: &Records,
    layer: &Layer,
    kind: TestKind,
    selected: &[String],
) -> io::Result<RecordState> {
    held_against(site, layer, selected, |terms| records.state(&layer.name, kind, terms))
}

/// What the records of all kinds that the layer has tests of are worth, with every host that is in
/// service.
pub fn proofs_of(
    site: &Site,
    records: &Records,
    layer: &Layer,
) -> Vec<(TestKind, io::Result<RecordState>)> {
    let in_service = site.hosts.keys().filter(|host| !site.out.contains_key(*host));
    let selected: Vec<String> = in_service.cloned().collect();
    held_against(site, layer, &selected, |terms| {
        [TestKind::Diag, TestKind::Failover, TestKind::Perf]
            .into_iter()
            .filter(|kind| gate::has_tests(site, layer, *kind))
            .map(|kind| (kind, records.state(&layer.name, kind, terms)))
            .collect()
    })
}

fn held_against<T>(
    site: &Site,
    layer: &Layer,
    selected: &[String],
    judge: impl FnOnce(Terms<'_>) -> T,
) -> T {
    judge(Terms {
        digest: &layer_digest(site, layer),
        hosts: &hosts_of(site, layer, selected),
        waivers: &gate::standing(&site.waivers),
        now_ms: now_ms(),
        max_age_days: site.config.gate.max_age_days,
    })
}
