//! "Did you mean": the nearest known name, or the list of what is known.

/// A hint for an unknown name: the nearest known one, else all of them.
pub fn among<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "none is defined".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::among;

    #[test]
    fn suggests_the_nearest_or_lists_all() {
        assert_eq!(among("redsi", ["redis", "db"]), "did you mean `redis`?");
        assert_eq!(among("zzz", ["redis", "db"]), "known: redis, db");
        assert_eq!(among("zzz", []), "none is defined");
    }
}
