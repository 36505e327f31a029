//! Names of images, and what registries' refusals mean.

/// An image's name without tag and digest.
pub fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    let last = name.rfind('/').map_or(0, |at| at + 1);
    match name[last..].find(':') {
        Some(at) => &name[..last + at],
        None => name,
    }
}

/// An image's tag; empty where there is none.
pub fn tag(name: &str) -> &str {
    let rest = &name[repository(name).len()..];
    rest.strip_prefix(':').and_then(|rest| rest.split('@').next()).unwrap_or_default()
}

/// What an engine's words about a registry mean for an image.
pub fn explain(name: &str, words: &str) -> String {
    let lower = words.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let repository = repository(name);
    // Order matters: a registry that denies says `not found` too, and one that cannot be reached
    // says neither.
    if says(&[
        "dial tcp",
        "no such host",
        "i/o timeout",
        "connection refused",
        "network is unreachable",
        "deadline exceeded",
        "request canceled",
        "http response to https",
        "certificate",
    ]) {
        return format!("the registry of {repository} cannot be reached from there: {words}");
    }
    if says(&["no basic auth credentials"]) {
        return format!(
            "the registry of {repository} wants a login, and strata gives none: make an archive of the image where you are logged in: {words}"
        );
    }
    if says(&["manifest unknown", "manifest for"]) {
        // Engines hear the same of a tag that is missing and of a repository that is.
        return format!(
            "there is no {name}: the tag is missing in {repository}, or the whole repository is gone: {words}"
        );
    }
    if says(&[
        "denied",
        "unauthorized",
        "repository does not exist",
        "repository name not known",
        "name unknown",
        "authentication required",
    ]) {
        return format!(
            "the repository {repository} is gone or private; registries answer so for what does not exist, and credentials change nothing about that: {words}"
        );
    }
    format!("the registry refused {name}: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_repository_and_a_tag() {
        for (name, wanted) in [
            ("redis:7.2.5", ("redis", "7.2.5")),
            ("quay.io/minio/minio:R1", ("quay.io/minio/minio", "R1")),
            ("10.0.0.250:5000/a/b:1", ("10.0.0.250:5000/a/b", "1")),
            ("10.0.0.250:5000/a@sha256:0", ("10.0.0.250:5000/a", "")),
            ("a:1@sha256:0", ("a", "1")),
            ("a", ("a", "")),
        ] {
            assert_eq!((repository(name), tag(name)), wanted, "{name}");
        }
    }

    /// The words are those of the engine, as registries make it say them.
    #[test]
    fn a_repository_that_is_gone_is_no_question_of_credentials() {
        for (words, meaning) in [
            (
                "pull access denied for minio/minio, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                "is gone or private",
            ),
            (
                "errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required",
                "is gone or private",
            ),
            ("name unknown: repository name not known to registry", "is gone or private"),
            ("manifest unknown: manifest unknown", "there is no a/b:1"),
            (
                "manifest for a/b:1 not found: manifest unknown: manifest unknown",
                "there is no a/b:1",
            ),
            ("Get: dial tcp: lookup registry.example: no such host", "cannot be reached"),
            ("Head \"…/manifests/1\": no basic auth credentials", "wants a login"),
            ("toomanyrequests: You have reached your pull rate limit", "refused a/b:1"),
        ] {
            let said = explain("a/b:1", words);
            assert!(said.contains(meaning) && said.contains(words), "{said}");
        }
    }
}
