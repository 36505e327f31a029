//! Where the agent keeps things on its host, below the root that it serves.

use std::path::{Path, PathBuf};

/// The agent's directories, all of them mode 0700 and owned by the agent's user.
#[derive(Debug, Clone)]
pub struct HostPaths {
    root: PathBuf,
}

impl HostPaths {
    /// Paths below `root`; `/` on a real host, a private directory for a simulated one.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// State that survives a reboot.
    pub fn state(&self) -> PathBuf {
        self.root.join("var/lib/strata")
    }

    /// Handlers that were notified and have not run yet: `<role>/<handler>`, names encoded.
    pub fn pending(&self) -> PathBuf {
        self.state().join("pending")
    }

    /// Steps that run each time and what became of them: `<role>/<step>`, names encoded.
    pub fn once(&self) -> PathBuf {
        self.state().join("once")
    }

    /// Layers of images on their way to the container engine, by digest.
    pub fn blobs(&self) -> PathBuf {
        self.state().join("blobs")
    }

    /// State that a reboot clears.
    pub fn run(&self) -> PathBuf {
        self.root.join("run/strata")
    }

    /// The file whose `flock` is the host's lock.
    pub fn lock(&self) -> PathBuf {
        self.run().join("lock")
    }
}

/// Creates `path` and its missing parents with mode 0700.
///
/// # Errors
/// When a directory cannot be created.
pub fn make_private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
