//! Work over distance: every frame from and to a node is delayed.

use crate::Outcome;
use crate::grounds::Grounds;
use crate::record::{Entry, Results};

/// A hundred steps on one host, 50 ms away.
pub const STEPS: &str = "100 steps at 50 ms";
/// A thousand small files to one host, 26 ms away.
pub const FILES: &str = "1,000 files at 26 ms";

/// What is added to a scenario's name when everything is as wanted.
pub const AGAIN: &str = ", again";
/// What is added to a scenario's name when nothing is delayed.
pub const NEAR: &str = ", not delayed";

/// The role of the hundred steps: as different as steps of a role are.
pub fn steps_role() -> String {
    let mut text = "description = \"A hundred steps\"\n".to_owned();
    for number in 1..=25 {
        text += &format!(
            "\n[[step]]\nname = \"Directory {number}\"\ndirectory = {{ path = \"/srv/steps-{number:02}\" }}\n\
             \n[[step]]\nname = \"File {number}\"\nfile = {{ path = \"/srv/steps-{number:02}/file\", content = \"{number}\\n\" }}\n\
             \n[[step]]\nname = \"Line {number}\"\nline = {{ path = \"/srv/steps-{number:02}/lines\", key = \"a\", line = \"a {number}\" }}\n\
             \n[[step]]\nname = \"Command {number}\"\ncommand = {{ argv = [\"touch\", \"/srv/steps-{number:02}/done\"], creates = \"/srv/steps-{number:02}/done\" }}\n"
        );
    }
    text
}

/// The role of the thousand files.
pub fn files_role() -> String {
    let mut text = "description = \"A thousand small files\"\n".to_owned();
    for number in 1..=1000 {
        text += &format!(
            "\n[[step]]\nname = \"File {number}\"\nfile = {{ path = \"/srv/files/{number:04}\", content = \"the content of file {number}\\n\" }}\n"
        );
    }
    text
}

/// One kind of work on one node.
struct Far {
    scenario: &'static str,
    layer: &'static str,
    resources: u32,
    /// Milliseconds in each direction.
    delay: u32,
    /// Puts what was made aside. It is not removed: an ext4 without a journal, which hosts of the lab have, passes
    /// by every inode that was freed in the last minutes, one after the other, whenever a file is
    /// made.
    undo: &'static str,
}

const ALL: [Far; 2] = [
    Far {
        scenario: STEPS,
        layer: "steps",
        resources: 100,
        delay: 25,
        undo: "mkdir -p /srv/before/$$ && mv /srv/steps-* /srv/before/$$",
    },
    Far {
        scenario: FILES,
        layer: "files",
        resources: 1000,
        delay: 13,
        undo: "mkdir -p /srv/before/$$ && mv /srv/files /srv/before/$$",
    },
];

/// Measures each kind of work near and far, the first time and again, beside a bare `ssh`.
///
/// # Errors
/// When a run fails.
pub fn run(grounds: &Grounds, rounds: u32, results: &mut Results) -> Outcome<()> {
    let node = grounds.nodes.first().ok_or("there is no node")?;
    for far in ALL {
        let words = ["install", "--layer", far.layer, "--host", &node.name];
        // The agent is there, and the host was met: what is measured is the work.
        grounds.strata(&words).succeed()?;
        for delay in [0, far.delay] {
            if delay > 0 {
                grounds.delay(&node.name, delay)?;
            }
            let name = |more: &str| match delay {
                0 => format!("{}{more}{NEAR}", far.scenario),
                _ => format!("{}{more}", far.scenario),
            };
            for _ in 0..rounds {
                grounds.undo_on(&node.name, far.undo)?;
                for more in ["", AGAIN] {
                    let cost = grounds.strata(&words).succeed()?;
                    let size = (1, far.resources);
                    results.add(Entry::of(&name(more), "strata", size, &cost))?;
                }
                let only = std::slice::from_ref(node);
                let cost = grounds.ssh(only, "-o KexAlgorithms=curve25519-sha256").succeed()?;
                results.add(Entry::of(&name(""), "ssh true, curve25519", (1, 0), &cost))?;
            }
            if delay > 0 {
                println!("{} ms each way: {}", far.delay, grounds.heal()?);
            }
        }
    }
    Ok(())
}
