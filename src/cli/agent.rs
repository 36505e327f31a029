//! `strata agent`: the agent inside this binary.

use super::output::{out, tell};
use super::{Exit, Settings};
use crate::ssh::agent_binary;
use crate::wire::PROTOCOL;
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `strata agent`.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: AgentCommand,
}

/// Subcommands of `strata agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// List the architectures with size, hash and wire protocol, and what is missing
    List,
    /// Write the agent of an architecture to a file
    #[command(after_help = "Examples:\n  strata agent write x86_64 ./strata-agent")]
    Write {
        /// As `uname -m` prints it
        architecture: String,
        /// Where to
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(arguments: &AgentArguments, settings: &Settings) -> Exit {
    match &arguments.command {
        AgentCommand::List => {
            for agent in agent_binary::list() {
                if settings.json {
                    out!(
                        "{}",
                        serde_json::json!({ "architecture": agent.architecture, "bytes": agent.size, "sha256": agent.sha256, "protocol": PROTOCOL })
                    );
                } else {
                    out!(
                        "{:10} {:>9} bytes  wire protocol {PROTOCOL}  {}",
                        agent.architecture,
                        agent.size,
                        agent.sha256
                    );
                }
            }
            if !settings.json {
                for (architecture, why) in agent_binary::missing() {
                    out!("{architecture:10} not inside: {why}");
                    out!("           hint: {}", agent_binary::how_to_add(architecture));
                }
            }
            Exit::Done
        }
        AgentCommand::Write { architecture, file } => {
            let Some(agent) = agent_binary::for_architecture(architecture) else {
                tell!(
                    "error: no agent for `{architecture}`\nhint: {}",
                    agent_binary::how_to_add(architecture)
                );
                return Exit::InvalidInput;
            };
            let written =
                std::fs::File::create(file).and_then(|mut out| out.write_all(&agent.bytes));
            match written {
                Ok(()) => Exit::Done,
                Err(error) => {
                    tell!("error: cannot write {}: {error}", file.display());
                    Exit::Internal
                }
            }
        }
    }
}
