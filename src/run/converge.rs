//! One host through one layer.

use super::changes::outcome_text;
use super::reconnect::{Heard, Resume, rest, whole};
use crate::event::{EventKind, HostState, StepId, elapsed_ms};
use crate::fleet::{Connection, Events, Fleet, Lost, Stop};
use crate::plan::HostPlan;
use crate::resource::{Batch, Item, ItemEvent, ItemReport, ItemSlot, Outcome};
use crate::site::Site;
use crate::ssh::{AgentSession, BatchResult, SessionError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A step that takes longer than this is named when the run is to stop: it is what is waited for.
const SLOW: Duration = Duration::from_secs(3);

/// What a host's way through a layer came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps changed, handlers included.
    pub changed: u32,
    /// Steps looked at, handlers included.
    pub steps: u32,
    waiting: Vec<String>,
}

impl Tally {
    /// Adds another host's counts.
    pub fn add(&mut self, other: &Self) {
        self.changed += other.changed;
        self.steps += other.steps;
    }
}

/// A host's session, and what it takes to have another one when it breaks.
pub struct Line<'a> {
    /// The session.
    pub session: Arc<AgentSession>,
    /// Where the new one is kept.
    pub fleet: &'a Fleet,
    /// The site.
    pub site: &'a Site,
    /// How hosts are reached.
    pub connection: &'a Connection,
}

/// Converges one host; its end is reported as [`EventKind::HostFinished`].
pub async fn host(
    mut line: Line<'_>,
    plan: HostPlan,
    layer: &str,
    events: &Events,
    stop: &Stop,
) -> (HostState, Tally) {
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut state = HostState::Converged;
    for batch in plan.batches {
        if stop.wished() {
            state = HostState::Stopped;
            break;
        }
        state = one_batch(&mut line, batch.work, &plan.host, layer, events, stop, &mut tally).await;
        if state != HostState::Converged {
            break;
        }
    }
    events.emit(EventKind::HostFinished {
        host: plan.host.clone(),
        layer: layer.to_owned(),
        state,
        changed: tally.changed,
        steps: tally.steps,
        waiting_handlers: tally.waiting.clone(),
        took_ms: elapsed_ms(start),
    });
    (state, tally)
}

async fn one_batch(
    line: &mut Line<'_>,
    work: Batch,
    host: &str,
    layer: &str,
    events: &Events,
    stop: &Stop,
    tally: &mut Tally,
) -> HostState {
    let described = work;
    let mut failed = false;
    let mut notified: Vec<String> = Vec::new();
    let in_hand: Mutex<Option<(ItemSlot, Instant)>> = Mutex::default();
    let hold = || in_hand.lock().unwrap_or_else(PoisonError::into_inner);
    let stopping = || {
        if let Some(text) = waited_for(&described, *hold()) {
            events.emit(EventKind::Note { text: format!("  {host}  {text}") });
        }
    };
    let mut heard = Heard::default();
    let mut first = 0;
    let result = loop {
        let session = Arc::clone(&line.session);
        let converging = session.converge(rest(&described, first), |report| {
            let report = whole(report, first);
            match report.event {
                ItemEvent::Started => *hold() = Some((report.slot, Instant::now())),
                ItemEvent::Waiting(_) => {}
                ItemEvent::Finished { .. } => *hold() = None,
            }
            if heard.report(&report) {
                failed |= record(report, &described, host, layer, events, tally, &mut notified);
            }
        });
        let result = until_its_end(&session, converging, stop, &stopping).await;
        let Err(error) = result else { break result };
        // The batch had ended with this failure, whatever the link did then.
        if failed {
            break Ok(BatchResult { complete: false, forgotten: Vec::new() });
        }
        if stop.wished() {
            break Err(error);
        }
        drop(session);
        match again(line, &described, &mut heard, host, &error, (events, stop)).await {
            Again::From(next) => first = next,
            Again::Lost(reason) => {
                events.emit(EventKind::Note { text: format!("  {host}  {reason}") });
                break Err(error);
            }
        }
    };
    tally.waiting.extend(notified);
    match result {
        Ok(BatchResult { complete: true, forgotten }) => {
            for handler in forgotten {
                let role = &described.role;
                let text = format!(
                    "  {host}  {role} › handler {handler} waited, and the role does not have it any more: forgotten"
                );
                events.emit(EventKind::Note { text });
            }
            HostState::Converged
        }
        Ok(_) if failed || !stop.wished() => HostState::Failed,
        Ok(_) => HostState::Stopped,
        Err(error) => {
            events.emit(EventKind::Note { text: format!("  {error}") });
            HostState::Lost
        }
    }
}

/// Waits for the end of a batch; a wish to stop ends it after the step in hand, and is told.
async fn until_its_end(
    session: &AgentSession,
    converging: impl Future<Output = Result<BatchResult, SessionError>>,
    stop: &Stop,
    told: &(impl Fn() + Sync),
) -> Result<BatchResult, SessionError> {
    let mut converging = std::pin::pin!(converging);
    let mut stopping = false;
    loop {
        tokio::select! {
            result = &mut converging => return result,
            () = stop.soon(), if !stopping => {
                stopping = true;
                session.stop_batch();
                told();
            }
        }
    }
}

/// What became of a connection that broke.
enum Again {
    /// There is a new one: go on with this step.
    From(u32),
    /// There is none; why.
    Lost(String),
}

/// Decides what follows on a broken connection, and connects anew where work goes on.
async fn again(
    line: &mut Line<'_>,
    batch: &Batch,
    heard: &mut Heard,
    host: &str,
    error: &SessionError,
    (events, stop): (&Events, &Stop),
) -> Again {
    let in_hand = heard.in_hand(batch);
    let lost = Lost {
        session: Arc::clone(&line.session),
        reason: error.to_string().trim_start_matches(&format!("{host}: ")).to_owned(),
        step: in_hand.map(|(name, _)| format!("{} › {name}", batch.role)),
        step_may_take: Duration::from_millis(in_hand.map_or(0, |(_, limit)| u64::from(limit))),
    };
    let first = match heard.lost(batch) {
        Resume::From(first) => first,
        Resume::GiveUp => {
            return Again::Lost("it was lost twice in the same place; look at what the step does to the network, and at the host's memory".to_owned());
        }
    };
    match line.fleet.renew(line.site, host, line.connection, lost, events, stop).await {
        Ok(session) => {
            line.session = session;
            Again::From(first)
        }
        Err(reason) => Again::Lost(reason),
    }
}

fn step_id(batch: &Batch, item: &Item, slot: ItemSlot, host: &str, layer: &str) -> StepId {
    StepId {
        host: host.to_owned(),
        layer: layer.to_owned(),
        role: batch.role.clone(),
        step: item.name.clone(),
        handler: matches!(slot, ItemSlot::Handler(_)),
    }
}

/// Which step a stopping run still waits for on a host, if it has been in hand for long.
fn waited_for(batch: &Batch, in_hand: Option<(ItemSlot, Instant)>) -> Option<String> {
    let (slot, since) = in_hand.filter(|(_, since)| since.elapsed() >= SLOW)?;
    let item = item_of(batch, slot)?;
    let limit = match item.timeout_ms / 1000 {
        0 => String::new(),
        seconds => format!("; it may take {seconds} s"),
    };
    let (role, name, took) = (&batch.role, &item.name, since.elapsed().as_secs());
    Some(format!("{role} › {name} has been in hand for {took} s: its end is waited for{limit}"))
}

/// Turns a report into events; true when the item failed. `notified` holds the handlers that were
/// notified and have not run yet.
fn record(
    report: ItemReport,
    batch: &Batch,
    host: &str,
    layer: &str,
    events: &Events,
    tally: &mut Tally,
    notified: &mut Vec<String>,
) -> bool {
    let Some(item) = item_of(batch, report.slot) else { return false };
    let handler = matches!(report.slot, ItemSlot::Handler(_));
    let mut failed = false;
    if let ItemEvent::Finished { outcome, .. } = &report.event {
        tally.steps += 1;
        failed = matches!(outcome, Outcome::Failed(_));
        if matches!(outcome, Outcome::Changed(_)) {
            tally.changed += 1;
            for name in &item.notify {
                if !notified.contains(name) {
                    notified.push(name.clone());
                }
            }
        }
        if handler && !failed {
            notified.retain(|name| *name != item.name);
        }
    }
    if let Some(event) = step_event(&report, batch, host, layer) {
        events.emit(event);
    }
    failed
}

/// What a report says as an event.
pub fn step_event(
    report: &ItemReport,
    batch: &Batch,
    host: &str,
    layer: &str,
) -> Option<EventKind> {
    let item = item_of(batch, report.slot)?;
    let step = step_id(batch, item, report.slot, host, layer);
    Some(match &report.event {
        ItemEvent::Started => EventKind::StepStarted { step },
        ItemEvent::Waiting(reason) => EventKind::StepWaiting { step, reason: reason.clone() },
        ItemEvent::Finished { outcome, took_ms } => EventKind::StepFinished {
            step,
            outcome: outcome_text(item, outcome.clone()),
            took_ms: u64::from(*took_ms),
        },
    })
}

fn item_of(batch: &Batch, slot: ItemSlot) -> Option<&Item> {
    match slot {
        ItemSlot::Step(index) => batch.items.get(index as usize).map(Arc::as_ref),
        ItemSlot::Handler(index) => batch.handlers.get(index as usize).map(Arc::as_ref),
    }
}
