//! Tables and plots of `docs/performance.md`, between its marks.

use crate::compare::{CHANGED, FIRST, FIRST_WITH_PACKAGES, SECOND, Tool};
use crate::record::{Entry, Results, Spread, mebibytes};
use crate::{Outcome, distance, large, plot, scale};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const TOOLS: [Tool; 6] =
    [Tool::Strata, Tool::Ssh, Tool::SshCurve, Tool::Pyinfra, Tool::Mitogen, Tool::Ansible];

/// Writes the generated parts of the document, and the plots beside it.
///
/// # Errors
/// When the document has no such parts, or a file cannot be written.
pub fn write(document: &Path, results: &Results) -> Outcome<()> {
    let mut text = fs::read_to_string(document)?;
    let directory = document.parent().unwrap_or(Path::new("."));
    for (part, content) in [
        ("comparison", comparison(results)?),
        ("costs", costs(results)?),
        ("distance", far(results)?),
        ("large", large(results)?),
        ("growth", growth(results)?),
    ] {
        text = replaced(&text, part, &content)?;
    }
    fs::write(document, text)?;
    let bars: Vec<plot::Bar> = TOOLS
        .iter()
        .filter_map(|tool| {
            let spread = seconds(results, SECOND, tool.name())?;
            Some((tool.name().to_owned(), spread.median, *tool == Tool::Strata))
        })
        .collect();
    if !bars.is_empty() {
        let title = "Second run: nothing to change, 50 resources on each of 20 hosts (median)";
        plot::bars(&directory.join("performance-second-run.svg"), title, &bars)?;
    }
    let series = growth_series(results);
    if series.iter().any(|(_, points)| points.len() > 1) {
        let title = "The controller and a growing fleet, 100 resources a host, no change";
        plot::growth(&directory.join("performance-growth.svg"), title, &series)?;
    }
    Ok(())
}

/// The text with another content between the marks of a part.
fn replaced(text: &str, part: &str, content: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- measured: {part} -->\n"), "<!-- end of measured -->");
    let missing = || format!("the document has no part `{part}`");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{content}\n{end}{after}"))
}

fn seconds(results: &Results, scenario: &str, tool: &str) -> Option<Spread> {
    Spread::of(results.of(scenario, tool).map(|entry| entry.seconds))
}

fn comparison(results: &Results) -> Outcome<String> {
    let mut text = "| | tool | median | least | most | rounds | of strata's time |\n|---|---|---:|---:|---:|---:|---:|\n".to_owned();
    for scenario in [SECOND, CHANGED, FIRST, FIRST_WITH_PACKAGES] {
        let ours = seconds(results, scenario, Tool::Strata.name());
        for tool in TOOLS {
            let Some(spread) = seconds(results, scenario, tool.name()) else { continue };
            let ratio = ours
                .map_or_else(String::new, |ours| format!("{:.2} ×", spread.median / ours.median));
            writeln!(
                text,
                "| {scenario} | {} | {} | {} | {} | {} | {ratio} |",
                tool.name(),
                time(spread.median),
                time(spread.least),
                time(spread.most),
                spread.count
            )?;
        }
    }
    Ok(text)
}

fn time(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

fn costs(results: &Results) -> Outcome<String> {
    let mut text = "| | tool | processor time of the controller | its memory | on the wire, a host |\n|---|---|---:|---:|---:|\n".to_owned();
    for scenario in [SECOND, FIRST] {
        for tool in TOOLS {
            let entries: Vec<&Entry> = results.of(scenario, tool.name()).collect();
            let median = |pick: fn(&Entry) -> f64| {
                Spread::of(entries.iter().map(|entry| pick(entry))).map(|spread| spread.median)
            };
            let Some(cpu) = median(|entry| entry.cpu_seconds) else { continue };
            let memory = median(|entry| mebibytes(entry.memory_bytes)).unwrap_or_default();
            let wire = median(|entry| kibibytes(entry.wire_bytes) / f64::from(entry.hosts));
            writeln!(
                text,
                "| {scenario} | {} | {} | {memory:.0} MiB | {:.1} KiB |",
                tool.name(),
                time(cpu),
                wire.unwrap_or_default()
            )?;
        }
    }
    Ok(text)
}

fn kibibytes(bytes: u64) -> f64 {
    mebibytes(bytes) * 1024.0
}

fn far(results: &Results) -> Outcome<String> {
    let mut text =
        "| | median | least | most | rounds | not delayed |\n|---|---:|---:|---:|---:|---:|\n"
            .to_owned();
    for (base, tool) in [
        (distance::STEPS, "strata"),
        (distance::STEPS, "ssh true, curve25519"),
        (distance::FILES, "strata"),
        (distance::FILES, "ssh true, curve25519"),
    ] {
        for more in ["", distance::AGAIN] {
            let name = format!("{base}{more}");
            let Some(spread) = seconds(results, &name, tool) else { continue };
            let near = seconds(results, &format!("{name}{}", distance::NEAR), tool);
            writeln!(
                text,
                "| {name}: {tool} | {} | {} | {} | {} | {} |",
                time(spread.median),
                time(spread.least),
                time(spread.most),
                spread.count,
                near.map_or_else(String::new, |near| time(near.median))
            )?;
        }
    }
    Ok(text)
}

/// A large file: what it took, and what went over the wire, per host.
fn large(results: &Results) -> Outcome<String> {
    let mut text = "| tool | median | least | most | rounds | on the wire, a host | processor time of the controller | again |\n|---|---:|---:|---:|---:|---:|---:|---:|\n".to_owned();
    for tool in TOOLS {
        let Some(spread) = seconds(results, large::LARGE, tool.name()) else { continue };
        let entries = || results.of(large::LARGE, tool.name());
        let wire =
            Spread::of(entries().map(|entry| mebibytes(entry.wire_bytes) / f64::from(entry.hosts)));
        let cpu = Spread::of(entries().map(|entry| entry.cpu_seconds));
        let again = seconds(results, &format!("{}{}", large::LARGE, distance::AGAIN), tool.name());
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.1} MiB | {} | {} |",
            match tool {
                Tool::Ssh => "ssh cat",
                Tool::SshCurve => "ssh cat, curve25519",
                other => other.name(),
            },
            time(spread.median),
            time(spread.least),
            time(spread.most),
            spread.count,
            wire.map_or(0.0, |wire| wire.median),
            cpu.map_or_else(String::new, |cpu| time(cpu.median)),
            again.map_or_else(String::new, |again| time(again.median)),
        )?;
    }
    Ok(text)
}

/// Fleet sizes that were measured.
fn sizes(results: &Results) -> Vec<u32> {
    let mut sizes: Vec<u32> =
        results.of(scale::SECOND, scale::TOOL).map(|entry| entry.hosts).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn median_at(
    results: &Results,
    scenario: &str,
    hosts: u32,
    pick: fn(&Entry) -> f64,
) -> Option<f64> {
    let entries = results.of(scenario, scale::TOOL).filter(|entry| entry.hosts == hosts);
    Spread::of(entries.map(pick)).map(|spread| spread.median)
}

fn growth(results: &Results) -> Outcome<String> {
    let mut text = "| hosts | time | of it a host | processor time, a host | a resource | memory | a host |\n|---:|---:|---:|---:|---:|---:|---:|\n".to_owned();
    for hosts in sizes(results) {
        let at = |pick| median_at(results, scale::SECOND, hosts, pick).unwrap_or_default();
        let (wall, cpu, memory) = (
            at(|entry| entry.seconds),
            at(|entry| entry.cpu_seconds),
            at(|entry| mebibytes(entry.memory_bytes)),
        );
        let each = f64::from(hosts);
        writeln!(
            text,
            "| {hosts} | {} | {:.1} ms | {:.1} ms | {:.0} µs | {memory:.0} MiB | {:.2} MiB |",
            time(wall),
            wall / each * 1e3,
            cpu / each * 1e3,
            cpu / each / f64::from(scale::RESOURCES) * 1e6,
            memory / each,
        )?;
    }
    Ok(text)
}

fn growth_series(results: &Results) -> Vec<plot::Series> {
    let of = |name: &str, pick: fn(&Entry) -> f64| {
        let points = sizes(results).into_iter().filter_map(|hosts| {
            Some((f64::from(hosts), median_at(results, scale::SECOND, hosts, pick)?))
        });
        (name.to_owned(), points.collect())
    };
    vec![
        of("time, s", |entry| entry.seconds),
        of("processor time, s", |entry| entry.cpu_seconds),
        of("memory, MiB", |entry| mebibytes(entry.memory_bytes)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = "a\n<!-- measured: x -->\nold\n<!-- end of measured -->\nb\n";
        let new = replaced(text, "x", "new").unwrap();
        assert_eq!(new, "a\n<!-- measured: x -->\n\nnew\n<!-- end of measured -->\nb\n");
        assert_eq!(replaced(&new, "x", "new").unwrap(), new);
        assert!(replaced(text, "y", "").is_err());
    }
}
