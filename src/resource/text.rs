//! Pure edits of text that others own. They work on bytes: foreign lines survive byte for byte,
//! whatever their encoding and line ends.

/// The lines of a text, each with its line end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

/// A line without its line end.
pub(super) fn bare(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The line end of a text: that of its first line.
fn line_end(text: &[u8]) -> &'static [u8] {
    match lines(text).next() {
        Some(first) if first.ends_with(b"\r\n") => b"\r\n",
        _ => b"\n",
    }
}

/// Appends a line; a last line without an end gets one first.
fn append(to: &mut Vec<u8>, line: &[u8], end: &[u8]) {
    if to.last().is_some_and(|last| *last != b'\n') {
        to.extend_from_slice(end);
    }
    to.extend_from_slice(line);
    to.extend_from_slice(end);
}

/// Which lines a line edit owns.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owned<'a> {
    /// Those equal to the wanted line.
    Same,
    /// Those whose first word is this key; words end at white space or `=`.
    Key(&'a str),
    /// Those that begin with this text.
    Prefix(&'a str),
}

impl Owned<'_> {
    pub(super) fn owns(self, line: &[u8], wanted: &[u8]) -> bool {
        match self {
            Self::Same => line == wanted,
            Self::Prefix(prefix) => line.starts_with(prefix.as_bytes()),
            Self::Key(key) => {
                let line = line.trim_ascii_start();
                let end = line
                    .iter()
                    .position(|byte| byte.is_ascii_whitespace() || *byte == b'=')
                    .unwrap_or(line.len());
                &line[..end] == key.as_bytes()
            }
        }
    }
}

/// The text with `wanted` in it exactly once: in place of the first owned line, further owned
/// lines dropped; at the end where there was none.
pub(super) fn with_line(text: &[u8], wanted: &[u8], owned: Owned<'_>) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len() + wanted.len() + 2);
    let mut placed = false;
    for line in lines(text) {
        let content = bare(line);
        if !owned.owns(content, wanted) && content != wanted {
            result.extend_from_slice(line);
        } else if !placed {
            placed = true;
            result.extend_from_slice(wanted);
            result.extend_from_slice(&line[content.len()..]);
        }
    }
    if !placed {
        append(&mut result, wanted, line_end(text));
    }
    result
}

/// The text without the owned lines.
pub(super) fn without_line(text: &[u8], wanted: &[u8], owned: Owned<'_>) -> Vec<u8> {
    lines(text).filter(|line| !owned.owns(bare(line), wanted)).flatten().copied().collect()
}

/// Where a new block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    End,
}

/// The first and the last line of a block.
#[derive(Debug, Clone)]
pub(super) struct Markers {
    pub(super) begin: String,
    pub(super) end: String,
}

impl Markers {
    pub(super) fn new(comment: &str, name: &str) -> Self {
        Self {
            begin: format!("{comment} BEGIN strata {name}"),
            end: format!("{comment} END strata {name}"),
        }
    }
}

/// The text with exactly one block of this name and content, or (`None`) without it. An existing
/// block stays where it is. An error names the line of a marker without its partner: guessing
/// where such a block ends could swallow lines of others.
pub(super) fn with_block(
    text: &[u8],
    markers: &Markers,
    content: Option<&[u8]>,
    place: Place,
) -> Result<Vec<u8>, String> {
    let end = line_end(text);
    let mut block = Vec::new();
    if let Some(content) = content {
        append(&mut block, markers.begin.as_bytes(), end);
        for line in lines(content) {
            append(&mut block, bare(line), end);
        }
        append(&mut block, markers.end.as_bytes(), end);
    }
    let mut result = Vec::with_capacity(text.len() + block.len());
    let mut opened = None;
    let mut placed = false;
    for (index, line) in lines(text).enumerate() {
        let inner = bare(line);
        let number = index + 1;
        if inner == markers.begin.as_bytes() {
            if let Some(first) = opened {
                return Err(format!("the block begins at line {first} and again at line {number}"));
            }
            opened = Some(number);
        } else if inner == markers.end.as_bytes() {
            if opened.take().is_none() {
                return Err(format!("the block ends at line {number} but never begins"));
            }
            if !placed {
                placed = true;
                let ended = line.len() > inner.len();
                let keep = if ended { block.len() } else { bare(&block).len() };
                result.extend_from_slice(&block[..keep]);
            }
        } else if opened.is_none() {
            result.extend_from_slice(line);
        }
    }
    if let Some(first) = opened {
        return Err(format!("the block begins at line {first} and never ends"));
    }
    if !placed && content.is_some() {
        match place {
            Place::Start => {
                block.extend_from_slice(&result);
                result = block;
            }
            Place::End => {
                if result.last().is_some_and(|last| *last != b'\n') {
                    result.extend_from_slice(end);
                }
                result.extend_from_slice(&block);
            }
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Texts as hosts have them: LF, CRLF, both, no final line end, bytes that are not UTF-8.
    fn any_text() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            Just(b"Port 22".to_vec()),
            Just(b"Port=2222".to_vec()),
            Just(b"#Port 22".to_vec()),
            Just(b"caf\xc3\xa9 \xff".to_vec()),
            Just(Vec::new()),
            "[a-z =]{0,12}".prop_map(String::into_bytes),
        ];
        let end = prop_oneof![Just(&b"\n"[..]), Just(&b"\r\n"[..])];
        (proptest::collection::vec((line, end), 0..12), any::<bool>()).prop_map(|(parts, cut)| {
            let mut text: Vec<u8> =
                parts.iter().flat_map(|(line, end)| [line.as_slice(), end].concat()).collect();
            if cut {
                text.truncate(bare(&text).len());
            }
            text
        })
    }

    fn foreign(text: &[u8], owned: Owned<'_>, wanted: &[u8]) -> Vec<Vec<u8>> {
        lines(text)
            .map(bare)
            .filter(|line| !owned.owns(line, wanted) && *line != wanted)
            .map(<[u8]>::to_vec)
            .collect()
    }

    proptest! {
        #[test]
        fn a_line_edit_is_idempotent_and_keeps_foreign_lines(text in any_text()) {
            let wanted = b"Port 2200";
            for owned in [Owned::Same, Owned::Key("Port"), Owned::Prefix("Port")] {
                let once = with_line(&text, wanted, owned);
                prop_assert_eq!(&with_line(&once, wanted, owned), &once);
                prop_assert_eq!(lines(&once).filter(|line| bare(line) == wanted).count(), 1);
                prop_assert_eq!(foreign(&text, owned, wanted), foreign(&once, owned, wanted));
                let gone = without_line(&once, wanted, owned);
                prop_assert_eq!(foreign(&text, owned, wanted), foreign(&gone, owned, wanted));
                prop_assert!(!lines(&gone).any(|line| owned.owns(bare(line), wanted)));
            }
        }

        #[test]
        fn a_block_edit_is_idempotent_and_keeps_foreign_bytes(text in any_text(), content in any_text(), at_start: bool) {
            let markers = Markers::new("#", "test");
            let place = if at_start { Place::Start } else { Place::End };
            let once = with_block(&text, &markers, Some(&content), place).unwrap();
            prop_assert_eq!(&with_block(&once, &markers, Some(&content), place).unwrap(), &once);
            let changed = with_block(&once, &markers, Some(b"other"), place).unwrap();
            let back = with_block(&changed, &markers, Some(&content), place).unwrap();
            prop_assert_eq!(&back, &once);
            let gone = with_block(&once, &markers, None, place).unwrap();
            // All that may remain of the block is the line end that a last line without one got.
            prop_assert!(gone == text || gone == [text.as_slice(), line_end(&text)].concat());
        }
    }

    #[test]
    fn the_first_owned_line_keeps_its_place() {
        let text = b"A 1\r\nPort 22\r\nB 2\r\n  Port=23\r\n#Port 1\r\n";
        assert_eq!(
            with_line(text, b"Port 2200", Owned::Key("Port")),
            b"A 1\r\nPort 2200\r\nB 2\r\n#Port 1\r\n"
        );
        assert_eq!(with_line(b"x", b"y", Owned::Same), b"x\ny\n");
        assert_eq!(with_line(b"", b"y", Owned::Same), b"y\n");
    }

    #[test]
    fn a_marker_without_its_partner_is_an_error() {
        let markers = Markers::new("#", "a");
        for (text, message) in [
            ("x\n# BEGIN strata a\ny\n", "begins at line 2 and never ends"),
            ("# END strata a\n", "ends at line 1 but never begins"),
            ("# BEGIN strata a\n# BEGIN strata a\n", "again at line 2"),
        ] {
            let error = with_block(text.as_bytes(), &markers, Some(b"z"), Place::End).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
