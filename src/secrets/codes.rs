//! The diagnostic codes of this module: E0400 to E0499.

use crate::diag::Code;

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: Code = Code::new($code);
        )*
        /// Every code with its title, in order.
        pub const ALL: &[(Code, &str)] = &[$(($name, $title)),*];
    };
}

codes! {
    ENV_LINE = "E0401", "A line of a .env file is not NAME=value";
    ENV_NAME = "E0402", "The name of a secret is not upper case letters, digits and `_`";
    ENV_QUOTE = "E0403", "A quoted value is not closed, or something follows it";
    ENV_UNQUOTED = "E0404", "A value holds characters that a shell would interpret";
    ENV_DUPLICATE = "E0405", "A name stands twice in one file";
    ENV_CRLF = "E0406", "A file has Windows line ends";
    ENV_BOM = "E0407", "A file starts with a byte order mark";
    ENV_CONTROL = "E0408", "A value holds a control character";
    ENV_NOT_UTF8 = "E0409", "A file is not UTF-8";
    ENV_EMPTY = "E0410", "A name stands without a value";
    VALUE_RULE = "E0411", "A value breaks a rule of its declaration";
    VALUE_WEAK = "E0412", "A value is one of the known defaults";
    NAME_UNDECLARED = "E0413", "A file holds a name that is not declared";
    VALUE_UNWRITABLE = "E0414", "A value cannot be written in the .env grammar";
    ANNOTATION = "E0420", "An annotation cannot be understood";
    ANNOTATION_MISSING = "E0421", "A declared name says not how it is made";
    DECLARED_VALUE = "E0422", "A file of declarations holds a value";
    DECLARED_TWICE = "E0423", "A name is declared twice";
    ANNOTATION_CONTRADICTS = "E0424", "An annotation contradicts itself";
    DECLARATIONS_MISSING = "E0425", "A site has no declarations of secrets";
    FILE_MODE = "E0430", "A file of secrets can be read by others, or has another owner";
    BOTH_FORMS = "E0431", "A brick has a plain and an encrypted file";
    FILE_KIND = "E0432", "A file of secrets is not a regular file";
    FILE_ACCESS = "E0433", "A file cannot be read or written";
    LOCKED = "E0434", "Another command changes the secrets";
    IDENTITY_MISSING = "E0440", "There is no identity";
    IDENTITY_MODE = "E0441", "The identity can be read by others";
    IDENTITY_PASSPHRASE = "E0442", "The identity is protected by a passphrase";
    IDENTITY_FORMAT = "E0443", "The identity cannot be understood";
    NOT_A_READER = "E0444", "A file is not encrypted to this identity";
    DAMAGED = "E0445", "An encrypted file is damaged";
    RECIPIENTS = "E0446", "The recipients file cannot be understood";
    NOT_A_RECIPIENT = "E0447", "The identity is not among the recipients";
    SECRET_KEY_EXPOSED = "E0448", "A secret key stands in a public file";
    MANIFEST = "E0450", "The manifest cannot be understood";
    REPLACED = "E0451", "An encrypted file is not the one that the manifest names";
    SECRET_MISSING = "E0452", "A secret has no value";
    LOADED_TWICE = "E0453", "A name has values in two bricks";
    UNKNOWN_NAME = "E0454", "There is no such brick or secret";
    NO_TERMINAL = "E0455", "The command needs a terminal";
    EDITOR = "E0456", "The editor cannot be used";
    INPUT = "E0457", "No usable value was given";
    CHANGED_MEANWHILE = "E0458", "The file was changed meanwhile";
    ONLY_OWN_READER = "E0459", "Only this host's own identity could open a backup";
    READERS_STALE = "E0460", "A file is encrypted to other readers than the recipients file names";
    RECOVERY_MISSING = "E0461", "No recovery key is among the readers";
    RECOVERY_HERE = "E0462", "The recovery key lies on this host";
    VALUE_SHARED = "E0463", "Two secrets have the same value";
    COMPARED = "E0464", "What secrets are compared with cannot be read";
    ROTATION = "E0465", "A secret cannot be rotated";
    VAULT_UNREACHABLE = "E0466", "The Vault server cannot be reached";
    VAULT_NOT_READY = "E0467", "The Vault server is sealed or not ready";
    VAULT_DENIED = "E0468", "The Vault server does not allow it";
    VAULT_ANSWER = "E0469", "The Vault server gives no usable answer";
    VAULT_LOGIN = "E0470", "There is nothing to show the Vault server";
    ONLY_AGE = "E0471", "The command is for secrets in age files only";
    FILES_UNREAD = "E0472", "Files of secrets are there that nothing reads";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn codes_are_unique_ordered_and_in_their_range() {
        let codes: Vec<&str> = ALL.iter().map(|(code, _)| code.as_str()).collect();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted);
        assert!(codes.iter().all(|code| code.starts_with("E04") && code.len() == 5));
    }
}
