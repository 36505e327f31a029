//! One layer on all its hosts: first a look at everything, then every host's steps, then the
//! clusters.

use super::continuation;
use super::converge::{self, Tally};
use super::turns::{End, Ended, Turn, Turns};
use super::underway::Underway;
use super::{Exit, clusters};
use crate::diag::{Diagnostics, Renderer};
use crate::event::{EventKind, HostProblem, HostState};
use crate::plan::Skipped;
use crate::resource::Mode;
use crate::site::Layer;
use futures::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// One layer on all its hosts.
pub(super) struct LayerWork<'a> {
    pub(super) run: &'a Underway<'a>,
    pub(super) layer: &'a Layer,
    /// What was announced as left out.
    left_out: Mutex<BTreeSet<Skipped>>,
}

/// What a layer came to on its hosts.
pub(super) struct Worked {
    pub(super) exit: Exit,
    /// Why, where the hosts' own lines do not say it.
    pub(super) reason: String,
    pub(super) changed: u32,
    /// True when a cluster was formed just now: nothing uses it yet.
    pub(super) formed: bool,
    /// Hosts that were not finished because the run was stopped.
    pub(super) stopped: Vec<String>,
}

/// What the hosts came to.
#[derive(Default)]
struct Hosts {
    exits: Vec<Exit>,
    total: Tally,
    stopped: Vec<String>,
    /// Hosts whose turn never came.
    not_started: Vec<String>,
    /// Why it never came, each reason once.
    held: BTreeSet<String>,
}

impl<'a> LayerWork<'a> {
    /// Nothing is done yet.
    pub(super) fn new(run: &'a Underway<'a>, layer: &'a Layer) -> Self {
        Self { run, layer, left_out: Mutex::default() }
    }
}

impl LayerWork<'_> {
    /// First a look at everything, then every host's steps, then the clusters.
    pub(super) async fn work(&self, hosts: &[String]) -> Worked {
        let failed =
            |exit, reason| Worked { exit, reason, changed: 0, formed: false, stopped: Vec::new() };
        let looked = match self.prepare(hosts).await {
            Ok(looked) => looked,
            Err((exit, reason)) => return failed(exit, reason),
        };
        let Hosts { exits, mut total, stopped, not_started, held } = self.converge(hosts).await;
        let exit = exits.into_iter().fold(Exit::Done, Exit::worse);
        total.add(&looked);
        if exit != Exit::Done || self.run.stop.wished() {
            let reason = match not_started.as_slice() {
                [] => String::new(),
                hosts => format!(
                    "{}; not started: {}",
                    held.into_iter().collect::<Vec<_>>().join("; "),
                    hosts.join(", ")
                ),
            };
            return Worked { stopped, ..failed(exit, reason) };
        }
        if self.run.request.mode == Mode::Check {
            let changed = total.changed;
            return Worked { changed, ..failed(exit, String::new()) };
        }
        let brought = clusters::bring_about(self).await;
        Worked {
            changed: total.changed + brought.changed,
            formed: brought.formed,
            ..failed(brought.exit, brought.reason)
        }
    }

    /// Every host's steps: all hosts at once, but for those that take turns.
    async fn converge(&self, hosts: &[String]) -> Hosts {
        let hosts = self.open(hosts).await;
        // Who only looks disturbs nothing.
        let turns = match self.run.request.mode {
            Mode::Apply => Turns::new(self.run.request.site, self.layer, &hosts),
            Mode::Check => Turns::at_once(&hosts),
        };
        for text in turns.described() {
            self.run.events.emit(EventKind::Note { text: format!("  {text}") });
        }
        let ended = watch::Sender::new(Ended::new());
        // In this order a host that waits holds no place that one before it needs.
        let work = stream::iter(turns.order())
            .map(|host| self.in_turn(host, &turns, &ended))
            .buffer_unordered(self.run.request.connection.parallel.max(1));
        let mut work = std::pin::pin!(work);
        let mut all = Hosts::default();
        while let Some((host, done)) = work.next().await {
            match done {
                Done::Worked(exit, tally) => {
                    all.total.add(&tally);
                    all.exits.push(exit);
                    if self.run.stop.wished() && exit == Exit::stopped(self.run.stop) {
                        all.stopped.push(host);
                    }
                }
                Done::NotStarted(why) => {
                    all.not_started.push(host);
                    all.held.insert(why);
                }
            }
        }
        // Which of them ended first is chance; who reads the names expects the inventory's order.
        let place = |host: &String| hosts.iter().position(|known| known == host);
        all.stopped.sort_by_key(place);
        all.not_started.sort_by_key(place);
        all
    }

    /// The hosts that are worked on: fewer where a run goes on with those that failed.
    async fn open(&self, hosts: &[String]) -> Vec<String> {
        let Some(continuing) = &self.run.request.continuing else { return hosts.to_vec() };
        let open = continuing.open(&self.layer.name, hosts);
        if open.len() < hosts.len() {
            let left = hosts.len() - open.len();
            let text =
                format!("  {left} of {} hosts converged before: left as they are", hosts.len());
            self.run.events.emit(EventKind::Note { text });
            // The gate speaks to them all the same.
            self.run.connect(hosts).await;
        }
        open
    }

    /// One host when its turn has come.
    async fn in_turn(
        &self,
        host: &str,
        turns: &Turns,
        ended: &watch::Sender<Ended>,
    ) -> (String, Done) {
        let turn = tokio::select! {
            turn = self.turn(host, turns, ended) => turn,
            () = self.run.stop.soon() => Ok(()),
        };
        let done = match turn {
            Err(why) => {
                self.finished(host, HostState::NotStarted);
                Done::NotStarted(why)
            }
            Ok(()) => {
                let (exit, tally) = tokio::select! {
                    result = self.one_host(host) => result,
                    () = self.run.stop.now() => self.stopped(host),
                };
                Done::Worked(exit, tally)
            }
        };
        let end = match done {
            Done::NotStarted(_) => End::NotStarted,
            Done::Worked(Exit::Done, _) => End::Converged,
            Done::Worked(..) => End::Failed,
        };
        ended.send_modify(|ended| {
            ended.insert(host.to_owned(), end);
        });
        (host.to_owned(), done)
    }

    /// Waits for a host's turn.
    async fn turn(
        &self,
        host: &str,
        turns: &Turns,
        ended: &watch::Sender<Ended>,
    ) -> Result<(), String> {
        let mut news = ended.subscribe();
        loop {
            let turn = turns.of_host(host, &news.borrow_and_update());
            match turn {
                Turn::Now => return Ok(()),
                Turn::Never(why) => return Err(why),
                // The sender outlives everybody who waits.
                Turn::Later => drop(news.changed().await),
            }
        }
    }

    /// From the connection to the last handler; no host waits for another.
    async fn one_host(&self, name: &str) -> (Exit, Tally) {
        let site = self.run.request.site;
        // Layers that are in hand together share the limit of hosts at work. It is never closed.
        let _place = self.run.places.acquire().await;
        if self.run.stop.wished() && self.run.fleet.session(name).is_none() {
            return self.stopped(name);
        }
        let session = self
            .run
            .fleet
            .obtain(site, name, &self.run.request.connection, self.run.events, self.run.stop)
            .await;
        let (Some(session), Some(host)) = (session, site.hosts.get(name)) else {
            return (self.unusable(name), Tally::default());
        };
        let mut problems = Diagnostics::new();
        let mut plan = self.run.resolver.host(
            host,
            self.layer,
            &self.run.request.steps,
            &session.hello().facts,
            self.run.request.mode,
            &mut problems,
        );
        if problems.has_errors() {
            self.run.events.emit(EventKind::Note {
                text: format!(
                    "{name}: a template does not fit the facts of this host\n{}",
                    Renderer::new(false).all(&problems)
                ),
            });
            self.finished(name, HostState::Failed);
            return (Exit::StepFailed, Tally::default());
        }
        self.announce(&plan.skipped);
        let (run, continuing) = (&self.run.request.run, self.run.request.continuing.as_ref());
        for batch in &mut plan.batches {
            batch.work.once = continuation::once(run, &self.layer.name, continuing);
        }
        let connection = &self.run.request.connection;
        let line = converge::Line { session, fleet: &self.run.fleet, site, connection };
        let (state, tally) =
            converge::host(line, plan, &self.layer.name, self.run.events, self.run.stop).await;
        let exit = match state {
            HostState::Converged => Exit::Done,
            HostState::Failed => Exit::StepFailed,
            HostState::Lost | HostState::Unusable => Exit::Unreachable,
            HostState::Stopped => Exit::stopped(self.run.stop),
            HostState::NotStarted => Exit::Done,
        };
        (exit, tally)
    }

    fn unusable(&self, name: &str) -> Exit {
        match self.run.fleet.problem(name) {
            Some(problem @ (HostProblem::Locked | HostProblem::Unfit)) => problem.into(),
            _ if self.run.stop.wished() => Exit::stopped(self.run.stop),
            _ => Exit::Unreachable,
        }
    }

    fn stopped(&self, name: &str) -> (Exit, Tally) {
        self.finished(name, HostState::Stopped);
        (Exit::stopped(self.run.stop), Tally::default())
    }

    fn finished(&self, name: &str, state: HostState) {
        self.run.events.emit(EventKind::HostFinished {
            host: name.to_owned(),
            layer: self.layer.name.clone(),
            state,
            changed: 0,
            steps: 0,
            waiting_handlers: Vec::new(),
            took_ms: 0,
        });
    }

    /// Says what is left out, once for all hosts.
    fn announce(&self, skipped: &[Skipped]) {
        let mut announced = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        for one in skipped {
            if announced.insert(one.clone()) {
                self.run.events.emit(EventKind::Excepted {
                    layer: self.layer.name.clone(),
                    what: format!("{} › {}", one.role, one.what),
                    reason: one.reason.clone(),
                });
            }
        }
    }
}

/// What came of one host's turn.
enum Done {
    Worked(Exit, Tally),
    NotStarted(String),
}
