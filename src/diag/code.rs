//! Stable codes of diagnostics.

/// A diagnostic's code. Codes are never reused for another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(&'static str);

impl Code {
    /// A code, for example `E0203`.
    pub const fn new(code: &'static str) -> Self {
        Self(code)
    }

    /// The code as printed.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

macro_rules! codes {
    ($($(#[doc = $title:literal])+ $name:ident = $code:literal;)*) => {
        impl Code {
            $($(#[doc = $title])+ pub const $name: Self = Self($code);)*

            /// Every code of the site's files, with its one-line meaning.
            pub const SITE: &[(Self, &str)] = &[$((Self::$name, concat!($($title),+)),)*];
        }
    };
}

codes! {
    /// A file of the site cannot be read.
    FILE_UNREADABLE = "E0101";
    /// A TOML file is not valid TOML.
    TOML_SYNTAX = "E0102";
    /// A key is not known at this place.
    TOML_UNKNOWN_KEY = "E0103";
    /// A value has the wrong type or is out of range.
    TOML_TYPE = "E0104";
    /// A key that must be there is missing.
    TOML_MISSING_KEY = "E0105";
    /// A file is not UTF-8 text.
    FILE_NOT_TEXT = "E0106";
    /// The inventory's header row is missing, incomplete or has unknown or repeated columns.
    INVENTORY_HEADER = "E0201";
    /// An inventory row has the wrong number of cells.
    INVENTORY_CELLS = "E0202";
    /// A cell of the inventory is empty that must not be.
    INVENTORY_EMPTY = "E0203";
    /// A cell of the inventory is malformed.
    INVENTORY_VALUE = "E0204";
    /// Two hosts share a name or an address.
    INVENTORY_DUPLICATE = "E0205";
    /// A cell of the inventory looks like a secret.
    INVENTORY_SECRET = "E0206";
    /// The inventory has no host.
    INVENTORY_NO_HOSTS = "E0207";
    /// A group's selector is wrong.
    GROUP_SELECTOR = "E0301";
    /// A group does not hold the hosts it says it does.
    GROUP_EXPECTATION = "E0302";
    /// A balancer is wrong.
    BALANCER = "E0303";
    /// A group is not defined.
    GROUP_UNKNOWN = "E0304";
    /// Two groups of one host give the same variable different values.
    VARIABLE_CONFLICT = "E0305";
    /// A variable's name or value cannot be used.
    VARIABLE = "E0306";
    /// A layer is wrong.
    LAYER = "E0501";
    /// A role is not there.
    ROLE_UNKNOWN = "E0502";
    /// A step of a role is wrong.
    ROLE_STEP = "E0503";
    /// A handler is unknown, repeated or never notified.
    ROLE_HANDLER = "E0504";
    /// A resource's settings are wrong.
    RESOURCE = "E0505";
    /// A firewall rule is wrong.
    FIREWALL_RULE = "E0506";
    /// Two roles own the same thing on one host.
    RESOURCE_OWNER = "E0507";
    /// A template is not there.
    TEMPLATE_MISSING = "E0508";
    /// A template cannot be parsed or rendered.
    TEMPLATE = "E0509";
    /// A variable is not defined.
    UNDEFINED = "E0510";
    /// A gate's settings are wrong.
    GATE = "E0512";
    /// A secret stands where others can read it.
    SECRET_PLACE = "E0513";
    /// A role describes a cluster that no driver can form.
    CLUSTER = "E0514";
    /// A file below `artifacts/` is missing, or has another digest than the role says.
    ARTIFACT = "E0515";
    /// The versions file is malformed.
    VERSIONS_SYNTAX = "E0601";
    /// A version is not pinned.
    VERSION_UNPINNED = "E0602";
    /// A pin that upstream no longer serves.
    VERSION_GONE = "E0603";
    /// The lock file of images is malformed.
    IMAGE_LOCK = "E0604";
    /// An image is locked that is not the pin's.
    IMAGE_LOCK_STALE = "E0605";
    /// An image is not locked.
    IMAGE_UNLOCKED = "E0606";
    /// A setting of `strata.toml` is wrong.
    SETTING = "E0701";
    /// A selection names something that is not there.
    SELECTION = "E0702";
    /// A waiver is wrong, or covers nothing that exists.
    WAIVER = "E0703";
    /// A waiver has expired.
    WAIVER_EXPIRED = "E0704";
    /// The record of hosts out of service cannot be used as it is.
    OUT_OF_SERVICE = "E0705";
    /// A lab exception is wrong.
    LAB_EXCEPTION = "E0801";
}

#[cfg(test)]
mod tests {
    use super::Code;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique() {
        let unique: BTreeSet<&str> = Code::SITE.iter().map(|(code, _)| code.as_str()).collect();
        assert_eq!(unique.len(), Code::SITE.len());
    }
}
