//! `inventory/lab/images/<name>.toml`: what an image of the lab consists of.

use serde::Deserialize;

use super::super::error::{LabError, Result};

/// What an image consists of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDescription {
    /// The pin in `versions.yaml` whose image it stands for.
    pub pin: String,
    /// The Debian release that its packages come from.
    pub suite: String,
    /// Its packages, without their dependencies.
    pub packages: Vec<String>,
    /// A program in it that prints the version; it must be the one of the image's tag.
    pub version: Vec<String>,
    /// Packages whose files are left out again: what only their installation needed.
    #[serde(default)]
    pub without: Vec<String>,
    /// Packages of the Python Package Index, each with its version (`patroni==3.3.0`), without
    /// their dependencies: those are Debian's.
    #[serde(default)]
    pub python: Vec<String>,
    /// Files that are there before the packages are installed, and that decide how they are.
    #[serde(default, rename = "before")]
    pub before: Vec<ImageFile>,
    /// Users that must have certain numbers.
    #[serde(default, rename = "user")]
    pub users: Vec<ImageUser>,
    /// Directories beside those of the packages.
    #[serde(default, rename = "directory")]
    pub directories: Vec<ImageFolder>,
    /// Files beside those of the packages.
    #[serde(default, rename = "file")]
    pub files: Vec<ImageFile>,
    /// How containers of it start.
    #[serde(default)]
    pub container: ContainerSettings,
}

/// A user with the group of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageUser {
    /// Its name and that of its group.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
}

/// A directory of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFolder {
    /// Where.
    pub path: String,
    /// The user who owns it, with the group of the same name; root otherwise.
    #[serde(default)]
    pub owner: Option<String>,
    /// Its mode in octal digits.
    pub mode: String,
}

/// A file of an image, owned by root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Where.
    pub path: String,
    /// Its mode in octal digits.
    pub mode: String,
    /// What is in it.
    pub content: String,
}

/// How containers of an image start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerSettings {
    /// The program that always starts.
    pub entrypoint: Vec<String>,
    /// Its arguments unless others are given.
    pub command: Vec<String>,
    /// `NAME=value`, beside `PATH`.
    pub environment: Vec<String>,
    /// The user; root if none.
    pub user: String,
    /// The working directory.
    pub directory: String,
    /// The signal that stops it.
    pub stop_signal: String,
}

impl ImageDescription {
    /// Reads a description; `path` is for messages.
    ///
    /// # Errors
    /// [`LabError::InvalidSpec`] with what is wrong in the file.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let description: Self = toml::from_str(text).map_err(|error| {
            LabError::InvalidSpec(format!("{path}: {}", error.to_string().trim()))
        })?;
        description.validate()?;
        Ok(description)
    }

    /// Refuses what could not be built or would reach outside the image.
    pub(super) fn validate(&self) -> Result<()> {
        let refuse =
            |what: String| Err(LabError::InvalidSpec(format!("the image of {}: {what}", self.pin)));
        let word = |text: &str, more: &[u8]| {
            text.starts_with(|first: char| first.is_ascii_alphanumeric())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if !word(&self.suite, b"-") {
            return refuse(format!("{:?} is not the name of a release", self.suite));
        }
        if self.packages.is_empty() || self.version.is_empty() {
            return refuse("`packages` and `version` must not be empty".to_owned());
        }
        let mut packages = self.packages.iter().chain(&self.without);
        if let Some(bad) = packages.find(|name| !word(name, b"+-.:~")) {
            return refuse(format!("{bad:?} is not a package name"));
        }
        let pinned = |name: &&String| {
            name.split_once("==")
                .is_some_and(|(name, version)| word(name, b"-_.") && word(version, b".+!"))
        };
        if let Some(bad) = self.python.iter().find(|name| !pinned(name)) {
            return refuse(format!(
                "{bad:?} is not a Python package with its version, such as \"a==1.0\""
            ));
        }
        if let Some(bad) = self.users.iter().find(|user| !word(&user.name, b"-_")) {
            return refuse(format!("{:?} is not a user name", bad.name));
        }
        if let Some(bad) = self.users.iter().find(|user| user.home.contains([':', '\n'])) {
            return refuse(format!("{:?} is not a home directory", bad.home));
        }
        let paths = self
            .directories
            .iter()
            .map(|directory| &directory.path)
            .chain(self.files.iter().chain(&self.before).map(|file| &file.path));
        for path in paths {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") || path == "/" {
                return refuse(format!("{path:?} is not a path within the image"));
            }
        }
        let owners = self.directories.iter().filter_map(|directory| directory.owner.as_ref());
        for owner in owners {
            if !self.users.iter().any(|user| &user.name == owner) {
                return refuse(format!("no [[user]] is named {owner:?}"));
            }
        }
        let modes = self
            .directories
            .iter()
            .map(|directory| &directory.mode)
            .chain(self.files.iter().chain(&self.before).map(|file| &file.mode));
        for mode in modes {
            if octal(mode).is_none() {
                return refuse(format!("{mode:?} is not a mode, such as \"0755\""));
            }
        }
        Ok(())
    }
}

/// A mode of three or four octal digits.
pub(super) fn octal(text: &str) -> Option<u32> {
    let fits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    fits.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
pin = "redis_image"
suite = "bookworm"
packages = ["redis-server"]
version = ["redis-server", "--version"]
without = ["perl-base"]
python = ["patroni==3.3.0"]
[[user]]
name = "redis"
uid = 999
gid = 1000
home = "/data"
[[directory]]
path = "/data"
owner = "redis"
mode = "0755"
[[file]]
path = "/entry"
mode = "0755"
content = "x"
"#;

    #[test]
    fn a_sound_description_is_read() {
        let read = ImageDescription::parse("x.toml", SOUND).unwrap();
        assert_eq!(read.users[0].uid, 999);
        assert_eq!(read.container, ContainerSettings::default());
    }

    #[test]
    fn what_reaches_outside_or_makes_no_sense_is_refused() {
        for (from, to, reason) in [
            ("\"bookworm\"", "\"-x\"", "release"),
            ("\"redis-server\"]\nversion", "\"-o=x\"]\nversion", "package name"),
            ("\"perl-base\"", "\"../perl\"", "package name"),
            ("patroni==3.3.0", "patroni", "Python package"),
            ("patroni==3.3.0", "--index-url==x", "Python package"),
            ("\"/data\"\nowner", "\"/usr/../..\"\nowner", "path within"),
            ("\"/data\"\nowner", "\"/\"\nowner", "path within"),
            ("\"/entry\"", "\"entry\"", "path within"),
            ("owner = \"redis\"", "owner = \"nobody\"", "no [[user]]"),
            ("mode = \"0755\"\ncontent", "mode = \"+x\"\ncontent", "not a mode"),
            ("pin = ", "image = \"x\"\npin = ", "unknown field"),
            ("home = \"/data\"", "home = \"/a:b\"", "home directory"),
        ] {
            let text = SOUND.replacen(from, to, 1);
            assert_ne!(text, SOUND, "{from}");
            let error = ImageDescription::parse("x.toml", &text).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
