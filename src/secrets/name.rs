//! Names of secrets and of bricks (the files that group them).

/// True for the name of a secret: `A-Z`, then `A-Z`, `0-9` and `_`, at most 64 characters.
pub fn is_secret_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// True for the name of a brick: `a-z`, then `a-z`, `0-9` and `-`, at most 32 characters.
pub fn is_brick_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// True for a text that may be shown as a name although nobody declared it: a base32 token ends in
/// `=` and would otherwise pass for one.
pub(crate) fn is_showable(text: &str) -> bool {
    is_secret_name(text) && text.contains('_')
}

/// The candidate nearest to a mistyped name, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(typed, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes; names are ASCII.
fn distance(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(right) {
            let value = (diagonal + usize::from(a != *b)).min(before + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = value;
            before = value;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["A", "REDIS_PASSWORD", "K3S_TOKEN"] {
            assert!(is_secret_name(good), "{good}");
        }
        for bad in ["", "_A", "3A", "redis", "A-B", "A B", "É"] {
            assert!(!is_secret_name(bad), "{bad}");
        }
        assert!(is_brick_name("k3s") && !is_brick_name("../x") && !is_brick_name("3k"));
        assert!(!is_showable("JBSWY3DPEHPK3PXP"));
    }

    #[test]
    fn a_typing_mistake_finds_its_name_and_nonsense_none() {
        let names = ["REDIS_PASSWORD", "RABBITMQ_PASSWORD"];
        assert_eq!(nearest("REDIS_PASWORD", names), Some("REDIS_PASSWORD"));
        assert_eq!(nearest("SOMETHING_ELSE", names), None);
    }
}
