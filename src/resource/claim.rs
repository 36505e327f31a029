//! What a resource has a say in on its host: two resources that both decide over one thing would
//! undo each other's work at every run.

use super::kinds::Resource;
use super::validity::Presence;

/// How much of a thing a resource decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// Its first content only; later it belongs to others.
    First,
    /// A part of it, beside parts of others.
    Part,
}

impl Share {
    /// True when two resources with these shares of one thing would undo each other's work.
    pub const fn conflicts(self, other: Self) -> bool {
        !matches!((self, other), (Self::Part, Self::Part | Self::First) | (Self::First, Self::Part))
    }
}

/// A resource's say in one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// A path, or words for what has none.
    pub thing: String,
    /// How much of it.
    pub share: Share,
}

fn claim(thing: impl Into<String>, share: Share) -> Claim {
    Claim { thing: thing.into(), share }
}

fn whole(thing: impl Into<String>) -> Claim {
    claim(thing, Share::Whole)
}

fn part(thing: impl Into<String>) -> Claim {
    claim(thing, Share::Part)
}

impl Resource {
    /// Everything that this resource decides over, as far as two of them could disagree.
    pub fn claims(&self) -> Vec<Claim> {
        match self {
            Self::File(file) if file.create_only && file.state == Presence::Present => {
                vec![claim(&file.path, Share::First)]
            }
            Self::File(file) => vec![whole(&file.path)],
            Self::Artifact(artifact) => vec![whole(&artifact.path)],
            Self::Link(link) => vec![whole(&link.path)],
            Self::Block(block) => vec![
                part(&block.path),
                whole(format!("the block `{}` of {}", block.name, block.path)),
            ],
            Self::Line(line) => {
                let key = line.key.iter();
                let own = key.map(|key| whole(format!("the line `{key}` of {}", line.path)));
                own.chain([part(&line.path)]).collect()
            }
            Self::Unit(unit) => vec![whole(format!("/etc/systemd/system/{}", unit.name))],
            Self::Sysctl(sysctl) => vec![whole(format!("/etc/sysctl.d/{}.conf", sysctl.name))],
            Self::Hostname(_) => vec![whole("/etc/hostname")],
            Self::Timezone(_) => vec![whole("/etc/localtime"), whole("/etc/timezone")],
            Self::Hosts(_) => vec![part("/etc/hosts"), whole("the entries of /etc/hosts")],
            Self::Mount(mount) => vec![whole(&mount.path), part("/etc/fstab")],
            Self::Swap(_) => vec![whole("the swap of the host"), part("/etc/fstab")],
            Self::AptRepository(repository) => repository.paths().map(whole).into(),
            Self::Firewall(_) => super::firewall::PATHS.map(whole).into(),
            // Two roles may need the same module; only its file is nobody else's.
            Self::KernelModule(module) => vec![part(module.path())],
            Self::AuthorizedKey(keys) => {
                let share = if keys.exclusive { Share::Whole } else { Share::Part };
                vec![claim(format!("the authorized keys of {}", keys.user), share)]
            }
            Self::Container(container) => vec![whole(format!("the container {}", container.name))],
            Self::Command(_)
            | Self::Directory(_)
            | Self::Group(_)
            | Self::Image(_)
            | Self::Package(_)
            | Self::Service(_)
            | Self::User(_)
            | Self::WaitFor(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::test_host::resource;

    fn conflict(first: &str, second: &str) -> bool {
        let (first, second) = (resource(first).claims(), resource(second).claims());
        first.iter().any(|a| {
            second.iter().any(|b| {
                assert_eq!(a.share.conflicts(b.share), b.share.conflicts(a.share));
                a.thing == b.thing && a.share.conflicts(b.share)
            })
        })
    }

    #[test]
    fn one_owner_per_thing() {
        let file = "[file]\npath='/etc/fstab'\n";
        let first = "[file]\npath='/etc/fstab'\ncreate_only=true\n";
        let line = "[line]\npath='/etc/fstab'\nline='x'\n";
        let block = "[block]\npath='/etc/fstab'\nname='a'\n";
        let mount = "[mount]\npath='/data'\ndevice='/dev/sdb'\nfstype='xfs'\n";
        let keyed = "[line]\npath='/etc/fstab'\nkey='k'\nline='k 1'\n";
        for (a, b, expected) in [
            (file, file, true),
            (file, line, true),
            (file, block, true),
            (file, mount, true),
            (file, first, true),
            (first, first, true),
            (first, line, false),
            (line, block, false),
            (line, line, false),
            (keyed, keyed, true),
            (block, block, true),
            (block, "[block]\npath='/etc/fstab'\nname='b'\n", false),
            (mount, mount, true),
            (mount, "[mount]\npath='/other'\ndevice='/dev/sdc'\nfstype='xfs'\n", false),
            (mount, "[link]\npath='/data'\ntarget='/srv'\n", true),
            ("[timezone]\nname='UTC'\n", "[link]\npath='/etc/localtime'\ntarget='x'\n", true),
            ("[hostname]\nname='a'\n", "[file]\npath='/etc/hostname'\n", true),
            (
                "[unit]\nname='a.service'\ncontent='x'\n",
                "[file]\npath='/etc/systemd/system/a.service'\n",
                true,
            ),
            (
                "[apt_repository]\nname='v'\ncontent='x'\n",
                "[file]\npath='/etc/apt/sources.list.d/v.sources'\n",
                true,
            ),
            ("[kernel_module]\nname='zram'\n", "[kernel_module]\nname='zram'\n", false),
            (
                "[container]\nname='a'\nimage='a:1'\n",
                "[container]\nname='a'\nstate='absent'\n",
                true,
            ),
            ("[container]\nname='a'\nimage='a:1'\n", "[container]\nname='b'\nimage='a:1'\n", false),
            ("[directory]\npath='/srv'\n", "[directory]\npath='/srv'\n", false),
            (
                "[authorized_key]\nuser='root'\nkeys=[]\nexclusive=true\n",
                "[authorized_key]\nuser='root'\nkeys=[]\n",
                true,
            ),
        ] {
            assert_eq!(conflict(a, b), expected, "{a}{b}");
            assert_eq!(conflict(b, a), expected, "{b}{a}");
        }
    }
}
