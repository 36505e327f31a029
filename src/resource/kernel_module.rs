//! A kernel module, now and after a boot.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{FileWrite, Program, System, read_text, run_checked};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};

/// A kernel module: loaded now and, with `persist`, at each boot by `/etc/modules-load.d`.
///
/// ```toml
/// kernel_module = { name = "br_netfilter", persist = true }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelModule {
    /// Name, for example `"br_netfilter"`.
    pub name: String,
    /// `"present"` (default): loaded or built in; `"absent"`: not loaded.
    #[serde(default)]
    pub state: Presence,
    /// Load it at each boot. Default: true.
    #[serde(default = "yes")]
    pub persist: bool,
}

fn yes() -> bool {
    true
}

/// Module and file found.
#[derive(Debug)]
pub struct ModuleFound {
    loaded: bool,
    file: Option<Vec<u8>>,
}

impl KernelModule {
    /// The file that loads it at each boot.
    pub(super) fn path(&self) -> String {
        format!("/etc/modules-load.d/strata-{}.conf", self.name)
    }

    fn wanted_file(&self) -> Option<Vec<u8>> {
        let persist = self.persist && self.state == Presence::Present;
        persist.then(|| format!("{}\n", self.name).into_bytes())
    }
}

impl Converge for KernelModule {
    type Found = ModuleFound;

    fn validate(&self) -> Vec<Problem> {
        Rules::new().name("name", &self.name, "-_").done()
    }

    fn find(&self, system: &mut dyn System) -> Result<ModuleFound, Failure> {
        // The kernel writes every name with underscores.
        let module = format!("/sys/module/{}", self.name.replace('-', "_"));
        let mut loaded = system.metadata(&module)?.is_some();
        if !loaded {
            let release = read_text(system, "/proc/sys/kernel/osrelease")?.unwrap_or_default();
            let release = String::from_utf8_lossy(&release).trim().to_owned();
            let path = format!("/lib/modules/{release}/modules.builtin");
            let builtin = read_text(system, &path)?.unwrap_or_default();
            let name = self.name.replace('-', "_");
            loaded = String::from_utf8_lossy(&builtin).lines().any(|line| {
                let file = line.rsplit('/').next().unwrap_or(line);
                file.trim_end_matches(".ko").replace('-', "_") == name
            });
        }
        Ok(ModuleFound { loaded, file: read_text(system, &self.path())? })
    }

    fn compare(&self, found: &ModuleFound) -> Vec<Change> {
        let mut changes = Vec::new();
        let wanted = self.state == Presence::Present;
        if found.loaded != wanted {
            let word = |loaded| if loaded { "loaded" } else { "not loaded" }.to_owned();
            changes.push(Change::new("module", Some(word(found.loaded)), Some(word(wanted))));
        }
        let file = self.wanted_file();
        if found.file != file {
            let word = |file: &Option<Vec<u8>>| {
                Some(if file.is_some() { "loaded" } else { "not loaded" }.to_owned())
            };
            changes.push(Change::new("boot", word(&found.file), word(&file)));
        }
        changes
    }

    fn apply(
        &self,
        found: &ModuleFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let what = format!("cannot change the module {}", self.name);
        match (self.state, found.loaded) {
            (Presence::Present, false) => {
                run_checked(system, &Program::new(["modprobe", "--", &self.name]), &what).map_err(
                    |failure| {
                        failure.hint(
                            "the running kernel must have the module; a container cannot load one",
                        )
                    },
                )?;
            }
            (Presence::Absent, true) => {
                let program = Program::new(["modprobe", "--remove", "--", &self.name]);
                run_checked(system, &program, &what)?;
            }
            _ => {}
        }
        match self.wanted_file() {
            Some(file) => system.write(&FileWrite::of_root(&self.path(), &file)),
            None if found.file.is_some() => system.remove_file(&self.path(), true),
            None => Ok(()),
        }
    }
}
