//! Real inputs of every format: the project's own files, and what its own code writes.

use std::path::{Path, PathBuf};
use strata::event::{Event, EventKind, HostProblem, StepId, StepOutcome};
use strata::resource::{
    Batch, Change, File, Item, ItemEvent, ItemReport, ItemSlot, Mode, Once, Outcome, Resource,
};
use strata::wire::{
    ExecOutcome, ExecSpec, Facts, FromAgent, Hello, Interface, LockHolder, OutputStream, PROTOCOL,
    RelayTarget, ToAgent, encode_frame,
};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths of all files below a folder, from the root of the project.
pub fn below(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

pub fn inventory() -> Vec<Vec<u8>> {
    let own = read("inventory/servers.tsv");
    let head: Vec<u8> = own.split_inclusive(|b| *b == b'\n').take(3).flatten().copied().collect();
    vec![own, head]
}

pub fn groups() -> Vec<Vec<u8>> {
    vec![read("inventory/groups.toml")]
}

pub fn settings() -> Vec<Vec<u8>> {
    let releases = "[release]\ntrixie = [\"db-01\", \"redis\"]\nbookworm = [\"db-02\"]\n";
    vec![read("strata.toml"), read("inventory/lab/exceptions.toml"), releases.into()]
}

pub fn roles() -> Vec<Vec<u8>> {
    below("roles").iter().map(|path| read(path.to_str().unwrap())).collect()
}

pub fn versions() -> Vec<Vec<u8>> {
    vec![read("versions.yaml"), read("inventory/lab/versions.yaml")]
}

/// Files of a site that a whole site is tried with; each input begins with the path and a line feed.
pub fn site() -> Vec<Vec<u8>> {
    let mut paths = below("roles");
    paths.extend(below("templates"));
    paths.extend(
        ["strata.toml", "inventory/groups.toml", "inventory/servers.tsv"].map(PathBuf::from),
    );
    paths
        .iter()
        .map(|path| {
            let path = path.to_str().unwrap();
            [path.as_bytes(), b"\n", &read(path)].concat()
        })
        .collect()
}

pub fn env() -> Vec<Vec<u8>> {
    let values = "# one\nPOSTGRES_PASSWORD='aB3$`\\ \"x'\nREDIS_PASSWORD=plain/1=\n\nAPI_KEY=\"it's\"\nEMPTY_A=\nEMPTY_B=''\nLAST_ONE=z9";
    let mut inputs = vec![values.into(), values.replace('\n', "\r\n").into()];
    inputs.extend(below("credentials.example").iter().map(|path| read(path.to_str().unwrap())));
    inputs
}

fn item(resource: Resource) -> Item {
    let notify = vec!["restart chrony".into()];
    Item { name: "a step".into(), resource, notify, secret: false, timeout_ms: 60_000 }
}

fn to_agent() -> Vec<ToAgent> {
    let file: File = serde_json::from_value(serde_json::json!({
        "path": "/etc/motd", "content": "hello\n", "validate": ["true", "{file}"],
        "guard": { "activate": ["true"] }
    }))
    .unwrap();
    let command = serde_json::json!({ "command": { "argv": ["true"], "creates": "/x" } });
    let resources = [Resource::File(file), serde_json::from_value(command).unwrap()];
    let items = resources.map(|resource| item(resource).into()).to_vec();
    let work = Batch {
        role: "base".into(),
        mode: Mode::Apply,
        handlers: items.clone(),
        items,
        once: Once::default(),
    };
    let spec = ExecSpec {
        argv: vec!["sh".into(), "-c".into(), "cat".into()],
        stdin: b"text".to_vec(),
        env: vec![("A".into(), "b".into())],
        user: Some("nobody".into()),
        timeout_ms: 1,
    };
    let holder = LockHolder {
        owner: "root@install-01".into(),
        purpose: "install".into(),
        run: "20260101-000000-abcd".into(),
        since_unix_ms: u64::MAX,
    };
    vec![
        ToAgent::Converge { batch: 1, work },
        ToAgent::StopBatch { batch: u32::MAX },
        ToAgent::Exec { id: 3, spec },
        ToAgent::Open {
            stream: 1,
            to: RelayTarget::Tcp("[::1]:22".parse().unwrap()),
            timeout_ms: 5,
        },
        ToAgent::Open { stream: 2, to: RelayTarget::Unix("/run/x".into()), timeout_ms: 5 },
        ToAgent::Data { stream: 1, bytes: vec![7; 300] },
        ToAgent::Lock { holder },
    ]
}

fn from_agent() -> Vec<FromAgent> {
    let facts = Facts {
        hostname: "db-01".into(),
        machine_id: "0".repeat(32),
        boot_id: "1".into(),
        architecture: "aarch64".into(),
        kernel: "6.1.0".into(),
        os: "debian".into(),
        os_version: "13".into(),
        os_codename: "trixie".into(),
        memory_bytes: 1 << 40,
        cores: 64,
        interfaces: vec![Interface {
            name: "eth0".into(),
            addresses: vec![("10.0.0.1".parse().unwrap(), 16), ("fe80::1".parse().unwrap(), 64)],
            mtu: 1450,
        }],
        uptime_seconds: 1,
        pending_handlers: vec!["base/restart chrony".into()],
    };
    let hello =
        Hello { protocol: PROTOCOL, version: "0.1.0".into(), unix_time_ms: 1, uid: 0, facts };
    let change = Change {
        what: "content".into(),
        from: None,
        to: Some("x".into()),
        before: Some(b"old".to_vec()),
    };
    let event = ItemEvent::Finished { outcome: Outcome::Changed(vec![change]), took_ms: 7 };
    vec![
        FromAgent::Hello(Box::new(hello)),
        FromAgent::Item { batch: 1, report: ItemReport { slot: ItemSlot::Step(1), event } },
        FromAgent::BatchDone { batch: 1, complete: true, forgotten: vec!["x".into()] },
        FromAgent::ExecOutput { id: 1, stream: OutputStream::Stderr, bytes: b"x\n".to_vec() },
        FromAgent::ExecDone { id: 1, outcome: ExecOutcome::NotStarted("why".into()) },
        FromAgent::OpenFailed { stream: 1, reason: "refused".into(), refused: true },
        FromAgent::LockRefused { holder: None },
    ]
}

pub fn frames() -> Vec<Vec<u8>> {
    let all: Vec<Vec<u8>> =
        to_agent().iter().map(|message| encode_frame(message).unwrap()).collect();
    let back: Vec<Vec<u8>> =
        from_agent().iter().map(|message| encode_frame(message).unwrap()).collect();
    vec![all.concat(), back.concat(), all[0].clone(), back[0].clone()]
}

pub fn messages() -> Vec<Vec<u8>> {
    let to = to_agent().into_iter().map(|message| encode_frame(&message).unwrap());
    let from = from_agent().into_iter().map(|message| encode_frame(&message).unwrap());
    to.chain(from).map(|frame| frame[4..].to_vec()).collect()
}

pub const KEYS: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
];

pub fn known_hosts() -> Vec<Vec<u8>> {
    let [a, b] = KEYS;
    let text = format!(
        "# pinned\nredis-01,10.0.0.123 {a}\n[db-01]:2222 {b} a comment\n10.0.*.?,!10.0.0.9 {a}\n@revoked * {b}\n@cert-authority *.test {a}\n|1|AAAAAAAAAAAAAAAAAAAAAAAAAAA=|AAAAAAAAAAAAAAAAAAAAAAAAAAA= {b}\n"
    );
    vec![text.into()]
}

pub fn journal() -> Vec<Vec<u8>> {
    let step = StepId {
        host: "a".into(),
        layer: "base".into(),
        role: "base".into(),
        step: "Packages".into(),
        handler: false,
    };
    let failed = StepOutcome::Failed {
        message: "no é".into(),
        output: Some("last\nlines".into()),
        hint: None,
    };
    let kinds = [
        EventKind::Note { text: "a \"note\"\n".into() },
        EventKind::HostConnected {
            host: "a".into(),
            took_ms: 1,
            skew_ms: -7,
            machine_id: "m".into(),
            boot_id: "b".into(),
            architecture: "aarch64".into(),
        },
        EventKind::HostUnusable {
            host: "b".into(),
            class: HostProblem::Unfit,
            reason: "why".into(),
            hint: Some("what".into()),
        },
        EventKind::StepFinished { step, outcome: failed, took_ms: 3 },
        EventKind::RunFinished { exit_code: 1, reason: "a step".into(), took_ms: u64::MAX },
    ];
    let lines = kinds.map(|kind| {
        let mut line = serde_json::to_vec(&Event { at_ms: 1, kind }).unwrap();
        line.push(b'\n');
        line
    });
    vec![lines.concat(), lines[0].clone()]
}
