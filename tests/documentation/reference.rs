//! Reference tables out of the types: what a resource kind and a gate's test may be given.

use serde::Deserialize as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use strata::gate::SCENARIOS;
use strata::resource::{KINDS, Resource};

/// A struct or an enum that is read from TOML.
pub enum Declared {
    Struct { docs: String, fields: Vec<Field> },
    Enum { words: Vec<(String, String)>, default: Option<String> },
}

/// One key of a table.
pub struct Field {
    pub name: String,
    docs: String,
    kind: Kind,
    required: bool,
}

/// What a value may be.
enum Kind {
    Plain(&'static str),
    Named(String),
    List(Box<Kind>),
}

/// Everything that the files below `folder` declare.
pub fn declared(folder: &Path) -> BTreeMap<String, Declared> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "rs") {
            all.extend(declared_in(&path));
        }
    }
    all
}

/// Everything that one file declares.
pub fn declared_in(path: &Path) -> BTreeMap<String, Declared> {
    let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
    let mut found = BTreeMap::new();
    for item in file.items {
        match item {
            syn::Item::Struct(item) => {
                let fields = item.fields.iter().filter_map(field).collect();
                let docs = docs(&item.attrs);
                found.insert(item.ident.to_string(), Declared::Struct { docs, fields });
            }
            syn::Item::Enum(item) => {
                let word = |variant: &syn::Variant| {
                    let name = variant.ident.to_string();
                    if is_kebab(&item.attrs) { kebab(&name) } else { name.to_lowercase() }
                };
                let default = item.variants.iter().find(|variant| {
                    variant.attrs.iter().any(|attribute| attribute.path().is_ident("default"))
                });
                found.insert(
                    item.ident.to_string(),
                    Declared::Enum {
                        default: default.map(word),
                        words: item.variants.iter().map(|v| (word(v), docs(&v.attrs))).collect(),
                    },
                );
            }
            _ => {}
        }
    }
    found
}

/// True for an enum whose words are written with hyphens.
fn is_kebab(attributes: &[syn::Attribute]) -> bool {
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    serde
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .any(|list| list.tokens.to_string().contains("kebab-case"))
}

fn kebab(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(c.to_lowercase());
    }
    text
}

fn field(field: &syn::Field) -> Option<Field> {
    let serde = field.attrs.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let default = serde.filter_map(|attribute| attribute.meta.require_list().ok()).any(|list| {
        list.tokens.to_string().split(',').any(|word| word.trim().starts_with("default"))
    });
    let name = field.ident.as_ref()?.to_string();
    let (kind, optional) = kind(&field.ty)?;
    Some(Field { name, docs: docs(&field.attrs), kind, required: !default && !optional })
}

/// What a Rust type means in TOML; true when it may be left out whatever serde says.
fn kind(of: &syn::Type) -> Option<(Kind, bool)> {
    let syn::Type::Path(path) = of else { return None };
    let last = path.path.segments.last()?;
    let inner = || match &last.arguments {
        syn::PathArguments::AngleBracketed(list) => match list.args.first()? {
            syn::GenericArgument::Type(of) => kind(of).map(|(kind, _)| kind),
            _ => None,
        },
        _ => None,
    };
    Some(match last.ident.to_string().as_str() {
        "Option" => (inner()?, true),
        "Vec" => (Kind::List(Box::new(inner()?)), false),
        "BTreeMap" => (Kind::Plain("table of strings"), false),
        "String" => (Kind::Plain("string"), false),
        "Content" => (Kind::Plain("text"), false),
        "FileMode" => (Kind::Plain("octal string"), false),
        "bool" => (Kind::Plain("boolean"), false),
        "u16" => (Kind::Plain("number, 0 to 65535"), false),
        "u32" | "u64" | "i64" => (Kind::Plain("number"), false),
        "IpAddr" => (Kind::Plain("IP address"), false),
        other => (Kind::Named(other.to_owned()), false),
    })
}

/// Doc comments as paragraphs, each on one line; code keeps its lines.
fn docs(attributes: &[syn::Attribute]) -> String {
    let mut text = String::new();
    let mut code = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let syn::Meta::NameValue(pair) = &attribute.meta else { continue };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) = &pair.value else {
            continue;
        };
        let line = line.value();
        let line = line.strip_prefix(' ').unwrap_or(&line);
        code ^= line.starts_with("```");
        let joined = !code && !line.is_empty() && !line.starts_with("```");
        if joined && !text.is_empty() && !text.ends_with('\n') {
            text.push(' ');
        }
        text.push_str(line);
        if !joined {
            text.push('\n');
            if line.is_empty() {
                text.push('\n');
            }
        }
    }
    text.replace("[`", "`").replace("`]", "`").trim().to_owned()
}

/// Splits `…. Default: X. …` into the text without it, and X.
fn split_default(docs: &str) -> (String, Option<String>) {
    let Some((before, after)) = docs.split_once("Default: ") else {
        return (docs.to_owned(), None);
    };
    // A full stop inside code or brackets ends nothing.
    let mut inside = false;
    let end = after.char_indices().position(|(at, c)| {
        inside ^= matches!(c, '`' | '(' | ')');
        c == '.' && !inside && after[at + 1..].chars().next().is_none_or(char::is_whitespace)
    });
    let end = end.map_or(after.len(), |at| after.char_indices().nth(at).map_or(0, |(at, _)| at));
    let rest = after[end..].trim_start_matches('.').trim();
    (format!("{} {rest}", before.trim()).trim().to_owned(), Some(after[..end].to_owned()))
}

/// The example in a doc comment: the body of the kind's table.
fn example(kind: &str, docs: &str) -> Option<(String, toml::Table)> {
    let code = docs.split_once("```toml\n")?.1.split_once("```")?.0.to_owned();
    let table: toml::Table = code.parse().unwrap_or_else(|error| panic!("{kind}: {error}"));
    let table = table.get("step").and_then(toml::Value::as_table).unwrap_or(&table);
    Some((code, table.get(kind)?.as_table()?.clone()))
}

fn typed(kind: &str, body: &toml::Table) -> Result<Resource, String> {
    let table = toml::Table::from_iter([(kind.to_owned(), toml::Value::Table(body.clone()))]);
    Resource::deserialize(toml::Value::Table(table)).map_err(|error| error.to_string())
}

/// What the key is when a role leaves it out, asked of the type itself.
fn default_of(kind: &str, body: &toml::Table, key: &str) -> Result<serde_json::Value, String> {
    let mut body = body.clone();
    body.remove(key);
    let value = serde_json::to_value(typed(kind, &body)?).unwrap();
    Ok(value[kind][key].clone())
}

/// The section of every kind. Panics when a doc comment contradicts the type.
pub fn resources(root: &Path) -> String {
    let types = declared(&root.join("src/resource"));
    let mut text = String::new();
    let mut refused = Vec::new();
    for info in KINDS {
        let name: String = info.name.split('_').map(capital).collect();
        let Some(Declared::Struct { docs, fields }) = types.get(&name) else {
            panic!("no struct {name}");
        };
        let (code, body) = example(info.name, docs)
            .unwrap_or_else(|| panic!("the doc comment of {name} has no example of its kind"));
        let problems = typed(info.name, &body).map(|resource| resource.validate());
        if problems.as_ref() != Ok(&Vec::new()) {
            refused.push(format!("{name}: the example is refused: {problems:?}"));
            continue;
        }
        let prose = docs.split("```toml").next().unwrap().trim();
        writeln!(text, "\n## {}\n", info.name).unwrap();
        writeln!(text, "{prose}\n\n```toml\n{code}```\n").unwrap();
        let default = |field: &Field| {
            let default = default_of(info.name, &body, &field.name);
            assert_eq!(default.is_err(), field.required, "{name}.{}: {default:?}", field.name);
            default.unwrap_or_default()
        };
        table(&mut text, &name, fields, &types, &default);
        for field in fields {
            nested(&mut text, field, &types);
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    text.trim_start().to_owned()
}

/// The tables of the structs that a field is made of.
fn nested(text: &mut String, field: &Field, types: &BTreeMap<String, Declared>) {
    let mut kind = &field.kind;
    while let Kind::List(inner) = kind {
        kind = inner;
    }
    let Kind::Named(name) = kind else { return };
    if let Some(Declared::Struct { docs, fields }) = types.get(name) {
        let shape = if matches!(field.kind, Kind::List(_)) { "Each table of" } else { "The table" };
        writeln!(text, "\n{shape} `{}`: {}\n", field.name, uncapital(docs)).unwrap();
        table(text, name, fields, types, &|_| serde_json::Value::Null);
        for field in fields.iter().filter(|field| !matches!(field.kind, Kind::List(_))) {
            nested(text, field, types);
        }
    }
}

fn table(
    text: &mut String,
    owner: &str,
    fields: &[Field],
    types: &BTreeMap<String, Declared>,
    default_of: &dyn Fn(&Field) -> serde_json::Value,
) {
    text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
    for field in fields {
        assert!(!field.docs.is_empty(), "{owner}.{} has no doc comment", field.name);
        let (meaning, said) = split_default(&field.docs);
        let found = default_of(field);
        let found = match &found {
            serde_json::Value::String(text) if !text.is_empty() => Some(format!("`\"{text}\"`")),
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some(format!("`{found}`")),
            _ => words_default(&field.kind, types).map(|word| format!("`\"{word}\"`")),
        };
        if let (Some(said), Some(found)) = (&said, &found) {
            let bare = found.trim_matches(['`', '"']);
            assert!(said.contains(bare), "{owner}.{} says {said}, not {found}", field.name);
        }
        let default = if field.required {
            "required".to_owned()
        } else {
            said.map(|said| tidy(&said)).or(found).unwrap_or_else(|| "none".to_owned())
        };
        let meaning = match meaning.as_str() {
            "`\"present\"` (default) or `\"absent\"`." => "Whether it is to be there.",
            meaning => meaning,
        };
        let shown = shown(&field.kind, types);
        writeln!(text, "| `{}` | {shown} | {default} | {meaning} |", field.name).unwrap();
    }
}

/// A default as the other cells write it: values as code.
fn tidy(said: &str) -> String {
    if said.parse::<u64>().is_ok() || matches!(said, "true" | "false") {
        return format!("`{said}`");
    }
    said.to_owned()
}

fn words_default(kind: &Kind, types: &BTreeMap<String, Declared>) -> Option<String> {
    let Kind::Named(name) = kind else { return None };
    match types.get(name) {
        Some(Declared::Enum { default, .. }) => default.clone(),
        _ => None,
    }
}

fn shown(kind: &Kind, types: &BTreeMap<String, Declared>) -> String {
    match kind {
        Kind::Plain(text) => (*text).to_owned(),
        Kind::List(inner) => match shown(inner, types).as_str() {
            "string" => "list of strings".to_owned(),
            "number, 0 to 65535" => "list of numbers, 0 to 65535".to_owned(),
            "table" => "list of tables".to_owned(),
            other => panic!("a list of {other} needs words"),
        },
        Kind::Named(name) => match types.get(name) {
            Some(Declared::Enum { words, .. }) => {
                words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
            }
            Some(Declared::Struct { .. }) => "table".to_owned(),
            None => panic!("{name} is declared nowhere"),
        },
    }
}

/// The tests of gates with their bounds, as one table.
pub fn scenarios(root: &Path) -> String {
    let folder = root.join("src/gate/scenario");
    let list = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let shared = declared(&root.join("src/gate/drill"));
    let mut known = BTreeMap::new();
    let mut text = String::from("| test | kind | shows | bounds |\n|---|---|---|---|\n");
    for scenario in SCENARIOS {
        let line = list
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("\"{}\"", scenario.name)))
            .unwrap_or_else(|| panic!("{} is not in the list", scenario.name));
        let last = line.rsplit(' ').next().unwrap().trim_end_matches(';');
        let (module, bounds) = last.split_once("::").unwrap();
        // A subject with several files has a folder; some bounds are shared by several subjects.
        let own = known.entry(module).or_insert_with(|| match folder.join(module) {
            subject if subject.is_dir() => declared(&subject),
            _ => declared_in(&folder.join(format!("{module}.rs"))),
        });
        let types = if own.contains_key(bounds) { &*own } else { &shared };
        let Some(Declared::Struct { docs, fields }) = types.get(bounds) else {
            panic!("no struct {bounds} in {module}.rs");
        };
        let bounds: Vec<String> = fields
            .iter()
            .map(|field| {
                assert!(!field.docs.is_empty(), "{module}: {} has no doc comment", field.name);
                let (meaning, default) = split_default(&field.docs);
                let default = match (field.required, default) {
                    (true, _) => String::new(),
                    (false, Some(default)) => format!(", default {default}"),
                    (false, None) => ", optional".to_owned(),
                };
                let meaning = uncapital(meaning.trim_end_matches('.'));
                format!("`{}` ({}{default}): {meaning}", field.name, shown(&field.kind, types))
            })
            .collect();
        let bounds = match (bounds.is_empty(), docs.trim_end_matches('.')) {
            (true, "No settings") => "none".to_owned(),
            (true, docs) => docs.to_owned(),
            (false, _) => bounds.join("<br>"),
        };
        let (name, kind, summary) = (scenario.name, scenario.kind.word(), scenario.summary);
        writeln!(text, "| `{name}` | {kind} | {summary} | {bounds} |").unwrap();
    }
    text
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn uncapital(text: &str) -> String {
    if text.chars().nth(1).is_some_and(char::is_uppercase) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
