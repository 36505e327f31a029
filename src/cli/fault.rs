//! A panic of this program: what is told of it, and its exit code. The text passes the redactor
//! that knows every loaded secret.

use super::Exit;
use super::output::tell;
use crate::secrets::SharedRedactor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The run in hand, for the report of a fault.
#[derive(Debug, Clone, Default)]
pub struct CurrentRun(Arc<OnceLock<(String, PathBuf)>>);

impl CurrentRun {
    /// Says which run is in hand; the first one stays.
    pub fn begin(&self, run: &str, journal: &Path) {
        self.0.get_or_init(|| (run.to_owned(), journal.to_owned()));
    }
}

/// Makes every panic of this process speak through the redactor.
pub fn watch(redactor: &SharedRedactor, run: &CurrentRun) {
    let run = run.clone();
    redactor.install_panic_hook(move |what| tell!("{}", report(what, &run)));
}

/// Runs a command; a panic in it, reported by the hook, is a fault of strata.
pub fn contained(command: impl FnOnce() -> Exit) -> Exit {
    catch_unwind(AssertUnwindSafe(command)).unwrap_or(Exit::Internal)
}

fn report(what: &str, run: &CurrentRun) -> String {
    let run = run.0.get().map_or_else(String::new, |(run, journal)| {
        format!("\nrun {run}, journal {}; hosts finish the step in hand", journal.display())
    });
    format!(
        "error: strata {} has a fault: {what}{run}\nhint: report it to those who maintain strata, with this text{}; what was done stays done, and the same command goes on from there",
        env!("CARGO_PKG_VERSION"),
        if run.is_empty() { "" } else { " and the journal" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Redactor, Secret};
    use std::process::Command;

    const CANARY: &str = "kanarie%7Zr0";

    /// Not a test by itself: what a process does that panics with a secret in its hands.
    #[test]
    #[ignore = "started by the test below in a process of its own"]
    fn a_process_with_a_fault() {
        let (redactor, run) = (SharedRedactor::new(), CurrentRun::default());
        watch(&redactor, &run);
        redactor.learn(Redactor::new([("A_PASSWORD", &Secret::new(CANARY.to_owned()))]));
        run.begin("20261121-091500-abcd", Path::new(".strata/runs/20261121-091500-abcd.jsonl"));
        std::thread::spawn(|| panic!("in a thread {CANARY}")).join().unwrap_err();
        let exit = contained(|| panic!("in the command {CANARY:?}"));
        assert_eq!(exit, Exit::Internal);
        std::process::exit(i32::from(exit.code()));
    }

    #[test]
    fn a_fault_is_told_without_secrets_and_with_its_run() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::fault::tests::a_process_with_a_fault", "--ignored"])
            .arg("--nocapture")
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(70), "{told}");
        assert!(!told.contains(CANARY), "{told}");
        for part in [
            "in a thread [secret:A_PASSWORD]",
            "in the command \"[secret:A_PASSWORD]\"",
            "src/cli/fault.rs:",
            "run 20261121-091500-abcd, journal .strata/runs/20261121-091500-abcd.jsonl",
            "hint: report it",
        ] {
            assert!(told.contains(part), "{part} is not in:\n{told}");
        }
    }
}
