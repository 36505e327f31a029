//! `[secrets]` in `strata.toml`: where the values of the site's secrets come from.

use super::reader::TableReader;
use super::suggest;
use super::tree::{self, Node};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use std::collections::BTreeMap;

/// The providers by name; the first is the default.
pub const PROVIDERS: [&str; 2] = ["age", "vault"];

/// What stands for the brick's name in a path.
pub const BRICK: &str = "{brick}";

/// Where values come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SecretsSettings {
    /// The encrypted files below `credentials/`.
    #[default]
    Age,
    /// A server that speaks the interface of HashiCorp Vault.
    Vault(Box<VaultSettings>),
}

/// A Vault server and the way to its values (KB-H10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// True for `https://`.
    pub tls: bool,
    /// A name or an address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Where the engine for keys and values (version 2) is mounted.
    pub mount: String,
    /// The path of a brick below it; holds [`BRICK`].
    pub path: String,
    /// The paths of bricks that stand elsewhere.
    pub paths: BTreeMap<String, String>,
    /// A namespace of Vault Enterprise or OpenBao.
    pub namespace: Option<String>,
    /// Certificates that may vouch for the server, instead of the system's; `~/` is the operator's
    /// home.
    pub ca_file: Option<String>,
    /// How strata shows who it is.
    pub login: VaultLogin,
    /// Seconds for everything: login and all values.
    pub timeout: u32,
}

/// How strata shows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultLogin {
    /// With a token.
    Token {
        /// The file that holds it; `None`: only `VAULT_TOKEN` can give it.
        file: Option<String>,
    },
    /// With a role's id and a secret id that stands in a file.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The role's id; public.
        role_id: String,
        /// The file of the secret id.
        secret_id_file: String,
    },
}

/// Reads the table `[secrets]` of `strata.toml` alone, for commands that need no more of the site.
/// Whatever else is wrong in the file is left to others.
pub fn of_text(source: &Source, problems: &mut Diagnostics) -> SecretsSettings {
    let mut ignored = Diagnostics::new();
    let entries = tree::parse(source, &mut ignored);
    let table = entries.iter().find(|entry| entry.key == "secrets");
    table.map(|entry| read(source, &entry.node, problems)).unwrap_or_default()
}

/// Reads the table.
pub fn read(source: &Source, node: &Node, problems: &mut Diagnostics) -> SecretsSettings {
    let Some(mut table) = TableReader::of(source, node, problems) else {
        return SecretsSettings::Age;
    };
    match table.string("provider") {
        Some(("vault", _)) => {}
        None | Some(("age", _)) => {
            table.finish();
            return SecretsSettings::Age;
        }
        Some((other, span)) => {
            let problem = Diagnostic::error(Code::SETTING, format!("no provider is `{other}`"));
            problems.push(problem.at(span, "").hint(suggest::among(other, PROVIDERS)));
            return SecretsSettings::Age;
        }
    }
    let before = table.problems.count(crate::diag::Severity::Error);
    let address = table.required_string("address");
    let mount = table.string("mount");
    let path = table.required_string("path");
    let paths = table.node("paths");
    let namespace = table.string("namespace");
    let ca_file = table.string("ca_file").map(|(text, _)| text.to_owned());
    let login = login(&mut table);
    let timeout = table.integer("timeout", 1..=600).unwrap_or(20);
    table.finish();

    let address = address.and_then(|(text, span)| match address_of(text) {
        Ok(address) => Some(address),
        Err((wrong, hint)) => {
            let problem = Diagnostic::error(Code::SETTING, format!("`address` {wrong}"));
            problems.push(problem.at(span, "").hint(hint));
            None
        }
    });
    let mount = checked(mount, problems).unwrap_or_else(|| "secret".to_owned());
    let namespace = checked(namespace, problems);
    if let Some((text, span)) = &path
        && !text.contains(BRICK)
    {
        let wrong = format!("`path` says not where the brick's name stands: {BRICK} is missing");
        let hint = format!(
            "for example \"keybuzz/global/{BRICK}\"; bricks that stand elsewhere are named below [secrets.paths]"
        );
        problems.push(Diagnostic::error(Code::SETTING, wrong).at(span.clone(), "").hint(hint));
    }
    let path = checked(path, problems);
    let mut elsewhere = BTreeMap::new();
    for entry in paths.and_then(Node::entries).unwrap_or_default() {
        match entry.node.as_str() {
            Some(text) => {
                let place = Some((text, entry.node.span(source)));
                if let Some(text) = checked(place, problems) {
                    elsewhere.insert(entry.key.clone(), text);
                }
            }
            None => problems.push(super::reader::wrong_type(source, &entry.node, "a path")),
        }
    }
    if let Some(node) = paths.filter(|node| node.entries().is_none()) {
        problems.push(super::reader::wrong_type(source, node, "a table of bricks and paths"));
    }
    let (Some((tls, host, port)), Some(path), Some(login)) = (address, path, login) else {
        return SecretsSettings::Age;
    };
    if problems.count(crate::diag::Severity::Error) > before {
        return SecretsSettings::Age;
    }
    SecretsSettings::Vault(Box::new(VaultSettings {
        tls,
        host,
        port,
        mount,
        path,
        paths: elsewhere,
        namespace,
        ca_file,
        login,
        timeout: u32::try_from(timeout).unwrap_or(20),
    }))
}

fn login(table: &mut TableReader<'_, '_>) -> Option<VaultLogin> {
    let auth = table.string("auth");
    let token_file = table.string("token_file");
    let approle = table.string("approle_mount");
    let role_id = table.string("role_id");
    let secret_id = table.string("secret_id_file");
    let stray = |given: &[(&str, bool)], problems: &mut Diagnostics, span: Span, auth: &str| {
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            let problem =
                Diagnostic::error(Code::SETTING, format!("`{key}` is not for auth = \"{auth}\""));
            problems.push(problem.at(span.clone(), "in this table"));
        }
    };
    let span = table.span();
    let owned = |given: Option<(&str, Span)>| given.map(|(text, _)| text.to_owned());
    match auth.as_ref().map_or("token", |(auth, _)| auth) {
        "token" => {
            let given = [
                ("approle_mount", approle.is_some()),
                ("role_id", role_id.is_some()),
                ("secret_id_file", secret_id.is_some()),
            ];
            stray(&given, table.problems, span, "token");
            Some(VaultLogin::Token { file: owned(token_file) })
        }
        "approle" => {
            stray(&[("token_file", token_file.is_some())], table.problems, span, "approle");
            for (key, given) in [("role_id", &role_id), ("secret_id_file", &secret_id)] {
                if given.is_none() {
                    table.missing(key);
                }
            }
            let mount = checked(approle, table.problems).unwrap_or_else(|| "approle".to_owned());
            let (role_id, secret_id_file) = (owned(role_id)?, owned(secret_id)?);
            Some(VaultLogin::AppRole { mount, role_id, secret_id_file })
        }
        other => {
            let problem = Diagnostic::error(Code::SETTING, format!("no login is `{other}`"));
            let span = auth.as_ref().map_or(span, |(_, span)| span.clone());
            let hint = suggest::among(other, ["token", "approle"]);
            table.problems.push(problem.at(span, "").hint(hint));
            None
        }
    }
}

/// A path, mount or namespace: words of harmless characters between slashes, so that it stands in
/// a request as it is.
fn checked(given: Option<(&str, Span)>, problems: &mut Diagnostics) -> Option<String> {
    let (text, span) = given?;
    let harmless = |part: &str| {
        let rest = part.replace(BRICK, "x");
        !rest.is_empty()
            && rest != "."
            && rest != ".."
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if text.split('/').all(harmless) {
        return Some(text.to_owned());
    }
    let problem = Diagnostic::error(Code::SETTING, format!("`{text}` is no path in Vault"));
    problems.push(problem.at(span, "").hint(
        "words of letters, digits, `-`, `_` and `.` with `/` between them; no `/` at either end",
    ));
    None
}

/// The parts of an address: whether TLS, host, port. Pure.
fn address_of(text: &str) -> Result<(bool, String, u16), (String, String)> {
    let example = "for example https://vault.example.org:8200";
    let wrong = |what: &str| Err((what.to_owned(), example.to_owned()));
    let (tls, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return wrong("is neither https:// nor http://"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, port),
            _ => return wrong("has no port behind its colon"),
        },
        _ => (rest, if tls { 443 } else { 80 }),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let known = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        }
    };
    if !known {
        return wrong("names no host, or more than a host and a port");
    }
    let host = bare.unwrap_or(host);
    let loopback = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !tls && !loopback {
        return Err((
            "is http:// to another host: the token and every value would cross the network in clear"
                .to_owned(),
            "use https://; http:// is for a Vault agent or proxy on this very host".to_owned(),
        ));
    }
    Ok((tls, host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_and_clear_ones_stay_at_home() {
        for (text, wanted) in [
            ("https://vault.example.org:8200", (true, "vault.example.org", 8200)),
            ("https://vault.example.org/", (true, "vault.example.org", 443)),
            ("https://[2001:db8::1]:8200", (true, "2001:db8::1", 8200)),
            ("https://[2001:db8::1]", (true, "2001:db8::1", 443)),
            ("http://127.0.0.1:8200", (false, "127.0.0.1", 8200)),
            ("http://localhost", (false, "localhost", 80)),
        ] {
            let (tls, host, port) = address_of(text).unwrap();
            assert_eq!((tls, host.as_str(), port), wanted, "{text}");
        }
        for text in [
            "vault:8200",
            "ftp://vault",
            "https://",
            "https://vault:0",
            "https://vault:port",
            "https://vault/v1",
            "https://user@vault",
            "https://[nonsense]:1",
            "http://10.0.0.150:8200",
        ] {
            assert!(address_of(text).is_err(), "{text}");
        }
    }

    fn read_text(text: &str) -> (SecretsSettings, Vec<String>) {
        let source = Source::new("strata.toml", text.to_owned());
        let mut problems = Diagnostics::new();
        let settings = of_text(&source, &mut problems);
        (settings, problems.iter().map(|problem| problem.message.clone()).collect())
    }

    #[test]
    fn a_table_without_mistakes_is_taken() {
        assert_eq!(read_text("[run]\nparallel = 3\n"), (SecretsSettings::Age, Vec::new()));
        let (settings, problems) = read_text(
            "[secrets]\nprovider = \"vault\"\naddress = \"https://v:8200\"\npath = \"kb/global/{brick}\"\n\
             auth = \"approle\"\nrole_id = \"r\"\nsecret_id_file = \"~/id\"\n[secrets.paths]\nmarketplaces = \"kb/tenant_7/marketplaces\"\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        let SecretsSettings::Vault(vault) = settings else { unreachable!("{settings:?}") };
        assert_eq!((vault.mount.as_str(), vault.timeout), ("secret", 20));
        assert_eq!(vault.paths["marketplaces"], "kb/tenant_7/marketplaces");
        assert!(matches!(vault.login, VaultLogin::AppRole { mount, .. } if mount == "approle"));
    }

    #[test]
    fn every_mistake_is_told() {
        let (_, problems) = read_text(
            "[secrets]\nprovider = \"vault\"\naddress = \"http://10.0.0.9\"\npath = \"a/../b\"\nauth = \"token\"\nrole_id = \"r\"\nmounts = \"x\"\n",
        );
        for wanted in [
            "`role_id` is not for auth = \"token\"",
            "unknown key `mounts`",
            "`address` is http:// to another host",
            "{brick} is missing",
            "`a/../b` is no path in Vault",
        ] {
            assert!(
                problems.iter().any(|problem| problem.contains(wanted)),
                "{wanted}: {problems:?}"
            );
        }
        assert_eq!(read_text("[secrets]\nprovider = \"valt\"\n").1, ["no provider is `valt`"]);
        assert_eq!(read_text("[secrets]\nmount = \"x\"\n").1, ["unknown key `mount`"]);
    }
}
