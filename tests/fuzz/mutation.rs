//! Inputs that are nearly right: real files of the project, changed a little. Random bytes never get
//! past the first line of a parser; these do.

use proptest::prelude::*;
use proptest::sample::Index;

/// One change of an input. Shrinking takes changes away.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// A word of the formats, or an odd one, at a place.
    Insert(Index, &'static str),
    /// A word in place of some bytes.
    Replace(Index, usize, &'static str),
    /// Some bytes go.
    Remove(Index, usize),
    /// A bit is turned.
    Flip(Index, u8),
    /// A line stands twice.
    Repeat(Index),
    /// A line goes.
    Drop(Index),
    /// Two lines change places.
    Swap(Index, Index),
    /// The rest goes.
    Cut(Index),
    /// A piece of another input of the same kind.
    Splice(Index, Index, Index, usize),
}

/// Words that the formats give a meaning to, and such as others have stumbled over.
const WORDS: &[&str] = &[
    "\t",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\0",
    "\u{feff}",
    "=",
    "\"",
    "'",
    "\\",
    "#",
    ",",
    ".",
    "..",
    ":",
    "-",
    "*",
    "!",
    "|",
    "@",
    "$",
    "`",
    "$(x)",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "{{",
    "}}",
    "{{ x }}",
    "{{ secrets.X }}",
    "{% for x in y %}",
    "{#",
    "é",
    "😀",
    "\u{2028}",
    "e\u{301}",
    "\u{202e}",
    "0",
    "-1",
    "65536",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "1e400",
    "inf",
    "nan",
    "0x",
    "0o777",
    "true",
    "1979-05-27T07:32:00Z",
    "\"\"\"",
    "'''",
    "\\u0000",
    "\\ud800",
    "null",
    "255.255.255.255",
    "0.0.0.0/0",
    "10.0.0.300",
    "::1",
    "present",
    "absent",
    "name",
    "file",
    "template",
    "command",
    "[[step]]",
    "[member.x]",
    "release = ",
    "A_A=",
    "export ",
    "ssh-ed25519 ",
    "@revoked ",
    "|1|",
    "{\"kind\":",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    let word = || prop::sample::select(WORDS);
    prop_oneof![
        4 => (place(), word()).prop_map(|(at, word)| Mutation::Insert(at, word)),
        3 => (place(), 1..20_usize, word()).prop_map(|(at, n, word)| Mutation::Replace(at, n, word)),
        2 => (place(), 1..40_usize).prop_map(|(at, n)| Mutation::Remove(at, n)),
        2 => (place(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => place().prop_map(Mutation::Repeat),
        1 => place().prop_map(Mutation::Drop),
        1 => (place(), place()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        1 => place().prop_map(Mutation::Cut),
        2 => (place(), place(), place(), 1..200_usize)
            .prop_map(|(at, of, from, n)| Mutation::Splice(at, of, from, n)),
    ]
}

/// One of the inputs, changed.
pub fn changed(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    assert!(!corpus.is_empty(), "there is nothing to begin with");
    (any::<Index>(), prop::collection::vec(mutation(), 0..8)).prop_map(move |(of, mutations)| {
        let mut bytes = of.get(&corpus).clone();
        for mutation in &mutations {
            apply(&mut bytes, mutation, &corpus);
        }
        bytes
    })
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation, corpus: &[Vec<u8>]) {
    let length = bytes.len();
    // A place may be the end.
    let place = |at: &Index| at.index(length + 1);
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let mut of_lines = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut all = lines(bytes);
        if !all.is_empty() {
            change(&mut all);
        }
        *bytes = all.concat();
    };
    match mutation {
        Mutation::Repeat(at) => of_lines(&|all| {
            let line = at.index(all.len());
            all.insert(line, all[line].clone());
        }),
        Mutation::Drop(at) => of_lines(&|all| {
            all.remove(at.index(all.len()));
        }),
        Mutation::Swap(a, b) => of_lines(&|all| {
            let count = all.len();
            all.swap(a.index(count), b.index(count));
        }),
        Mutation::Insert(at, word) => splice(bytes, place(at), 0, word.as_bytes()),
        Mutation::Replace(at, n, word) => splice(bytes, place(at), *n, word.as_bytes()),
        Mutation::Remove(at, n) => splice(bytes, place(at), *n, b""),
        Mutation::Flip(at, bit) if length > 0 => bytes[at.index(length)] ^= 1 << bit,
        Mutation::Flip(..) => {}
        Mutation::Cut(at) => bytes.truncate(place(at)),
        Mutation::Splice(at, of, from, n) => {
            let other = of.get(corpus);
            let from = from.index(other.len() + 1);
            let piece = other[from..(from + n).min(other.len())].to_vec();
            splice(bytes, place(at), 0, &piece);
        }
    }
}

fn splice(bytes: &mut Vec<u8>, at: usize, gone: usize, new: &[u8]) {
    let end = (at + gone).min(bytes.len());
    bytes.splice(at..end, new.iter().copied());
}
