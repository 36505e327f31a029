//! `strata.toml`: the site's name, its settings, its variables and the order of its layers.

use super::notify::{self, NotifySettings};
use super::reader::TableReader;
use super::report::{self, ReportSettings};
use super::rolling::{self, Rolling};
use super::secrets::{self, SecretsSettings};
use super::ssh::{self, SshSettings};
use super::tree;
use super::vars::{self, Variables};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};

/// The site's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The site's name.
    pub name: String,
    /// The host from which strata runs.
    pub operator: (String, Span),
    /// Networks that count as private: everything in them is a peer.
    pub private: Vec<ipnet::Ipv4Net>,
    /// Networks from which people log in to the operator host.
    pub admin: Vec<ipnet::Ipv4Net>,
    /// Columns allowed in the inventory beside the fixed ones.
    pub extra_columns: Vec<String>,
    /// SSH settings.
    pub ssh: SshSettings,
    /// How runs behave.
    pub run: RunSettings,
    /// How much of what happened is kept.
    pub history: HistorySettings,
    /// How long a green gate counts, and what may be injected.
    pub gate: GateSettings,
    /// Who is told of what runs come to.
    pub notify: Option<NotifySettings>,
    /// What is written after each run.
    pub report: ReportSettings,
    /// Where the values of secrets come from.
    pub secrets: SecretsSettings,
    /// Variables for every host.
    pub vars: Variables,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
}

/// How runs behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSettings {
    /// Hosts at work at the same time.
    pub parallel: u32,
    /// Layers in hand at the same time, where they share no host and none requires another.
    pub parallel_layers: u32,
    /// Seconds that one step may take unless it says otherwise.
    pub step_timeout: u32,
    /// Seconds for which a host's lock is waited for when another run holds it; 0: not at all.
    pub lock_wait: u32,
    /// Seconds after which a run stops as at the first Ctrl-C; none: never.
    pub deadline: Option<u32>,
}

/// How much of what happened is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySettings {
    /// Journals of runs that are kept, the newest.
    pub keep_runs: u32,
}

/// What a gate may do and how long its verdict counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSettings {
    /// Days after which a green record is stale.
    pub max_age_days: u32,
    /// True when `--gate full` needs no typed confirmation on this site.
    pub allow_full: bool,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Layers that must be green before `--layer` installs this one.
    pub requires: Vec<(String, Span)>,
    /// Which roles stand on which groups, in order.
    pub place: Vec<Placement>,
    /// Its place.
    pub span: Span,
}

/// A role on a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The role.
    pub role: String,
    /// Where it is named.
    pub role_span: Span,
    /// The group.
    pub group: String,
    /// Where it is named.
    pub group_span: Span,
    /// How its hosts take turns; none: all at once.
    pub rolling: Option<Rolling>,
}

/// Reads the file.
pub fn read(source: &Source, problems: &mut Diagnostics) -> Option<Config> {
    let entries = tree::parse(source, problems);
    let mut top = TableReader::new(source, &entries, 0..source.text().len().min(1), problems);
    let name = top.required_string("site");
    let operator = top.required_string("operator");
    let private = top.strings("private").unwrap_or_default();
    let admin = top.strings("admin").unwrap_or_default();
    let extra_columns = top.strings("extra_columns").unwrap_or_default();
    let ssh_node = top.node("ssh");
    let run_node = top.node("run");
    let history_node = top.node("history");
    let gate_node = top.node("gate");
    let notify_node = top.node("notify");
    let report_node = top.node("report");
    let secrets_node = top.node("secrets");
    let vars_node = top.node("vars");
    let layer_nodes = top.tables("layer");
    if layer_nodes.is_empty() {
        top.missing("layer");
    }
    top.finish();

    let mut config = Config {
        name: String::new(),
        operator: (String::new(), source.span(0..0)),
        private: networks(private, problems),
        admin: networks(admin, problems),
        extra_columns: extra_columns.into_iter().map(|(text, _)| text.to_owned()).collect(),
        ssh: ssh_node.map(|node| ssh::read(source, node, problems)).unwrap_or_default(),
        run: RunSettings {
            parallel: 256,
            parallel_layers: 1,
            step_timeout: 600,
            lock_wait: 20,
            deadline: None,
        },
        history: HistorySettings { keep_runs: 500 },
        gate: GateSettings { max_age_days: 30, allow_full: false },
        notify: notify_node.and_then(|node| notify::read(source, node, problems)),
        report: report_node.map(|node| report::read(source, node, problems)).unwrap_or_default(),
        secrets: secrets_node.map(|node| secrets::read(source, node, problems)).unwrap_or_default(),
        vars: Variables::new(),
        layers: Vec::new(),
    };
    if let Some(mut table) = run_node.and_then(|node| TableReader::of(source, node, problems)) {
        if let Some(parallel) = table.integer("parallel", 1..=10_000) {
            config.run.parallel = u32::try_from(parallel).unwrap_or(256);
        }
        if let Some(layers) = table.integer("parallel_layers", 1..=1_000) {
            config.run.parallel_layers = u32::try_from(layers).unwrap_or(1);
        }
        seconds(&mut table, "step_timeout", &mut config.run.step_timeout);
        if let Some(wait) = table.integer("lock_wait", 0..=86_400) {
            config.run.lock_wait = u32::try_from(wait).unwrap_or(20);
        }
        let deadline = table.integer("deadline", 1..=604_800);
        config.run.deadline = deadline.and_then(|seconds| u32::try_from(seconds).ok());
        table.finish();
    }
    if let Some(mut table) = history_node.and_then(|node| TableReader::of(source, node, problems)) {
        if let Some(keep) = table.integer("keep_runs", 1..=1_000_000) {
            config.history.keep_runs = u32::try_from(keep).unwrap_or(500);
        }
        table.finish();
    }
    if let Some(mut table) = gate_node.and_then(|node| TableReader::of(source, node, problems)) {
        if let Some(days) = table.integer("max_age_days", 1..=3_650) {
            config.gate.max_age_days = u32::try_from(days).unwrap_or(30);
        }
        config.gate.allow_full = table.boolean("allow_full").unwrap_or(false);
        table.finish();
    }
    if let Some(table) = vars_node.and_then(|node| TableReader::of(source, node, problems)) {
        config.vars = vars::read(source, table.all(), problems);
    }
    for node in layer_nodes {
        if let Some(layer) = read_layer(source, node, problems) {
            if let Some(first) = config.layers.iter().find(|other| other.name == layer.name) {
                problems.push(
                    Diagnostic::error(Code::LAYER, format!("layer `{}` appears twice", layer.name))
                        .at(layer.span.clone(), "second time here")
                        .also(first.span.clone(), "first here"),
                );
                continue;
            }
            config.layers.push(layer);
        }
    }
    check_order(&config.layers, problems);
    config.name = name?.0.to_owned();
    let (operator, operator_span) = operator?;
    config.operator = (operator.to_owned(), operator_span);
    Some(config)
}

fn networks(texts: Vec<(&str, Span)>, problems: &mut Diagnostics) -> Vec<ipnet::Ipv4Net> {
    let mut nets = Vec::new();
    for (text, span) in texts {
        match text.parse::<ipnet::Ipv4Net>() {
            Ok(net) => nets.push(net.trunc()),
            Err(_) => problems.push(
                Diagnostic::error(Code::SETTING, format!("`{text}` is not a network"))
                    .at(span, "")
                    .hint("for example 10.0.0.0/16"),
            ),
        }
    }
    nets
}

pub(super) fn seconds(table: &mut TableReader<'_, '_>, key: &'static str, into: &mut u32) {
    if let Some(value) = table.integer(key, 1..=86_400) {
        *into = u32::try_from(value).unwrap_or(*into);
    }
}

fn read_layer(source: &Source, node: &tree::Node, problems: &mut Diagnostics) -> Option<Layer> {
    let mut table = TableReader::of(source, node, problems)?;
    let name = table.required_string("name");
    let requires = table.strings("requires").unwrap_or_default();
    let place_node = table.node("place");
    if place_node.is_none() {
        table.missing("place");
    }
    table.finish();
    let mut place = Vec::new();
    if let Some(tree::NodeValue::Array(nodes)) = place_node.map(|node| &node.value) {
        for node in nodes {
            let Some(mut table) = TableReader::of(source, node, problems) else { continue };
            let role = table.required_string("role");
            let group = table.required_string("on");
            let rolling = rolling::read(&mut table);
            table.finish();
            if let (Some((role, role_span)), Some((group, group_span))) = (role, group) {
                place.push(Placement {
                    role: role.to_owned(),
                    role_span,
                    group: group.to_owned(),
                    group_span,
                    rolling,
                });
            }
        }
    } else if let Some(node) = place_node {
        problems.push(super::reader::wrong_type(source, node, "an array of tables"));
    }
    let (name, span) = name?;
    Some(Layer {
        name: name.to_owned(),
        requires: requires.into_iter().map(|(text, span)| (text.to_owned(), span)).collect(),
        place,
        span,
    })
}

/// A layer may only require layers that come before it: the file's order is the install order.
fn check_order(layers: &[Layer], problems: &mut Diagnostics) {
    for (index, layer) in layers.iter().enumerate() {
        for (required, span) in &layer.requires {
            if layers[..index].iter().any(|earlier| earlier.name == *required) {
                continue;
            }
            let known = layers.iter().any(|other| other.name == *required);
            let (message, hint) = if known {
                (
                    format!("layer `{}` requires `{required}`, which comes later", layer.name),
                    "layers stand in the order in which they are installed".to_owned(),
                )
            } else {
                (
                    format!("no layer is named `{required}`"),
                    super::suggest::among(required, layers.iter().map(|l| l.name.as_str())),
                )
            };
            problems.push(Diagnostic::error(Code::LAYER, message).at(span.clone(), "").hint(hint));
        }
    }
}
