//! The passwords of a server's users. A server takes several of one user at the same time.

use super::client::Client;
use super::error::Error;
use super::reply::{list, text};
use redis::{Value, cmd};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// What a server keeps of a password.
pub fn password_hash(password: &str) -> String {
    Sha256::digest(password.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Client {
    /// The hashes of the passwords that a user may give.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn user_passwords(&self, user: &str) -> Result<BTreeSet<String>, Error> {
        const WHAT: &str = "ACL GETUSER";
        passwords(WHAT, &self.call(WHAT, cmd("ACL").arg("GETUSER").arg(user)).await?)
    }

    /// Lets a user give one more password, by its hash; nobody is disconnected.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_password(&self, user: &str, hash: &str) -> Result<(), Error> {
        self.set_user(user, &format!("#{hash}")).await
    }

    /// Takes a password from a user, by its hash; nobody is disconnected.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_password(&self, user: &str, hash: &str) -> Result<(), Error> {
        self.set_user(user, &format!("!{hash}")).await
    }

    async fn set_user(&self, user: &str, rule: &str) -> Result<(), Error> {
        let command = cmd("ACL").arg("SETUSER").arg(user).arg(rule).clone();
        self.call("ACL SETUSER", &command).await.map(drop)
    }
}

/// The field `passwords` of the answer to ACL GETUSER.
pub(super) fn passwords(what: &str, value: &Value) -> Result<BTreeSet<String>, Error> {
    let hashes = |value: &Value| list(what, value)?.iter().map(|one| text(what, one)).collect();
    let missing = || Error::answer(what, "no `passwords`");
    if let Value::Map(entries) = value {
        let field = entries.iter().find(|(key, _)| text(what, key).is_ok_and(|k| k == "passwords"));
        return hashes(&field.ok_or_else(missing)?.1);
    }
    let fields = list(what, value)?;
    let field = fields
        .chunks_exact(2)
        .find(|pair| text(what, &pair[0]).is_ok_and(|key| key == "passwords"))
        .ok_or_else(missing)?;
    hashes(&field[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_passwords_of_a_user_are_found_among_its_fields() {
        let word = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = Value::Array(vec![
            word("flags"),
            Value::Array(vec![word("on")]),
            word("passwords"),
            Value::Array(vec![word("aa"), word("bb")]),
        ]);
        let found = passwords("ACL", &answer).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["aa", "bb"]);
        for wrong in [Value::Nil, Value::Array(vec![word("passwords")]), Value::Array(vec![])] {
            assert!(passwords("ACL", &wrong).is_err());
        }
        assert_eq!(&password_hash("a")[..8], "ca978112");
    }
}
