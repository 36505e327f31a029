//! The agents inside this program, one per architecture.

use sha2::{Digest, Sha256};
use std::io;
use std::sync::{LazyLock, OnceLock};

/// What the build script embeds.
struct EmbeddedAgent {
    architecture: &'static str,
    sha256: &'static str,
    size: usize,
    compressed: &'static [u8],
}

/// Agents that were at hand when strata was built and could not be embedded, with the reason.
static LEFT_OUT: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/agents_left_out.rs"));

static AGENTS: &[EmbeddedAgent] = include!(concat!(env!("OUT_DIR"), "/agents.rs"));

/// An agent, ready to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentBinary {
    /// SHA-256 of the bytes, lower-case hexadecimal; also part of the file's name on a host.
    pub sha256: &'static str,
    /// The program.
    pub bytes: Vec<u8>,
}

/// What is embedded, without unpacking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentDescription {
    /// As `uname -m` prints it.
    pub architecture: &'static str,
    /// SHA-256 of the program.
    pub sha256: &'static str,
    /// Bytes of the program.
    pub size: usize,
    /// Bytes that it takes inside this program.
    pub compressed_size: usize,
}

/// The agents, each unpacked by the first host that needs it.
static UNPACKED: LazyLock<Vec<OnceLock<Option<AgentBinary>>>> =
    LazyLock::new(|| AGENTS.iter().map(|_| OnceLock::new()).collect());

/// The agent for an architecture as `uname -m` prints it; `None` when this program carries none
/// (or a damaged one: its digest is checked).
pub fn for_architecture(architecture: &str) -> Option<&'static AgentBinary> {
    let mut all = AGENTS.iter().zip(UNPACKED.iter());
    let (embedded, unpacked) = all.find(|(agent, _)| agent.architecture == architecture)?;
    unpacked.get_or_init(|| unpack(embedded).ok()).as_ref()
}

/// All embedded agents.
pub fn list() -> Vec<AgentDescription> {
    AGENTS
        .iter()
        .map(|agent| AgentDescription {
            architecture: agent.architecture,
            sha256: agent.sha256,
            size: agent.size,
            compressed_size: agent.compressed.len(),
        })
        .collect()
}

/// True when the agent for this architecture is inside.
pub fn has(architecture: &str) -> bool {
    AGENTS.iter().any(|agent| agent.architecture == architecture)
}

/// Architectures that strata knows and has no agent for, each with the reason.
pub fn missing() -> Vec<(&'static str, &'static str)> {
    ARCHITECTURES
        .into_iter()
        .filter(|architecture| !has(architecture))
        .map(|architecture| {
            let left_out = LEFT_OUT.iter().find(|(of, _)| *of == architecture);
            (architecture, left_out.map_or("it was not built", |(_, why)| *why))
        })
        .collect()
}

/// How a strata with an agent for this architecture is had.
pub fn how_to_add(architecture: &str) -> String {
    // The script cross-builds this one; any other is built on a machine of its own.
    let script = format!("agent-{architecture}");
    if SCRIPTS.contains(&script.as_str()) {
        format!("in the sources of strata, as root: `sh tools/{script} && cargo build --release`")
    } else {
        "build strata on that architecture, or see agents/README.md in its sources".to_owned()
    }
}

/// The architectures that strata is made for.
const ARCHITECTURES: [&str; 2] = ["aarch64", "x86_64"];

/// Scripts in `tools/` that build an agent for another architecture.
const SCRIPTS: [&str; 1] = ["agent-aarch64"];

fn unpack(agent: &EmbeddedAgent) -> io::Result<AgentBinary> {
    let bytes = zstd::bulk::decompress(agent.compressed, agent.size)?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != agent.sha256 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "damaged"));
    }
    Ok(AgentBinary { sha256: agent.sha256, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_of_this_architecture_is_inside_small_and_intact() {
        let agent = for_architecture(std::env::consts::ARCH).expect("embedded and intact");
        assert!(agent.bytes.starts_with(b"\x7fELF"));
        assert!(agent.bytes.len() <= 3 * 1024 * 1024, "{} bytes", agent.bytes.len());
        assert!(list().iter().any(|agent| agent.architecture == std::env::consts::ARCH));
        assert_eq!(for_architecture("pdp11"), None);
    }

    #[test]
    fn every_architecture_is_inside_or_missing_with_a_reason() {
        for architecture in ARCHITECTURES {
            let missing = missing().into_iter().find(|(of, _)| *of == architecture);
            assert_ne!(has(architecture), missing.is_some(), "{architecture}");
            assert!(missing.is_none_or(|(_, why)| !why.is_empty()));
        }
        for script in SCRIPTS {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(script);
            assert!(path.is_file(), "{}", path.display());
        }
        assert!(how_to_add("aarch64").contains("sh tools/agent-aarch64"));
        assert!(how_to_add("riscv64").contains("agents/README.md"));
    }
}
