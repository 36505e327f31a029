//! `serial` and `max_failures` of a placement: its hosts are worked on in batches.

use super::reader::{TableReader, wrong_type};
use super::tree::{Node, NodeValue};
use crate::diag::{Code, Diagnostic, Diagnostics, Source};

/// A number of hosts, or a share of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Hosts(u32),
    /// So many of a hundred, rounded down.
    Percent(u32),
}

impl Share {
    /// How many of `all` hosts that is.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Hosts(count) => count as usize,
            // 100 per cent of what fits into memory fits into memory.
            Self::Percent(percent) => {
                all / 100 * percent as usize + all % 100 * percent as usize / 100
            }
        }
    }
}

/// How a placement's hosts take turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rolling {
    /// Sizes of the batches; the last one repeats. Never empty, and no size is zero.
    pub serial: Vec<Share>,
    /// So many hosts may fail before no further batch begins.
    pub max_failures: Share,
}

impl Rolling {
    /// The size of a batch of `all` hosts: at least one.
    pub fn batch(&self, index: usize, all: usize) -> usize {
        let share = self.serial.get(index).or(self.serial.last());
        share.map_or(all, |share| share.of(all)).max(1)
    }
}

/// Reads `serial` and `max_failures` of a placement.
pub fn read(table: &mut TableReader<'_, '_>) -> Option<Rolling> {
    let source = table.source;
    let serial = table.node("serial");
    let failures = table.entry("max_failures");
    let problems = &mut *table.problems;
    let max_failures = failures.map(|entry| share(source, &entry.node, 0, problems));
    let Some(serial) = serial else {
        if let Some(entry) = failures {
            problems.push(
                Diagnostic::error(Code::LAYER, "`max_failures` without `serial` limits nothing")
                    .at(source.span(entry.key_range.clone()), "all hosts are worked on at once")
                    .hint("add `serial`, for example serial = 1"),
            );
        }
        return None;
    };
    let sizes: Vec<Option<Share>> = match &serial.value {
        NodeValue::Array(nodes) if nodes.is_empty() => {
            problems.push(
                Diagnostic::error(Code::LAYER, "`serial` names no batch")
                    .at(serial.span(source), "")
                    .hint("serial = 1, serial = \"25%\" or serial = [1, 3, \"50%\"]"),
            );
            return None;
        }
        NodeValue::Array(nodes) => {
            nodes.iter().map(|node| share(source, node, 1, problems)).collect()
        }
        _ => vec![share(source, serial, 1, problems)],
    };
    let serial = sizes.into_iter().collect::<Option<Vec<Share>>>()?;
    Some(Rolling { serial, max_failures: max_failures.unwrap_or(Some(Share::Hosts(0)))? })
}

/// A whole number of hosts, or a text like `25%`; not less than `least`.
fn share(source: &Source, node: &Node, least: u32, problems: &mut Diagnostics) -> Option<Share> {
    let said = |message: String| {
        Diagnostic::error(Code::LAYER, message)
            .at(node.span(source), "")
            .hint("a number of hosts, or a share of the group's: \"25%\"")
    };
    let bounded = |number: Option<u32>, most: u32| number.filter(|n| (least..=most).contains(n));
    let (text, found) = match &node.value {
        NodeValue::Integer(count) => {
            let hosts = bounded(u32::try_from(*count).ok(), 10_000);
            (count.to_string(), hosts.map(Share::Hosts))
        }
        NodeValue::String(text) => {
            let digits = text.strip_suffix('%').filter(|digits| {
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
            let percent = bounded(digits.and_then(|digits| digits.parse().ok()), 100);
            (text.clone(), percent.map(Share::Percent))
        }
        _ => {
            problems.push(wrong_type(source, node, "a number of hosts or a share like \"25%\""));
            return None;
        }
    };
    if found.is_none() {
        problems.push(said(format!("`{text}` is no number of hosts")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::tree;

    fn from(toml: &str) -> Result<Option<Rolling>, Vec<String>> {
        let source = Source::new("strata.toml", toml);
        let mut problems = Diagnostics::new();
        let entries = tree::parse(&source, &mut problems);
        let mut table = TableReader::new(&source, &entries, 0..1, &mut problems);
        let rolling = read(&mut table);
        table.finish();
        let said: Vec<String> = problems.iter().map(|problem| problem.message.clone()).collect();
        if said.is_empty() { Ok(rolling) } else { Err(said) }
    }

    #[test]
    fn sizes_are_numbers_or_shares() {
        use Share::{Hosts, Percent};
        let rolling = |serial: &[Share], max_failures| {
            Ok(Some(Rolling { serial: serial.to_vec(), max_failures }))
        };
        assert_eq!(from(""), Ok(None));
        assert_eq!(from("serial = 1"), rolling(&[Hosts(1)], Hosts(0)));
        assert_eq!(from("serial = \"25%\"\nmax_failures = 2"), rolling(&[Percent(25)], Hosts(2)));
        assert_eq!(
            from("serial = [1, 3, \"50%\"]\nmax_failures = \"0%\""),
            rolling(&[Hosts(1), Hosts(3), Percent(50)], Percent(0))
        );
        for wrong in [
            "serial = 0",
            "serial = -1",
            "serial = \"0%\"",
            "serial = \"101%\"",
            "serial = \"5\"",
            "serial = \"+5%\"",
            "serial = []",
            "serial = [1, 0]",
            "serial = 1.5",
            "serial = true",
            "serial = 1\nmax_failures = \"no\"",
            "max_failures = 1",
        ] {
            assert_eq!(from(wrong).map_err(|said| said.len()), Err(1), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_rounded_down_and_a_batch_has_a_host() {
        let rolling = |serial: Vec<Share>| Rolling { serial, max_failures: Share::Hosts(0) };
        assert_eq!(rolling(vec![Share::Percent(25)]).batch(0, 10), 2);
        assert_eq!(rolling(vec![Share::Percent(25)]).batch(7, 3), 1);
        let growing = rolling(vec![Share::Hosts(1), Share::Hosts(3), Share::Percent(50)]);
        let sizes: Vec<usize> = (0..4).map(|index| growing.batch(index, 20)).collect();
        assert_eq!(sizes, [1, 3, 10, 10]);
        assert_eq!(Share::Percent(100).of(199), 199);
    }
}
