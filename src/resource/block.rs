//! A marked block of lines in a file that others own.

use super::content::Content;
use super::converge::{Converge, Progress};
use super::edited::Edited;
use super::outcome::{Change, Failure};
use super::system::System;
use super::text::{Markers, Place, with_block};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};

/// A block of lines between `# BEGIN strata NAME` and `# END strata NAME`. A block that exists
/// stays where it is; all bytes outside it stay as they are.
///
/// ```toml
/// block = { path = "/etc/security/limits.conf", name = "files", content = "* soft nofile 65536\n" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Absolute path of the file; made when it does not exist.
    pub path: String,
    /// Name of the block, unique within the file: letters, digits, `-`, `_`, `.` and spaces.
    pub name: String,
    /// The lines between the markers. Default: none.
    #[serde(default)]
    pub content: Content,
    /// `"present"` (default) or `"absent"`.
    #[serde(default)]
    pub state: Presence,
    /// Where a new block goes: `"end"` (default) or `"start"` of the file.
    #[serde(default)]
    pub position: BlockPosition,
    /// What begins a comment in this file. Default: `"#"`.
    #[serde(default = "default_comment")]
    pub comment: String,
    /// A program that must accept the new file before the swap; `{file}` stands for its path.
    #[serde(default)]
    pub validate: Option<Vec<String>>,
}

/// Where a new block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockPosition {
    /// After the last line.
    #[default]
    End,
    /// Before the first line.
    Start,
}

fn default_comment() -> String {
    "#".to_owned()
}

impl Converge for Block {
    type Found = Edited;

    fn validate(&self) -> Vec<Problem> {
        let markers = Markers::new(&self.comment, &self.name);
        let nested = self
            .content
            .as_bytes()
            .split(|byte| *byte == b'\n')
            .any(|line| [markers.begin.as_bytes(), markers.end.as_bytes()].contains(&line));
        Rules::new()
            .path_below_root("path", &self.path)
            .name("name", &self.name, "-_. ")
            .one_line("comment", &self.comment)
            .that(!self.comment.trim().is_empty(), || Problem::new("comment", "is empty"))
            .that(!nested, || Problem::new("content", "holds a marker of its own block"))
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Edited, Failure> {
        let markers = Markers::new(&self.comment, &self.name);
        let place = match self.position {
            BlockPosition::Start => Place::Start,
            BlockPosition::End => Place::End,
        };
        let content = (self.state == Presence::Present).then_some(self.content.as_bytes());
        Edited::find(&self.path, system, |text| with_block(text, &markers, content, place))
    }

    fn shown_files(&self) -> Vec<String> {
        vec![self.path.clone()]
    }

    fn compare(&self, found: &Edited) -> Vec<Change> {
        let to = (self.state == Presence::Present).then(|| self.state.name().to_owned());
        found.compare(&format!("block {}", self.name), to)
    }

    fn apply(
        &self,
        found: &Edited,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        found.apply(&self.path, self.validate.as_deref(), system)
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn comes_and_goes() {
        let mut host = Host::new();
        host.put("/etc/l", "first\n");
        let block = resource("[block]\npath='/etc/l'\nname='n'\ncontent='x'\n");
        assert!(matches!(host.apply(&block), Outcome::Changed(_)));
        let text = "first\n# BEGIN strata n\nx\n# END strata n\n";
        assert_eq!(host.get("/etc/l").as_deref(), Some(text));
        assert_eq!(host.apply(&block), Outcome::Unchanged);
        let gone = resource("[block]\npath='/etc/l'\nname='n'\nstate='absent'\n");
        assert!(matches!(host.apply(&gone), Outcome::Changed(_)));
        assert_eq!(host.get("/etc/l").as_deref(), Some("first\n"));
    }
}
