//! What strangers and tired people send: every format that strata reads, with real inputs changed a
//! little. Nothing panics, every error has a place inside the file, what has an inverse comes back.
//!
//! A usual run is short and always the same. A campaign takes other inputs each time and as many as
//! `STRATA_FUZZ_CASES` says: `cargo test --test fuzz -- --ignored campaign_ --nocapture`. An input
//! that fails is printed and written to the temporary directory; it belongs into
//! `tests/fuzz/cases/<format>/`, from where every run reads it first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside of test functions"
)]

mod allocation;
mod inputs;
mod mutation;
mod properties;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

/// A format: its name, real inputs, what must hold of every input, and how many inputs a usual run
/// tries.
struct Format {
    name: &'static str,
    inputs: fn() -> Vec<Vec<u8>>,
    holds: fn(&[u8]),
    usual: u32,
}

/// Formats with fewer inputs in a usual run take long for each.
const LONG: u32 = 20;

const FORMATS: &[Format] = &[
    Format {
        name: "inventory",
        inputs: inputs::inventory,
        holds: properties::inventory,
        usual: 150,
    },
    Format { name: "groups", inputs: inputs::groups, holds: properties::groups, usual: 150 },
    Format { name: "settings", inputs: inputs::settings, holds: properties::settings, usual: 200 },
    Format { name: "role", inputs: inputs::roles, holds: properties::role, usual: 250 },
    Format { name: "versions", inputs: inputs::versions, holds: properties::versions, usual: 300 },
    Format { name: "site", inputs: inputs::site, holds: properties::site, usual: 8 },
    Format { name: "env", inputs: inputs::env, holds: properties::env, usual: 400 },
    Format { name: "frames", inputs: inputs::frames, holds: properties::frames, usual: 600 },
    Format { name: "messages", inputs: inputs::messages, holds: properties::messages, usual: 600 },
    Format {
        name: "known-hosts",
        inputs: inputs::known_hosts,
        holds: properties::known_hosts,
        usual: 300,
    },
    Format { name: "journal", inputs: inputs::journal, holds: properties::journal, usual: 300 },
];

/// Inputs that once failed, and such as are worth trying every time.
fn cases(format: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/cases").join(format);
    let mut cases: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    cases.sort();
    cases
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// Tries inputs of one format; gives the failure in words.
fn try_inputs(format: &Format, count: u32, seed: u64) -> Result<(), String> {
    for (name, bytes) in cases(format.name) {
        catch_unwind(AssertUnwindSafe(|| (format.holds)(&bytes)))
            .map_err(|_| format!("the saved case {name} fails again"))?;
    }
    let mut corpus = (format.inputs)();
    corpus.extend(cases(format.name).into_iter().map(|(_, bytes)| bytes));
    // A whole site takes long: unchanged it is one and the same, whatever file an input is.
    let unchanged = if format.usual < LONG { 1 } else { corpus.len() };
    for bytes in corpus.iter().take(unchanged) {
        catch_unwind(AssertUnwindSafe(|| (format.holds)(bytes)))
            .map_err(|_| format!("an unchanged input fails: {}", shown(bytes)))?;
    }
    let config = Config { cases: count, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);
    let holds = |bytes: Vec<u8>| {
        catch_unwind(AssertUnwindSafe(|| (format.holds)(&bytes))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            TestCaseError::fail(text.unwrap_or_default())
        })
    };
    runner.run(&mutation::changed(corpus), holds).map_err(|error| match error {
        proptest::test_runner::TestError::Fail(reason, bytes) => {
            let path = std::env::temp_dir().join(format!("strata-fuzz-{}", format.name));
            std::fs::write(&path, &bytes).unwrap();
            format!("{reason}\ninput, also in {}: {}", path.display(), shown(&bytes))
        }
        error => error.to_string(),
    })
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn usual(name: &str) {
    let format = FORMATS.iter().find(|format| format.name == name).unwrap();
    if let Err(why) = try_inputs(format, format.usual, 0) {
        panic!("{name}: {why}");
    }
}

macro_rules! usual_runs {
    ($($test:ident $name:literal;)+) => {
        $(#[test]
        fn $test() {
            usual($name);
        })+

        #[test]
        fn every_format_has_a_usual_run() {
            assert_eq!(FORMATS.iter().map(|format| format.name).collect::<Vec<_>>(), [$($name),+]);
        }
    };
}

usual_runs! {
    inventory "inventory";
    groups "groups";
    settings "settings";
    roles "role";
    versions "versions";
    whole_sites "site";
    env_files "env";
    frames_of_the_wire "frames";
    messages_of_the_wire "messages";
    pinned_host_keys "known-hosts";
    journals "journal";
}

/// Every format with other inputs than the usual run's: `STRATA_FUZZ_CASES` of each (20,000 where it is
/// not set; of whole sites a hundredth), `STRATA_FUZZ_SEED` to repeat one, `STRATA_FUZZ_FORMAT` for one.
#[test]
#[ignore = "as long as one likes; by hand"]
fn campaign_every_format() {
    let count = number("STRATA_FUZZ_CASES").unwrap_or(20_000);
    let seed = number("STRATA_FUZZ_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap()
    });
    let only = std::env::var("STRATA_FUZZ_FORMAT").ok();
    println!("STRATA_FUZZ_SEED={seed}");
    let mut failures = Vec::new();
    for format in FORMATS.iter().filter(|format| only.as_ref().is_none_or(|o| o == format.name)) {
        let count = if format.usual < LONG { count / 100 } else { count };
        let start = Instant::now();
        let result = try_inputs(format, u32::try_from(count).unwrap_or(u32::MAX), seed);
        let seconds = start.elapsed().as_secs_f64();
        let end = if result.is_ok() { "nothing found" } else { "FAILED" };
        println!("{:12} {count:>8} inputs in {seconds:7.1} s  {end}", format.name);
        failures.extend(result.err().map(|why| format!("{}: {why}", format.name)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
