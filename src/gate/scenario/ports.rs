//! The port matrix: who reaches what, and what listens.

use super::{Finding, Surroundings};
use crate::gate::probe::{self, Port};
use crate::plan::{OpenPort, open_ports};
use crate::site::Host;
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Which ports are tried.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Ports tried on every host beside those that the site opens there.
    ports: Vec<u16>,
    /// Milliseconds after which a port counts as filtered. Default: 1000.
    #[serde(default = "default_timeout")]
    timeout_ms: u64,
}

/// What may listen beside the ports that the site opens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// Ports that may listen although the site opens them to nobody. Default: none.
    #[serde(default)]
    allow: Vec<u16>,
}

const fn default_timeout() -> u64 {
    1_000
}

/// One probe.
struct Attempt {
    from: String,
    to: String,
    address: SocketAddr,
    allowed: bool,
}

/// Every host tries every other one by its private address.
pub async fn from_peers(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let site = surroundings.context.site;
    let mut attempts = Vec::new();
    for from in &surroundings.hosts {
        for to in &surroundings.hosts {
            let (Some(source), Some(target)) = (site.hosts.get(from), site.hosts.get(to)) else {
                continue;
            };
            if from == to {
                continue;
            }
            let open = open_ports(site, target);
            attempts.extend(tried(&open, &bounds.ports).into_iter().map(|port| Attempt {
                from: from.clone(),
                to: to.clone(),
                address: SocketAddr::new(IpAddr::V4(target.address), port),
                allowed: allows(&open, source.address, port),
            }));
        }
    }
    try_all(&surroundings, attempts, bounds.timeout_ms).await
}

/// The operator host tries every public address from its own public one.
pub async fn from_outside(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let site = surroundings.context.site;
    let Some(operator) = site.operator() else {
        return Finding::not_run("the site has no operator host");
    };
    let context = surroundings.context;
    let session = surroundings
        .fleet
        .obtain(site, &operator.name, context.connection, surroundings.events, surroundings.stop)
        .await;
    let Some(session) = session else {
        return Finding::not_run(format!("{} is not connected", operator.name));
    };
    let Some(source) = operator.public else {
        return Finding::not_applicable("the operator host has no public address to try from");
    };
    let mut attempts = Vec::new();
    let targets: Vec<&Host> =
        surroundings.hosts.iter().filter_map(|host| site.hosts.get(host)).collect();
    for target in targets {
        let Some(address) = target.public.filter(|_| target.name != operator.name) else {
            continue;
        };
        let open = open_ports(site, target);
        attempts.extend(tried(&open, &bounds.ports).into_iter().map(|port| Attempt {
            from: operator.name.clone(),
            to: target.name.clone(),
            address: SocketAddr::new(IpAddr::V4(address), port),
            allowed: allows(&open, source, port),
        }));
    }
    if attempts.is_empty() {
        return Finding::not_applicable("no other selected host has a public address");
    }
    // A closed port and an address that nothing routes look the same: each host must answer a ping.
    let mut silent = Vec::new();
    let addresses: BTreeSet<IpAddr> = attempts.iter().map(|a| a.address.ip()).collect();
    for address in addresses {
        let argv = ["ping", "-c", "2", "-i", "0.2", "-W", "2", &address.to_string()];
        if let Err(error) = probe::output(&session, &argv).await {
            silent
                .push(format!("{address} does not answer a ping, so nothing can be said: {error}"));
        }
    }
    if !silent.is_empty() {
        let mut finding = Finding::of("every public address answers", silent);
        finding.verdict = crate::event::Verdict::NotRun;
        return finding;
    }
    try_all(&surroundings, attempts, bounds.timeout_ms).await
}

fn tried(open: &[OpenPort], ports: &[u16]) -> BTreeSet<u16> {
    let opened = open.iter().filter(|rule| rule.protocol == "tcp").flat_map(|rule| &rule.ports);
    opened.chain(ports).copied().collect()
}

/// Whether the site lets this source reach this TCP port.
fn allows(open: &[OpenPort], source: Ipv4Addr, port: u16) -> bool {
    open.iter().any(|rule| {
        rule.protocol == "tcp"
            && rule.ports.contains(&port)
            && rule.from.iter().any(|net| net.contains(&source))
    })
}

async fn try_all(
    surroundings: &Surroundings<'_>,
    attempts: Vec<Attempt>,
    timeout_ms: u64,
) -> Finding {
    let expected = format!("{} connections as the site says", attempts.len());
    let timeout = Duration::from_millis(timeout_ms);
    let tries = attempts.into_iter().map(|attempt| {
        let session = surroundings.fleet.session(&attempt.from);
        async move {
            let Some(session) = session else {
                return Some(format!("{} is not connected", attempt.from));
            };
            let answer = probe::port(&session, attempt.address, timeout).await;
            wrong(&attempt, &answer)
        }
    });
    let mut found: Vec<String> = stream::iter(tries)
        .buffer_unordered(2048)
        .filter_map(|line| async { line })
        .collect()
        .await;
    found.sort();
    let mut finding = Finding::of(expected, found);
    if finding.found.iter().any(|line| line.ends_with("is not connected")) {
        finding.verdict = crate::event::Verdict::NotRun;
    }
    finding
}

/// What is wrong with an answer. An allowed port may refuse: nobody listens there yet, but the
/// packet came through.
fn wrong(attempt: &Attempt, answer: &Port) -> Option<String> {
    let word = match (attempt.allowed, answer) {
        (true, Port::Open | Port::Refused) | (false, Port::Filtered) => return None,
        (true, Port::Filtered) => "is filtered, the site opens it".to_owned(),
        (false, Port::Open) => "is OPEN, the site closes it".to_owned(),
        (false, Port::Refused) => {
            "refuses instead of dropping: the firewall lets it through".to_owned()
        }
        (_, Port::Other(reason)) => reason.clone(),
    };
    Some(format!("{} → {} {}: {word}", attempt.from, attempt.to, attempt.address))
}

/// Nothing listens beyond loopback that the site does not open.
pub async fn listeners(surroundings: Surroundings<'_>, bounds: Listeners) -> Finding {
    let site = surroundings.context.site;
    surroundings
        .on_each("only known listeners", |host, session| {
            let open = site.hosts.get(&host).map(|host| open_ports(site, host)).unwrap_or_default();
            let allow = &bounds.allow;
            let ssh = site.config.ssh.port;
            async move {
                let text = probe::output(&session, &["ss", "-H", "-ltnp"]).await?;
                // sshd listens on every host: a listing without it is none.
                if !text.lines().any(|line| line.contains(&format!(":{ssh} "))) {
                    return Err("the listing of ss does not even show sshd".to_owned());
                }
                Ok(unknown_listeners(&text, &open, allow))
            }
        })
        .await
}

fn unknown_listeners(text: &str, open: &[OpenPort], allow: &[u16]) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = words.get(3)?.rsplit_once(':')?;
            let port: u16 = port.parse().ok()?;
            let address = address.trim_matches(['[', ']']).split('%').next()?;
            let loopback = address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            let known = allow.contains(&port)
                || open.iter().any(|rule| rule.protocol == "tcp" && rule.ports.contains(&port));
            (!loopback && !known).then(|| {
                format!("{address}:{port} {}", words.get(5).copied().unwrap_or("(unknown program)"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ports: &[u16], from: &str) -> OpenPort {
        OpenPort {
            name: "r".into(),
            protocol: "tcp".into(),
            ports: ports.to_vec(),
            from: vec![from.parse().unwrap()],
        }
    }

    #[test]
    fn a_listener_is_known_by_loopback_rule_or_allowance() {
        let text = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n\
                    LISTEN 0 128 127.0.0.1:25 0.0.0.0:*\n\
                    LISTEN 0 128 [::1]:631 [::]:*\n\
                    LISTEN 0 128 127.0.0.53%lo:53 0.0.0.0:*\n\
                    LISTEN 0 128 *:9100 *:* users:((\"node\",pid=2,fd=3))\n";
        let found = unknown_listeners(text, &[rule(&[22], "10.0.0.250/32")], &[]);
        assert_eq!(found, ["*:9100 users:((\"node\",pid=2,fd=3))"]);
        assert!(unknown_listeners(text, &[rule(&[22], "0.0.0.0/0")], &[9100]).is_empty());
    }

    #[test]
    fn only_the_named_source_is_let_in() {
        let open = [rule(&[22], "10.0.0.250/32"), rule(&[80], "0.0.0.0/0")];
        assert!(allows(&open, "10.0.0.250".parse().unwrap(), 22));
        assert!(!allows(&open, "10.0.0.11".parse().unwrap(), 22));
        assert!(allows(&open, "203.0.113.9".parse().unwrap(), 80));
    }
}
