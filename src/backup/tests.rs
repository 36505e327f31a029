//! Round trips of random trees, and archives that are not as they were written.

use super::*;
use crate::secrets::{Opener, SealTo, Secret};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// A place with a site, a home directory with an identity, and a reader elsewhere.
struct Bench {
    folder: tempfile::TempDir,
    recovery: PathBuf,
    to: SealTo,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["from/site", "from/home/.config/strata", "from/home/.ssh", "elsewhere"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::set_permissions(at("elsewhere"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(at("from/home/.config/strata"), fs::Permissions::from_mode(0o700))
            .unwrap();
        let key = age::x25519::Identity::generate();
        let recovery = at("elsewhere/key.txt");
        let text = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
        private(&recovery, &text);
        let to = SealTo::readers(
            &at("from/site"),
            &[key.to_public().to_string()],
            &at("from/home/.config/strata/identity.txt"),
        )
        .unwrap();
        Self { folder, recovery, to }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn gathering<'a>(&'a self, paths: &'a [PathBuf; 3]) -> Gathering<'a> {
        let [site, home, identities] = paths;
        Gathering {
            site,
            home,
            identities,
            index: None,
            login_keys: &[],
            with_login_key: false,
            with_images: false,
        }
    }

    fn paths(&self) -> [PathBuf; 3] {
        [self.at("from/site"), self.at("from/home"), self.at("from/home/.config/strata")]
    }

    fn write(&self) -> (Written, Vec<LeftOut>) {
        let paths = self.paths();
        let (items, left) = gather(&self.gathering(&paths)).unwrap();
        let written = write(&self.at("archive"), &head(), &items, &self.to).unwrap();
        (written, left)
    }

    fn verified(&self) -> std::result::Result<Verified, Problem> {
        let opener = Opener::identity(&self.recovery).unwrap();
        let file = fs::File::open(self.at("archive")).unwrap();
        Verified::open(&self.at("archive"), file, opener, None)
    }

    fn places(&self) -> Places {
        Places { site: self.at("to/site"), home: self.at("to/home") }
    }
}

fn head() -> Head {
    Head {
        format: FORMAT,
        site: "s".into(),
        made_ms: 1,
        host: "install-01".into(),
        strata: "0".into(),
    }
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Everything below a directory: mode, and content or where a link leads.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_dir() {
                folders.push(path.clone());
                b"directory".to_vec()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().to_string_lossy().into_owned().into_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let mode = metadata.permissions().mode() & 0o7777;
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, content));
        }
    }
    found
}

#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, u32),
    Folder(u32),
    Link(String),
}

fn thing() -> impl Strategy<Value = Thing> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        // More than one of age's pieces.
        (60_000..70_000_usize).prop_map(|length| (0..length).map(|at| (at % 251) as u8).collect()),
    ];
    prop_oneof![
        4 => (content, prop_oneof![Just(0o600), Just(0o644), Just(0o755), Just(0o400)])
            .prop_map(|(content, mode)| Thing::File(content, mode)),
        2 => prop_oneof![Just(0o700), Just(0o755), Just(0o750)].prop_map(Thing::Folder),
        1 => "(/etc/passwd|\\.\\./x|[a-z]{1,5})".prop_map(Thing::Link),
    ]
}

fn things() -> impl Strategy<Value = Vec<(Vec<String>, Thing)>> {
    let name = "[a-zé .-]{0,3}[a-z]([a-z]{110})?";
    let path = proptest::collection::vec(name, 1..4);
    proptest::collection::vec((path, thing()), 0..12)
}

/// Makes what can be made: a name that is taken already is passed over.
fn make(root: &Path, things: &[(Vec<String>, Thing)]) {
    for (parts, thing) in things {
        let path = parts.iter().fold(root.to_owned(), |path, part| path.join(part));
        let above = path.parent().unwrap();
        let real = above
            .ancestors()
            .take_while(|above| *above != root)
            .all(|above| above.symlink_metadata().map_or(true, |metadata| metadata.is_dir()));
        if !real || path.symlink_metadata().is_ok() || fs::create_dir_all(above).is_err() {
            continue;
        }
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match thing {
            Thing::File(content, bits) => {
                fs::write(&path, content).unwrap();
                mode(*bits);
            }
            Thing::Folder(bits) => {
                fs::create_dir(&path).unwrap();
                mode(*bits);
            }
            Thing::Link(target) => symlink(target, &path).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_backed_up_is_restored(things in things()) {
        let bench = Bench::new();
        make(&bench.at("from/site"), &things);
        private(&bench.at("from/home/.config/strata/identity.txt"), "AGE-SECRET-KEY-1");
        bench.write();
        let mut archive = bench.verified().unwrap();
        let places = bench.places();
        let before = places.compare(&archive).unwrap();
        prop_assert_eq!((before.same, before.different.len()), (0, 0));
        let restored = places.restore(&mut archive).unwrap();
        prop_assert_eq!(restored.written, before.missing);
        for part in ["site", "home/.config/strata"] {
            let of = |root: &str| tree(&bench.at(&format!("{root}/{part}")));
            prop_assert_eq!(of("from"), of("to"));
        }
        // Once more there is nothing to do.
        let after = places.compare(&archive).unwrap();
        prop_assert_eq!((after.missing, after.different.len()), (0, 0));
        prop_assert_eq!(places.restore(&mut archive).unwrap().written, 0);
    }

    #[test]
    fn a_damaged_archive_is_refused_and_nothing_is_written(
        things in things(), at in any::<prop::sample::Index>(), bit in 0..8_u32, cut in any::<bool>(),
    ) {
        let bench = Bench::new();
        make(&bench.at("from/site"), &things);
        bench.write();
        let mut sealed = fs::read(bench.at("archive")).unwrap();
        let at = at.index(sealed.len());
        if cut {
            sealed.truncate(at);
        } else {
            sealed[at] ^= 1 << bit;
        }
        fs::write(bench.at("archive"), &sealed).unwrap();
        prop_assert!(bench.verified().is_err(), "byte {} of {}", at, sealed.len());
        prop_assert!(!bench.at("to").exists());
    }
}

#[test]
fn what_differs_is_named_and_only_replaced_when_asked() {
    let bench = Bench::new();
    private(&bench.at("from/site/a"), "one");
    private(&bench.at("from/site/b"), "two");
    bench.write();
    let places = bench.places();
    fs::create_dir_all(bench.at("to/site")).unwrap();
    fs::write(bench.at("to/site/a"), "other").unwrap();
    fs::set_permissions(bench.at("to/site/a"), fs::Permissions::from_mode(0o644)).unwrap();
    private(&bench.at("to/site/b"), "two");
    private(&bench.at("to/site/own"), "stays");
    let mut archive = bench.verified().unwrap();
    let found = places.compare(&archive).unwrap();
    let how = "content, mode 0644 instead of 0600".to_owned();
    assert_eq!(found.different, [(bench.at("to/site/a"), how)]);
    assert_eq!(fs::read(bench.at("to/site/a")).unwrap(), b"other");
    places.restore(&mut archive).unwrap();
    assert_eq!(fs::read(bench.at("to/site/a")).unwrap(), b"one");
    assert_eq!(fs::read(bench.at("to/site/own")).unwrap(), b"stays");
}

#[test]
fn no_link_is_ever_followed() {
    let bench = Bench::new();
    fs::create_dir(bench.at("from/site/roles")).unwrap();
    private(&bench.at("from/site/roles/a"), "one");
    bench.write();
    fs::create_dir_all(bench.at("to/site")).unwrap();
    fs::create_dir(bench.at("victim")).unwrap();
    symlink(bench.at("victim"), bench.at("to/site/roles")).unwrap();
    let mut archive = bench.verified().unwrap();
    let error = bench.places().compare(&archive).unwrap_err().to_string();
    assert!(
        error.contains("roles is in the way: a symbolic link instead of a directory"),
        "{error}"
    );
    assert!(bench.places().restore(&mut archive).is_err());
    assert_eq!(fs::read_dir(bench.at("victim")).unwrap().count(), 0);
}

#[test]
fn caches_images_locks_and_login_keys_are_left_out_and_said() {
    let bench = Bench::new();
    for folder in ["target", "images", ".strata/runs"] {
        fs::create_dir_all(bench.at("from/site").join(folder)).unwrap();
    }
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
    fs::write(bench.at("from/site/target/CACHEDIR.TAG"), tag).unwrap();
    fs::write(bench.at("from/site/images/redis.tar"), [0; 1000]).unwrap();
    fs::write(bench.at("from/site/.strata/lock"), "held").unwrap();
    fs::write(bench.at("from/site/.strata/index.sqlite"), "in use").unwrap();
    fs::write(bench.at("from/site/.strata/runs/r.jsonl"), "{}").unwrap();
    private(&bench.at("index"), "a copy");
    private(&bench.at("from/home/.ssh/id"), "private");
    fs::write(bench.at("from/home/.ssh/id.pub"), "public").unwrap();
    let (paths, keys) = (bench.paths(), [bench.at("from/home/.ssh/id"), bench.at("no-such-key")]);
    let index = bench.at("index");
    let wanted = Gathering { login_keys: &keys, index: Some(&index), ..bench.gathering(&paths) };
    let (items, left) = gather(&wanted).unwrap();
    let names =
        |items: &[Item]| -> Vec<String> { items.iter().map(|item| item.name.clone()).collect() };
    assert_eq!(
        names(&items),
        [
            "site",
            "site/.strata",
            "site/.strata/runs",
            "site/.strata/runs/r.jsonl",
            "home/.config/strata",
            "site/.strata/index.sqlite"
        ]
    );
    let left: Vec<_> = left.iter().map(|one| (one.path.clone(), one.bytes)).collect();
    assert_eq!(
        left,
        [
            (bench.at("from/site/images"), 1000),
            (bench.at("from/site/target"), 44),
            (bench.at("from/home/.ssh/id"), 7)
        ]
    );
    let (items, left) =
        gather(&Gathering { with_login_key: true, with_images: true, ..wanted }).unwrap();
    for name in ["site/images/redis.tar", "home/.ssh/id", "home/.ssh/id.pub"] {
        assert!(names(&items).iter().any(|item| item == name), "{name}");
    }
    assert_eq!(left.len(), 1);
}

#[test]
fn an_archive_is_private_and_never_overwritten() {
    let bench = Bench::new();
    let (written, _) = bench.write();
    let metadata = fs::metadata(bench.at("archive")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), written.bytes);
    let paths = bench.paths();
    let (items, _) = gather(&bench.gathering(&paths)).unwrap();
    let again = write(&bench.at("archive"), &head(), &items, &bench.to);
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
    let beside: Vec<_> = fs::read_dir(bench.folder.path()).unwrap().flatten().collect();
    assert_eq!(beside.len(), 3, "{beside:?}");
}

#[test]
fn a_file_that_changes_meanwhile_makes_no_backup() {
    let bench = Bench::new();
    private(&bench.at("from/site/a"), "one");
    let paths = bench.paths();
    let (items, _) = gather(&bench.gathering(&paths)).unwrap();
    private(&bench.at("from/site/a"), "three");
    let result = write(&bench.at("archive"), &head(), &items, &bench.to);
    assert!(matches!(result, Err(BackupError::Changed(_))), "{result:?}");
    assert!(!bench.at("archive").exists());
}

#[test]
fn a_passphrase_opens_and_another_does_not() {
    let bench = Bench::new();
    private(&bench.at("from/site/a"), "one");
    let secret = |text: &str| Secret::new(text.to_owned());
    assert!(SealTo::passphrase(secret("short")).is_err());
    let to = SealTo::passphrase(secret("correct horse battery")).unwrap();
    let paths = bench.paths();
    let (items, _) = gather(&bench.gathering(&paths)).unwrap();
    let written = write(&bench.at("archive"), &head(), &items, &to).unwrap();
    let open = |words: &str, sha256: Option<&str>| {
        let file = fs::File::open(bench.at("archive")).unwrap();
        Verified::open(&bench.at("archive"), file, Opener::passphrase(secret(words)), sha256)
    };
    assert!(open("correct horse battery", Some(&written.sha256)).is_ok());
    assert!(open("correct horse battery", Some(&"0".repeat(64))).is_err());
    assert!(open("incorrect horse", None).is_err());
}

/// An archive with these entries after its head, sealed like any other.
fn forged(bench: &Bench, fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) {
    let mut archive = tar::Builder::new(Vec::new());
    fill(&mut archive);
    let bytes = archive.into_inner().unwrap();
    let file = fs::File::create(bench.at("archive")).unwrap();
    let mut packed = zstd::Encoder::new(bench.to.seal(file).unwrap(), 1).unwrap();
    packed.write_all(&bytes).unwrap();
    packed.finish().unwrap().finish().unwrap();
}

fn put(archive: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    archive.append(&header, content).unwrap();
}

#[test]
fn archives_that_strata_does_not_write_are_refused() {
    let head_of = |format| serde_json::to_vec(&Head { format, ..head() }).unwrap();
    let manifest = |path: &str| {
        let sha256 = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0";
        format!(
            r#"{{"entries":[{{"path":"{path}","kind":{{"file":{{"size":3,"sha256":"{sha256}"}}}},"mode":384,"uid":0,"gid":0}}]}}"#
        )
    };
    let said = |format, name: &str, named: &str, last: bool| {
        let bench = Bench::new();
        forged(&bench, |archive| {
            put(archive, "strata-backup.json", &head_of(format));
            put(archive, name, b"aaa");
            if last {
                put(archive, "manifest.json", manifest(named).as_bytes());
            }
        });
        match bench.verified() {
            Ok(archive) => format!("accepted {}", archive.entries.len()),
            Err(Problem::Backup(error)) => error.to_string(),
            Err(Problem::Sealed(problem)) => problem.message,
        }
    };
    insta::assert_snapshot!(
        [
            said(1, "site/a", "site/a", true),
            said(2, "site/a", "site/a", true),
            said(1, "site/a", "site/a", false),
            said(1, "site/a", "site/b", true),
            said(1, "../a", "../a", true),
            said(1, "/etc/shadow", "/etc/shadow", true),
            said(1, "home/.bashrc", "home/.bashrc", true),
            said(1, "manifest.json", "site/a", true),
        ]
        .join("\n")
    );
}
