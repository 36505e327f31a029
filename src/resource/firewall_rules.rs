//! Structured rules and the nftables text that they stand for. Pure.

use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// The table that strata owns; it touches no other.
pub(super) const TABLE: &str = "inet strata";

/// The set of connections that are older than the filter: remote address, remote and local port.
pub(super) const OLDER: &str = "older";

/// How long such a connection may stay silent before it is forgotten.
const OLDER_TIMEOUT: &str = "1d";

/// Most connections that are remembered; a host has few that it opened itself.
const OLDER_LIMIT: usize = 20_000;

/// The lines that remember connections as older than the filter, from the text of
/// `/proc/net/tcp`; nothing when there is none.
pub(super) fn remember(proc_net_tcp: &str) -> String {
    let elements: Vec<String> = proc_net_tcp
        .lines()
        .skip(1)
        .filter_map(older)
        .take(OLDER_LIMIT)
        .map(|(remote, from, to)| format!("{remote} . {from} . {to} timeout {OLDER_TIMEOUT}"))
        .collect();
    if elements.is_empty() {
        return String::new();
    }
    format!("add element {TABLE} {OLDER} {{ {} }}\n", elements.join(", "))
}

/// Remote address, remote port and local port of an established connection that leaves the host.
fn older(line: &str) -> Option<(Ipv4Addr, u16, u16)> {
    const ESTABLISHED: &str = "01";
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, ESTABLISHED, ..] = words[..] else { return None };
    let port = |text: &str| u16::from_str_radix(text.split_once(':')?.1, 16).ok();
    let address = u32::from_str_radix(remote.split_once(':')?.0, 16).ok()?;
    let address = Ipv4Addr::from(address.to_ne_bytes());
    (!address.is_loopback()).then_some((address, port(remote)?, port(local)?))
}

/// The first remote address of an SSH login that no rule would let in again.
pub(super) fn shut_out(rules: &[FirewallRule], proc_net_tcp: &str) -> Option<Ipv4Addr> {
    const SSH: u16 = 22;
    let lets_in = |address: Ipv4Addr| {
        rules.iter().any(|rule| {
            let port = rule.ports.is_empty()
                || rule
                    .ports
                    .iter()
                    .filter_map(|text| ports(text))
                    .any(|(first, last)| (first..=last).contains(&SSH));
            rule.protocol == Protocol::Tcp
                && port
                && rule.interface.is_none()
                && rule.from.iter().any(|from| covers(from, address))
        })
    };
    proc_net_tcp
        .lines()
        .skip(1)
        .filter_map(older)
        .filter(|(_, _, local)| *local == SSH)
        .map(|(remote, _, _)| remote)
        .find(|remote| !lets_in(*remote))
}

/// Whether a source of a rule covers an address.
fn covers(from: &str, address: Ipv4Addr) -> bool {
    if from == "any" {
        return true;
    }
    let (net, length) = from.split_once('/').unwrap_or((from, "32"));
    let (Ok(net), Ok(length)) = (net.parse::<Ipv4Addr>(), length.parse::<u32>()) else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
    u32::from(net) & mask == u32::from(address) & mask
}

/// A listing of the table without the remembered connections, which come and go by themselves.
pub(super) fn without_older(listing: &str) -> String {
    let mut text = String::with_capacity(listing.len());
    let (mut in_set, mut in_elements) = (false, false);
    for line in listing.split_inclusive('\n') {
        let trimmed = line.trim();
        in_set = (in_set && trimmed != "}") || trimmed == format!("set {OLDER} {{");
        if in_set && trimmed.starts_with("elements = {") {
            in_elements = true;
        }
        if !in_elements {
            text.push_str(line);
        }
        if in_elements && trimmed.ends_with('}') {
            in_elements = false;
        }
    }
    text
}

/// Who may reach what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirewallRule {
    /// What the rule is for; it stands as a comment in the live rule set.
    pub name: String,
    /// `"tcp"` (default), `"udp"` or `"icmp"`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Destination ports or ranges: `["22", "2379-2380"]`. Empty: all.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Sources: addresses, networks, or `"any"` for every IPv4 address and `"::/0"` for every
    /// IPv6 address.
    pub from: Vec<String>,
    /// Only packets that came in by this interface. Default: any.
    #[serde(default)]
    pub interface: Option<String>,
}

/// Protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, and ICMPv6 for IPv6 sources.
    Icmp,
}

/// Who may reach ports that containers publish (X19). The container engine forwards them past the
/// input rules; these apply first, to the port as the client dialled it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The interfaces that are guarded, for example the public one: `["eth0"]`.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// What may pass; everything else that is new and comes in by these interfaces is dropped.
    #[serde(default)]
    pub rules: Vec<FirewallRule>,
}

/// First and last port of `"22"` or `"2379-2380"`.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

/// A source: family and nft text.
enum Source {
    Any4,
    V4(String),
    V6(String),
}

fn source(text: &str) -> Option<Source> {
    if text == "any" || text == "0.0.0.0/0" {
        return Some(Source::Any4);
    }
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let prefix = prefix.unwrap_or(32);
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let plain = (1..=32).contains(&prefix) && u32::from(address) & host_bits == 0;
            plain.then(|| Source::V4(text.to_owned()))
        }
        IpAddr::V6(address) => {
            let prefix = prefix.unwrap_or(128);
            let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let plain = prefix <= 128 && u128::from(address) & host_bits == 0;
            plain.then(|| Source::V6(text.to_owned()))
        }
    }
}

fn good_interface(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 15
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
}

/// Problems of a list of rules.
pub(super) fn validate(field: &'static str, rules: &[FirewallRule]) -> Vec<Problem> {
    let mut result = Rules::new();
    for rule in rules {
        let of = |text: String| Problem::new(field, format!("rule `{}`: {text}", rule.name));
        result = result
            .name(field, &rule.name, "-_.:/ +")
            .that(rule.name.len() <= 100, || of("its name is too long".into()))
            .that(!rule.from.is_empty(), || {
                of("nobody may pass".into()).hint("name sources in `from`, or \"any\"")
            })
            .that(rule.protocol != Protocol::Icmp || rule.ports.is_empty(), || {
                of("ICMP has no ports".into())
            });
        for text in rule.ports.iter().filter(|text| ports(text).is_none()) {
            result =
                result.add([of(format!("`{text}` is no port")).hint("\"22\" or \"2379-2380\"")]);
        }
        for text in rule.from.iter().filter(|text| source(text).is_none()) {
            result = result.add([of(format!("`{text}` is no source")).hint(
                "an address, a network without host bits such as \"10.0.0.0/16\", or \"any\"",
            )]);
        }
        for name in rule.interface.iter().filter(|name| !good_interface(name)) {
            result = result.add([of(format!("`{name}` is no interface"))]);
        }
    }
    result.done()
}

/// Problems of the guarded interfaces.
pub(super) fn validate_interfaces(published: &Published) -> Vec<Problem> {
    let mut result = Rules::new()
        .that(!published.interfaces.is_empty() || published.rules.is_empty(), || {
            Problem::new("published.interfaces", "no interface is guarded")
        });
    for name in published.interfaces.iter().filter(|name| !good_interface(name)) {
        result =
            result.add([Problem::new("published.interfaces", format!("`{name}` is no interface"))]);
    }
    result.done()
}

/// A set of nft: sorted, without duplicates.
fn set(items: impl IntoIterator<Item = String>) -> String {
    let mut items: Vec<String> = items.into_iter().collect();
    items.sort();
    items.dedup();
    format!("{{ {} }}", items.join(", "))
}

/// The lines of one rule: at least one per address family. `original`: match the port as the client
/// dialled it, before the container engine rewrote it.
fn rule_lines(rule: &FirewallRule, original: bool) -> Vec<String> {
    let mut head = String::new();
    if let Some(interface) = &rule.interface {
        let _ = write!(head, "iifname \"{interface}\" ");
    }
    let mut families: Vec<(String, bool)> = Vec::new();
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    let mut any4 = false;
    for source in rule.from.iter().filter_map(|text| source(text)) {
        match source {
            Source::Any4 => any4 = true,
            Source::V4(text) => v4.push(text),
            Source::V6(text) => v6.push(text),
        }
    }
    if any4 {
        families.push(("meta nfproto ipv4 ".to_owned(), false));
    } else if !v4.is_empty() {
        families.push((format!("ip saddr {} ", set(v4)), false));
    }
    if v6.iter().any(|text| text == "::/0") {
        families.push(("meta nfproto ipv6 ".to_owned(), true));
    } else if !v6.is_empty() {
        families.push((format!("ip6 saddr {} ", set(v6)), true));
    }
    let mut ports: Vec<String> = rule
        .ports
        .iter()
        .filter_map(|text| ports(text))
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    ports.sort();
    ports.dedup();
    families
        .into_iter()
        .flat_map(|(family, is_v6)| {
            let protocol = match (rule.protocol, is_v6) {
                (Protocol::Tcp, _) => "tcp",
                (Protocol::Udp, _) => "udp",
                (Protocol::Icmp, false) => "icmp",
                (Protocol::Icmp, true) => "ipv6-icmp",
            };
            let matches = match (ports.is_empty(), original) {
                (true, _) => vec![format!("meta l4proto {protocol} ")],
                (false, false) => vec![format!("{protocol} dport {} ", set(ports.iter().cloned()))],
                // One line a port: nft prints a set of original ports in a form that it does not
                // read back.
                (false, true) => ports
                    .iter()
                    .map(|port| format!("meta l4proto {protocol} ct original proto-dst {port} "))
                    .collect(),
            };
            let line = |matched| format!("{head}{family}{matched}accept comment \"{}\"", rule.name);
            matches.into_iter().map(line).collect::<Vec<_>>()
        })
        .collect()
}

/// The whole script: replaces the table in one transaction.
pub(super) fn script(rules: &[FirewallRule], published: &Published, ping: bool) -> String {
    let mut body = format!(
        "\tset {OLDER} {{\n\t\ttype ipv4_addr . inet_service . inet_service\n\t\tflags timeout\n\t}}\n\tchain input {{\n"
    );
    let mut line = |text: &str| {
        let _ = writeln!(body, "\t\t{text}");
    };
    line("type filter hook input priority filter - 10; policy drop;");
    line("iifname \"lo\" accept");
    line("ct state established,related accept");
    // The kernel begins to track connections with the first rule that asks for their state. One
    // that this host opened before is `new` then when the other side speaks first.
    line(&format!(
        "ct state new tcp flags & (syn | rst) == 0x0 ip saddr . tcp sport . tcp dport @{OLDER} accept comment \"older than this filter\""
    ));
    line("ct state invalid counter drop comment \"invalid\"");
    line(
        "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept",
    );
    line(
        "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
    );
    line("icmp type { destination-unreachable, time-exceeded, parameter-problem } accept");
    if ping {
        line(
            "icmp type echo-request limit rate 100/second burst 200 packets accept comment \"ping\"",
        );
    }
    for rule in rules.iter().flat_map(|rule| rule_lines(rule, false)) {
        line(&rule);
    }
    line("limit rate 5/second burst 20 packets log prefix \"strata drop in: \" level info");
    line("counter drop comment \"dropped\"");
    line("}");
    if !published.interfaces.is_empty() {
        let interfaces = set(published.interfaces.iter().map(|name| format!("\"{name}\"")));
        line("chain forward {");
        // Before the container engine's own chains, whose `accept` would end only themselves.
        line("type filter hook forward priority filter - 10; policy accept;");
        line("ct state established,related accept");
        line(&format!("iifname {interfaces} ct status dnat jump published"));
        line("}");
        line("chain published {");
        for rule in published.rules.iter().flat_map(|rule| rule_lines(rule, true)) {
            line(&rule);
        }
        line(
            "limit rate 5/second burst 20 packets log prefix \"strata drop published: \" level info",
        );
        line("counter drop comment \"dropped\"");
        line("}");
    }
    let digest = Sha256::digest(body.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "table {TABLE} {{\n}}\ndelete table {TABLE}\ntable {TABLE} {{\n\tcomment \"strata {digest}\"\n{body}}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> FirewallRule {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn connections_of_this_host_are_remembered_and_the_loopback_is_not() {
        let text = "  sl  local_address rem_address   st tx_queue\n\
            0: FA00000A:AD16 7B00000A:0016 01 00000000:00000000\n\
            1: 0100007F:1F90 0100007F:AD16 01 00000000:00000000\n\
            2: 00000000:0016 00000000:0000 0A 00000000:00000000\n";
        let expected = "add element inet strata older { 10.0.0.123 . 22 . 44310 timeout 1d }\n";
        if cfg!(target_endian = "little") {
            assert_eq!(remember(text), expected);
        }
        assert_eq!(remember("header only\n"), "");
    }

    #[test]
    fn a_login_that_would_be_shut_out_is_named() {
        let text =
            "header\n 0: FA00000A:0016 097100CB:C350 01 0\n 1: FA00000A:AD16 0B00000A:0016 01 0\n";
        if cfg!(target_endian = "big") {
            return;
        }
        let rule = |from: &str| rule(&format!("name='a'\nports=['22']\nfrom=['{from}']"));
        assert_eq!(shut_out(&[rule("10.0.0.0/8")], text), Some(Ipv4Addr::new(203, 0, 113, 9)));
        for lets_in in ["203.0.113.0/24", "203.0.113.9", "any", "0.0.0.0/0"] {
            assert_eq!(shut_out(&[rule(lets_in)], text), None, "{lets_in}");
        }
    }

    #[test]
    fn remembered_connections_are_no_difference() {
        let bare =
            "table inet strata {\n\tset older {\n\t\tflags timeout\n\t}\n\tchain input {\n\t}\n}\n";
        let full = bare.replace(
            "\t\tflags timeout\n",
            "\t\tflags timeout\n\t\telements = { 10.0.0.1 . 22 . 4 timeout 1d expires 2h,\n\t\t\t     10.0.0.2 . 22 . 5 timeout 1d expires 2h }\n",
        );
        assert_eq!(without_older(&full), bare);
        assert_eq!(without_older(bare), bare);
    }

    #[test]
    fn lines() {
        for (text, original, lines) in [
            (
                "name='ssh'\nports=['22']\nfrom=['10.0.0.0/16','192.0.2.1']",
                false,
                vec!["ip saddr { 10.0.0.0/16, 192.0.2.1 } tcp dport { 22 } accept comment \"ssh\""],
            ),
            (
                "name='web'\nports=['80','443']\nfrom=['any','::/0']\ninterface='eth0'",
                true,
                vec![
                    "iifname \"eth0\" meta nfproto ipv4 meta l4proto tcp ct original proto-dst 443 accept comment \"web\"",
                    "iifname \"eth0\" meta nfproto ipv4 meta l4proto tcp ct original proto-dst 80 accept comment \"web\"",
                    "iifname \"eth0\" meta nfproto ipv6 meta l4proto tcp ct original proto-dst 443 accept comment \"web\"",
                    "iifname \"eth0\" meta nfproto ipv6 meta l4proto tcp ct original proto-dst 80 accept comment \"web\"",
                ],
            ),
            (
                "name='etcd'\nprotocol='udp'\nports=['2379-2380']\nfrom=['any']",
                false,
                vec!["meta nfproto ipv4 udp dport { 2379-2380 } accept comment \"etcd\""],
            ),
        ] {
            let rule = rule(text);
            assert_eq!(validate("rules", std::slice::from_ref(&rule)), [], "{text}");
            assert_eq!(rule_lines(&rule, original), lines);
        }
    }

    #[test]
    fn bad_rules() {
        for text in [
            "name='a'\nfrom=[]",
            "name='a'\nfrom=['10.0.0.1/16']",
            "name='a'\nfrom=['host']",
            "name='a'\nfrom=['any']\nports=['0']",
            "name='a'\nfrom=['any']\nports=['9-1']",
            "name='a'\nfrom=['any']\nports=['22; drop']",
            "name='a\" drop'\nfrom=['any']",
            "name='a'\nfrom=['any']\ninterface='x y'",
            "name='a'\nfrom=['any']\nprotocol='icmp'\nports=['1']",
        ] {
            assert!(!validate("rules", &[rule(text)]).is_empty(), "{text}");
        }
    }
}
