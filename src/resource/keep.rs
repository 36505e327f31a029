//! A live region of a file: lines that belong to something on the host, inside a file that is
//! written as a whole.
//!
//! The region stands between `# strata:keep NAME` and `# strata:end NAME`, each on a line of its
//! own. What the site writes there only seeds a new file.

use std::ops::Range;

/// The bytes between the two markers of the region `name`; `None` unless the text has exactly one
/// such region, its markers once each and in order.
pub(super) fn region(text: &[u8], name: &str) -> Option<Range<usize>> {
    let (begin, end) = (format!("# strata:keep {name}"), format!("# strata:end {name}"));
    let (mut from, mut to) = (None, None);
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let start = at;
        at += line.len();
        let trimmed = line.trim_ascii();
        if trimmed == begin.as_bytes() {
            if from.replace(at).is_some() {
                return None;
            }
        } else if trimmed == end.as_bytes() && to.replace(start).is_some() {
            return None;
        }
    }
    let (from, to) = (from?, to?);
    (from <= to).then_some(from..to)
}

/// `wanted` with the lines of its region taken from `found`, where both have exactly one.
pub(super) fn merge(wanted: &[u8], found: &[u8], name: &str) -> Vec<u8> {
    let (Some(own), Some(live)) = (region(wanted, name), region(found, name)) else {
        return wanted.to_vec();
    };
    [&wanted[..own.start], &found[live], &wanted[own.end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(before: &str, inside: &str, after: &str) -> String {
        format!("{before}# strata:keep live\n{inside}  # strata:end live\n{after}")
    }

    const LINES: &str = "([a-z#: ]{0,12}\n){0,4}";

    proptest! {
        #[test]
        fn only_the_region_is_the_hosts(
            (before, seed, after) in (LINES, LINES, LINES),
            (elsewhere, live, also) in (LINES, LINES, LINES),
        ) {
            let wanted = file(&before, &seed, &after);
            let found = file(&elsewhere, &live, &also);
            let merged = merge(wanted.as_bytes(), found.as_bytes(), "live");
            prop_assert_eq!(&merged, &file(&before, &live, &after).into_bytes());
            prop_assert_eq!(merge(wanted.as_bytes(), &merged, "live"), merged, "once is enough");
        }

        #[test]
        fn anything_but_one_region_is_not_taken(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("# strata:keep live\n"), Just("# strata:end live\n"), Just("x\n"),
                    Just("# strata:keep other\n"), Just("# strata:keep live too\n"),
                ], 0..6),
        ) {
            let found = parts.concat();
            let wanted = file("a\n", "seed\n", "b\n");
            let merged = merge(wanted.as_bytes(), found.as_bytes(), "live");
            let begins: Vec<usize> =
                parts.iter().enumerate().filter(|(_, p)| **p == "# strata:keep live\n").map(|(i, _)| i).collect();
            let ends: Vec<usize> =
                parts.iter().enumerate().filter(|(_, p)| **p == "# strata:end live\n").map(|(i, _)| i).collect();
            let one = begins.len() == 1 && ends.len() == 1 && begins[0] < ends[0];
            if one {
                let inside = parts[begins[0] + 1..ends[0]].concat();
                prop_assert_eq!(merged, file("a\n", &inside, "b\n").into_bytes());
            } else {
                prop_assert_eq!(merged, wanted.into_bytes());
            }
        }

        #[test]
        fn any_bytes_are_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            region(&bytes, "live");
            prop_assert_eq!(merge(&bytes, &bytes, "live"), bytes);
        }
    }

    #[test]
    fn markers_at_the_ends_of_a_file() {
        let text = b"# strata:keep a\n# strata:end a";
        assert_eq!(region(text, "a"), Some(16..16));
        assert_eq!(region(b"# strata:keep a", "a"), None);
    }
}
