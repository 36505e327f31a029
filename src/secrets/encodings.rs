//! The forms in which a value may turn up in output.
//!
//! Each form is a plain text to search for. Forms that do not depend on where the value stands are
//! complete; of base64 at an unknown alignment only the characters that the value alone decides.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Every form of a value, the value itself included.
pub(super) fn forms(value: &str) -> BTreeSet<String> {
    let mut plain: BTreeSet<String> = BTreeSet::new();
    plain.insert(value.to_owned());
    plain.extend(shell(value));
    // Quoted forms are embedded in JSON and in debug output in their turn.
    let mut all: BTreeSet<String> = plain.iter().flat_map(|form| escaped(form)).collect();
    all.extend(plain);
    all.extend(url(value));
    all.extend(markup(value));
    all.extend(hex(value));
    all.extend(base64(value.as_bytes()));
    all
}

/// As a shell would need it quoted, without the outer quotes.
fn shell(value: &str) -> Vec<String> {
    let backslashed = |special: &dyn Fn(char) -> bool| {
        let mut text = String::new();
        for character in value.chars() {
            if special(character) {
                text.push('\\');
            }
            text.push(character);
        }
        text
    };
    vec![
        value.replace('\'', r"'\''"),
        value.replace('\'', r#"'"'"'"#),
        value.replace('\\', r"\\").replace('\'', r"\'"),
        backslashed(&|c| matches!(c, '"' | '\\' | '$' | '`')),
        backslashed(&|c| matches!(c, '"' | '\\' | '$' | '`' | '!')),
        backslashed(&|c| !c.is_alphanumeric() && !"_-./=:@%+,".contains(c)),
        backslashed(&|c| !c.is_alphanumeric() && !"_-./=:@%+".contains(c)),
    ]
}

/// As a string of JSON, TOML, YAML and of Rust's debug output, without the outer quotes.
fn escaped(value: &str) -> Vec<String> {
    let json = |slash: bool, markup: bool, ascii: Option<bool>| {
        let mut text = String::new();
        for character in value.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '/' if slash => text.push_str("\\/"),
                '<' | '>' | '&' | '\'' if markup => unicode(&mut text, character, false),
                other => match ascii {
                    Some(upper) if !other.is_ascii() => unicode(&mut text, other, upper),
                    _ => text.push(other),
                },
            }
        }
        text
    };
    let mut forms = vec![value.escape_debug().to_string(), value.escape_default().to_string()];
    forms.push(forms[0].replace("\\'", "'"));
    for slash in [false, true] {
        for markup in [false, true] {
            for ascii in [None, Some(false), Some(true)] {
                forms.push(json(slash, markup, ascii));
            }
        }
    }
    forms
}

fn unicode(text: &mut String, character: char, upper: bool) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        let written = match upper {
            true => write!(text, "\\u{unit:04X}"),
            false => write!(text, "\\u{unit:04x}"),
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
}

/// Percent-encoded: everything but the unreserved characters, and as browsers and forms do it.
fn url(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for kept in ["-_.~", "-_.!~*'()", "-_.*", "-_.~/", "-_.!~*'();/?:@&=+$,#", "-_.~!$&'()*+,;="] {
        for upper in [true, false] {
            for plus in [true, false] {
                let mut text = String::new();
                for byte in value.bytes() {
                    let character = char::from(byte);
                    if byte.is_ascii_alphanumeric() || (byte.is_ascii() && kept.contains(character))
                    {
                        text.push(character);
                    } else if plus && byte == b' ' {
                        text.push('+');
                    } else {
                        let written = match upper {
                            true => write!(text, "%{byte:02X}"),
                            false => write!(text, "%{byte:02x}"),
                        };
                        debug_assert!(written.is_ok(), "writing to a string does not fail");
                    }
                }
                forms.push(text);
            }
        }
    }
    forms
}

/// As text and attributes of HTML and XML.
fn markup(value: &str) -> Vec<String> {
    let base = value.replace('&', "&amp;").replace('<', "&lt;");
    let mut forms = Vec::new();
    for greater in [">", "&gt;"] {
        for double in ["\"", "&quot;", "&#34;"] {
            for single in ["'", "&#39;", "&#x27;", "&apos;"] {
                forms.push(base.replace('>', greater).replace('"', double).replace('\'', single));
            }
        }
    }
    forms
}

/// As hexadecimal bytes, packed and separated.
fn hex(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for upper in [false, true] {
        let digits: Vec<String> = value
            .bytes()
            .map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") })
            .collect();
        forms.extend(["", " ", ":", ", 0x", "\\x", "%"].map(|separator| digits.join(separator)));
    }
    forms
}

/// As base64, alone and inside a longer run of bytes at each of the three alignments.
pub(super) fn base64(value: &[u8]) -> Vec<String> {
    let mut forms = vec![
        STANDARD.encode(value),
        STANDARD_NO_PAD.encode(value),
        URL_SAFE.encode(value),
        URL_SAFE_NO_PAD.encode(value),
    ];
    for offset in 0..3 {
        let mut padded = vec![0; offset];
        padded.extend_from_slice(value);
        let first = (offset * 8).div_ceil(6);
        let end = padded.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            if let Some(part) = text.get(first..end) {
                forms.push(part.to_owned());
            }
        }
    }
    forms
}
