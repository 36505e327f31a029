//! `strata run`: one program on the selected hosts.

use super::hosts_out::{set_aside, tell_of};
use super::install::SelectionArguments;
use super::output::{out, tell};
use super::recorded::{Recorded, open_state};
use super::run_output::Printer;
use super::work::connection;
use super::{Exit, Settings, check, runtime};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::event::{Consumer, Event, EventKind, now_ms};
use crate::plan::{select_hosts, select_layers};
use crate::report::{Palette, Plain, plural};
use crate::run::{self, CommandRequest, HostEnd, hosts_of};
use crate::site::Site;
use crate::wire::{ExecSpec, LockHolder};
use clap::Args;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Pieces of output that wait to be shown, each of at most 32 KiB.
const WAITING: usize = 128;

/// Bytes for standard input at most: each host gets a copy of its own.
const LARGEST_INPUT: u64 = 16 << 20;

/// Arguments of `strata run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata run -- uptime\n  strata run --host redis --host '!redis-03' -- docker ps\n  strata run --layer base --limit 2 --timeout 60 --lock -- systemctl restart chrony\n  strata run --host db-01 --stdin notes.txt -- tee /root/notes.txt\n  strata run -- sh -c 'df -h / | tail -n1'        a shell, where one is meant\n\nThe program runs as root. Its arguments can be read in the host's list of processes: what is secret\ngoes through --stdin. Exit code: 0 when it exited with 0 on every host, else 1; 5 when a host could not\nbe reached."
)]
pub struct RunArguments {
    /// Which hosts
    #[command(flatten)]
    pub selection: SelectionArguments,
    /// Kill the program on a host after this time [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub timeout: Option<u32>,
    /// At most this many hosts at the same time [default: run.parallel in strata.toml]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// What the program gets on its standard input, on each host: a file, or `-` for strata's own
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// Hold each host's lock meanwhile, so that no install works there
    #[arg(long)]
    pub lock: bool,
    /// The program and its arguments, as they are: no shell reads them
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &RunArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let site = check::load(settings, &mut problems);
    let mut hosts =
        site.as_ref().map_or_else(Vec::new, |site| select(site, arguments, &mut problems));
    let aside = site.as_ref().map(|site| set_aside(site, &mut hosts, &mut problems));
    let Some(site) = site.as_ref().filter(|_| !problems.has_errors()) else {
        check::show(&problems, settings);
        tell!("error: no host was touched");
        return Exit::InvalidInput;
    };
    let stdin = match arguments.stdin.as_deref().map(input).transpose() {
        Ok(stdin) => stdin.unwrap_or_default(),
        Err(message) => {
            tell!("error: {message}\nno host was touched");
            return Exit::InvalidInput;
        }
    };
    // Loaded for the redactor alone: a program may print what it finds on its host.
    if let Err(problems) = check::secrets(settings, site) {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    }
    let display: Box<dyn Consumer> = if settings.json {
        Box::new(JsonLines)
    } else {
        Box::new(Said(Plain::new(io::stderr(), settings.palette, settings.verbose)))
    };
    let typed = arguments.typed();
    let layers = layers_of(site, arguments);
    let begun = open_state(settings).and_then(|state| {
        Recorded::begin(settings, &state, site, &typed, (&hosts, &layers), vec![display], None)
    });
    let recorded = match begun {
        Ok(recorded) => recorded,
        Err(exit) => return exit,
    };
    tell_of(&aside.unwrap_or_default(), &recorded.events);
    let holder = arguments.lock.then(|| LockHolder {
        owner: settings.who.clone(),
        purpose: settings.redactor.redact(&typed).into_owned(),
        run: recorded.run.clone(),
        since_unix_ms: now_ms(),
    });
    let mut connection = connection(site, settings, holder);
    if let Some(limit) = arguments.limit {
        connection.parallel = limit as usize;
    }
    let printer = Printer::new(&hosts, settings.json, settings.redactor.clone());
    let spec = ExecSpec {
        argv: arguments.command.clone(),
        stdin,
        env: Vec::new(),
        user: None,
        timeout_ms: arguments.timeout.unwrap_or_default().saturating_mul(1000),
    };
    let request = CommandRequest { site, hosts, connection, spec };
    let (ends, exit, reason) = on_hosts(&request, printer, &recorded);
    let exit = recorded.end(exit, reason);
    if let Ok(state) = open_state(settings) {
        super::report::after(settings, &state, site, None);
    }
    if !settings.json {
        tell!("{}", summary(&ends, &settings.palette));
    }
    exit
}

/// The selected hosts; with layers, those that stand in one of them.
fn select(site: &Site, arguments: &RunArguments, problems: &mut Diagnostics) -> Vec<String> {
    let selection = &arguments.selection;
    let layers = select_layers(site, selection.layers(), problems);
    let mut hosts = select_hosts(site, &selection.hosts(), problems);
    if selection.layers().restricts() && !problems.has_errors() {
        hosts.retain(|host| {
            layers.iter().any(|layer| !hosts_of(site, layer, std::slice::from_ref(host)).is_empty())
        });
        if hosts.is_empty() {
            let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
            problems.push(
                Diagnostic::error(
                    Code::SELECTION,
                    format!("none of the selected hosts is in layer `{}`", names.join("`, `")),
                )
                .hint("`strata hosts list` shows hosts and groups"),
            );
        }
    }
    hosts
}

/// The layers that were asked for, by name.
fn layers_of(site: &Site, arguments: &RunArguments) -> Vec<String> {
    let layers = arguments.selection.layers();
    if !layers.restricts() {
        return Vec::new();
    }
    // What is wrong with the selection was reported.
    let selected = select_layers(site, layers, &mut Diagnostics::new());
    selected.into_iter().map(|layer| layer.name.clone()).collect()
}

/// What the program gets on its standard input.
fn input(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(LARGEST_INPUT + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(LARGEST_INPUT + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| format!("--stdin {}: {error}", path.display()))?;
    if bytes.len() as u64 > LARGEST_INPUT {
        return Err(format!(
            "--stdin {}: more than {} MiB\nhint: a role's file resource brings large files to hosts",
            path.display(),
            LARGEST_INPUT >> 20
        ));
    }
    Ok(bytes)
}

fn on_hosts(
    request: &CommandRequest<'_>,
    printer: Printer,
    recorded: &Recorded,
) -> (Vec<(String, HostEnd)>, Exit, String) {
    let (output, pieces) = tokio::sync::mpsc::channel(WAITING);
    let printing = std::thread::spawn(move || printer.follow(pieces));
    let Recorded { events, stop, .. } = recorded;
    let done = runtime::block_on(async {
        let texts = [
            "stopping: the program is being killed on the hosts; once more to wait for nothing",
            "stopping now: what still runs is killed by the agents",
        ];
        let watching = tokio::spawn(runtime::watch_interrupts_saying(stop.clone(), texts));
        let ran = run::command(request, &output, events, stop).await;
        watching.abort();
        ran
    });
    drop(output);
    // Everything was shown before the last host ended, unless the run was stopped twice: then
    // whatever holds the printer up is not waited for.
    if !stop.wished() {
        // A panic there was reported by the hook.
        let _ = printing.join();
    }
    done.unwrap_or_else(|error| (Vec::new(), Exit::Internal, error))
}

/// The hosts by what came of them, the best first.
fn summary(ends: &[(String, HostEnd)], palette: &Palette) -> String {
    let mut groups: BTreeMap<(bool, &HostEnd), Vec<&str>> = BTreeMap::new();
    for (host, end) in ends {
        groups.entry((!end.is_good(), end)).or_default().push(host);
    }
    let mut text = String::new();
    for ((bad, end), mut hosts) in groups {
        hosts.sort_unstable();
        let end = if bad { palette.bad(end) } else { palette.good(end) };
        text.push_str(&format!("\n{end}  {}: {}", plural(hosts.len(), "host"), hosts.join(", ")));
    }
    text
}

/// Events as lines. What a program printed has been shown when its end is told.
struct Said(Plain<io::Stderr>);

impl Consumer for Said {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut event = event.clone();
        if let EventKind::ProgramFinished { output, .. } = &mut event.kind {
            *output = None;
        }
        self.0.event(&event)
    }
}

/// Events as JSON, each written at once: lines of output come from another thread.
struct JsonLines;

impl Consumer for JsonLines {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let line = serde_json::to_string(event)?;
        out!("{line}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{HostProblem, ProgramEnd};

    #[test]
    fn the_summary_has_a_line_for_each_way_to_end() {
        let ended =
            |host: &str, code| (host.to_owned(), HostEnd::Ended(ProgramEnd::Exited { code }));
        let ends = [
            ended("b", 0),
            ended("c", 2),
            ("d".to_owned(), HostProblem::Unreachable.into()),
            ended("a", 0),
            ("e".to_owned(), HostEnd::Ended(ProgramEnd::TimedOut { seconds: 5 })),
        ];
        assert_eq!(
            summary(&ends, &Palette { color: false }),
            "\nexit 0  2 hosts: a, b\nexit 2  1 host: c\nkilled: not done after 5 s  1 host: e\nunreachable  1 host: d"
        );
    }
}
