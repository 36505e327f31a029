//! Builds the agent and embeds it, so that one file is the whole product.
//!
//! The agent needs its own features, profile and linking, which a package cannot give to one of its
//! binaries: hence a second cargo. It works in a target directory of its own (no lock is shared with
//! the cargo that runs this script) and is skipped when nothing it depends on has changed.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the agent is made of; nothing else makes this script run again.
const SOURCES: &[&str] = &[
    "src/agent",
    "src/resource",
    "src/wire",
    "src/bin/strata-agent.rs",
    "src/lib.rs",
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
];

/// Where agents of other architectures are, `strata-agent-<architecture>`; each with a file `.sources`
/// beside it that says what it was built from.
const OTHER_AGENTS: &str = "agents";

/// Another directory for them.
const EXTRA_AGENTS: &str = "STRATA_EXTRA_AGENTS";

#[path = "src/agent/seal.rs"]
mod seal;

fn main() {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed={EXTRA_AGENTS}");
    println!("cargo::rerun-if-changed={OTHER_AGENTS}");
    // The agent's own build comes here too and embeds nothing: this ends the recursion.
    if env::var_os("CARGO_FEATURE_CONTROLLER").is_none() {
        return;
    }
    if let Err(error) = embed_agents() {
        println!("cargo::error=the agent could not be built: {error}");
        std::process::exit(1);
    }
}

fn embed_agents() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let directory = env::var_os(EXTRA_AGENTS).map_or_else(|| OTHER_AGENTS.into(), PathBuf::from);
    println!("cargo::rerun-if-changed={}", directory.display());
    let (mut agents, left_out) = other_agents(&directory)?;
    agents.insert(env::var("CARGO_CFG_TARGET_ARCH")?, own_agent(&out)?);

    let mut list = String::from("&[\n");
    for (architecture, mut bytes) in agents {
        let seal = seal::seal(bytes.as_slice())?;
        bytes.extend(seal);
        let file = out.join(format!("strata-agent-{architecture}.zst"));
        fs::write(&file, zstd::encode_all(bytes.as_slice(), 19)?)?;
        writeln!(
            list,
            "    EmbeddedAgent {{ architecture: {architecture:?}, sha256: {:?}, size: {}, compressed: include_bytes!({file:?}) }},",
            hex_digest(&bytes),
            bytes.len(),
        )?;
    }
    list.push(']');
    fs::write(out.join("agents.rs"), list)?;
    fs::write(out.join("agents_left_out.rs"), format!("&{:?}", Vec::from_iter(left_out)))?;
    Ok(())
}

/// Programs by architecture, and why those that are left out are.
type OtherAgents = (BTreeMap<String, Vec<u8>>, BTreeMap<String, String>);

/// The agents of other architectures that fit this strata. One of other sources may speak another
/// wire protocol under the same number: it is left out, and a host that needs it is told so.
fn other_agents(directory: &Path) -> Result<OtherAgents, Box<dyn Error>> {
    let (mut agents, mut left_out) = (BTreeMap::new(), BTreeMap::new());
    let unreadable = |error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(architecture) = name.strip_prefix("strata-agent-") else { continue };
        if architecture.ends_with(".sources") {
            continue;
        }
        let bytes = fs::read(&path)?;
        let built_from = fs::read_to_string(format!("{}.sources", path.display()));
        let why = if built_from.ok() != Some(source_list()?) {
            "it was built from other sources than this strata"
        } else if machine_of(&bytes) != Some(architecture) {
            "it is no program of that architecture"
        } else {
            agents.insert(architecture.to_owned(), bytes);
            continue;
        };
        println!("cargo::warning={} is left out: {why}", path.display());
        left_out.insert(architecture.to_owned(), why.to_owned());
    }
    Ok((agents, left_out))
}

/// What an agent is made of, as `sha256sum` prints it: digest and name of every file, sorted by
/// name. `tools/agent-aarch64` writes the same text.
fn source_list() -> Result<String, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for source in SOURCES.iter().filter(|source| **source != "build.rs") {
        let mut paths = vec![PathBuf::from(source)];
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                for entry in fs::read_dir(&path)? {
                    paths.push(entry?.path());
                }
            } else {
                files.insert(path.display().to_string(), hex_digest(&fs::read(&path)?));
            }
        }
    }
    Ok(files.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect())
}

/// The architecture that an ELF program is for, of those that strata knows.
fn machine_of(program: &[u8]) -> Option<&'static str> {
    match (program.get(..4)?, program.get(18..20)?) {
        (b"\x7fELF", [0x3e, 0]) => Some("x86_64"),
        (b"\x7fELF", [0xb7, 0]) => Some("aarch64"),
        _ => None,
    }
}

/// The agent for the controller's own target: from the cache, or built now.
fn own_agent(out: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let target = env::var("TARGET")?;
    let directory = agent_target_directory(out);
    let cached = directory.join(format!("strata-agent-{}", source_digest(&target)?));
    if let Ok(bytes) = fs::read(&cached) {
        return Ok(bytes);
    }
    build(&target, &directory)?;
    let bytes = fs::read(directory.join(&target).join("agent/strata-agent"))?;
    for entry in fs::read_dir(&directory)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("strata-agent-") {
            fs::remove_file(entry.path())?;
        }
    }
    let unfinished = directory.join(format!("unfinished-{}", std::process::id()));
    fs::write(&unfinished, &bytes)?;
    fs::rename(&unfinished, &cached)?;
    Ok(bytes)
}

fn build(target: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Every crate that the agent needs is one that the outer build has just fetched and locked.
    cargo.args(["rustc", "--locked", "--offline", "--profile", "agent", "--no-default-features"]);
    cargo.args(["--bin", "strata-agent", "--target", target, "--target-dir"]).arg(directory);
    cargo.args(["--", "-C", "target-feature=+crt-static"]);
    cargo.current_dir(env::var("CARGO_MANIFEST_DIR")?);
    for (name, _) in env::vars_os() {
        if leaks(&name.to_string_lossy()) {
            cargo.env_remove(&name);
        }
    }
    let output = cargo.output()?;
    if !output.status.success() {
        // One line each: cargo shows an error only up to the line's end.
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            println!("cargo::warning={line}");
        }
        return Err(format!("cargo ended with {}", output.status).into());
    }
    Ok(())
}

/// Whether a variable of the outer build would change the inner one. The job server stays, so that
/// both together use no more processors than the outer one was given.
fn leaks(name: &str) -> bool {
    const KEEP: &[&str] = &["CARGO_HOME", "CARGO_MAKEFLAGS"];
    const KEEP_PREFIXES: &[&str] = &["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    const DROP: &[&str] = &[
        "CLIPPY_ARGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "LLVM_PROFILE_FILE",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "RUSTC_LINKER",
        "NUM_JOBS",
        "__CARGO_DEFAULT_LIB_METADATA",
    ];
    if KEEP.contains(&name) || KEEP_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    name.starts_with("CARGO") || name.starts_with("DEP_") || DROP.contains(&name)
}

/// `target/agent`, beside `target/debug` and `target/release`, so that both share one agent; or a
/// place in `OUT_DIR` where the layout is unknown.
fn agent_target_directory(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "build"))
        .and_then(|build| build.parent()?.parent())
        .map_or_else(|| out.join("agent"), |target| target.join("agent"))
}

/// Changes with the agent's sources, the compiler and the target.
fn source_digest(target: &str) -> Result<String, Box<dyn Error>> {
    let mut hasher = Sha256::new();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    hasher.update(Command::new(rustc).arg("-vV").output()?.stdout);
    hasher.update(target);
    for source in SOURCES {
        add_to_digest(Path::new(source), &mut hasher)?;
    }
    Ok(hex(&hasher.finalize()))
}

fn add_to_digest(path: &Path, hasher: &mut Sha256) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        entries.sort();
        for entry in entries {
            add_to_digest(&entry, hasher)?;
        }
    } else if path.exists() {
        let bytes = fs::read(path)?;
        hasher.update(path.to_string_lossy().as_bytes());
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    Ok(())
}

fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
