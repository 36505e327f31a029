//! Flags, environment and terminal become typed settings here, and nowhere else.

use super::arguments::{ColorChoice, Global};
use super::fault::CurrentRun;
use super::sudo::SudoChoice;
use crate::report::Palette;
use crate::secrets::{Secret, SharedRedactor};
use crate::site::Profile;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// What commands need to know of their surroundings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The site's directory.
    pub root: PathBuf,
    /// Which versions and exceptions apply.
    pub profile: Profile,
    /// Print machine-readable output only.
    pub json: bool,
    /// Show more.
    pub verbose: bool,
    /// Colours for standard error.
    pub palette: Palette,
    /// True when a progress display can be drawn.
    pub progress: bool,
    /// True when the operator can be asked.
    pub interactive: bool,
    /// The terminal's type, when standard input and output are one.
    pub terminal: Option<OsString>,
    /// The operator's home directory.
    pub home: PathBuf,
    /// The ssh-agent's socket, if there is one.
    pub agent_socket: Option<PathBuf>,
    /// What Vault is shown, where the environment gives it.
    pub vault_token: Option<Secret<String>>,
    /// The operator's editor.
    pub editor: Option<String>,
    /// Who runs this, for locks: `user@host`.
    pub who: String,
    /// The filter of the log, when one is wished.
    pub log: Option<String>,
    /// Masks secrets in everything that is shown or kept, once they are loaded.
    pub redactor: SharedRedactor,
    /// The run in hand.
    pub run: CurrentRun,
    /// What sudo is told on the hosts.
    pub sudo: SudoChoice,
    /// Events after which strata kills itself: `STRATA_TEST_DIES_AFTER` of tests.
    #[cfg(debug_assertions)]
    pub dies_after: Option<u32>,
    /// Operations on files of secrets after which it does: `STRATA_TEST_DIES_AFTER_FILES`.
    #[cfg(debug_assertions)]
    pub dies_after_files: Option<u32>,
}

impl Settings {
    /// Settings from the global flags and the environment.
    ///
    /// # Errors
    /// When no site is found.
    pub fn new(global: &Global) -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let stderr_is_terminal = std::io::stderr().is_terminal();
        let color = match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                stderr_is_terminal
                    && variable("NO_COLOR").is_none()
                    && variable("TERM").as_deref() != Some("dumb")
            }
        };
        let root = match &global.site {
            Some(root) => root.clone(),
            None => site_above()?,
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let log = variable("STRATA_LOG");
        Ok(Self {
            root,
            profile: if global.rehearsal { Profile::Rehearsal } else { Profile::Production },
            json: global.json,
            verbose: global.verbose,
            palette: Palette { color },
            progress: stderr_is_terminal
                && !global.json
                && !global.verbose
                && !global.no_progress
                && log.is_none()
                && variable("CI").is_none(),
            interactive: std::io::stdin().is_terminal() && stderr_is_terminal && !global.json,
            terminal: std::env::var_os("TERM")
                .filter(|_| std::io::stdin().is_terminal() && std::io::stdout().is_terminal()),
            home: variable("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from),
            agent_socket: variable("SSH_AUTH_SOCK").map(PathBuf::from),
            vault_token: variable("VAULT_TOKEN").map(Secret::new),
            editor: variable("VISUAL").or_else(|| variable("EDITOR")),
            who: format!("{}@{host}", variable("USER").unwrap_or_else(|| "root".to_owned())),
            log,
            redactor: SharedRedactor::new(),
            run: CurrentRun::default(),
            sudo: SudoChoice::new(global.ask_sudo_password),
            #[cfg(debug_assertions)]
            dies_after: variable("STRATA_TEST_DIES_AFTER").and_then(|text| text.parse().ok()),
            #[cfg(debug_assertions)]
            dies_after_files: variable("STRATA_TEST_DIES_AFTER_FILES")
                .and_then(|text| text.parse().ok()),
        })
    }

    /// The age identity; never in the site.
    pub fn identity(&self) -> PathBuf {
        self.home.join(".config/strata/identity.txt")
    }

    /// The pinned host keys of the site.
    pub fn known_hosts(&self) -> PathBuf {
        self.root.join(".strata/known_hosts")
    }

    /// A path that the site names: `~/` is the operator's home, others count from the site.
    pub fn in_site(&self, path: &str) -> PathBuf {
        self.root.join(self.expand(path))
    }

    /// Expands `~/` by the operator's home.
    pub fn expand(&self, path: &str) -> PathBuf {
        path.strip_prefix("~/").map_or_else(|| PathBuf::from(path), |rest| self.home.join(rest))
    }
}

/// The nearest directory upwards that holds a `strata.toml`.
/// The nearest site upwards of where strata was called.
pub(super) fn site_above() -> Result<PathBuf, String> {
    let start =
        std::env::current_dir().map_err(|error| format!("no current directory: {error}"))?;
    start
        .ancestors()
        .find(|folder| folder.join("strata.toml").is_file())
        .map(PathBuf::from)
        .ok_or_else(|| {
            format!(
                "no strata.toml in {} or above\nhint: run strata inside a site, or name it: --site DIR",
                start.display()
            )
        })
}
