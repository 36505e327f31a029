//! Joins find, compare and apply.

use super::kinds::{Resource, dispatch};
use super::outcome::{Change, Failure, Mode, Outcome};
use super::system::{PathKind, System};
use super::validity::Problem;

/// Receives what a resource waits for, one line each time it changes.
pub type Progress<'a> = dyn FnMut(String) + 'a;

/// What every kind of resource can do.
pub trait Converge {
    /// What was read from the host.
    type Found;

    /// Rules that the types of the fields cannot express.
    fn validate(&self) -> Vec<Problem>;

    /// Reads the host. What is missing on it (a user, a package, a unit) is part of the result and
    /// no failure: an earlier step may be about to make it.
    ///
    /// # Errors
    /// When the host cannot be read.
    fn find(&self, system: &mut dyn System) -> Result<Self::Found, Failure>;

    /// The differences between wanted and found. Pure.
    fn compare(&self, found: &Self::Found) -> Vec<Change>;

    /// Changes the host.
    ///
    /// # Errors
    /// When it cannot be changed.
    fn apply(
        &self,
        found: &Self::Found,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure>;

    /// What still differs after `apply`. Kinds that are an action instead of a state look at what
    /// the action must have left.
    ///
    /// # Errors
    /// When the host cannot be read.
    fn remaining(&self, system: &mut dyn System) -> Result<Vec<Change>, Failure> {
        let found = self.find(system)?;
        Ok(self.compare(&found))
    }

    /// The files whose content `compare` shows. It is shown only where everyone on the host may
    /// read them: another file may hold a secret that strata never knew.
    fn shown_files(&self) -> Vec<String> {
        Vec::new()
    }

    /// True for kinds whose comparison never holds what may be secret, so that it stays readable in
    /// secret steps.
    fn shows_public_values(&self) -> bool {
        false
    }

    /// False for kinds that change nothing, such as waiting: then a run of `apply` is reported as
    /// unchanged.
    fn changes(&self) -> bool {
        true
    }

    /// True for a change that cannot be seen on the host afterwards: it is made each time.
    fn runs_each_time(&self) -> bool {
        false
    }
}

/// Brings the host to what the resource wants ([`Mode::Apply`]), or says what would change
/// ([`Mode::Check`]). `secret` keeps every value out of the outcome.
pub fn converge(
    resource: &Resource,
    secret: bool,
    mode: Mode,
    system: &mut dyn System,
    progress: &mut dyn FnMut(String),
) -> Outcome {
    dispatch(resource, secret, mode, system, progress)
}

/// Tells the system which units a list of resources will ask for, so that one question answers
/// them all. Called once before a batch.
pub fn expect_units<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    system: &mut dyn System,
) {
    let names = resources
        .into_iter()
        .filter_map(|resource| match resource {
            Resource::Service(service) => Some(service.unit_name()),
            Resource::Unit(unit) => Some(unit.name.clone()),
            _ => None,
        })
        .collect();
    system.expect_units(names);
}

/// Prepares what a resource is about to write, where it [may be](Resource::is_plain_file). Changes
/// nothing that anyone sees.
pub fn prepare(resource: &Resource, system: &mut dyn System) {
    if let Resource::File(file) = resource {
        file.prepare(system);
    }
}

pub(super) fn converge_kind<C: Converge>(
    kind: &C,
    secret: bool,
    mode: Mode,
    system: &mut dyn System,
    progress: &mut Progress<'_>,
) -> Outcome {
    match steps(kind, secret, mode, system, progress) {
        Ok(changes) if changes.is_empty() => Outcome::Unchanged,
        Ok(changes) if secret && !kind.shows_public_values() => {
            Outcome::Changed(changes.into_iter().map(redact).collect())
        }
        Ok(changes) => Outcome::Changed(changes),
        Err(failure) if secret => Outcome::Failed(Failure {
            output: failure.output.map(|_| "[secret]".into()),
            ..failure
        }),
        Err(failure) => Outcome::Failed(failure),
    }
}

fn steps<C: Converge>(
    kind: &C,
    secret: bool,
    mode: Mode,
    system: &mut dyn System,
    progress: &mut Progress<'_>,
) -> Result<Vec<Change>, Failure> {
    if let Some(problem) = kind.validate().into_iter().next() {
        let failure = Failure::new(format!("{}: {}", problem.field, problem.message));
        return Err(match problem.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    let found = kind.find(system)?;
    let mut changes = kind.compare(&found);
    if changes.iter().any(|change| change.before.is_some()) && !are_public(kind, system)? {
        changes.iter_mut().for_each(|change| change.before = None);
    }
    if changes.is_empty() || (mode == Mode::Check && !kind.changes()) {
        return Ok(Vec::new());
    }
    if mode == Mode::Check {
        return Ok(changes);
    }
    kind.apply(&found, system, progress)?;
    let remaining = kind.remaining(system)?;
    if !remaining.is_empty() {
        let texts: Vec<String> = remaining
            .iter()
            .map(|change| {
                let hide = secret && !kind.shows_public_values();
                describe(change, hide || holds_content(change))
            })
            .collect();
        return Err(Failure::new(format!("did not reach the wanted state: {}", texts.join("; ")))
            .hint("something else on the host may own it and write it back"));
    }
    Ok(if kind.changes() { changes } else { Vec::new() })
}

/// True when everyone on the host may read the files that `kind` shows.
fn are_public<C: Converge>(kind: &C, system: &mut dyn System) -> Result<bool, Failure> {
    const WORLD_READ: u32 = 0o004;
    let paths = kind.shown_files();
    for path in &paths {
        let public = system
            .metadata(path)?
            .is_none_or(|found| found.kind == PathKind::File && found.mode & WORLD_READ != 0);
        if !public {
            return Ok(false);
        }
    }
    Ok(!paths.is_empty())
}

fn describe(change: &Change, hide: bool) -> String {
    match (&change.from, &change.to) {
        (Some(from), Some(to)) if !hide => format!("{} is {from}, wanted {to}", change.what),
        (None, Some(to)) if !hide => format!("{} is absent, wanted {to}", change.what),
        _ => format!("{} differs", change.what),
    }
}

/// Content is shown as a difference of files, never inside a sentence.
fn holds_content(change: &Change) -> bool {
    change.before.is_some() || change.what == "content" || change.what == "line"
}

/// Attributes whose values are never secret, so that they stay readable in secret steps.
const PUBLIC: &[&str] = &["mode", "owner", "group", "type", "path", "directory", "state"];

fn redact(change: Change) -> Change {
    if PUBLIC.contains(&change.what.as_str()) {
        return Change { before: None, ..change };
    }
    let hidden = |value: Option<String>| value.map(|_| "[secret]".to_owned());
    Change { what: change.what, from: hidden(change.from), to: hidden(change.to), before: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn a_secret_step_shows_no_content() {
        let mut host = Host::new();
        host.put("/etc/app.conf", "password = old-canary\n");
        let file = resource("[file]\npath = '/etc/app.conf'\ncontent = 'password = new-canary'\n");
        let outcome = converge(&file, true, Mode::Apply, &mut host.system(), &mut |_| {});
        let shown = format!("{outcome:?}");
        assert!(matches!(outcome, Outcome::Changed(_)), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!format!("{file:?}").contains("canary"), "Debug of a resource hides content");
    }

    #[test]
    fn only_what_everyone_may_read_is_shown() {
        for (text, path) in [
            ("[file]\npath='/etc/a'\ncontent='new'\n", "/etc/a"),
            ("[block]\npath='/etc/a'\nname='n'\ncontent='new'\n", "/etc/a"),
            ("[line]\npath='/etc/a'\nline='new'\n", "/etc/a"),
            ("[unit]\nname='a.service'\ncontent='new'\n", "/etc/systemd/system/a.service"),
            ("[hosts]\nentries=[{address='10.0.0.1',names=['a']}]\n", "/etc/hosts"),
        ] {
            for (mode, shown) in [(0o644, true), (0o640, false)] {
                let mut host = Host::new();
                host.put(path, "old-canary\n");
                host.set_mode(path, mode);
                host.answer(|program| {
                    let text = "Id=a.service\nLoadState=loaded\nActiveState=inactive\n";
                    (program.argv.first()? == "systemctl").then(|| (0, text.to_owned()))
                });
                let (mut system, look) = (host.system(), Mode::Check);
                let outcome = converge(&resource(text), false, look, &mut system, &mut |_| {});
                let Outcome::Changed(changes) = outcome else { panic!("{text}: {outcome:?}") };
                let found = changes.iter().any(|change| {
                    let before = change.before.as_deref().unwrap_or_default();
                    before.starts_with(b"old-canary") || change.from == Some("old-canary".into())
                });
                assert_eq!(found, shown, "{text} {mode:o}");
            }
        }
    }

    #[test]
    fn check_looks_and_leaves() {
        let host = Host::new();
        let file = resource("[file]\npath = '/etc/motd'\ncontent = 'hello'\n");
        for _ in 0..2 {
            let outcome = converge(&file, false, Mode::Check, &mut host.system(), &mut |_| {});
            assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
            assert_eq!(host.get("/etc/motd"), None);
        }
        let outcome = converge(&file, false, Mode::Apply, &mut host.system(), &mut |_| {});
        assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
        let outcome = converge(&file, false, Mode::Apply, &mut host.system(), &mut |_| {});
        assert_eq!(outcome, Outcome::Unchanged);
    }
}
