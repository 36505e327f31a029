//! The agents inside this program, one per architecture.

use sha2::{Digest, Sha256};
use std::io;

/// What the build script embeds.
struct EmbeddedAgent {
    architecture: &'static str,
    sha256: &'static str,
    size: usize,
    compressed: &'static [u8],
}

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

/// The agent for an architecture as `uname -m` prints it; `None` when this program carries none
/// (or a damaged one: its digest is checked).
pub fn for_architecture(architecture: &str) -> Option<AgentBinary> {
    let found = AGENTS.iter().find(|agent| agent.architecture == architecture)?;
    unpack(found).ok()
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
}
