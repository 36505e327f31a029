//! A copy of the site at the repository's root, for tests that change something in it.

use std::fs;
use std::path::Path;

/// What makes up a site.
pub const PARTS: [&str; 6] =
    ["strata.toml", "versions.yaml", "inventory", "roles", "templates", "credentials.example"];

/// Copies the site into a folder that is there.
pub fn copy_site(folder: &Path) {
    for part in PARTS {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &folder.join(part));
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}
