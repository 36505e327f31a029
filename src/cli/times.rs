//! Spans of time as they are typed: `90s`, `30m`, `2h`, `7d`.

use std::time::Duration;

/// The units, each with its seconds; the largest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// The longest span in seconds: a year.
const LONGEST: u64 = 365 * 86_400;

/// Reads a span of time, at least a second and at most a year.
///
/// # Errors
/// What is wrong with it.
pub fn span(text: &str) -> Result<Duration, String> {
    let said = || format!("`{text}` is no time: a whole number and s, m, h or d, for example 30m");
    let unit = text.chars().next_back().ok_or_else(said)?;
    let (_, seconds) = UNITS.into_iter().find(|(known, _)| *known == unit).ok_or_else(said)?;
    let digits = text.get(..text.len() - unit.len_utf8()).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(said());
    }
    let span = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(seconds));
    match span {
        Some(span @ 1..=LONGEST) => Ok(Duration::from_secs(span)),
        Some(0) => Err(format!("`{text}` is no time at all")),
        _ => Err(format!("`{text}` is longer than a year")),
    }
}

/// A span of whole seconds as it could be typed.
pub fn typed(span: Duration) -> String {
    let seconds = span.as_secs();
    let whole = UNITS.into_iter().find(|(_, unit)| seconds != 0 && seconds.is_multiple_of(*unit));
    let (unit, size) = whole.unwrap_or(('s', 1));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(typed(Duration::from_secs(seconds)), text);
        }
        for wrong in
            ["", "m", "30", "1.5h", "-1s", "+1s", "0s", "1y", "400d", "99999999999999999999d", "3é"]
        {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(seconds in 1..LONGEST) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(span(&typed(duration)), Ok(duration));
        }

        #[test]
        fn nothing_typed_is_too_much(text in ".{0,12}") {
            let _ = span(&text);
        }
    }
}
