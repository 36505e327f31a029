//! Where the values of a site's secrets come from: its `[secrets]`, and what the operator's
//! environment adds.

use super::Settings;
use crate::diag::{Diagnostics, Source as Text};
use crate::secrets::provider::vault::Server;
use crate::secrets::provider::{Login, Source, Vault};
use crate::site::secrets::of_text;
use crate::site::{Profile, SecretsSettings, VaultLogin};
use std::time::Duration;

/// The provider of a site. A rehearsal has throw-away secrets of its own, in age files, whatever the
/// site says: it never touches those of production.
pub fn source(settings: &Settings, of: &SecretsSettings) -> Source {
    let vault = match of {
        SecretsSettings::Vault(vault) if settings.profile == Profile::Production => vault,
        _ => return Source::AgeFiles { identity: settings.identity() },
    };
    Source::Vault(Box::new(Vault {
        server: Server {
            tls: vault.tls,
            host: vault.host.clone(),
            port: vault.port,
            ca_file: vault.ca_file.as_ref().map(|path| settings.in_site(path)),
        },
        mount: vault.mount.clone(),
        path: vault.path.clone(),
        paths: vault.paths.clone(),
        namespace: vault.namespace.clone(),
        login: match &vault.login {
            VaultLogin::Token { file } => Login::Token {
                given: settings.vault_token.clone(),
                file: file.as_ref().map(|path| settings.in_site(path)),
            },
            VaultLogin::AppRole { mount, role_id, secret_id_file } => Login::AppRole {
                mount: mount.clone(),
                role_id: role_id.clone(),
                secret_id_file: settings.in_site(secret_id_file),
            },
        },
        timeout: Duration::from_secs(u64::from(vault.timeout)),
    }))
}

/// The Vault server of the site, for commands that read no more of the site than this.
///
/// # Errors
/// When the table is there and wrong.
pub fn vault(settings: &Settings) -> Result<Option<Box<Vault>>, Diagnostics> {
    // What cannot be read has no such table; whoever needs the file says what is wrong with it.
    let text = std::fs::read_to_string(settings.root.join("strata.toml")).unwrap_or_default();
    let mut problems = Diagnostics::new();
    let of = of_text(&Text::new("strata.toml", text), &mut problems);
    match problems.has_errors() {
        true => Err(problems),
        false => Ok(match source(settings, &of) {
            Source::Vault(vault) => Some(vault),
            Source::AgeFiles { .. } => None,
        }),
    }
}
