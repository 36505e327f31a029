//! What is wrong with what was seen. Pure.

use super::seen::{Member, Sentinel, Server};
use crate::redis_client::Quorum;
use std::collections::{BTreeMap, BTreeSet};

/// The only master, by its member's name and address.
///
/// # Errors
/// What there is instead.
pub fn master(members: &[Member]) -> Result<&Member, String> {
    let masters: Vec<&Member> = members
        .iter()
        .filter(|member| member.server.as_ref().is_ok_and(|server| server.replication.master))
        .collect();
    match masters[..] {
        [one] => Ok(one),
        [] => Err("no member is master".to_owned()),
        _ => {
            let names: Vec<&str> = masters.iter().map(|member| member.name.as_str()).collect();
            Err(format!("{} are masters", names.join(" and ")))
        }
    }
}

/// What is wrong with roles and replication. `at_rest`: offsets must be equal.
pub fn wrong_roles(members: &[Member], max_lag: u64, at_rest: bool) -> Vec<String> {
    let mut wrong: Vec<String> = members
        .iter()
        .filter_map(|member| Some(format!("{}: {}", member.name, member.server.as_ref().err()?)))
        .collect();
    let leader = match master(members) {
        Ok(leader) => leader,
        Err(reason) => {
            wrong.push(reason);
            return wrong;
        }
    };
    let Ok(lead) = &leader.server else { return wrong };
    for member in members.iter().filter(|member| member.name != leader.name) {
        let Ok(server) = &member.server else { continue };
        wrong.extend(
            wrong_replica(leader, lead, member, server, max_lag, at_rest)
                .into_iter()
                .map(|line| format!("{}: {line}", member.name)),
        );
    }
    let (found, wanted) = (lead.replication.replicas.len(), members.len() - 1);
    if found != wanted {
        wrong.push(format!("{}: {found} replicas, not {wanted}", leader.name));
    }
    wrong
}

fn wrong_replica(
    leader: &Member,
    lead: &Server,
    member: &Member,
    server: &Server,
    max_lag: u64,
    at_rest: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let own = &server.replication;
    if own.follows.as_ref().map(|at| at.host.as_str()) != Some(leader.address.as_str()) {
        let whom = own.follows.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        wrong.push(format!("follows {whom}, the master is {}", leader.address));
    }
    if !own.link_up {
        wrong.push("its link to the master is down".to_owned());
    }
    if own.replid != lead.replication.replid {
        wrong.push("its history is another than the master's (replid)".to_owned());
    }
    if at_rest && own.offset != lead.replication.offset {
        wrong.push(format!("offset {}, the master has {}", own.offset, lead.replication.offset));
    }
    let known =
        lead.replication.replicas.iter().find(|replica| replica.endpoint.host == member.address);
    match known {
        None => wrong.push(format!("{} does not know it", leader.name)),
        Some(replica) if replica.state != "online" => {
            wrong.push(format!("is {}, not online", replica.state));
        }
        Some(replica) if replica.lag > max_lag => {
            wrong.push(format!("lags {} s, at most {max_lag} s are allowed", replica.lag));
        }
        Some(_) => {}
    }
    wrong
}

/// What is wrong with the Sentinels of these members.
pub fn wrong_sentinels(members: &[Member]) -> Vec<String> {
    let others = members.len() - 1;
    let mut wrong = Vec::new();
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    let mut epochs: BTreeSet<u64> = BTreeSet::new();
    let lead = master(members).ok();
    for member in members {
        let sentinel = match &member.sentinel {
            Ok(sentinel) => sentinel,
            Err(reason) => {
                wrong.push(format!("{}: Sentinel: {reason}", member.name));
                continue;
            }
        };
        if let Some(twin) = ids.insert(&sentinel.id, &member.name) {
            wrong.push(format!("{}: its Sentinel has the id of {twin}'s", member.name));
        }
        match sentinel.master.number("config-epoch") {
            Ok(epoch) => drop(epochs.insert(epoch)),
            Err(error) => wrong.push(format!("{}: {error}", member.name)),
        }
        wrong.extend(
            wrong_sentinel(sentinel, lead, others)
                .into_iter()
                .map(|line| format!("{}: {line}", member.name)),
        );
    }
    if epochs.len() > 1 {
        wrong.push(format!("configuration epochs differ: {epochs:?}"));
    }
    wrong
}

fn wrong_sentinel(sentinel: &Sentinel, lead: Option<&Member>, others: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let address = sentinel.address.as_ref().map(|at| at.host.as_str());
    if let Some(lead) = lead
        && address != Some(lead.address.as_str())
    {
        let believed = address.unwrap_or("nobody");
        wrong.push(format!("believes {believed} to be master, not {}", lead.address));
    }
    let mut down = Vec::new();
    let known = std::iter::once(&sentinel.master).chain(&sentinel.replicas).chain(&sentinel.others);
    for instance in known.filter(|instance| instance.is_down()) {
        let flags: Vec<&str> = instance.flags.iter().map(String::as_str).collect();
        down.push(format!("{} is {}", instance.endpoint, flags.join(",")));
    }
    wrong.append(&mut down);
    for (what, found) in
        [("replicas", sentinel.replicas.len()), ("other Sentinels", sentinel.others.len())]
    {
        if found != others {
            wrong.push(format!("knows {found} {what}, not {others}"));
        }
    }
    if let Quorum::Missing(why) = &sentinel.quorum {
        wrong.push(format!("no quorum: {why}"));
    }
    wrong
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::redis_client::{Endpoint, Instance, Replica, Replication};

    fn at(address: &str, port: u16) -> Endpoint {
        Endpoint { host: address.to_owned(), port }
    }

    fn instance(address: &str, flags: &str) -> Instance {
        Instance {
            endpoint: at(address, 6379),
            run_id: String::new(),
            flags: flags.split(',').map(str::to_owned).collect(),
            fields: [("config-epoch".to_owned(), "3".to_owned())].into(),
        }
    }

    /// Three members, the first one master.
    pub fn healthy() -> Vec<Member> {
        let addresses = ["10.0.0.123", "10.0.0.124", "10.0.0.125"];
        (0..3)
            .map(|index| {
                let others: Vec<&str> =
                    addresses.into_iter().filter(|other| *other != addresses[index]).collect();
                let replica = |address: &&str| Replica {
                    endpoint: at(address, 6379),
                    state: "online".into(),
                    offset: 42,
                    lag: 0,
                };
                let master = index == 0;
                Member {
                    name: format!("redis-0{}", index + 1),
                    address: addresses[index].to_owned(),
                    server: Ok(Server {
                        run_id: format!("run{index}"),
                        replication: Replication {
                            master,
                            follows: (!master).then(|| at(addresses[0], 6379)),
                            link_up: !master,
                            sync_in_progress: false,
                            replicas: if master {
                                others.iter().map(replica).collect()
                            } else {
                                Vec::new()
                            },
                            replid: "abc".into(),
                            offset: 42,
                        },
                    }),
                    sentinel: Ok(Sentinel {
                        id: format!("id{index}"),
                        address: Some(at(addresses[0], 6379)),
                        master: instance(addresses[0], "master"),
                        replicas: addresses[1..].iter().map(|a| instance(a, "slave")).collect(),
                        others: others.iter().map(|a| instance(a, "sentinel")).collect(),
                        quorum: Quorum::Enough("OK 3 usable Sentinels".into()),
                    }),
                }
            })
            .collect()
    }

    fn server(member: &mut Member) -> &mut Server {
        member.server.as_mut().unwrap()
    }

    fn sentinel(member: &mut Member) -> &mut Sentinel {
        member.sentinel.as_mut().unwrap()
    }

    #[test]
    fn nothing_is_wrong_with_a_healthy_cluster() {
        let members = healthy();
        assert_eq!(wrong_roles(&members, 1, true), Vec::<String>::new());
        assert_eq!(wrong_sentinels(&members), Vec::<String>::new());
        assert_eq!(master(&members).unwrap().name, "redis-01");
    }

    /// Each way of being ill is seen, by itself.
    #[test]
    fn each_illness_of_replication_is_seen() {
        type Ill = fn(&mut [Member]);
        let illnesses: [(&str, Ill); 9] = [
            ("refused", |m| m[1].server = Err("refused".into())),
            ("are masters", |m| server(&mut m[1]).replication.master = true),
            ("no member", |m| server(&mut m[0]).replication.master = false),
            ("link", |m| server(&mut m[1]).replication.link_up = false),
            ("replid", |m| server(&mut m[2]).replication.replid = "other".into()),
            ("offset", |m| server(&mut m[2]).replication.offset = 41),
            ("lags", |m| server(&mut m[0]).replication.replicas[0].lag = 2),
            ("wait_bgsave", |m| {
                server(&mut m[0]).replication.replicas[0].state = "wait_bgsave".into()
            }),
            ("1 replicas", |m| server(&mut m[0]).replication.replicas.truncate(1)),
        ];
        for (word, ill) in illnesses {
            let mut members = healthy();
            ill(&mut members);
            let wrong = wrong_roles(&members, 1, true).join("\n");
            assert!(wrong.contains(word), "{word}: {wrong}");
        }
    }

    #[test]
    fn each_illness_of_sentinels_is_seen() {
        type Ill = fn(&mut [Member]);
        let illnesses: [(&str, Ill); 7] = [
            ("timeout", |m| m[2].sentinel = Err("timeout".into())),
            ("has the id of", |m| sentinel(&mut m[2]).id = "id0".into()),
            ("epochs differ", |m| {
                sentinel(&mut m[1]).master.fields.insert("config-epoch".into(), "4".into());
            }),
            ("believes 10.0.0.125", |m| sentinel(&mut m[1]).address = Some(at("10.0.0.125", 6379))),
            ("s_down", |m| {
                sentinel(&mut m[0]).replicas[0] = instance("10.0.0.124", "s_down,slave")
            }),
            ("knows 3 replicas", |m| {
                sentinel(&mut m[0]).replicas.push(instance("10.0.0.9", "slave"));
            }),
            ("no quorum", |m| sentinel(&mut m[0]).quorum = Quorum::Missing("NOQUORUM".into())),
        ];
        for (word, ill) in illnesses {
            let mut members = healthy();
            ill(&mut members);
            let wrong = wrong_sentinels(&members).join("\n");
            assert!(wrong.contains(word), "{word}: {wrong}");
        }
    }
}
