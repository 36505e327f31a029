//! Network cuts, as a table of the switch's packet filter.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::super::network::{Network, Ports};
use super::Direction;

/// One side of a cut.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// Names of links in the switch.
    links: Vec<String>,
    /// Public addresses: frames between them pass `outside`, so that links do not tell.
    public: Vec<Ipv4Addr>,
}

impl Side {
    /// The side of these members, with the public addresses of those that have one.
    pub(super) fn of<'a>(members: impl IntoIterator<Item = (&'a str, Option<Ipv4Addr>)>) -> Self {
        let mut side = Self::default();
        for (member, public) in members {
            for network in Network::ALL {
                // While frames are delayed, the forwarder's link stands for the member's own.
                let ports = Ports::of(member, network);
                side.links.extend([ports.own, ports.outer]);
            }
            side.public.extend(public);
        }
        side
    }
}

/// The name of a fault's table.
pub(super) fn table_name(id: &str) -> String {
    format!("fault_{}", id.replace('-', "_"))
}

/// The rules of a cut. An empty second side is everybody who is not on the first.
pub(super) fn rules(
    id: &str,
    one: &Side,
    other: &Side,
    direction: Direction,
    keep_ssh_from: &[Ipv4Addr],
) -> String {
    let mut text = format!(
        "table bridge {} {{\n    chain forward {{\n        \
         type filter hook forward priority -300; policy accept;\n",
        table_name(id)
    );
    for address in keep_ssh_from {
        let _infallible = write!(
            text,
            "        arp saddr ip {address} accept\n        arp daddr ip {address} accept\n        \
             ip saddr {address} tcp dport 22 accept\n        \
             ip daddr {address} tcp sport 22 accept\n"
        );
    }
    let forth = matches!(direction, Direction::Both | Direction::Forth);
    let back = matches!(direction, Direction::Both | Direction::Back);
    let everybody_else = other.links.is_empty();
    let links = set(&one.links);
    if everybody_else {
        let _infallible = writeln!(text, "        iifname {links} oifname {links} accept");
        if forth {
            let _infallible = writeln!(text, "        iifname {links} drop");
        }
        if back {
            let _infallible = writeln!(text, "        oifname {links} drop");
        }
    } else {
        let others = set(&other.links);
        if forth {
            let _infallible = writeln!(text, "        iifname {links} oifname {others} drop");
        }
        if back {
            let _infallible = writeln!(text, "        iifname {others} oifname {links} drop");
        }
        if !one.public.is_empty() && !other.public.is_empty() {
            let (ours, theirs) = (set(&one.public), set(&other.public));
            if forth {
                let _infallible = writeln!(text, "        ip saddr {ours} ip daddr {theirs} drop");
            }
            if back {
                let _infallible = writeln!(text, "        ip saddr {theirs} ip daddr {ours} drop");
            }
        }
    }
    text.push_str("    }\n}\n");
    text
}

fn set<T: ToString>(items: &[T]) -> String {
    let words: Vec<String> = items
        .iter()
        .map(|item| {
            let text = item.to_string();
            // Interface names are words only between quotes.
            if text.parse::<Ipv4Addr>().is_ok() { text } else { format!("\"{text}\"") }
        })
        .collect();
    format!("{{ {} }}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(members: &[(&str, Option<Ipv4Addr>)]) -> Side {
        Side::of(members.iter().copied())
    }

    #[test]
    fn a_cut_between_two_hosts_covers_both_networks() {
        let one = side(&[("a", Some([192, 0, 2, 1].into()))]);
        let other = side(&[("b", Some([192, 0, 2, 2].into()))]);
        insta::assert_snapshot!(rules("cut-1", &one, &other, Direction::Both, &[]), @r#"
        table bridge fault_cut_1 {
            chain forward {
                type filter hook forward priority -300; policy accept;
                iifname { "p-a", "o-a", "P-a", "O-a" } oifname { "p-b", "o-b", "P-b", "O-b" } drop
                iifname { "p-b", "o-b", "P-b", "O-b" } oifname { "p-a", "o-a", "P-a", "O-a" } drop
                ip saddr { 192.0.2.1 } ip daddr { 192.0.2.2 } drop
                ip saddr { 192.0.2.2 } ip daddr { 192.0.2.1 } drop
            }
        }
        "#);
    }

    #[test]
    fn an_isolated_host_keeps_the_operators_ssh() {
        let one = side(&[("a", None)]);
        let text = rules("c", &one, &Side::default(), Direction::Back, &[[10, 0, 0, 250].into()]);
        insta::assert_snapshot!(text, @r#"
        table bridge fault_c {
            chain forward {
                type filter hook forward priority -300; policy accept;
                arp saddr ip 10.0.0.250 accept
                arp daddr ip 10.0.0.250 accept
                ip saddr 10.0.0.250 tcp dport 22 accept
                ip daddr 10.0.0.250 tcp sport 22 accept
                iifname { "p-a", "o-a", "P-a", "O-a" } oifname { "p-a", "o-a", "P-a", "O-a" } accept
                oifname { "p-a", "o-a", "P-a", "O-a" } drop
            }
        }
        "#);
    }
}
