//! What a simulated host has on its disk, and what its programs answer.

use crate::Outcome;
use crate::sites::{Node, put};
use std::fs;
use std::path::Path;
use strata::resource::{Failure, Output, Program};

/// Makes the root of a host that was just installed, with a machine id of its own.
///
/// # Errors
/// When a file cannot be written.
pub fn make_root(root: &Path, node: &Node) -> Outcome<()> {
    for directory in ["etc", "run", "srv", "var/lib/dpkg", "root"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let id = format!("{:032x}\n", node.address.to_bits());
    let files = [
        ("etc/machine-id", id.as_str()),
        ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/shadow", "root:*:19000:0:99999:7:::\n"),
        ("var/lib/dpkg/status", ""),
    ];
    files.into_iter().try_for_each(|(path, text)| put(&root.join(path), text))
}

/// Nothing that is measured runs a program: a step that does is a mistake in the measurement.
pub fn no_programs(program: &Program) -> Result<Output, Failure> {
    Err(Failure::new(format!("a simulated host runs no programs: {:?}", program.argv)))
}
