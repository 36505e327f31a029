//! Container images of Debian packages, and of Python packages where Debian's is another version: what hosts of a rehearsal run where production runs the
//! pinned images of a registry.
//!
//! An image is described by one file ([`ImageDescription`]), built once by mmdebstrap, cached by
//! what it was made of, and handed to the operator host as an archive that `docker load` takes.
//! Users, paths and entrypoints are those of the official images, so that no role has to know
//! which of the two it runs; the name is the lab's own, with the version that is really inside.

mod archive;
mod build;
mod description;
mod python;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::down::join;
use super::error::{At as _, LabError, Result};
use super::paths::CACHE;
use super::spec::digest;
use super::state::{Lock, remove_tree};

pub use description::{ContainerSettings, ImageDescription, ImageFile, ImageFolder, ImageUser};

/// Raised when the way images are made changes.
const RECIPE: &str = "1";
/// How many images are built at once: unpacking waits for the disk, configuring for a processor.
const PARALLEL: usize = 2;

/// An image that hosts must be able to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name with its version: `strata.lab/redis:7.0.15`.
    pub reference: String,
    /// What it consists of.
    pub description: ImageDescription,
}

impl Image {
    /// The name of its archive: the reference with `/` and `:` replaced.
    #[must_use]
    pub fn archive_name(&self) -> String {
        format!("{}.tar.gz", self.reference.replace(['/', ':'], "_"))
    }

    /// The version that the reference promises.
    fn tag(&self) -> Result<&str> {
        let last = self.reference.rsplit('/').next().unwrap_or_default();
        match last.split_once(':') {
            Some((_, tag)) if !tag.is_empty() => Ok(tag),
            _ => Err(LabError::InvalidSpec(format!("the image {} has no tag", self.reference))),
        }
    }

    fn cached(&self) -> PathBuf {
        let text = format!("{:?}", self.description);
        let words = [RECIPE, std::env::consts::ARCH, &self.reference, &text];
        Path::new(CACHE).join(format!("image-{}", &digest(words)[..16])).join(self.archive_name())
    }
}

/// Builds what is missing of these images and puts all of them into `directory`, which the operator
/// host sees; the names of those that were built.
pub(super) fn provide(images: &[Image], directory: &Path) -> Result<Vec<String>> {
    let (archives, built) = ensure(images)?;
    fs::create_dir_all(directory).at("cannot create", directory)?;
    publish(&archives, directory)?;
    Ok(built)
}

/// The archives of all these images, built where there is none; the names of those that were.
fn ensure(images: &[Image]) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let mut missing = VecDeque::new();
    for image in images {
        image.description.validate()?;
        image.tag()?;
        if !image.cached().is_file() {
            missing.push_back(image);
        }
    }
    let built = missing.iter().map(|image| image.reference.clone()).collect();
    if !missing.is_empty() {
        fs::create_dir_all(CACHE).at("cannot create", CACHE)?;
        let _lock = Lock::wait(&Path::new(CACHE).join("images.lock"))?;
        build_all(missing)?;
    }
    Ok((images.iter().map(Image::cached).collect(), built))
}

fn build_all(missing: VecDeque<&Image>) -> Result<()> {
    super::machine::update_package_lists()?;
    let workers = missing.len().min(PARALLEL);
    let queue = Mutex::new(missing);
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        let worker = || {
            while let Some(image) = next() {
                build_one(image)?;
            }
            Ok(())
        };
        let tasks: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        tasks.into_iter().try_for_each(join)
    })
}

fn build_one(image: &Image) -> Result<()> {
    let archive = image.cached();
    if archive.is_file() {
        return Ok(());
    }
    let directory = archive.parent().unwrap_or(Path::new(CACHE));
    let building = directory.with_extension("building");
    remove_tree(&building)?;
    fs::create_dir_all(&building).at("cannot create", &building)?;
    let tree = building.join("tree");
    build::tree(&image.description, image.tag()?, &tree)?;
    archive::write(&tree, image, &building.join(image.archive_name()))?;
    remove_tree(&tree)?;
    remove_tree(directory)?;
    fs::rename(&building, directory).at("cannot rename", building)
}

/// Puts archives into the directory that the operator host sees. A file that is already the
/// cached one stays; one of an older build is replaced whole.
fn publish(archives: &[PathBuf], directory: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    for archive in archives {
        let target = directory.join(archive.file_name().unwrap_or_default());
        let cached = fs::metadata(archive).at("cannot read", archive)?;
        if fs::metadata(&target).is_ok_and(|found| {
            (found.dev(), found.ino()) == (cached.dev(), cached.ino())
                || (found.len() == cached.len() && found.mtime() >= cached.mtime())
        }) {
            continue;
        }
        let temporary = directory.join(".new");
        remove_tree(&temporary)?;
        // Caches and labs may stand on two file systems.
        if fs::hard_link(archive, &temporary).is_err() {
            fs::copy(archive, &temporary).at("cannot copy", archive)?;
        }
        fs::rename(&temporary, &target).at("cannot rename", &temporary)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn image(reference: &str) -> Image {
        let description = ImageDescription::parse(
            "inventory/lab/images/redis.toml",
            "pin = \"redis_image\"\nsuite = \"bookworm\"\npackages = [\"redis-server\"]\nversion = [\"redis-server\", \"--version\"]\n",
        );
        Image { reference: reference.to_owned(), description: description.unwrap() }
    }

    #[test]
    fn an_archive_is_named_after_its_image() {
        let image = image("strata.lab/redis:7.0.15");
        assert_eq!(image.archive_name(), "strata.lab_redis_7.0.15.tar.gz");
        assert_eq!(image.tag().unwrap(), "7.0.15");
        assert!(self::image("strata.lab/redis").tag().is_err());
        assert!(self::image("registry:5000/redis").tag().is_err());
    }

    #[test]
    fn what_an_image_is_made_of_decides_where_it_is_cached() {
        let one = image("strata.lab/redis:7.0.15");
        let mut other = one.clone();
        assert_eq!(one.cached(), other.cached());
        other.description.packages.push("redis-tools".to_owned());
        assert_ne!(one.cached(), other.cached());
    }

    #[test]
    fn a_newer_archive_takes_the_place_of_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, seen) = (folder.path().join("cache"), folder.path().join("seen"));
        fs::create_dir_all(&cache).unwrap();
        fs::create_dir_all(&seen).unwrap();
        let archive = cache.join("a.tar.gz");
        for content in ["first", "second"] {
            remove_tree(&archive).unwrap();
            fs::write(&archive, content).unwrap();
            publish(std::slice::from_ref(&archive), &seen).unwrap();
            assert_eq!(fs::read_to_string(seen.join("a.tar.gz")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(&seen).unwrap().count(), 1);
    }
}
