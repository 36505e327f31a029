//! Small parts by themselves: `cargo bench --package strata-bench`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that cannot go on has failed"
)]

use divan::{Bencher, black_box, counter::ItemsCount};
use std::path::Path;
use std::sync::Arc;
use strata::agent::system::LocalSystem;
use strata::diag::Diagnostics;
use strata::plan::{HostPlan, Resolver, SecretLookup, StepFilter, sample_facts};
use strata::resource::{Batch, Mode, Outcome, converge};
use strata::secrets::Secret;
use strata::site::{Profile, Site};
use strata::wire::{ToAgent, encode_frame, read_frame};
use strata_bench::scale::put_site;
use strata_bench::sites::nodes;

fn main() {
    divan::main();
}

struct NoSecrets;

impl SecretLookup for NoSecrets {
    fn lookup(&self, _name: &str) -> Option<Secret<String>> {
        None
    }
}

fn site_files(hosts: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put_site(folder.path(), &nodes(hosts), Path::new("/root/.ssh/id_ed25519")).unwrap();
    folder
}

fn load(folder: &tempfile::TempDir) -> Site {
    let mut problems = Diagnostics::new();
    let site = Site::load(folder.path(), Profile::Production, &mut problems).unwrap();
    assert!(!problems.has_errors());
    site
}

fn resolve(site: &Site, hosts: usize) -> Vec<HostPlan> {
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(site, Arc::new(NoSecrets), &mut problems);
    let layer = &site.config.layers[0];
    let plans = site.hosts.values().filter(|host| host.name.starts_with("node")).take(hosts);
    let plans = plans.map(|host| {
        let [facts, _] = sample_facts(site, host);
        resolver.host(host, layer, &StepFilter::ALL, &facts, Mode::Apply, &mut problems)
    });
    let plans = plans.collect();
    assert!(!problems.has_errors());
    plans
}

/// Reads and checks the files of a site.
#[divan::bench(args = [10, 100, 1000], sample_count = 10)]
fn load_site(bencher: Bencher, hosts: u32) {
    let folder = site_files(hosts);
    bencher.counter(ItemsCount::new(hosts)).bench_local(|| load(black_box(&folder)));
}

/// Renders and types a hundred steps for each host.
#[divan::bench(args = [10, 100, 1000], sample_count = 5)]
fn resolve_hosts(bencher: Bencher, hosts: u32) {
    let folder = site_files(hosts);
    let site = load(&folder);
    bencher
        .counter(ItemsCount::new(hosts * 100))
        .bench_local(|| resolve(black_box(&site), hosts as usize));
}

/// The batch of the role: a hundred resources.
fn batch() -> Batch {
    let folder = site_files(1);
    let site = load(&folder);
    let plans = resolve(&site, 1);
    plans[0].batches.last().unwrap().work.clone()
}

/// A batch as the controller sends it.
#[divan::bench]
fn encode_batch(bencher: Bencher) {
    let message = ToAgent::Converge { batch: 1, work: batch() };
    bencher
        .counter(ItemsCount::new(100_u32))
        .bench_local(|| encode_frame(black_box(&message)).unwrap());
}

/// A batch as the agent reads it.
#[divan::bench]
fn decode_batch(bencher: Bencher) {
    let frame = encode_frame(&ToAgent::Converge { batch: 1, work: batch() }).unwrap();
    bencher.counter(ItemsCount::new(100_u32)).bench_local(|| {
        let message: Option<ToAgent> = read_frame(&mut black_box(frame.as_slice())).unwrap();
        message
    });
}

/// The agent looks at a thousand resources that are as wanted.
#[divan::bench(sample_count = 20)]
fn check_resources(bencher: Bencher) {
    let root = tempfile::tempdir().unwrap();
    strata_bench::sim::make_root(root.path(), &nodes(1)[0]).unwrap();
    let never = Box::new(|_| false);
    let programs = Box::new(|_: &_| panic!("no programs"));
    let mut system = LocalSystem::simulated(root.path(), programs, never).unwrap();
    let batch = batch();
    for item in &batch.items {
        let outcome = converge(&item.resource, false, Mode::Apply, &mut system, &mut |_| {});
        assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
    bencher.counter(ItemsCount::new(1000_u32)).bench_local(|| {
        for item in batch.items.iter().cycle().take(1000) {
            let outcome = converge(&item.resource, false, Mode::Check, &mut system, &mut |_| {});
            assert!(!matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
        }
    });
}
