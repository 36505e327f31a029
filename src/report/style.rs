//! Colours by meaning, durations and counts.

use std::fmt::Display;

/// Colours by meaning; output reads the same without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    /// Whether to colour at all.
    pub color: bool,
}

impl Palette {
    /// Good.
    pub fn good(&self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// Bad.
    pub fn bad(&self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    /// Changed, or to be looked at.
    pub fn warn(&self, text: impl Display) -> String {
        self.paint("33", text)
    }

    /// Names and hints.
    pub fn name(&self, text: impl Display) -> String {
        self.paint("36", text)
    }

    /// Less important.
    pub fn dim(&self, text: impl Display) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// A duration as people say it: `340 ms`, `2.4 s`, `3 min 5 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A number of bytes as people say it: `512 bytes`, `2.4 MiB`.
pub fn bytes(count: u64) -> String {
    let unit = |shift: u32, name: &str| {
        let tenths = (u128::from(count) * 10) >> shift;
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match count {
        0..1_024 => plural(usize::try_from(count).unwrap_or(0), "byte"),
        1_024..1_048_576 => unit(10, "KiB"),
        1_048_576..1_073_741_824 => unit(20, "MiB"),
        _ => unit(30, "GiB"),
    }
}

/// A moment in UTC, to the second.
pub fn moment(at_ms: u64) -> String {
    i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// `1 host`, `2 hosts`.
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_counts_read_well() {
        assert_eq!(duration(340), "340 ms");
        assert_eq!(duration(2_460), "2.4 s");
        assert_eq!(duration(185_000), "3 min 5 s");
        assert_eq!(plural(1, "host"), "1 host");
        assert_eq!(plural(0, "host"), "0 hosts");
        let said = [1, 1_023, 1_536, 5 << 20, u64::MAX].map(bytes);
        assert_eq!(said, ["1 byte", "1023 bytes", "1.5 KiB", "5.0 MiB", "17179869183.9 GiB"]);
    }
}
