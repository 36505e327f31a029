//! Which crates are inside, where they come from, and under which licences.

use super::{read, root};
use std::collections::BTreeSet;
use std::process::Command;

/// Every crate that is linked into the agent. Of `proc-macro2`, `quote`, `syn` and `unicode-ident`, which D-Bus types
/// are derived with, nothing is left in it.
const AGENT_CRATES: &[&str] = &[
    "bitflags",
    "block-buffer",
    "byteorder",
    "cfg-if",
    "cobs",
    "const-oid",
    "cpufeatures",
    "crypto-common",
    "digest",
    "endi",
    "hash32",
    "heapless",
    "httparse",
    "hybrid-array",
    "itoa",
    "linux-raw-sys",
    "lock_api",
    "memchr",
    "postcard",
    "proc-macro2",
    "quote",
    "rustix",
    "ruzstd",
    "scopeguard",
    "serde",
    "serde_core",
    "serde_json",
    "sha2",
    "spin",
    "stable_deref_trait",
    "syn",
    "thiserror",
    "twox-hash",
    "typenum",
    "unicode-ident",
    "winnow",
    "zbus",
    "zbus_utils",
    "zcheapstr",
    "zmij",
];

#[test]
fn crates_come_from_the_public_registry_and_fit_together() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let has = |name: &str, start: &str| {
        packages.iter().any(|package| {
            package["name"].as_str() == Some(name)
                && package["version"].as_str().unwrap().starts_with(start)
        })
    };
    // The two do not compile together: one renamed a trait that the other implements.
    assert!(!(has("ml-kem", "0.2.") && has("kem", "0.3.0")), "ml-kem 0.2 with kem 0.3.0");
    for package in packages {
        if let Some(source) = package.get("source") {
            assert_eq!(
                source.as_str(),
                Some("registry+https://github.com/rust-lang/crates.io-index"),
                "{}",
                package["name"]
            );
        }
    }
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn this_platform() -> String {
    let output = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn the_agent_is_made_of_few_crates() {
    let tree = cargo(&[
        "tree",
        "--edges=normal,no-proc-macro",
        "--no-default-features",
        "--prefix=none",
        "--format={lib}",
    ]);
    let linked: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "strata")
        .map(|name| name.replace('_', "-"))
        .collect();
    let mut listed: BTreeSet<String> =
        AGENT_CRATES.iter().map(|name| name.replace('_', "-")).collect();
    if !this_platform().starts_with("x86_64") && linked.contains("libc") {
        // Elsewhere the digest's crate asks libc which instructions the processor has.
        listed.insert("libc".to_owned());
    }
    assert_eq!(linked, listed, "left: linked, right: listed");
}

/// Whether a licence expression can be met with these licences.
fn met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "the licence `{expression}` cannot be understood");
    met
}

fn any(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let word = *words.get(*at).unwrap_or_else(|| panic!("a licence is missing in {words:?}"));
    *at += 1;
    if word == "(" {
        let met = any(words, at, allowed);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        return allowed(&format!("{word} WITH {}", words[*at - 1]));
    }
    allowed(word)
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = |name: &str| matches!(name, "MIT" | "ISC");
    for good in ["MIT", "MIT/GPL-2.0", "(GPL-2.0 OR MIT) AND ISC", "A WITH x OR MIT"] {
        assert!(met(good, &allowed), "{good}");
    }
    for bad in ["GPL-2.0", "MIT AND GPL-2.0", "GPL-2.0 OR (MIT AND A)", "MIT WITH x"] {
        assert!(!met(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_crate_has_an_allowed_licence() {
    let policy: toml::Table = read("deny.toml").parse().unwrap();
    let allowed: BTreeSet<&str> = policy["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let metadata =
        cargo(&["metadata", "--format-version=1", "--filter-platform", &this_platform()]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let mut needed = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(met(licence, &|one| allowed.contains(one)), "{name} is under {licence}");
        for one in &allowed {
            if !met(licence, &|other| allowed.contains(other) && other != *one) {
                needed.insert(*one);
            }
        }
    }
    let unused: Vec<_> = allowed.difference(&needed).collect();
    assert!(unused.is_empty(), "nothing needs {unused:?}: take it off the list in deny.toml");
}
