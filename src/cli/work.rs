//! What all runs on hosts share: load, check, lock, connect, run, report.

use super::hosts_out::{set_aside, tell_of};
use super::install::SelectionArguments;
use super::output::tell;
use super::recorded::{Recorded, open_state};
use super::{Exit, Settings, check};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::event::{Consumer, TestKind};
use crate::fleet::Connection;
use crate::gate;
use crate::history::{Index, LockError, Records, SiteLock, StateDir};
use crate::lab::HOST_MARKER;
use crate::plan::{Asked, StepFilter, StepSelection, check_tags, select_hosts, select_layers};
use crate::report::{Gathered, Json, Plain, Progress, Summary};
use crate::resource::Mode;
use crate::run::{self, GateChoice, Request};
use crate::site::{Layer, Outs, Profile, Site, suggest};
use crate::ssh::{ClientConfig, ConnectOptions, Ramp};
use crate::wire::LockHolder;
use std::path::Path;
use std::time::Duration;

/// What is asked for.
pub(super) struct Work<'a> {
    pub selection: &'a SelectionArguments,
    pub steps: StepSelection<'a>,
    pub keep_going: bool,
    pub deadline: Option<Duration>,
    pub mode: Mode,
    pub gate: GateChoice,
    pub tests: &'a [String],
    pub faults: bool,
    pub confirm: Option<&'a str>,
    /// The run that this one goes on with.
    pub continuing: Option<run::Continuation>,
    pub job: Job,
}

impl<'a> Work<'a> {
    /// Looks only; no test is chosen, no fault allowed.
    pub const fn new(selection: &'a SelectionArguments, job: Job) -> Self {
        Self {
            selection,
            steps: StepSelection { tags: &[], names: &[], start_at: None },
            keep_going: false,
            deadline: None,
            mode: Mode::Check,
            gate: GateChoice::Diag,
            tests: &[],
            faults: false,
            confirm: None,
            continuing: None,
            job,
        }
    }
}

/// What is done with the selection.
pub(super) enum Job {
    /// Look like an install, and gather what it would do.
    Look {
        /// What it would do.
        gathered: Gathered,
        /// Show differences.
        verbose: bool,
    },
    Install,
    Verify(Vec<TestKind>),
    Adopt,
    Audit,
    Reboot,
}

/// Loads, checks, locks, connects, runs, reports.
pub(super) fn execute(work: &Work<'_>, command: &str, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let site = Site::load(&settings.root, settings.profile, &mut problems);
    let found = site.as_ref().map(|site| check::examine(site, settings, &mut problems));
    let mut aside = Outs::new();
    let (mut layers, mut hosts) = match &site {
        Some(site) => (
            select_layers(site, work.selection.layers(), &mut problems),
            select_hosts(site, &work.selection.hosts(), &mut problems),
        ),
        None => (Vec::new(), Vec::new()),
    };
    let mut steps = StepFilter::ALL;
    if let Some(site) = &site {
        aside = set_aside(site, &mut hosts, &mut problems);
        check_selection(site, &layers, &hosts, work.steps.tags, &mut problems);
        check_tests(site, &layers, work, &mut problems);
        steps = StepFilter::new(site, &layers, &hosts, work.steps, &mut problems);
    }
    let (Some(site), Some(found), false) = (&site, found, problems.has_errors()) else {
        check::show(&problems, settings);
        tell!("error: the site has errors; no host was touched");
        return Exit::InvalidInput;
    };
    if let Err(message) = confirm_faults(work, site, settings) {
        tell!("error: {message}");
        return Exit::Refused;
    }
    let state = match open_state(settings) {
        Ok(state) => state,
        Err(exit) => return exit,
    };
    let _lock = match SiteLock::take(state.path(), command) {
        Ok(lock) => lock,
        Err(error @ LockError::Held(_)) => {
            tell!("error: {error}\nhint: wait for it; the lock ends with that process");
            return Exit::Locked;
        }
        Err(error @ LockError::Io(_)) => {
            tell!("error: {error}; no host was touched");
            return Exit::Internal;
        }
    };
    let secrets = match check::secrets(settings, site) {
        Ok(secrets) => secrets,
        Err(problems) => {
            check::show(&problems, settings);
            return Exit::InvalidInput;
        }
    };
    let records = match Records::open(state.path()) {
        Ok(records) => records,
        Err(error) => {
            tell!("error: the gate records cannot be used: {error}; no host was touched");
            return Exit::Internal;
        }
    };
    let summary = Summary::default();
    // What --start-at leaves out must be green already, as what --layer does not name.
    let all = layers.len();
    layers.retain(|layer| steps.reaches(&layer.name, &hosts));
    let named = work.selection.layers().restricts() || layers.len() < all;
    let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
    let shown = consumers(settings, &summary, &work.job);
    let resumes = work.continuing.as_ref().and_then(run::Continuation::run);
    let begun = Recorded::begin(settings, &state, site, command, (&hosts, &names), shown, resumes);
    let recorded = match begun {
        Ok(recorded) => recorded,
        Err(exit) => return exit,
    };
    let holder = LockHolder {
        owner: settings.who.clone(),
        purpose: command.to_owned(),
        run: recorded.run.clone(),
        since_unix_ms: crate::event::now_ms(),
    };
    let asked = Asked::new(secrets.lookup());
    let request = Request {
        site,
        found: &found,
        layers,
        named,
        hosts,
        unmet: recorded.unmet.clone(),
        steps,
        keep_going: work.keep_going,
        mode: work.mode,
        gate: work.gate,
        tests: work.tests.to_vec(),
        connection: connection(site, settings, Some(holder)),
        secrets: asked.clone(),
        records,
        run: recorded.run.clone(),
        continuing: work.continuing.clone(),
    };
    let since = match work.job {
        Job::Audit => super::audit::since(site, &request.layers, &request.records, &state),
        _ => run::Since::new(),
    };
    let Recorded { events, stop, .. } = &recorded;
    tell_of(&aside, events);
    let mut outcome = super::runtime::block_on(async {
        let watching = tokio::spawn(super::runtime::watch_interrupts(stop.clone()));
        let configured = site.config.run.deadline.map(|limit| Duration::from_secs(limit.into()));
        let deadline = work
            .deadline
            .or(configured)
            .map(|limit| tokio::spawn(super::runtime::watch_deadline(stop.clone(), limit)));
        let result = match &work.job {
            Job::Install | Job::Look { .. } => run::install(&request, events, stop).await,
            Job::Verify(kinds) => run::verify(&request, kinds, events, stop).await,
            Job::Reboot => run::reboot(&request, events, stop).await,
            Job::Adopt => run::adopt(&request, events, stop).await,
            Job::Audit => run::audit(&request, &since, events, stop).await,
        };
        watching.abort();
        deadline.iter().for_each(tokio::task::JoinHandle::abort);
        result
    });
    if let Job::Look { gathered, .. } = &work.job {
        match secrets.digests(&asked.names(), &request.records) {
            Ok(read) => gathered.read_credentials(read),
            Err(error) => outcome = Err(format!("the credentials cannot be digested: {error}")),
        }
    }
    let (exit, reason) = outcome.unwrap_or_else(|error| (Exit::Internal, error));
    let run = recorded.run.clone();
    let exit = recorded.end(exit, reason);
    // What only looked is no result.
    let result = (!matches!(work.job, Job::Look { .. })).then_some(run.as_str());
    super::report::after(settings, &state, site, result);
    if exit == Exit::Done {
        prune(&state, site);
    }
    if !settings.json {
        eprint!("{}", summary.text(&settings.palette));
    }
    exit
}

/// Removes journals beyond those that the site keeps. Only a run that ended well does it: after a
/// bad one everything may still be of use.
fn prune(state: &StateDir, site: &Site) {
    let pruned = state
        .prune(site.config.history.keep_runs as usize)
        .and_then(|gone| if gone.is_empty() { Ok(()) } else { Index::open(state)?.forget(&gone) });
    if let Err(error) = pruned {
        tell!("warning: old journals were not removed: {error}");
    }
}

/// A selection that holds nothing is a mistake, not a success.
fn check_selection(
    site: &Site,
    layers: &[&Layer],
    hosts: &[String],
    tags: &[String],
    problems: &mut Diagnostics,
) {
    for layer in layers {
        if !hosts.is_empty() && run::hosts_of(site, layer, hosts).is_empty() && layers.len() == 1 {
            problems.push(
                Diagnostic::error(
                    Code::SELECTION,
                    format!("none of the selected hosts is in layer `{}`", layer.name),
                )
                .hint("`strata hosts list` shows hosts and groups"),
            );
        }
    }
    check_tags(site, tags, problems);
}

/// A test that would not run proves nothing.
fn check_tests(site: &Site, layers: &[&Layer], work: &Work<'_>, problems: &mut Diagnostics) {
    let kinds = match &work.job {
        Job::Verify(kinds) => kinds.as_slice(),
        _ => &[],
    };
    let known: Vec<&str> =
        layers.iter().flat_map(|layer| gate::names_of(site, layer, kinds)).collect();
    for test in work.tests.iter().filter(|test| !known.contains(&test.as_str())) {
        problems.push(
            Diagnostic::error(
                Code::SELECTION,
                format!("the selected layers have no test `{test}` of the selected kinds"),
            )
            .hint(suggest::among(test, known.iter().copied())),
        );
    }
}

/// Faults on production need the site's policy or the site's name typed (DESIGN: production is not
/// a test bench).
fn confirm_faults(work: &Work<'_>, site: &Site, settings: &Settings) -> Result<(), String> {
    if settings.profile == Profile::Rehearsal && !Path::new("/").join(HOST_MARKER).exists() {
        return Err(
            "this is no host of a rehearsal: production runs with its own versions\nhint: use `strata rehearse`".to_owned(),
        );
    }
    let allowed = !work.faults
        || settings.profile == Profile::Rehearsal
        || site.config.gate.allow_full
        || work.confirm == Some(site.config.name.as_str());
    if allowed {
        return Ok(());
    }
    Err(format!(
        "these tests inject faults into the hosts of site `{0}`\nhint: confirm with --confirm {0}, or set allow_full = true under [gate] in strata.toml",
        site.config.name
    ))
}

/// What shows a run.
fn consumers(settings: &Settings, summary: &Summary, job: &Job) -> Vec<Box<dyn Consumer>> {
    let mut consumers: Vec<Box<dyn Consumer>> = vec![Box::new(summary.clone())];
    let mut verbose = settings.verbose;
    if let Job::Look { gathered, verbose: differences } = job {
        consumers.push(Box::new(gathered.clone()));
        verbose |= differences;
    }
    if settings.json {
        consumers.push(Box::new(Json::new(std::io::stdout())));
    } else if settings.progress {
        consumers.push(Box::new(Progress::new(settings.palette, verbose)));
    } else {
        consumers.push(Box::new(Plain::new(std::io::stderr(), settings.palette, verbose)));
    }
    consumers
}

/// How this site's hosts are reached.
pub fn connection(site: &Site, settings: &Settings, holder: Option<LockHolder>) -> Connection {
    let ssh = &site.config.ssh;
    let identities = if ssh.identities.is_empty() {
        vec![settings.home.join(".ssh/id_ed25519"), settings.home.join(".ssh/id_rsa")]
    } else {
        ssh.identities.iter().map(|path| settings.expand(path)).collect()
    };
    Connection {
        options: ConnectOptions {
            connect_timeout: Duration::from_secs(u64::from(ssh.connect_timeout)),
            auth_timeout: Duration::from_secs(u64::from(ssh.auth_timeout)),
            keepalive: Duration::from_secs(u64::from(ssh.keepalive)),
            identities,
            agent_socket: settings.agent_socket.clone(),
            sudo: settings.sudo.get(),
            ramp: Ramp::new(ssh.handshakes as usize),
            ..ConnectOptions::new(&settings.home, settings.known_hosts())
        },
        port: ssh.port,
        config: ssh.config.as_ref().map(|file| {
            let file = settings.expand(file);
            ClientConfig::new(file, settings.home.clone(), settings.agent_socket.clone())
        }),
        holder,
        lock_wait: Duration::from_secs(u64::from(site.config.run.lock_wait)),
        parallel: site.config.run.parallel as usize,
        reconnect: Duration::from_secs(u64::from(ssh.reconnect)),
    }
}
