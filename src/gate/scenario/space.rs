//! Room on disks (E10).

use super::{Finding, Surroundings};
use crate::gate::probe;
use serde::Deserialize;

/// How full file systems may be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Per cent of blocks that must be free.
    min_free: u32,
    /// Per cent of inodes that must be free.
    min_free_inodes: u32,
    /// Paths whose file systems are looked at.
    paths: Vec<String>,
}

/// Looks at the file systems of the paths.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let expected =
        format!("{} % of blocks and {} % of inodes free", bounds.min_free, bounds.min_free_inodes);
    surroundings
        .on_each(&expected, |_, session| {
            let bounds = &bounds;
            async move {
                let mut argv = vec!["df", "--output=pcent,ipcent,target"];
                argv.extend(bounds.paths.iter().map(String::as_str));
                let text = probe::output(&session, &argv).await?;
                Ok(too_full(&text, bounds.min_free, bounds.min_free_inodes))
            }
        })
        .await
}

fn too_full(text: &str, min_free: u32, min_free_inodes: u32) -> Vec<String> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (Some(blocks), Some(inodes)) = (words.next(), words.next()) else {
                return Some(format!("`{line}` is no line of df"));
            };
            let target = words.collect::<Vec<_>>().join(" ");
            let (Some(used), Some(used_inodes)) = (per_cent(blocks), per_cent(inodes)) else {
                return Some(format!("{target}: `{blocks} {inodes}` are no per cents"));
            };
            let full = used + min_free > 100 || used_inodes + min_free_inodes > 100;
            full.then(|| format!("{target}: {blocks} of blocks and {inodes} of inodes are used"))
        })
        .collect()
}

/// `85%`, or `-` where a file system has no such limit.
fn per_cent(word: &str) -> Option<u32> {
    if word == "-" { Some(0) } else { word.strip_suffix('%')?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::too_full;

    #[test]
    fn a_full_file_system_is_named() {
        let text = "Use% IUse% Mounted on\n 15%    2% /\n 85%    2% /data\n  1%    - /boot\n";
        assert_eq!(too_full(text, 20, 10), ["/data: 85% of blocks and 2% of inodes are used"]);
    }
}
