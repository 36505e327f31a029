//! The images of a rehearsal: which ones the selected roles use, and what they are made of.

use crate::lab::{Image, ImageDescription, LabError};
use crate::plan::pins_of;
use crate::site::Site;
use std::path::Path;

/// Where images are described, below the site.
const DESCRIPTIONS: &str = "inventory/lab/images";

/// What the lab builds, and what nobody described.
pub struct Images {
    /// Images that are used and described.
    pub images: Vec<Image>,
    /// References of images that are used and not described.
    pub missing: Vec<String>,
}

/// The images that roles of these layers (all, if none is named) use on these hosts.
///
/// # Errors
/// A description that cannot be read or understood.
pub fn of_site(site: &Site, layers: &[String], hosts: &[String]) -> Result<Images, LabError> {
    let descriptions = descriptions(&site.root)?;
    let (mut images, mut missing) = (Vec::new(), Vec::new());
    for pin in pins_of(site, layers, hosts) {
        let Some(version) = site.versions.get(&pin).filter(|_| pin.ends_with("_image")) else {
            continue;
        };
        let reference = version.value.clone();
        match descriptions.iter().find(|description| description.pin == pin) {
            Some(description) => images.push(Image { reference, description: description.clone() }),
            None => missing.push(reference),
        }
    }
    Ok(Images { images, missing })
}

/// Every description of the site, by file name.
fn descriptions(root: &Path) -> Result<Vec<ImageDescription>, LabError> {
    let folder = root.join(DESCRIPTIONS);
    let failed =
        |path: &Path, source| LabError::Io { what: "cannot read", path: path.to_owned(), source };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&folder, error)),
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| failed(path, error))?;
            let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
            ImageDescription::parse(&shown, &text)
        })
        .collect()
}
