//! `strata secrets set` and `strata secrets edit`.

use super::codes;
use super::declaration::{Declaration, Declared};
use super::directory::{DIRECTORY, Form};
use super::document::{EnvDocument, violation_diagnostic};
use super::name::nearest;
use super::secret::Secret;
use super::store::{Brick, SecretStore};
use crate::diag::{Diagnostic, Diagnostics};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest value that is read, in bytes.
pub const LONGEST_INPUT: usize = 64 * 1024;

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The name had no value.
    Added,
    /// The value was replaced.
    Replaced,
    /// Nothing was written.
    Same,
    /// Nothing was changed, but the manifest was made to agree with the file.
    Accepted,
}

fn one(problem: Diagnostic) -> Diagnostics {
    let mut problems = Diagnostics::new();
    problems.push(problem);
    problems
}

/// The declaration of a name of a brick.
pub(super) fn declaration<'a>(
    declared: &'a Declared,
    brick: &str,
    name: &str,
) -> Result<&'a Declaration, Diagnostics> {
    check_brick(declared, brick)?;
    let of = declared.of(brick);
    if let Some(found) = of.iter().find(|declaration| declaration.name == name) {
        return Ok(found);
    }
    let hint = match declared.get(name) {
        Some(elsewhere) => format!("{name} belongs to `{}`", elsewhere.brick),
        None => match nearest(name, of.iter().map(|declaration| declaration.name.as_str())) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("declare it first, in credentials.example/{brick}.env"),
        },
    };
    let message = format!("`{brick}` declares no secret of this name");
    Err(one(Diagnostic::error(codes::UNKNOWN_NAME, message).hint(hint)))
}

pub(super) fn check_brick(declared: &Declared, brick: &str) -> Result<(), Diagnostics> {
    if declared.bricks().iter().any(|known| known == brick) {
        return Ok(());
    }
    let known = declared.bricks();
    let hint = match nearest(brick, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the bricks are {}", known.join(", ")),
    };
    Err(one(
        Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no brick `{brick}`")).hint(hint)
    ))
}

/// Checks that a name is declared, before its value is asked for.
pub fn check_name(site_root: &Path, brick: &str, name: &str) -> Result<(), Diagnostics> {
    let (declared, problems) = Declared::load(site_root);
    match problems.has_errors() {
        true => Err(problems),
        false => declaration(&declared, brick, name).map(|_| ()),
    }
}

/// The value in what was read from standard input: without one line end at its end.
pub fn value_of_input(input: Secret<Vec<u8>>) -> Result<Secret<String>, Diagnostics> {
    let refuse = |what: &str| {
        Err(one(Diagnostic::error(codes::INPUT, what.to_owned()).hint(
            "give the value as one line on standard input, or run the command in a terminal",
        )))
    };
    if input.expose().len() > LONGEST_INPUT {
        return refuse("the input is longer than any value");
    }
    let Ok(text) = std::str::from_utf8(input.expose()) else {
        return refuse("the input is not UTF-8");
    };
    let value = text.strip_suffix('\n').unwrap_or(text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    match value.is_empty() {
        true => refuse("the input is empty"),
        false => Ok(Secret::new(value.to_owned())),
    }
}

/// Gives one declared name a value.
pub fn set(
    site_root: &Path,
    identity_path: &Path,
    brick: &str,
    name: &str,
    value: &Secret<String>,
) -> Result<Change, Diagnostics> {
    let store = SecretStore::open(site_root, identity_path)?;
    let declared = declaration(&store.declared, brick, name)?;
    let mut problems = Diagnostics::new();
    for violation in declared.rules.check(value.expose()) {
        problems.push(
            violation_diagnostic(name, &violation).at(declared.span.clone(), "declared here"),
        );
    }
    if problems.has_errors() {
        return Err(problems);
    }
    let lock = store.lock().map_err(one)?;
    let form = store.form(brick, &mut problems);
    let content = match form {
        Some(form) => store.read(brick, form, true, &mut problems),
        None => None,
    };
    // A value that is being replaced may be the very one that breaks a rule.
    let only_values = problems.iter().all(|problem| {
        problem.severity == crate::diag::Severity::Warning
            || [codes::VALUE_RULE, codes::VALUE_WEAK].contains(&problem.code)
    });
    let content = match (content, form) {
        (None, Some(form)) if only_values => {
            let mut ignored = Diagnostics::new();
            store.read_for_change(brick, form, true, &mut ignored).map_err(one)?
        }
        (content, _) => content,
    };
    if problems.has_errors() && !only_values {
        return Err(problems);
    }
    let document = content.as_ref().map_or_else(EnvDocument::empty, |c| c.document.clone());
    let change = match document.get(name) {
        Some(old) if old == value => return Ok(Change::Same),
        Some(_) => Change::Replaced,
        None => Change::Added,
    };
    let Some(text) = document.with_value(name, value) else {
        return Err(one(Diagnostic::error(
            codes::VALUE_UNWRITABLE,
            format!("the value of {name} cannot be written in the .env grammar"),
        )
        .hint("a value with `'` may not hold any of `\"`, `$`, `` ` `` and `\\` besides")));
    };
    store.write(&lock, brick, form.unwrap_or(Form::Encrypted), content.as_ref(), &text)?;
    Ok(change)
}

/// What `edit` needs from outside.
pub struct Editing<'a> {
    /// The editor and its arguments; the file's path is added.
    pub editor: &'a [String],
    /// Standard input and output are a terminal.
    pub terminal: bool,
    /// Directories that may be in memory, best first.
    pub memory_directories: &'a [PathBuf],
    /// Shows what is wrong with the text and asks whether to go on editing.
    pub again: &'a mut dyn FnMut(&Diagnostics) -> bool,
}

/// Lets the operator edit a brick. The clear text stands in memory only, in a file of mode 0600.
pub fn edit(
    site_root: &Path,
    identity_path: &Path,
    brick: &str,
    editing: Editing<'_>,
) -> Result<Change, Diagnostics> {
    if !editing.terminal {
        return Err(one(Diagnostic::error(
            codes::NO_TERMINAL,
            "`edit` needs a terminal",
        )
        .hint(format!(
            "without one, use `strata secrets set {brick} NAME` with the value on standard input"
        ))));
    }
    let Some((program, arguments)) = editing.editor.split_first() else {
        return Err(one(Diagnostic::error(codes::EDITOR, "no editor is set")
            .hint("set the environment variable EDITOR")));
    };
    let store = SecretStore::open(site_root, identity_path)?;
    check_brick(&store.declared, brick)?;
    let mut problems = Diagnostics::new();
    let form = store.form(brick, &mut problems);
    if problems.has_errors() {
        return Err(problems);
    }
    // What is wrong with the values is for the editor to put right.
    let content: Option<Brick> = match form {
        Some(form) => store.read_for_change(brick, form, false, &mut problems).map_err(one)?,
        None => None,
    };
    let agrees = match &content {
        Some(content) => store.agrees(brick, content).map_err(one)?,
        None => true,
    };
    let before = match &content {
        Some(content) => content.document.text().clone(),
        None => blank(&store.declared, brick),
    };
    let workplace = Workplace::new(editing.memory_directories, brick, &before).map_err(one)?;
    let shown = Path::new(DIRECTORY).join(format!("{brick}.env"));
    let text = loop {
        let status = Command::new(program).args(arguments).arg(&workplace.file).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                let message = format!("`{program}` ended with {status}");
                return Err(one(
                    Diagnostic::error(codes::EDITOR, message).hint("nothing was changed")
                ));
            }
            Err(error) => {
                let message = format!("`{program}` cannot be started: {error}");
                return Err(one(Diagnostic::error(codes::EDITOR, message)
                    .hint("set the environment variable EDITOR")));
            }
        }
        let bytes = Secret::new(
            std::fs::read(&workplace.file)
                .map_err(|error| one(super::files::access("read", &workplace.file, error)))?,
        );
        if bytes.expose().as_slice() == before.expose().as_bytes() {
            break before.clone();
        }
        let (document, mut problems) = EnvDocument::parse(&shown, bytes.expose());
        problems.extend(document.check(&store.declared.of(brick)));
        if document.entries().is_empty() && !problems.has_errors() {
            problems.push(Diagnostic::error(codes::INPUT, "the text holds no secret"));
        }
        if !problems.has_errors() {
            break document.text().clone();
        }
        if !(editing.again)(&problems) {
            return Err(problems);
        }
    };
    let lock = store.lock().map_err(one)?;
    if text == before {
        return match (&content, agrees) {
            (Some(content), false) => {
                store.accept(&lock, brick, content).map_err(one)?;
                Ok(Change::Accepted)
            }
            _ => Ok(Change::Same),
        };
    }
    store.write(&lock, brick, form.unwrap_or(Form::Encrypted), content.as_ref(), &text)?;
    Ok(Change::Replaced)
}

/// What a brick without a file is edited from: its declarations, without values.
fn blank(declared: &Declared, brick: &str) -> Secret<String> {
    let mut text = String::new();
    for declaration in declared.of(brick) {
        if !declaration.purpose.is_empty() {
            text.push_str(&format!("# {}\n", declaration.purpose));
        }
        text.push_str(&format!("{}=\n", declaration.name));
    }
    Secret::new(text)
}

/// A directory in memory with the one file that is edited; gone when dropped, with whatever the
/// editor left beside it.
struct Workplace {
    directory: PathBuf,
    file: PathBuf,
}

impl Workplace {
    fn new(candidates: &[PathBuf], brick: &str, text: &Secret<String>) -> Result<Self, Diagnostic> {
        let Some(root) = candidates.iter().find(|path| in_memory(path)) else {
            return Err(Diagnostic::error(
                codes::EDITOR,
                "there is no directory in memory to edit in",
            )
            .hint("mount a tmpfs at /dev/shm"));
        };
        let failed = |error| super::files::access("write", root, error);
        let chance =
            getrandom::u64().map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        let directory = root.join(format!("strata-edit-{chance:016x}"));
        std::fs::DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        let workplace = Self { file: directory.join(format!("{brick}.env")), directory };
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&workplace.file)
            .and_then(|mut file| file.write_all(text.expose().as_bytes()))
            .map_err(failed)?;
        Ok(workplace)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Nothing more can be done if it fails; the directory is this user's alone and in memory.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// True for a directory of a file system that is held in memory.
fn in_memory(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    std::fs::File::open(path)
        .ok()
        .and_then(|directory| rustix::fs::fstatfs(&directory).ok())
        .is_some_and(|facts| [TMPFS, RAMFS].contains(&(facts.f_type as u64 & 0xffff_ffff)))
}
