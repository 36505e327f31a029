//! What comes next. Pure: the same look always gives the same decision.

use super::action::Action;
use super::renew::{declare, renew};
use super::sound::unsound;
use super::view::{Member, Observation, Patroni, Seen};
use crate::cluster::formation::{Formed, lost, missing as missing_of};
use crate::cluster::{Decision, Formation, Marker, Next, Record, State};
use std::net::Ipv4Addr;
use std::time::Duration;

/// What the decision knows beside the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The marker of a cluster that would be formed now.
    pub marker: Marker,
    /// Members that are out of service: they are absent on purpose, and nothing is done meanwhile.
    pub out: Vec<String>,
    /// The member whose data counts where etcd forgot the cluster: only an operator can say.
    pub newest: Option<String>,
    /// Sync standbys that there must be; none without synchronous mode.
    pub sync: usize,
}

/// How long Patroni may take to agree on a leader: crash recovery included.
pub const SETTLE: Duration = Duration::from_secs(330);

/// How long a member may take for its copy of the data.
const COPY: Duration = Duration::from_secs(4 * 3600);

/// How long etcd may take to answer: it elects a leader of its own after a full stop.
const STORE: Duration = Duration::from_secs(60);

/// A decision about this cluster.
pub type Decided = Decision<Action>;

/// Decides.
pub fn decide(observation: &Observation, wanted: &Wanted) -> Decided {
    if let Some(refusal) = unsound(observation, wanted) {
        return refusal;
    }
    of_what_is_known(observation, wanted).without(&wanted.out)
}

fn of_what_is_known(observation: &Observation, wanted: &Wanted) -> Decided {
    let formed = formed(observation, &wanted.marker);
    match formed.known(&observation.record, &observation.members) {
        Ok(record) => known(observation, record, wanted, &formed),
        Err(decided) if decided.state == State::Absent => begin(observation, *decided),
        Err(decided) => *decided,
    }
}

/// Why the cluster is not whole; `None` when at most renewals are left, which nothing is missing
/// without.
pub fn missing(observation: &Observation, decision: &Decided) -> Option<String> {
    missing_of(&observation.members, decision, Action::is_renewal)
}

/// No member has anything: a formation begins if etcd knows of none either.
fn begin(observation: &Observation, absent: Decided) -> Decided {
    let store = match &observation.store {
        Ok(store) => store,
        Err(reason) => {
            return Decision::wait(State::Unknown, "etcd does not answer", reason, STORE);
        }
    };
    if store.initialize.is_some() || store.leader.is_some() {
        let system = store.initialize.as_deref().unwrap_or_default();
        return Decision::refuse(
            State::Foreign,
            format!(
                "etcd knows a cluster of this name (system identifier {system:?}), and no member has data of it"
            ),
            "if its data is on hosts that the inventory does not have, bring them back; if it is to be given up, `patronictl remove` makes etcd forget it; strata does not",
        );
    }
    absent
}

/// What is formed here.
pub fn formed<'a>(observation: &Observation, marker: &'a Marker) -> Formed<'a, Action> {
    let first = observation.members.first();
    let leader =
        observation.leader().or(first).map_or(Ipv4Addr::UNSPECIFIED, |member| member.address);
    Formed { what: "a PostgreSQL", marker, leader, record: Action::Record }
}

/// The cluster was formed, or its formation began.
fn known(
    observation: &Observation,
    record: &Record,
    wanted: &Wanted,
    formed: &Formed<'_, Action>,
) -> Decided {
    let forming = record.formation == Formation::Begun;
    let members: Vec<(&Member, &Seen)> =
        observation.members.iter().filter_map(|member| Some((member, member.view()?))).collect();
    let gone = lost(
        record,
        &observation.members,
        "this is a disaster, not a formation: restore a backup of the data. To give the data up for good, stop Patroni everywhere, let etcd forget the cluster (`patronictl remove`), and move away the record (state/ of the site) and every .strata-cluster",
    );
    if let Some(refusal) = gone {
        return refusal;
    }
    let store = match &observation.store {
        Ok(store) => store,
        Err(reason) => {
            return Decision::wait(State::Unknown, "etcd does not answer", reason, STORE);
        }
    };
    let state = if forming { State::Forming } else { State::Degraded };
    if store.initialize.is_none() {
        let begun =
            |(member, seen): &(&Member, &Seen)| member.address != record.leader && seen.data;
        return match forming && !members.iter().any(begun) {
            true => form(&members, record),
            false => forgotten(&members, wanted),
        };
    }
    start(&members, store.leader.is_some(), record, state)
        .or_else(|| lead(observation, &members, record, state))
        .or_else(|| fill_up(observation, &members, state))
        .or_else(|| mark(&members, record, state))
        .or_else(|| follow(observation, &members, wanted, state))
        .or_else(|| declare(observation, state))
        .or_else(|| formed.complete(record, &observation.members))
        .or_else(|| renew(observation, &members, store.paused, wanted))
        .unwrap_or_else(|| healthy(observation, store.paused))
}

fn healthy(observation: &Observation, paused: bool) -> Decided {
    let leader = observation.leader().map_or("nobody", |member| member.name.as_str());
    let mut found = format!("{leader} leads: kept");
    if paused {
        found.push_str("; Patroni is paused and would not replace it");
    }
    for remark in &observation.remarks {
        found.push_str("; ");
        found.push_str(remark);
    }
    Decision { state: State::Healthy, found, next: Next::Done }
}

/// The formation: one member, chosen once, and nobody else before etcd knows what it made.
fn form(members: &[(&Member, &Seen)], record: &Record) -> Decided {
    let Some((first, seen)) = members.iter().find(|(member, _)| member.address == record.leader)
    else {
        return Decision::refuse(
            State::Forming,
            format!("the formation began with {}, which is no member any more", record.leader),
            "give the inventory its address back, or move the record (state/ of the site) away if no member has data",
        );
    };
    if is_up(seen) {
        let reason = format!("{} makes its database", first.name);
        return Decision::wait(State::Forming, "the cluster is formed", &reason, SETTLE);
    }
    let member = first.name.clone();
    // What it made before it was cut off is its own: Patroni goes on with it and tells etcd again.
    let begin = if seen.data { Action::Start { member } } else { Action::Form { member } };
    Decision::act(State::Forming, format!("{} begins", first.name), vec![begin])
}

/// etcd forgot a cluster whose data is there. Who has the newest is evidence; who counts is for the
/// operator to say, because a member that cannot be seen may have had more.
fn forgotten(members: &[(&Member, &Seen)], wanted: &Wanted) -> Decided {
    // A leader that runs tells etcd again.
    let running = members
        .iter()
        .find(|(member, _)| member.status().is_some_and(|status| status.runs() && status.primary));
    if let Some((member, _)) = running {
        let reason = format!("{} runs as primary and has to tell etcd again", member.name);
        return Decision::wait(State::Degraded, "etcd has forgotten the cluster", &reason, SETTLE);
    }
    let mut evidence: Vec<(u32, u64, &str)> = members
        .iter()
        .filter_map(|(member, seen)| {
            let control = seen.control.as_ref().ok()?.as_ref()?;
            Some((control.timeline, control.checkpoint, member.name.as_str()))
        })
        .collect();
    evidence.sort_unstable_by(|one, other| other.cmp(one));
    let Some(newest) = &wanted.newest else {
        let told: Vec<String> = evidence
            .iter()
            .map(|(timeline, at, name)| {
                format!(
                    "{name}: timeline {timeline}, checkpoint {:X}/{:08X}",
                    at >> 32,
                    at & 0xffff_ffff
                )
            })
            .collect();
        return Decision::refuse(
            State::Down,
            format!("etcd knows no such cluster, and there is data of it ({})", told.join("; ")),
            "etcd lost its data. Restore it, or say whose data counts: `newest = \"HOST\"` in [cluster.settings] of the role; that member starts first and the others follow it. Take it out again afterwards",
        );
    };
    match members.iter().find(|(member, _)| &member.name == newest) {
        Some((member, seen)) if seen.data && is_up(seen) => {
            let reason = format!("{} starts with its own data", member.name);
            Decision::wait(State::Down, "the member that the operator named leads", &reason, SETTLE)
        }
        Some((member, seen)) if seen.data => {
            let found = format!("the data of {} counts, as the role says", member.name);
            Decision::act(State::Down, found, vec![Action::Start { member: member.name.clone() }])
        }
        _ => Decision::refuse(
            State::Down,
            format!("the role says that the data of {newest} counts, and it has none"),
            "name a member that has data",
        ),
    }
}

/// Starts what has data: Patroni and etcd know who led, and nobody can form anything anew. Once
/// somebody leads, members start one by one.
fn start(
    members: &[(&Member, &Seen)],
    led: bool,
    record: &Record,
    state: State,
) -> Option<Decided> {
    let mut asleep: Vec<Action> = members
        .iter()
        .filter(|(_, seen)| seen.data && seen.patroni == Patroni::Down)
        .map(|(member, _)| Action::Start { member: member.name.clone() })
        .collect();
    if asleep.is_empty() {
        return None;
    }
    // The member that a formation began with comes before its copies.
    if record.formation == Formation::Begun {
        asleep.truncate(1);
    }
    let state = if led { state } else { State::Down };
    Some(Decision::act(state, "Patroni does not run where its cluster's data is", asleep))
}

/// Waits until somebody leads.
fn lead(
    observation: &Observation,
    members: &[(&Member, &Seen)],
    record: &Record,
    state: State,
) -> Option<Decided> {
    if observation.leader().is_some() {
        return None;
    }
    let forming = record.formation == Formation::Begun;
    let empty = members.iter().all(|(_, seen)| !seen.data);
    let first = members.iter().find(|(member, _)| member.address == record.leader);
    if let (true, true, Some((first, seen))) = (forming, empty, first)
        && !is_up(seen)
    {
        // Its host went down in the middle of the first start: etcd waits for it.
        return Some(Decision::act(
            state,
            format!("{} begins", first.name),
            vec![Action::Form { member: first.name.clone() }],
        ));
    }
    let told: Vec<String> = members
        .iter()
        .map(|(member, seen)| match &seen.patroni {
            Patroni::Down => format!("{} is not running", member.name),
            Patroni::Unready(why) => format!("{}: {why}", member.name),
            Patroni::Up(status) => format!("{} is {}", member.name, status.state),
        })
        .collect();
    let reason = format!("nobody leads yet: {}", told.join(", "));
    let state = if forming { state } else { State::Down };
    Some(Decision::wait(state, "no leader", &reason, SETTLE))
}

/// Members without data copy the leader's; one whose data cannot be used gives it up, but only while
/// another full copy is there beside the leader's.
fn fill_up(
    observation: &Observation,
    members: &[(&Member, &Seen)],
    state: State,
) -> Option<Decided> {
    let leader = observation.leader()?;
    let empty: Vec<Action> = members
        .iter()
        .filter(|(_, seen)| !seen.data && seen.patroni == Patroni::Down)
        .map(|(member, _)| Action::Join { member: member.name.clone() })
        .collect();
    if !empty.is_empty() {
        return Some(Decision::act(
            state,
            format!("{} leads, members have no data", leader.name),
            empty,
        ));
    }
    let (stuck, seen, why) =
        members.iter().find_map(|(member, seen)| Some((member, seen, seen.stuck.as_ref()?)))?;
    let copy = members.iter().find(|(member, _)| {
        member.status().is_some_and(|status| status.runs() && status.streaming)
    });
    Some(match copy {
        _ if !seen.data || stuck.name == leader.name => {
            let reason = format!("{}: {why}", stuck.name);
            Decision::wait(state, "a member is of no use", &reason, SETTLE)
        }
        Some((copy, _)) => Decision::act(
            state,
            format!(
                "{} cannot go on with its data: {why}; {} leads and {} has a full copy",
                stuck.name, leader.name, copy.name
            ),
            vec![Action::SetAside { member: stuck.name.clone() }],
        ),
        // Another one copies, or catches up: it is a full copy soon.
        None if members.iter().any(|(member, seen)| {
            member.name != leader.name && seen.stuck.is_none() && is_up(seen)
        }) =>
        {
            let reason = format!("{} cannot go on: {why}; and no other follows yet", stuck.name);
            Decision::wait(state, "standbys copy", reason, COPY)
        }
        None => Decision::refuse(
            State::Degraded,
            format!(
                "{} cannot go on with its data: {why}; and {} has the only full copy",
                stuck.name, leader.name
            ),
            "bring another standby back first, or look at PostgreSQL's log there and start it by hand: with one copy left, strata moves nothing away",
        ),
    })
}

/// Puts missing markers beside the data.
fn mark(members: &[(&Member, &Seen)], record: &Record, state: State) -> Option<Decided> {
    let unmarked: Vec<Action> = members
        .iter()
        .filter(|(_, seen)| seen.marker == Ok(None) && seen.data)
        .map(|(member, _)| Action::Mark {
            member: member.name.clone(),
            marker: record.marker.clone(),
        })
        .collect();
    (!unmarked.is_empty()).then(|| Decision::act(state, "markers are missing", unmarked))
}

/// Waits until every standby follows, and as many as wanted have all that is acknowledged.
fn follow(
    observation: &Observation,
    members: &[(&Member, &Seen)],
    wanted: &Wanted,
    state: State,
) -> Option<Decided> {
    let leader = observation.leader()?;
    let timeline = leader.status()?.timeline;
    let mut sync = 0;
    let mut standbys = 0;
    for (member, seen) in members.iter().filter(|(member, _)| member.name != leader.name) {
        let reason = match &seen.patroni {
            Patroni::Down => "Patroni does not answer".to_owned(),
            Patroni::Unready(why) => why.clone(),
            Patroni::Up(status) if !status.runs() => format!("PostgreSQL is {}", status.state),
            Patroni::Up(status) if !status.streaming => "it does not stream yet".to_owned(),
            Patroni::Up(status) if status.timeline.is_some() && status.timeline != timeline => {
                "it is on another timeline".to_owned()
            }
            Patroni::Up(status) => {
                standbys += usize::from(!status.nosync);
                sync += usize::from(status.sync);
                continue;
            }
        };
        let found = format!("{} leads, standbys copy", leader.name);
        return Some(Decision::wait(state, &found, format!("{}: {reason}", member.name), COPY));
    }
    let needed = wanted.sync.min(standbys);
    (sync < needed).then(|| {
        let found = format!("{} leads", leader.name);
        Decision::wait(state, &found, format!("{sync} of {needed} standbys are in sync"), SETTLE)
    })
}

const fn is_up(seen: &Seen) -> bool {
    !matches!(seen.patroni, Patroni::Down)
}
