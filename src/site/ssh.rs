//! `[ssh]` of `strata.toml`: how hosts are reached.

use super::groups::{self, Group};
use super::inventory::Host;
use super::reader::TableReader;
use super::tree;
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use indexmap::IndexMap;

/// How hosts are reached.
#[derive(Debug, Clone, PartialEq)]
pub struct SshSettings {
    /// TCP port of sshd.
    pub port: u16,
    /// True when the site names the port; else the operator's ssh config may.
    pub port_named: bool,
    /// Seconds for the connection with its key exchange.
    pub connect_timeout: u32,
    /// Seconds for the authentication.
    pub auth_timeout: u32,
    /// Seconds of silence after which a host is asked for a sign of life; three without an answer
    /// end the connection.
    pub keepalive: u32,
    /// Seconds for which a host whose connection broke is tried again; 0: not at all.
    pub reconnect: u32,
    /// Handshakes at the same time.
    pub handshakes: u32,
    /// Identity files; `~/` is the operator's home.
    pub identities: Vec<String>,
    /// An OpenSSH client configuration that is asked for what the site does not say.
    pub config: Option<String>,
    /// Whether the operator host is worked on without SSH when strata runs on it.
    pub local: bool,
    /// The secret that `sudo` is told where it asks.
    pub sudo_password: Option<(String, Span)>,
    /// The jump hosts of every host, the first one first.
    pub jump: Vec<JumpSpec>,
    /// What is different for some hosts; the first that fits counts.
    pub routes: Vec<Route>,
    /// Every jump host that is named, with its place.
    named: Vec<(JumpSpec, Span)>,
}

/// A jump host as the site names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpSpec {
    /// The login; `None`: that of the inventory or of the ssh config.
    pub user: Option<String>,
    /// A host of the inventory, an address, a name, or a name of the ssh config.
    pub host: String,
    /// The port; `None`: that of the site or of the ssh config.
    pub port: Option<u16>,
}

/// What is different for some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Hosts and groups.
    pub on: Vec<(String, Span)>,
    /// Their jump hosts; empty: none.
    pub jump: Vec<JumpSpec>,
}

impl Default for SshSettings {
    fn default() -> Self {
        Self {
            port: 22,
            port_named: false,
            connect_timeout: 10,
            auth_timeout: 10,
            keepalive: 10,
            reconnect: 120,
            handshakes: 64,
            identities: Vec::new(),
            config: None,
            local: true,
            sudo_password: None,
            jump: Vec::new(),
            routes: Vec::new(),
            named: Vec::new(),
        }
    }
}

impl SshSettings {
    /// The jump hosts that the site names for a host that is in these groups; `None` when it says
    /// nothing.
    pub fn jump_of(&self, host: &str, groups: &[&str]) -> Option<&[JumpSpec]> {
        let fits = |route: &&Route| {
            route.on.iter().any(|(name, _)| name == host || groups.contains(&name.as_str()))
        };
        match self.routes.iter().find(fits) {
            Some(route) => Some(&route.jump),
            None if self.jump.is_empty() => None,
            None => Some(&self.jump),
        }
    }
}

/// Reads the table.
pub(super) fn read(source: &Source, node: &tree::Node, problems: &mut Diagnostics) -> SshSettings {
    let mut settings = SshSettings::default();
    let Some(mut table) = TableReader::of(source, node, problems) else { return settings };
    if let Some(port) = table.integer("port", 1..=65_535) {
        settings.port = u16::try_from(port).unwrap_or(22);
        settings.port_named = true;
    }
    super::config::seconds(&mut table, "connect_timeout", &mut settings.connect_timeout);
    super::config::seconds(&mut table, "auth_timeout", &mut settings.auth_timeout);
    super::config::seconds(&mut table, "keepalive", &mut settings.keepalive);
    number(&mut table, "reconnect", 0..=86_400, &mut settings.reconnect);
    number(&mut table, "handshakes", 1..=10_000, &mut settings.handshakes);
    let identities = table.strings("identities").unwrap_or_default();
    settings.identities = identities.into_iter().map(|(text, _)| text.to_owned()).collect();
    settings.config = table.string("config").map(|(text, _)| text.to_owned());
    settings.local = table.boolean("local").unwrap_or(settings.local);
    settings.sudo_password =
        table.string("sudo_password").map(|(text, span)| (text.to_owned(), span));
    let jump = table.string("jump");
    let routes = table.tables("route");
    table.finish();
    if let Some(jump) = jump {
        settings.jump = chain(jump, &mut settings.named, problems);
    }
    for node in routes {
        let Some(mut table) = TableReader::of(source, node, problems) else { continue };
        let on = table.strings("on");
        if on.is_none() {
            table.missing("on");
        }
        let jump = table.required_string("jump");
        table.finish();
        if let (Some(on), Some(jump)) = (on, jump) {
            let on = on.into_iter().map(|(text, span)| (text.to_owned(), span)).collect();
            let jump = chain(jump, &mut settings.named, problems);
            settings.routes.push(Route { on, jump });
        }
    }
    settings
}

fn number(
    table: &mut TableReader<'_, '_>,
    key: &'static str,
    bounds: std::ops::RangeInclusive<i64>,
    into: &mut u32,
) {
    if let Some(value) = table.integer(key, bounds) {
        *into = u32::try_from(value).unwrap_or(*into);
    }
}

fn chain(
    (text, span): (&str, Span),
    named: &mut Vec<(JumpSpec, Span)>,
    problems: &mut Diagnostics,
) -> Vec<JumpSpec> {
    let hosts = parse_chain(text).unwrap_or_else(|reason| {
        problems.push(
            Diagnostic::error(Code::SETTING, format!("`{text}` names no jump hosts: {reason}"))
                .at(span.clone(), "")
                .hint("for example \"ops@bastion.example.org:22\", several with commas between them, or \"none\""),
        );
        Vec::new()
    });
    named.extend(hosts.iter().map(|host| (host.clone(), span.clone())));
    hosts
}

/// `[user@]host[:port]`, several with commas between them, the first one first; `none` for none.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_chain(text: &str) -> Result<Vec<JumpSpec>, String> {
    if text.trim() == "none" {
        return Ok(Vec::new());
    }
    text.split(',').map(|one| parse_jump(one.trim())).collect()
}

fn parse_jump(text: &str) -> Result<JumpSpec, String> {
    let (user, rest) = match text.rsplit_once('@') {
        None => (None, text),
        Some(("", _)) => return Err("a login is missing before `@`".into()),
        Some((user, rest)) => (Some(user), rest),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or("`[` is not closed")?;
            let port = if behind.is_empty() {
                None
            } else {
                Some(behind.strip_prefix(':').ok_or("a port is expected behind `]`")?)
            };
            (host, port)
        }
        // More than one colon without brackets is an address of IPv6.
        None if rest.matches(':').count() > 1 => (rest, None),
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let plain = |text: &str, more: &[u8]| {
        !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if host.is_empty() || !plain(host, b".-_:") {
        return Err(format!("`{host}` is no host"));
    }
    if let Some(user) = user.filter(|user| !plain(user, b".-_$")) {
        return Err(format!("`{user}` is no login"));
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("`{port}` is no port")),
        },
    };
    Ok(JumpSpec { user: user.map(str::to_owned), host: host.to_owned(), port })
}

/// Checks what the settings say about hosts and groups.
pub(super) fn check(
    settings: &SshSettings,
    hosts: &IndexMap<String, Host>,
    known: &IndexMap<String, Group>,
    problems: &mut Diagnostics,
) {
    for (name, span) in settings.routes.iter().flat_map(|route| &route.on) {
        if !hosts.is_empty() && !hosts.contains_key(name) && !known.contains_key(name) {
            problems.push(groups::unknown_group(name, span.clone(), known));
        }
    }
    for (jump, span) in &settings.named {
        let login = jump.user.is_some() || hosts.contains_key(&jump.host);
        if !login && settings.config.is_none() && !hosts.is_empty() {
            problems.push(
                Diagnostic::error(
                    Code::SETTING,
                    format!("the login for the jump host `{}` is not named", jump.host),
                )
                .at(span.clone(), "it is no host of the inventory")
                .hint(format!("write it as \"user@{}\"", jump.host)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn jump(user: Option<&str>, host: &str, port: Option<u16>) -> JumpSpec {
        JumpSpec { user: user.map(str::to_owned), host: host.to_owned(), port }
    }

    #[test]
    fn jump_hosts_are_written_as_ssh_takes_them() {
        assert_eq!(parse_chain("none"), Ok(Vec::new()));
        assert_eq!(parse_chain("bastion"), Ok(vec![jump(None, "bastion", None)]));
        assert_eq!(
            parse_chain("ops@192.0.2.1:2222, inner"),
            Ok(vec![jump(Some("ops"), "192.0.2.1", Some(2222)), jump(None, "inner", None)])
        );
        for (text, port) in [("a@[2001:db8::1]:22", Some(22)), ("a@2001:db8::1", None)] {
            assert_eq!(parse_chain(text), Ok(vec![jump(Some("a"), "2001:db8::1", port)]), "{text}");
        }
        for wrong in
            ["", "a,", "@b", "a:0", "a:x", "a:70000", "-oProxyCommand=x", "a b", "[::1", "u@-x"]
        {
            assert!(parse_chain(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            user in proptest::option::of("[a-z][a-z0-9_]{0,8}"),
            host in "[a-z][a-z0-9.]{0,12}",
            port in proptest::option::of(1_u16..),
        ) {
            let mut text = user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
            text += &host;
            if let Some(port) = port {
                text += &format!(":{port}");
            }
            prop_assume!(text != "none");
            prop_assert_eq!(parse_chain(&text), Ok(vec![JumpSpec { user, host, port }]));
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,40}") {
            parse_chain(&text).ok();
        }
    }

    #[test]
    fn the_first_route_that_fits_counts() {
        let source = Source::new("strata.toml", "on".to_owned());
        let route =
            |name: &str, jump| Route { on: vec![(name.to_owned(), source.span(0..2))], jump };
        let settings = SshSettings {
            jump: vec![jump(Some("a"), "everyone", None)],
            routes: vec![
                route("near", Vec::new()),
                route("dmz", vec![jump(Some("a"), "other", None)]),
            ],
            ..SshSettings::default()
        };
        assert_eq!(settings.jump_of("far", &["redis"]).unwrap()[0].host, "everyone");
        assert_eq!(settings.jump_of("near", &["dmz"]), Some(&[][..]));
        assert_eq!(settings.jump_of("web", &["dmz"]).unwrap()[0].host, "other");
        assert_eq!(SshSettings::default().jump_of("far", &[]), None);
    }
}
