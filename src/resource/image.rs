//! An image of the host's container engine.

use super::container_spec::short;
use super::converge::{Converge, Progress};
use super::engine::{image_id, is_installed, is_pinned};
use super::outcome::{Change, Failure};
use super::system::System;
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};

/// An image that must be on the host, and be the one that the site means. A host never fetches it:
/// strata brings images to hosts before it changes anything there.
///
/// ```toml
/// image = { name = "redis:7.2.5" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Image with its tag or digest, never `latest`.
    pub name: String,
    /// The id it must have, `"sha256:…"`. Default: any.
    #[serde(default)]
    pub id: Option<String>,
}

/// What a failure says about an image that a host lacks.
pub(super) fn missing(name: &str) -> Failure {
    Failure::new(format!("the image {name} is not on the host"))
        .hint(format!("put an archive made with `docker save` among the site's images, or bring it by hand: `docker load -i ARCHIVE`, or `docker pull {name}`"))
}

impl Converge for Image {
    /// The id that the name has on the host.
    type Found = Option<String>;

    fn validate(&self) -> Vec<Problem> {
        let id = self.id.as_deref().map(|id| id.strip_prefix("sha256:").unwrap_or_default());
        Rules::new()
            .that(is_pinned(&self.name), || {
                Problem::new("name", format!("`{}` names no exact image", self.name))
                    .hint("write repository:tag, with another tag than `latest`")
            })
            .that(
                id.is_none_or(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())),
                || Problem::new("id", "must be `sha256:` and 64 hexadecimal digits"),
            )
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Option<String>, Failure> {
        if is_installed(system)? { image_id(system, &self.name) } else { Ok(None) }
    }

    fn compare(&self, found: &Option<String>) -> Vec<Change> {
        match (found, &self.id) {
            (None, _) => vec![Change::new("image", None, Some(self.name.clone()))],
            (Some(found), Some(wanted)) if !found.eq_ignore_ascii_case(wanted) => {
                vec![Change::new("id", Some(short(found)), Some(short(wanted)))]
            }
            _ => Vec::new(),
        }
    }

    fn apply(
        &self,
        found: &Option<String>,
        _: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        match (found, &self.id) {
            (Some(found), Some(wanted)) => Err(Failure::new(format!(
                "the image {} is another one on the host: it has the id {found}, wanted {wanted}",
                self.name
            ))
            .hint("remove the wrong one (`docker rmi`) and load the right one, or give the new image a tag of its own")),
            _ => Err(missing(&self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: Option<&str>) -> Image {
        Image { name: "redis:7.2.5".to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn what_counts_is_the_id() {
        let (a, b) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
        for (found, wanted, differs) in [
            (None, None, true),
            (Some(&a), None, false),
            (Some(&a), Some(&a), false),
            (Some(&a), Some(&b), true),
        ] {
            let image = image(wanted.map(String::as_str));
            assert_eq!(image.validate(), []);
            assert_eq!(!image.compare(&found.cloned()).is_empty(), differs, "{found:?} {wanted:?}");
        }
        assert!(!image(Some("sha256:abc")).validate().is_empty());
        assert!(!image(Some(&"a".repeat(64))).validate().is_empty());
    }
}
