//! Whether a standby that runs can ever follow the leader again: what it needs next may be gone, or
//! its own writes may lie beside the cluster's history. Asked of the leader; judged purely.

use crate::postgres_client::{Client, Error};

/// What the leader can still give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The leader's timeline.
    timeline: u32,
    /// Where the oldest WAL that it keeps begins, in bytes.
    oldest: u64,
    /// Bytes of a segment.
    segment: u64,
    /// Where each earlier timeline was left, in bytes.
    forks: Vec<(u32, u64)>,
}

/// Its timeline, the oldest segment that it keeps and the size of one, and the timelines before.
const GIVEN: &str = "with now as (select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as line) \
    select line, (select min(substr(name, 9)) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'), \
    pg_size_bytes(current_setting('wal_segment_size')), \
    coalesce(pg_read_file('pg_wal/' || line || '.history', 0, 1000000, true), '') from now";

/// Asks the leader.
///
/// # Errors
/// What it says against it.
pub async fn given(leader: &Client) -> Result<Option<Given>, Error> {
    let rows = leader.rows("what standbys can be given", GIVEN).await?;
    let words: Vec<String> = rows.into_iter().flatten().map(Option::unwrap_or_default).collect();
    let [timeline, oldest, segment, history] = words.as_slice() else { return Ok(None) };
    Ok(read(timeline, oldest, segment, history))
}

/// `oldest`: the name of a segment without its timeline.
fn read(timeline: &str, oldest: &str, segment: &str, history: &str) -> Option<Given> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let segment: u64 = segment.parse().ok().filter(|size| *size > 0)?;
    let (high, low) = (hex(oldest.get(..8)?)?, hex(oldest.get(8..)?)?);
    let position = |text: &str| {
        let (high, low) = text.split_once('/')?;
        Some((hex(high)? << 32) | hex(low)?)
    };
    let forks = history.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, position(words.next()?)?))
    });
    Some(Given {
        timeline: u32::from_str_radix(timeline, 16).ok()?,
        oldest: (high << 32).checked_add(low.checked_mul(segment)?)?,
        segment,
        forks: forks.collect(),
    })
}

/// A position as PostgreSQL writes it.
fn shown(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)
}

impl Given {
    /// Why a standby whose log ends there cannot follow; `None` while it may.
    pub fn parted(&self, timeline: Option<u32>, position: u64) -> Option<String> {
        let timeline = timeline?;
        if timeline != self.timeline {
            let fork = self.forks.iter().find(|(left, _)| *left == timeline);
            match fork {
                None => {
                    return Some(format!(
                        "it is on timeline {timeline}, which is not in the history of the leader's timeline {}",
                        self.timeline
                    ));
                }
                Some((_, at)) if position > *at => {
                    return Some(format!(
                        "it has writes up to {} on timeline {timeline}, which the cluster left at {}",
                        shown(position),
                        shown(*at)
                    ));
                }
                Some(_) => {}
            }
        }
        let needed = position - position % self.segment;
        (position > 0 && needed < self.oldest).then(|| {
            format!(
                "its log ends at {}, and the leader keeps none before {}",
                shown(position),
                shown(self.oldest)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = "1\t0/5000060\tno recovery target specified\n\n2\t0/9000000\tno recovery target specified\n";

    #[test]
    fn what_a_leader_can_give_is_read_as_it_says_it() {
        let given = read("00000003", "0000000000000007", "16777216", HISTORY).unwrap();
        assert_eq!((given.timeline, given.oldest), (3, 0x0700_0000));
        assert_eq!(given.forks, [(1, 0x0500_0060), (2, 0x0900_0000)]);
        let high = read("0000000A", "00000002000000FF", "16777216", "").unwrap();
        assert_eq!((high.timeline, high.oldest), (10, 0x2_ff00_0000));
        for (oldest, segment) in [("", "16777216"), ("0000000000000007", "0"), ("x", "16777216")] {
            assert_eq!(read("00000003", oldest, segment, ""), None);
        }
    }

    #[test]
    fn only_what_can_never_follow_is_parted() {
        let given = read("00000003", "0000000000000007", "16777216", HISTORY).unwrap();
        // In the middle of the oldest segment, and behind it.
        assert_eq!(given.parted(Some(3), 0x0700_0010), None);
        let why = given.parted(Some(3), 0x06ff_ffff).unwrap();
        assert!(why.contains("ends at 0/6FFFFFF, and the leader keeps none before 0/7000000"));
        // On an older timeline, before and after it was left.
        assert_eq!(given.parted(Some(2), 0x0900_0000), None);
        assert!(given.parted(Some(2), 0x0900_0001).unwrap().contains("left at 0/9000000"));
        assert!(given.parted(Some(7), 0x0900_0000).unwrap().contains("timeline 7"));
        // What is not known proves nothing.
        assert_eq!(given.parted(None, 1), None);
        assert_eq!(given.parted(Some(3), 0), None);
    }
}
