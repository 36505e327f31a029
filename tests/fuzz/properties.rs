//! What must hold of every input of a format. Each function fails by a panic, as the code under test
//! would.

use crate::allocation::most_held;
use crate::inputs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use strata::diag::{Code, Diagnostics, Renderer, Severity, Source, Span};
use strata::event::Event;
use strata::history::read_journal;
use strata::plan::SecretLookup;
use strata::secrets::{EnvDocument, Secret};
use strata::site::tree::{Entry, NodeValue};
use strata::site::{self, Host, Profile, Site};
use strata::ssh::KnownHosts;
use strata::wire::{FrameDecoder, FromAgent, MAX_FRAME, ToAgent, decode_payload, encode_frame};

type Hosts = indexmap::IndexMap<String, Host>;

const EXTRA_COLUMNS: [&str; 2] = ["ROLE_V3", "LOGICAL_NAME_V3"];

/// Text files are read as UTF-8 or refused as a whole before any parser sees them.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every error is somewhere, and what it points at exists.
fn have_places(problems: &Diagnostics) {
    for problem in problems.iter() {
        let places = problem.primary.iter().chain(&problem.secondary);
        places.for_each(|(span, _)| exists(span));
        let whole_file = [Code::FILE_UNREADABLE, Code::FILE_NOT_TEXT].contains(&problem.code);
        assert!(
            problem.severity != Severity::Error || problem.primary.is_some() || whole_file,
            "an error without a place: {problem:?}"
        );
        assert!(!problem.message.is_empty());
    }
    let shown = Renderer::new(false).all(problems);
    assert_eq!(shown.is_empty(), problems.is_empty());
}

fn exists(span: &Span) {
    let text = span.source.text();
    assert!(span.range.start <= span.range.end && span.range.end <= text.len(), "{span:?}");
    let (line, column) = span.position();
    let found = text.split('\n').nth(line - 1).unwrap_or_else(|| panic!("no line {line}"));
    assert!(column <= found.chars().count() + 1, "no column {column} in line {line}");
    let _ = span.text();
}

/// Values stand inside the text, children inside their parents' file, keys in order.
fn stand_inside(entries: &[Entry], source: &Source) {
    for pair in entries.windows(2) {
        assert!(pair[0].key_range.start <= pair[1].key_range.start, "document order");
    }
    for entry in entries {
        let key = &source.text()[entry.key_range.clone()];
        assert!(!key.is_empty() || entry.key.is_empty(), "{:?} stands nowhere", entry.key);
        node_stands_inside(&entry.node, source);
    }
}

fn node_stands_inside(node: &site::tree::Node, source: &Source) {
    let _ = &source.text()[node.range.clone()];
    match &node.value {
        NodeValue::Table(entries) => stand_inside(entries, source),
        NodeValue::Array(nodes) => nodes.iter().for_each(|node| node_stands_inside(node, source)),
        _ => {}
    }
}

fn toml(bytes: &[u8], name: &str, read: impl FnOnce(&Source, &mut Diagnostics)) {
    let source = Source::new(name, text(bytes));
    let mut problems = Diagnostics::new();
    stand_inside(&site::tree::parse(&source, &mut problems), &source);
    have_places(&problems);
    let mut problems = Diagnostics::new();
    read(&source, &mut problems);
    have_places(&problems);
}

fn read_inventory(text: &str, problems: &mut Diagnostics) -> Hosts {
    let extra = EXTRA_COLUMNS.map(String::from);
    site::inventory::read(&Source::new("servers.tsv", text), &extra, problems)
}

pub fn inventory(bytes: &[u8]) {
    let mut problems = Diagnostics::new();
    let hosts = read_inventory(&text(bytes), &mut problems);
    have_places(&problems);
    if problems.has_errors() {
        return;
    }
    // What was read, written again, reads the same.
    let columns: Vec<&String> = hosts.values().next().unwrap().columns.keys().collect();
    let mut again = columns.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("\t");
    for host in hosts.values() {
        let cells: Vec<&str> = columns.iter().map(|name| host.columns[*name].as_str()).collect();
        again.push('\n');
        again.push_str(&cells.join("\t"));
    }
    let mut problems = Diagnostics::new();
    let back = read_inventory(&again, &mut problems);
    assert!(!problems.has_errors(), "{}\n{again}", Renderer::new(false).all(&problems));
    for (one, other) in hosts.values().zip(back.values()) {
        assert_eq!(one.columns, other.columns);
        assert_eq!(
            (&one.name, one.address, one.public),
            (&other.name, other.address, other.public)
        );
    }
    assert_eq!(hosts.len(), back.len());
}

fn own_hosts() -> &'static Hosts {
    static HOSTS: OnceLock<Hosts> = OnceLock::new();
    HOSTS.get_or_init(|| read_inventory(&text(&inputs::inventory()[0]), &mut Diagnostics::new()))
}

pub fn groups(bytes: &[u8]) {
    toml(bytes, "groups.toml", |source, problems| {
        site::groups::read(source, own_hosts(), true, problems);
    });
}

pub fn settings(bytes: &[u8]) {
    toml(bytes, "strata.toml", |source, problems| {
        site::config::read(source, problems);
    });
    toml(bytes, "exceptions.toml", |source, problems| {
        site::exceptions::read(source, problems);
    });
    toml(bytes, "hosts.toml", |source, problems| {
        site::lab_hosts::read(source, own_hosts(), &indexmap::IndexMap::new(), problems);
    });
}

pub fn role(bytes: &[u8]) {
    let kinds: Vec<&str> = strata::resource::KINDS.iter().map(|kind| kind.name).collect();
    toml(bytes, "role.toml", |source, problems| {
        site::role::read("fuzzed", source, &kinds, problems);
    });
    toml(bytes, "gate.toml", |source, problems| {
        site::gate::read(source, problems);
    });
}

pub fn versions(bytes: &[u8]) {
    let read = |text: &str| {
        let mut problems = Diagnostics::new();
        let versions = site::versions::read(&Source::new("versions.yaml", text), &mut problems);
        have_places(&problems);
        (versions, problems)
    };
    let (versions, _) = read(&text(bytes));
    let written: String =
        versions.iter().map(|(key, pin)| format!("{key}: \"{}\"\n", pin.value)).collect();
    let (back, _) = read(&written);
    let pins = |versions: &indexmap::IndexMap<String, site::Version>| -> Vec<(String, String)> {
        versions.iter().map(|(key, pin)| (key.clone(), pin.value.clone())).collect()
    };
    assert_eq!(pins(&versions), pins(&back), "{written}");
}

/// Any name has a value: secrets are not what is tried here.
struct Placeholders;

impl SecretLookup for Placeholders {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        Some(Secret::new(format!("placeholder-{name}")))
    }
}

/// A copy of the project's own site.
fn site_copy() -> &'static Path {
    static COPY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let copy = COPY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for part in ["inventory", "roles", "templates"] {
            for path in inputs::below(part) {
                put(folder.path(), &path);
            }
        }
        put(folder.path(), Path::new("strata.toml"));
        put(folder.path(), Path::new("versions.yaml"));
        folder
    });
    copy.path()
}

fn put(folder: &Path, path: &Path) {
    let target = folder.join(path);
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::copy(inputs::root().join(path), target).unwrap();
}

/// A whole site with one changed file: everything that `strata check` does. One at a time, since the
/// file stands where the others look for it.
pub fn site(bytes: &[u8]) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let path = text(&bytes[..end]);
    let known = inputs::root().join(&path).is_file()
        && ["roles/", "templates/", "inventory/", "strata.toml"]
            .iter()
            .any(|at| path.starts_with(at))
        && !path.contains("..");
    if !known {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let root = site_copy();
    std::fs::write(root.join(&path), &bytes[end + 1..]).unwrap();
    let checked = std::panic::catch_unwind(|| {
        let mut problems = Diagnostics::new();
        if let Some(site) = Site::load(root, Profile::Production, &mut problems) {
            strata::gate::check(&site, &mut problems);
            strata::plan::check(&site, Arc::new(Placeholders), &mut problems);
            strata::cluster::check(&site, Arc::new(Placeholders), &mut problems);
        }
        have_places(&problems);
    });
    put(root, Path::new(&path));
    if let Err(panic) = checked {
        std::panic::resume_unwind(panic);
    }
}

pub fn env(bytes: &[u8]) {
    let parse = |bytes: &[u8]| EnvDocument::parse(Path::new("credentials/x.env"), bytes);
    let (document, problems) = parse(bytes);
    let readable = std::str::from_utf8(bytes).is_ok();
    if !readable {
        assert!(problems.has_errors() && document.entries().is_empty());
        let line = problems.iter().next().unwrap().message.clone();
        assert!(line.contains("line "), "{line}");
        return;
    }
    have_places(&problems);
    for entry in document.entries() {
        exists(&entry.name_span);
        exists(&entry.value_span);
        assert!(!entry.value.expose().is_empty());
        // Where the name may be a value that went astray the text there is masked; its length is not.
        assert_eq!(entry.name_span.text().len(), entry.name.len());
    }
    let before = document.text().expose().clone();
    assert_eq!(before.as_bytes(), bytes);
    let mut names = vec!["FUZZED_NAME".to_owned()];
    names.extend(document.entries().first().map(|entry| entry.name.clone()));
    names.extend(document.entries().last().map(|entry| entry.name.clone()));
    for name in names {
        let value = "a new/value é";
        let after = document.with_value(&name, &Secret::new(value.into())).unwrap();
        let after = after.expose();
        let (again, _) = parse(after.as_bytes());
        assert_eq!(again.get(&name).unwrap().expose(), value, "{after:?}");
        // Every other value, and every other line, is as it was.
        for entry in document.entries().iter().filter(|entry| entry.name != name) {
            assert_eq!(again.get(&entry.name).unwrap().expose(), entry.value.expose());
        }
        only_one_line_differs(&before, after, &format!("{name}="));
    }
}

/// `after` is `before` with one line replaced, or with one line more at the end.
fn only_one_line_differs(before: &str, after: &str, written: &str) {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let same_line = |a: &str, b: &str| a == b || format!("{a}\n") == b;
    if new.len() > old.len() {
        let (last, rest) = new.split_last().unwrap();
        assert!(last.starts_with(written), "{last:?}");
        assert_eq!(rest.len(), old.len());
        assert!(
            rest.iter().zip(&old).all(|(new, old)| same_line(old, new)),
            "{before:?} {after:?}"
        );
        return;
    }
    assert_eq!(new.len(), old.len(), "{before:?} {after:?}");
    let differ: Vec<_> = new.iter().zip(&old).filter(|(new, old)| new != old).collect();
    assert!(differ.len() <= 1, "{differ:?}");
    for (new, old) in differ {
        assert!(new.starts_with(written) && old.contains(written), "{old:?} became {new:?}");
    }
}

/// Memory that decoding may take: lists are read ahead up to a mebibyte a nesting, and what was sent
/// is held once or twice. Far below what a length field can say.
fn decoding_limit(sent: usize) -> usize {
    (16 << 20) + 64 * sent
}

fn read_frames<T: serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug>(bytes: &[u8]) {
    let piece = usize::from(bytes.first().copied().unwrap_or_default() % 61) + 1;
    let mut messages: Vec<T> = Vec::new();
    let held = most_held(|| {
        let mut decoder = FrameDecoder::default();
        'all: for piece in bytes.chunks(piece) {
            decoder.push(piece);
            loop {
                match decoder.next_message::<T>() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
        }
    });
    assert!(held <= decoding_limit(bytes.len()), "{held} bytes held for {}", bytes.len());
    assert!(messages.len() <= bytes.len() / 4);
    messages.iter().for_each(comes_back);
}

fn comes_back<T: serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug>(message: &T) {
    let frame = encode_frame(message).unwrap();
    assert!(frame.len() <= MAX_FRAME + 4);
    let back: T = decode_payload(&frame[4..]).unwrap();
    assert_eq!(format!("{message:?}"), format!("{back:?}"));
}

pub fn frames(bytes: &[u8]) {
    read_frames::<ToAgent>(bytes);
    read_frames::<FromAgent>(bytes);
}

pub fn messages(bytes: &[u8]) {
    fn try_as<T: serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug>(bytes: &[u8]) {
        let mut message = None;
        let held = most_held(|| message = decode_payload::<T>(bytes).ok());
        assert!(held <= decoding_limit(bytes.len()), "{held} bytes held for {}", bytes.len());
        if let Some(message) = &message {
            comes_back(message);
        }
    }
    try_as::<ToAgent>(bytes);
    try_as::<FromAgent>(bytes);
}

pub fn known_hosts(bytes: &[u8]) {
    let text = text(bytes);
    let lines = text.lines().count();
    let has_line = |reason: &str| {
        let number = reason.strip_prefix("line ").and_then(|rest| rest.split(':').next());
        let number: usize =
            number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{reason}"));
        assert!((1..=lines).contains(&number), "{reason}: there are {lines} lines");
    };
    let known = match KnownHosts::parse(&text) {
        Ok(known) => known,
        Err(reason) => return has_line(&reason),
    };
    let key = russh::keys::PublicKey::from_openssh(inputs::KEYS[0]).unwrap();
    for names in [["redis-01", "10.0.0.123"], ["[db-01]:2222", "10.0.0.9"], ["", "*"]] {
        let names = names.map(String::from);
        if let Err(reason) = known.judge(&names, &key) {
            has_line(&reason);
        }
        known.pinned_algorithms(&names);
        match known.pinned(&names) {
            Err(reason) => has_line(&reason),
            Ok(pinned) => {
                for pin in pinned {
                    assert!((1..=lines).contains(&pin.line));
                    let again = KnownHosts::parse(&format!("a {}\n", pin.key)).unwrap();
                    assert_eq!(again.pinned(&["a".into()]).unwrap()[0].key, pin.key);
                }
            }
        }
    }
}

pub fn journal(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    match read_journal(file.path()) {
        Ok(events) => {
            for event in events {
                let line = serde_json::to_string(&event).unwrap();
                assert!(!line.contains('\n'));
                let back: Event = serde_json::from_str(&line).unwrap();
                assert_eq!(format!("{event:?}"), format!("{back:?}"));
            }
        }
        Err(error) => {
            let path = format!("{}:", file.path().display());
            let reason = error.to_string();
            let rest = reason.strip_prefix(&path).unwrap_or_else(|| panic!("{reason}"));
            let line: usize = rest.split(':').next().and_then(|n| n.parse().ok()).unwrap();
            assert!(line >= 1 && line <= bytes.split(|byte| *byte == b'\n').count(), "{reason}");
        }
    }
}
