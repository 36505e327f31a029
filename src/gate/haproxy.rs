//! HAProxy's own account of what it leads to, and where it listens.

use super::drill::{Host, Place};
use super::probe;
use super::scenario::Finding;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;

/// A server of a backend.
#[derive(Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name in HAProxy's text.
    pub name: String,
    /// Whether HAProxy takes it to be up.
    pub up: bool,
}

/// Looks at every HAProxy at the same time until nothing is wrong, or the time is over.
pub async fn on_each(
    place: &Place<'_>,
    expected: &str,
    within: Duration,
    look: impl AsyncFn(&Host) -> Result<Vec<String>, String>,
) -> Finding {
    if place.proxies.is_empty() {
        return Finding::not_run("no HAProxy is placed in this layer");
    }
    until_right(expected, within, async || {
        let looks = place.proxies.iter().map(async |proxy| {
            let lines = look(proxy).await.unwrap_or_else(|why| vec![why]);
            lines.into_iter().map(|line| format!("{}: {line}", proxy.name)).collect::<Vec<_>>()
        });
        join_all(looks).await.concat()
    })
    .await
}

/// Looks until nothing is wrong, or the time is over.
pub async fn until_right(
    expected: impl Into<String>,
    within: Duration,
    look: impl AsyncFn() -> Vec<String>,
) -> Finding {
    let right = probe::wait_until(within, || async {
        let wrong = look().await;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    });
    let wrong = right.await.err().map(|text| text.lines().map(str::to_owned).collect());
    Finding::of(expected, wrong.unwrap_or_default())
}

/// The servers of a backend, as HAProxy sees them now.
///
/// # Errors
/// When it cannot be asked.
pub async fn servers(proxy: &Host, backend: &str) -> Result<Vec<Server>, String> {
    let argv = ["socat", "-t", "2", "-", "UNIX-CONNECT:/run/haproxy/admin.sock"];
    let ask = format!("show servers state {backend}\n");
    let text = probe::output_of(&proxy.session, &argv, ask.into_bytes()).await?;
    Ok(parse(&text, backend))
}

fn parse(text: &str, backend: &str) -> Vec<Server> {
    // Its columns: backend's number and name, server's number, name, address, state (2 is up).
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 6 && fields[1] == backend)
        .map(|fields| Server { name: fields[3].to_owned(), up: fields[5] == "2" })
        .collect()
}

/// What is wrong with the addresses that ports are bound to.
///
/// # Errors
/// When the host cannot be asked.
pub async fn wrong_binds(proxy: &Host, ports: &[(&str, u16)]) -> Result<Vec<String>, String> {
    let listening = probe::output(&proxy.session, &["ss", "-H", "-ltn"]).await?;
    let wrong = ports.iter().filter_map(|(what, port)| {
        wrong_bind(&listening, *port).map(|line| format!("{what}: {line}"))
    });
    Ok(wrong.collect())
}

fn wrong_bind(listening: &str, port: u16) -> Option<String> {
    let suffix = format!(":{port}");
    let sockets = listening.lines().filter_map(|line| line.split_whitespace().nth(3));
    let bound: BTreeSet<&str> = sockets.filter_map(|socket| socket.strip_suffix(&suffix)).collect();
    let bound: Vec<&str> = bound.into_iter().collect();
    match bound[..] {
        ["0.0.0.0" | "*"] => None,
        [] => Some(format!("nobody listens on {port}")),
        _ => Some(format!("{port} is bound to {}, not to 0.0.0.0", bound.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state …\n\
        4 be_rabbitmq 1 queue-01 10.0.0.126 2 0 1 1 45 6 3 4 6 0 0 0 - 5672 - 0 0 - - 0\n\
        4 be_rabbitmq 2 queue-02 10.0.0.127 0 0 1 1 45 8 2 0 6 0 0 0 - 5672 - 0 0 - - 0\n";

    #[test]
    fn servers_are_up_or_not() {
        let server = |name: &str, up| Server { name: name.to_owned(), up };
        let both = [server("queue-01", true), server("queue-02", false)];
        assert_eq!(parse(STATE, "be_rabbitmq"), both);
        assert_eq!(parse(STATE, "be_redis_master"), []);
    }

    #[test]
    fn a_port_is_bound_to_all_addresses_and_to_no_balancers() {
        let line = |at: &str| format!("LISTEN 0 4096 {at} 0.0.0.0:*\n");
        assert_eq!(wrong_bind(&line("0.0.0.0:5432"), 5432), None);
        assert_eq!(wrong_bind(&(line("0.0.0.0:5432") + &line("0.0.0.0:5432")), 5432), None);
        assert!(wrong_bind(&line("10.0.0.10:5432"), 5432).is_some());
        assert!(wrong_bind(&(line("0.0.0.0:5432") + &line("10.0.0.10:5432")), 5432).is_some());
        assert!(wrong_bind(&line("0.0.0.0:15432"), 5432).is_some());
    }
}
