//! The way from simulated hosts to the file of results, with few of them: that it works, not how
//! fast.
//!
//! Needs root, and a strata that was built: `cargo build`.

use std::process::Command;
use strata_bench::record::Results;
use strata_bench::scale;

#[test]
fn ten_simulated_hosts_are_converged_and_left_alone_the_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let output = Command::new(env!("CARGO_BIN_EXE_strata-fleet-sim"))
        .args(["measure", "--hosts", "10", "--rounds", "1", "--processes", "2", "--results"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = Results::open(&path).unwrap();
    for scenario in [scale::FIRST, scale::SECOND] {
        let entries: Vec<_> = results.of(scenario, scale::TOOL).collect();
        assert_eq!(entries.len(), 1, "{scenario}");
        assert_eq!((entries[0].hosts, entries[0].resources), (10, scale::RESOURCES));
        assert!(entries[0].memory_bytes > 1 << 20 && entries[0].cpu_seconds > 0.0);
    }
}
