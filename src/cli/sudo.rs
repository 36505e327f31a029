//! The password that `sudo` is told on hosts where the login is not root: asked once on the terminal,
//! or a secret of the site.

use super::Settings;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::secrets::{self, Declared, Secret, Secrets};
use crate::site::Site;
use crate::ssh::SudoPassword;
use std::sync::{Arc, OnceLock};

/// Name under which a typed password is masked.
const TYPED: &str = "SUDO_PASSWORD";

/// Whether the password is asked for, and the password once it is known.
#[derive(Debug, Clone, Default)]
pub struct SudoChoice {
    ask: bool,
    password: Arc<OnceLock<SudoPassword>>,
}

impl SudoChoice {
    /// `ask`: the operator wants to type it.
    pub fn new(ask: bool) -> Self {
        Self { ask, password: Arc::default() }
    }

    /// The password, once it is known.
    pub fn get(&self) -> Option<SudoPassword> {
        self.password.get().cloned()
    }
}

/// Gets the password where one is wished: its name and value, for the redactor.
///
/// # Errors
/// Nobody can be asked, or the site's secret is not there.
pub fn obtain(
    settings: &Settings,
    site: &Site,
    secrets: &Secrets,
) -> Result<Option<(String, Secret<String>)>, Diagnostics> {
    let one = |problem: Diagnostic| {
        let mut problems = Diagnostics::new();
        problems.push(problem);
        problems
    };
    let (name, value) = if settings.sudo.ask {
        (TYPED.to_owned(), typed(settings).map_err(|problem| one(*problem))?)
    } else if let Some((name, span)) = &site.config.ssh.sudo_password {
        let value = secrets.get(name).cloned();
        (name.clone(), value.ok_or_else(|| one(missing(name).at(span.clone(), "")))?)
    } else {
        return Ok(None);
    };
    if value.expose().is_empty() || value.expose().contains(['\n', '\r', '\0']) {
        return Err(one(Diagnostic::error(
            Code::SETTING,
            "the password for sudo is empty or more than a line",
        )
        .hint("sudo reads one line")));
    }
    // A command obtains it once; the first one stays.
    settings.sudo.password.set(SudoPassword::new(value.clone())).ok();
    Ok(Some((name, value)))
}

fn typed(settings: &Settings) -> Result<Secret<String>, Box<Diagnostic>> {
    if !settings.interactive {
        let message = "--ask-sudo-password: nobody can be asked without a terminal";
        let hint = "without a terminal the password is a secret of the site: sudo_password under [ssh] in strata.toml";
        return Err(Box::new(Diagnostic::error(Code::SETTING, message).hint(hint)));
    }
    let question = "password for sudo on the hosts (not shown)";
    secrets::read_hidden(std::io::stdin(), &mut std::io::stderr(), question).map_err(Box::new)
}

fn missing(name: &str) -> Diagnostic {
    Diagnostic::error(Code::SETTING, format!("the secret `{name}` has no value")).hint(format!(
        "`strata secrets set … {name}` gives it one; `strata secrets list` shows all"
    ))
}

/// A password that the site names must be a declared secret.
pub fn check(site: &Site, declared: &Declared, problems: &mut Diagnostics) {
    if let Some((name, span)) = &site.config.ssh.sudo_password
        && declared.get(name).is_none()
    {
        problems.push(
            Diagnostic::error(Code::SETTING, format!("no secret is named `{name}`"))
                .at(span.clone(), "")
                .hint("it is declared in credentials.example/<brick>.env like every secret"),
        );
    }
}
