//! Words of SQL that are made from data: names, texts and verifiers of passwords.

/// A name as SQL takes it, whatever is in it.
#[must_use]
pub fn identifier(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}

/// A text as SQL takes it, whatever is in it.
#[must_use]
pub fn literal(text: &str) -> String {
    postgres_protocol::escape::escape_literal(text)
}

/// What a server stores of a password (`SCRAM-SHA-256$…`), made here, so that the password itself
/// stands in no statement and in no log of a server. It differs with every call: its salt is drawn
/// anew. Treat it as a secret.
#[must_use]
pub fn scram_verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_end_nothing() {
        assert_eq!(identifier(r#"a"; drop table b"#), r#""a""; drop table b""#);
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn a_verifier_is_salted_and_holds_no_password() {
        let first = scram_verifier("the-right-one");
        assert!(first.starts_with("SCRAM-SHA-256$4096:"), "{first}");
        assert!(!first.contains("the-right-one"));
        assert_ne!(first, scram_verifier("the-right-one"));
    }
}
