//! Nodes that end again and again: how they are told from nodes that start, and what they said. Pure.

use std::fmt;

/// Starts in vain after which nobody waits for the next: a boot that is overtaken by another node's
/// end, or by what is left of the node before, fails once or twice and then succeeds.
const IN_VAIN: u32 = 3;

/// The levels of lines that tell of trouble.
const TELLING: [&str; 3] = ["[warning]", "[error]", "[critical]"];

/// How RabbitMQ heads what it says of a boot that failed.
const BOOT_FAILED: &str = "BOOT FAILED";

/// What the end of Erlang itself begins with, where nothing else was said.
const ENDS: [&str; 3] = ["init terminating", "Runtime terminating", "Kernel pid terminated"];

/// Letters that are shown of a line: a crash prints whole terms.
const SHOWN: usize = 300;

/// What the engine says of a container's ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// True while the engine waits before it starts it again.
    pub waits: bool,
    /// How often the engine started it again by itself, since somebody last did.
    pub restarts: u32,
    /// The exit code of its last end.
    pub exit: i32,
    /// True when its last end was for want of memory.
    pub memory: bool,
}

impl Ends {
    /// How [`Ends::read`] wants it from the engine.
    pub const FORMAT: &'static str =
        "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}} {{.State.OOMKilled}}";

    /// Reads a line of [`Ends::FORMAT`].
    pub fn read(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        Some(Self {
            waits: fields.next()? == "restarting",
            restarts: fields.next()?.parse().ok()?,
            exit: fields.next()?.parse().ok()?,
            memory: fields.next()? == "true",
        })
    }

    /// True when it ends again and again: it has ended so often since `first` was counted, or so
    /// often altogether and waits for the next start now. What is counted once stays counted while a
    /// node runs well, so that the count alone proves nothing.
    pub const fn again_and_again(&self, first: u32) -> bool {
        self.restarts.saturating_sub(first) >= IN_VAIN || (self.waits && self.restarts >= IN_VAIN)
    }
}

/// A node that ends again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Its ends.
    pub ends: Ends,
    /// What its log says of the last one.
    pub words: String,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ends { waits, restarts, exit, memory } = self.ends;
        write!(f, "it ended {restarts} times")?;
        // While it runs once more the engine knows no exit code.
        if waits {
            write!(f, ", the last time with exit code {exit}")?;
        }
        if memory {
            f.write_str(", for want of memory")?;
        }
        if self.words.is_empty() { Ok(()) } else { write!(f, ": {}", self.words) }
    }
}

impl Failing {
    /// What an operator can do.
    pub fn hint(&self, member: &str) -> String {
        let words = self.words.to_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        let first = if self.ends.memory {
            "give the host more memory, or lower `rabbitmq_memory`"
        } else if says(&["enospc", "no space left"]) {
            "its disk is full: free it"
        } else if says(&["eaddrinuse", "already in use", "already running"]) {
            "another program, or a node by hand, has its name or a port: stop it"
        } else if says(&["eacces", "eperm", "permission denied"]) {
            "a file of its data is not its own: give all of it to user 999"
        } else if says(&["feature_flag", "feature flag", "schema_integrity_check"]) {
            "its data is of another version: bring the image back that the others run"
        } else {
            "mend what its log names, or, while the majority runs, stop the container and move its data away: it joins anew, with copies from the others"
        };
        format!("{first}; then run again (RabbitMQ's log on {member} says more)")
    }
}

/// The last line of a log that tells of trouble.
pub fn last_words(log: &str) -> Option<String> {
    let telling = |line: &&str| TELLING.iter().any(|level| line.contains(level));
    let mut lines = log.lines().rev().filter(telling).map(bare).filter(|words| !words.is_empty());
    Some(shown(lines.next()?.split_whitespace()))
}

/// Why a node ended: what RabbitMQ says of a boot that failed, else what Erlang says of its end, else
/// the last trouble.
pub fn last_end(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().map(bare).collect();
    let boot = lines.iter().rposition(|line| *line == BOOT_FAILED).map(|at| {
        let after = lines[at + 1..].iter().skip_while(|line| line.chars().all(|c| c == '='));
        shown(after.take_while(|line| !line.is_empty()).flat_map(|line| line.split_whitespace()))
    });
    let end = || {
        let ends = |line: &&&str| ENDS.iter().any(|word| line.contains(word));
        lines.iter().rev().find(ends).map(|line| shown(line.split_whitespace()))
    };
    boot.filter(|words| !words.is_empty()).or_else(end).or_else(|| last_words(log))
}

/// A line without its time, level and process.
fn bare(line: &str) -> &str {
    let words = line.split_once("] <").and_then(|(_, rest)| rest.split_once('>'));
    words.map_or(line, |(_, words)| words).trim()
}

/// Words in one line, as long as is shown of them.
fn shown<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_tells_last_is_told() {
        let log = "2026-11-22 05:23:19.416368+00:00 [warning] <0.223.0> Could not auto-cluster with node rabbit@queue-02: {badrpc,nodedown}\n\
                   2026-11-22 05:23:19.417477+00:00 [info] <0.223.0> Will retry\n";
        let told = "Could not auto-cluster with node rabbit@queue-02: {badrpc,nodedown}";
        assert_eq!(last_words(log).as_deref(), Some(told));
        assert_eq!(last_words("2026 [info] <0.1.0> all is well\n"), None);
        let empty = "2026-11-22 [error] <0.236.0> one\n2026-11-22 [error] <0.236.0> \n";
        assert_eq!(last_words(empty).as_deref(), Some("one"));
        let long = format!("[error] <0.1.0> {}", "é".repeat(999));
        assert_eq!(last_words(&long).unwrap().chars().count(), SHOWN);
    }

    #[test]
    fn why_a_node_ended_is_told() {
        let log = "2026-11-22 08:40:09.8+00:00 [error] <0.223.0> BOOT FAILED\n\
                   2026-11-22 08:40:09.8+00:00 [error] <0.223.0> ===========\n\
                   2026-11-22 08:40:09.8+00:00 [error] <0.223.0> Error during startup: {error,\n\
                   2026-11-22 08:40:09.8+00:00 [error] <0.223.0>          {cannot_read_file,\n\
                   2026-11-22 08:40:09.8+00:00 [error] <0.223.0>             \"/a/b\"}}\n\
                   2026-11-22 08:40:09.8+00:00 [error] <0.223.0> \n\
                   2026-11-22 08:40:10.8+00:00 [error] <0.222.0>   crasher:\n\
                   2026-11-22 08:40:10.8+00:00 [error] <0.222.0>     stack_size: 28\n";
        let told = "Error during startup: {error, {cannot_read_file, \"/a/b\"}}";
        assert_eq!(last_end(log).as_deref(), Some(told));
        let end =
            "2026 [error] <0.1.0> other\nRuntime terminating during boot ({x})\nCrash dump is\n";
        assert_eq!(last_end(end).as_deref(), Some("Runtime terminating during boot ({x})"));
        assert_eq!(last_end("2026 [error] <0.1.0> other\n").as_deref(), Some("other"));
        assert_eq!(last_end("BOOT FAILED\n"), None);
    }

    #[test]
    fn an_end_now_and_then_is_no_failure() {
        let ends = |line: &str| Ends::read(line).unwrap();
        assert!(!ends("running 2 1 false").again_and_again(0));
        assert!(ends("running 3 1 false").again_and_again(0));
        // It ended long ago, ran well since, and starts now.
        assert!(!ends("running 9 137 false").again_and_again(9));
        assert!(ends("restarting 9 1 false").again_and_again(9));
        assert!(!ends("restarting 1 1 false").again_and_again(0));
        for odd in ["", "running", "running x 1 false", "running 1 1"] {
            assert_eq!(Ends::read(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_to_do_follows_from_what_was_said() {
        let hint = |words: &str, memory| {
            let ends = Ends { waits: true, restarts: 4, exit: 1, memory };
            Failing { ends, words: words.to_owned() }.hint("queue-02")
        };
        assert!(hint("", true).contains("memory"));
        assert!(hint("{error,enospc}", false).contains("free it"));
        assert!(hint("{listen_error,eaddrinuse}", false).contains("stop it"));
        assert!(hint("{file_error,eacces}", false).contains("user 999"));
        assert!(hint("incompatible feature flags", false).contains("another version"));
        assert!(hint("bad schema", false).contains("joins anew"));
    }
}
