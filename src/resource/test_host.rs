//! A private root for the tests of resources: real files, recorded programs.

use super::converge::converge;
use super::kinds::Resource;
use super::outcome::{Failure, Mode, Outcome};
use super::system::{Output, Program};
use crate::agent::system::{GUARD_DIRECTORY, LocalSystem};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

type Answer = Box<dyn FnMut(&Program) -> Option<(i32, String)> + Send>;

pub(super) struct Host {
    directory: tempfile::TempDir,
    ran: Arc<Mutex<Vec<Vec<String>>>>,
    answer: Arc<Mutex<Answer>>,
    reachable: bool,
}

/// A resource as a role writes it, after a trip over the wire.
pub(super) fn resource(text: &str) -> Resource {
    let resource: Resource = toml::from_str(text).expect("a valid resource");
    let wire = postcard::to_allocvec(&resource).expect("it can be sent");
    assert_eq!(postcard::from_bytes::<Resource>(&wire).expect("it can be received"), resource);
    resource
}

impl Host {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["etc", "var", "srv", "proc", "sys", "usr", "root"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        let answer: Answer = Box::new(|_| None);
        Self {
            directory,
            ran: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
            reachable: true,
        }
    }

    /// Answers programs with an exit code (a signal when it is negative) and standard output; those without an answer succeed.
    pub(super) fn answer(
        &mut self,
        answer: impl FnMut(&Program) -> Option<(i32, String)> + Send + 'static,
    ) {
        *self.answer.lock().expect("no test panicked") = Box::new(answer);
    }

    pub(super) fn system(&self) -> LocalSystem {
        let (ran, answer) = (Arc::clone(&self.ran), Arc::clone(&self.answer));
        let reachable = self.reachable;
        let programs = Box::new(move |program: &Program| -> Result<Output, Failure> {
            ran.lock().expect("no test panicked").push(program.argv.clone());
            let answered = (answer.lock().expect("no test panicked"))(program);
            let (code, stdout) = answered.unwrap_or_default();
            Ok(Output {
                code: (code >= 0).then_some(code),
                signal: (code < 0).then_some(-code),
                timed_out: false,
                stdout: stdout.into_bytes(),
                stderr: Vec::new(),
            })
        });
        LocalSystem::simulated(self.directory.path(), programs, Box::new(move |_| reachable))
            .expect("the root exists")
    }

    pub(super) fn apply(&mut self, resource: &Resource) -> Outcome {
        converge(resource, false, Mode::Apply, &mut self.system(), &mut |_| {})
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn put(&mut self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    pub(super) fn get(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    pub(super) fn remove(&mut self, path: &str) {
        fs::remove_file(self.path(path)).expect("a file");
    }

    pub(super) fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).expect("a file").permissions().mode() & 0o7777
    }

    pub(super) fn set_mode(&mut self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).expect("a file");
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        symlink(target, self.path(path)).expect("a link");
    }

    pub(super) fn make_directory(&mut self, path: &str) {
        fs::create_dir_all(self.path(path)).expect("a directory");
    }

    pub(super) fn reachable(&mut self, reachable: bool) {
        self.reachable = reachable;
    }

    /// Programs that ran so far, as argument lists.
    pub(super) fn ran(&self) -> Vec<String> {
        self.ran.lock().expect("no test panicked").iter().map(|argv| argv.join(" ")).collect()
    }

    pub(super) fn guards(&self) -> Vec<String> {
        fs::read_dir(self.path(GUARD_DIRECTORY))
            .map(|entries| {
                entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
            })
            .unwrap_or_default()
    }
}
