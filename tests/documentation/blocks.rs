//! Blocks of code in the documents: where one stands, and whether a program printed what one shows.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fs;
use std::path::Path;

/// A block of code: fenced, or indented after an empty line.
pub struct Block {
    /// The document, below `docs`.
    pub document: String,
    /// Its lines without the indentation.
    pub lines: Vec<String>,
}

impl Block {
    /// All lines.
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// The sessions of the block: each command after its `$`, and what is shown below it.
    pub fn sessions(&self) -> Vec<(String, Vec<String>)> {
        let mut sessions: Vec<(String, Vec<String>)> = Vec::new();
        for line in &self.lines {
            if let Some(command) = line.strip_prefix("$ ") {
                sessions.push((command.to_owned(), Vec::new()));
            } else if let Some((_, shown)) = sessions.last_mut() {
                shown.push(line.clone());
            }
        }
        sessions
    }
}

/// All blocks of a document, in its order.
pub fn blocks(document: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(document);
    let text = fs::read_to_string(path).unwrap();
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    // What a fence or an indentation began, and how deep it stands.
    let (mut fenced, mut open) = (false, false);
    let mut empty = true;
    for line in text.lines() {
        let code = line.starts_with("    ");
        if line.starts_with("```") {
            fenced = !fenced;
            open = fenced;
            if fenced {
                blocks.push(Vec::new());
            }
        } else if fenced || (open && (code || line.is_empty())) {
            blocks.last_mut().unwrap().push(line);
        } else if code && empty {
            open = true;
            blocks.push(vec![line]);
        } else {
            open = false;
        }
        empty = line.trim().is_empty();
    }
    let made = blocks.into_iter().map(|mut lines| {
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
        let depth = |line: &&str| line.len() - line.trim_start().len();
        let least = lines.iter().filter(|line| !line.is_empty()).map(depth).min().unwrap_or(0);
        let lines = lines.iter().map(|line| line.get(least..).unwrap_or("").to_owned()).collect();
        Block { document: document.to_owned(), lines }
    });
    made.collect()
}

/// The block of a document that has a line beginning so.
#[track_caller]
pub fn block(document: &str, begins: &str) -> Block {
    let mut found = blocks(document)
        .into_iter()
        .filter(|block| block.lines.iter().any(|line| line.trim_start().starts_with(begins)));
    let block = found.next();
    assert!(found.next().is_none(), "docs/{document}: several blocks have a line `{begins}`");
    block.unwrap_or_else(|| panic!("docs/{document} has no block with a line `{begins}`"))
}

/// Words of a line in which each number is `0`: how long something took is not what is compared.
fn words(line: &str) -> Vec<String> {
    line.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(plain).collect()
}

fn plain(word: &str) -> String {
    let mut plain = String::new();
    for c in word.chars() {
        if !c.is_ascii_digit() {
            plain.push(c);
        } else if !plain.ends_with('0') {
            plain.push('0');
        }
    }
    match plain.as_str() {
        // What took 0.6 s or 600 ms took some time.
        "ms" => "s".to_owned(),
        "0.0" => "0".to_owned(),
        // A run's id.
        run if run.starts_with("0-0-") => "0-0-…".to_owned(),
        _ => plain,
    }
}

/// Whether a printed line says all that a shown one says: its words in their order, numbers apart.
/// `…` stands for whatever was left out, also at the end of a word.
pub fn says(printed: &str, shown: &str) -> bool {
    let printed = words(printed);
    let mut rest = printed.iter();
    words(shown).iter().all(|word| match word.split_once('…') {
        Some((start, _)) => start.is_empty() || rest.any(|other| other.starts_with(start)),
        None => rest.any(|other| other == word),
    })
}

/// The lines of `shown` that nothing printed says. Hosts work side by side: their lines come in any order.
pub fn missing<'a>(printed: &str, shown: &'a [String]) -> Vec<&'a str> {
    let lines = shown.iter().map(|line| line.trim());
    lines
        .filter(|line| !line.is_empty() && *line != "…" && !line.starts_with("… "))
        .filter(|line| !printed.lines().any(|printed| says(printed, line)))
        .collect()
}
