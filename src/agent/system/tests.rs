use super::*;
use crate::agent::hashed;
use crate::resource::{PathKind, RevertStep, SavedFile, sha256};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

pub(super) struct Host {
    pub(super) directory: tempfile::TempDir,
    pub(super) system: LocalSystem,
}

pub(super) fn host(reachable: bool) -> Host {
    let directory = tempfile::tempdir().unwrap();
    for name in ["etc", "var"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let programs: Programs = Box::new(|program| {
        let success = program.argv.first().is_some_and(|name| name != "refuse");
        Ok(Output {
            code: Some(i32::from(!success)),
            signal: None,
            timed_out: false,
            stdout: Vec::new(),
            stderr: b"line 3: bad".to_vec(),
        })
    });
    let system =
        LocalSystem::simulated(directory.path(), programs, Box::new(move |_| reachable)).unwrap();
    Host { directory, system }
}

impl Host {
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&mut self, path: &str, content: &str) -> Result<(), Failure> {
        self.system.write(&FileWrite {
            uid: root::own_uid(),
            gid: root::own_gid(),
            ..FileWrite::of_root(path, content.as_bytes())
        })
    }

    pub(super) fn names(&self, path: &str) -> Vec<String> {
        self.system.root.list(path).unwrap().unwrap_or_default()
    }
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    let mut host = host(true);
    symlink(outside.path(), host.path("/etc/absolute")).unwrap();
    symlink("../../../../../../../../", host.path("/etc/relative")).unwrap();
    symlink("/etc", host.path("/inside")).unwrap();
    let out = outside.path().display();
    assert_eq!(host.system.read("/etc/absolute/secret", 100).unwrap(), None);
    assert_eq!(host.system.read(&format!("/etc/relative{out}/secret"), 100).unwrap(), None);
    host.write("/etc/relative/etc/a", "x").unwrap();
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"x");
    assert!(host.write("/etc/absolute/b", "x").is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(host.system.read("/inside/a", 100).unwrap().as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_refused_file_leaves_the_old_one_and_nothing_else() {
    let mut host = host(true);
    host.write("/etc/a", "old").unwrap();
    let argv = vec!["refuse".to_owned(), "{file}".to_owned()];
    let failure = host
        .system
        .write(&FileWrite {
            validate: Some(&argv),
            uid: root::own_uid(),
            gid: root::own_gid(),
            ..FileWrite::of_root("/etc/a", b"new")
        })
        .unwrap_err();
    assert!(failure.message.contains("refuse refuses the new /etc/a"), "{failure:?}");
    assert_eq!(failure.output.as_deref(), Some("line 3: bad"));
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"old");
    assert_eq!(host.names("/etc"), ["a"]);
}

#[test]
fn leftovers_of_a_killed_agent_go() {
    let mut host = host(true);
    // No process has this number: it is above the kernel's largest.
    fs::write(host.path("/etc/.strata-4194305-1"), "half").unwrap();
    fs::write(host.path("/etc/.strata-cluster"), "a marker").unwrap();
    fs::write(host.path(&format!("/etc/.strata-{}-999", std::process::id())), "in use").unwrap();
    host.write("/etc/a", "x").unwrap();
    let names = host.names("/etc");
    assert!(!names.contains(&".strata-4194305-1".to_owned()), "{names:?}");
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn copies_are_kept_and_undo_goes_back_and_forth() {
    let mut host = host(true);
    for number in 0..8 {
        host.write("/etc/a", &format!("version {number}")).unwrap();
        fs::set_permissions(host.path("/etc/a"), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let copies = format!("{BACKUP_DIRECTORY}/{}", escape_path("/etc/a"));
    assert_eq!(host.names(&copies).len(), COPIES_KEPT);
    assert_eq!(host.system.metadata(BACKUP_DIRECTORY).unwrap().unwrap().mode, 0o700);
    let root = host.directory.path().to_owned();
    undo(&root, "/etc/a").unwrap();
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"version 6");
    assert_eq!(host.system.metadata("/etc/a").unwrap().unwrap().mode, 0o640);
    undo(&root, "/etc/a").unwrap();
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"version 7");
    assert!(undo(&root, "/etc/unknown").unwrap_err().message.contains("no last-good copy"));
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    // /dev/full answers every write with "no space"; a small tmpfs needs root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut host = host(true);
    let mount = host.path("/etc");
    let options = std::ffi::CString::new("size=64k").unwrap();
    rustix::mount::mount(
        "tmpfs",
        &mount,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(options.as_c_str()),
    )
    .unwrap();
    // The private root's handle was opened before; the mount is seen through it all the same.
    let old = host.write("/etc/a", "old");
    let full = host.write("/etc/a", &"x".repeat(1024 * 1024));
    let content = fs::read(host.path("/etc/a"));
    let names = host.names("/etc");
    rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    old.unwrap();
    let failure = full.unwrap_err();
    assert!(failure.message.contains("no space left"), "{failure:?}");
    assert_eq!(content.unwrap(), b"old");
    assert_eq!(names, ["a"]);
}

fn guarded_write(host: &mut Host) -> Result<(), Failure> {
    let plan = GuardPlan {
        name: "file".to_owned(),
        revert: vec![RevertStep::File {
            path: "/etc/a".to_owned(),
            was: Some(SavedFile {
                content: b"old".to_vec(),
                mode: 0o600,
                uid: root::own_uid(),
                gid: root::own_gid(),
            }),
        }],
        deadline: Duration::from_secs(5),
        hint: "look at /etc/a".to_owned(),
    };
    host.system.guarded(&plan, &mut |system| {
        system.write(&FileWrite {
            uid: root::own_uid(),
            gid: root::own_gid(),
            ..FileWrite::of_root("/etc/a", b"new")
        })
    })
}

#[test]
fn a_guard_keeps_what_is_proved_and_reverts_the_rest() {
    let mut proved = host(true);
    guarded_write(&mut proved).unwrap();
    assert_eq!(fs::read(proved.path("/etc/a")).unwrap(), b"new");
    assert_eq!(proved.system.guards(), Vec::<String>::new());

    let mut cut_off = host(false);
    let failure = guarded_write(&mut cut_off).unwrap_err();
    assert!(failure.message.contains("the change was reverted"), "{failure:?}");
    assert_eq!(failure.hint.as_deref(), Some("look at /etc/a"));
    assert_eq!(fs::read(cut_off.path("/etc/a")).unwrap(), b"old");
    assert_eq!(cut_off.system.metadata("/etc/a").unwrap().unwrap().mode, 0o600);
    assert_eq!(cut_off.system.guards(), Vec::<String>::new());
}

#[test]
fn a_guard_of_a_killed_agent_is_reverted_at_the_next_start() {
    let mut host = host(true);
    // The proof never comes: the agent dies while it waits.
    host.system.prove = Box::new(|_| panic!("killed"));
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| guarded_write(&mut host)));
    assert!(died.is_err());
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"new");
    let ids = host.system.guards();
    assert_eq!(ids.len(), 1);
    // This process still lives, so its guard is not stale.
    assert_eq!(host.system.revert_stale_guards().unwrap(), Vec::<String>::new());
    let root = host.directory.path().to_owned();
    assert!(revert(&root, &ids[0]).unwrap().starts_with("reverted"));
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"old");
    assert!(revert(&root, &ids[0]).unwrap().starts_with("nothing to revert"));
    assert!(revert(&root, "../../etc").is_err());
}

#[test]
fn kinds_of_paths() {
    let mut host = host(true);
    symlink("nowhere", host.path("/etc/link")).unwrap();
    let kind = |host: &mut Host, path: &str| host.system.metadata(path).unwrap().map(|m| m.kind);
    assert_eq!(kind(&mut host, "/etc"), Some(PathKind::Directory));
    assert_eq!(kind(&mut host, "/"), Some(PathKind::Directory));
    assert_eq!(kind(&mut host, "/etc/link"), Some(PathKind::Link));
    assert_eq!(kind(&mut host, "/etc/none/below"), None);
    assert_eq!(host.system.read_link("/etc/link").unwrap().as_deref(), Some("nowhere"));
}

/// A file of a moment ago: its digest is noted, and only a new content, or a long time, ends that.
#[test]
fn a_noted_file_is_not_hashed_again_until_it_is_another() {
    let mut host = host(true);
    let folder = host.path("/var/lib/strata/blobs");
    fs::create_dir_all(&folder).unwrap();
    let path = host.path("/etc/large");
    fs::write(&path, "large").unwrap();
    let right = sha256(&b"large"[..], |_| Ok(())).unwrap();
    // No content has this digest: only the note can say so.
    let noted = "0".repeat(64);
    let file = || fs::File::open(&path).unwrap();
    let mut digest = |wanted: &str| host.system.digest("/etc/large", wanted).unwrap().unwrap();
    assert_eq!(digest(&noted), right);
    hashed::leave(&folder, &noted, hashed::Stamp::of(&file()).unwrap());
    assert_eq!(digest(&noted), noted);
    assert_eq!(digest(&right), right, "the note is about another digest");
    let note = folder.join(hashed::note(&noted));
    for (age, counts) in [(300, true), (901, false)] {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        let then = then.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let at = rustix::fs::Timespec { tv_sec: then.as_secs().try_into().unwrap(), tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: at, last_modification: at };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, &note, &times, flags).unwrap();
        assert_eq!(digest(&noted) == noted, counts, "{age} s");
    }
    hashed::leave(&folder, &noted, hashed::Stamp::of(&file()).unwrap());
    assert_eq!(digest(&noted), noted);
    fs::write(&path, "lurge").unwrap();
    assert_ne!(digest(&noted), noted);
}

/// A received file is not hashed again on its way to its place, unless it became another.
#[test]
fn a_noted_file_gets_its_place_and_a_damaged_one_does_not() {
    let mut host = host(true);
    let folder = host.path("/var/lib/strata/blobs");
    fs::create_dir_all(&folder).unwrap();
    let noted = "0".repeat(64);
    let received = folder.join(&noted);
    let blob = BlobPlace {
        digest: &noted,
        path: "/etc/large",
        mode: 0o755,
        uid: root::own_uid(),
        gid: root::own_gid(),
    };
    for damaged in [true, false] {
        fs::write(&received, "large").unwrap();
        let stamp = hashed::Stamp::of(&fs::File::open(&received).unwrap()).unwrap();
        hashed::leave(&folder, &noted, stamp);
        if damaged {
            fs::write(&received, "damaged").unwrap();
        }
        let placed = host.system.place_blob(&blob);
        assert_eq!(placed.is_err(), damaged, "{placed:?}");
        assert_eq!(host.path("/etc/large").exists(), !damaged);
    }
    // Its place gave it another stamp; the agent knows it all the same.
    assert_eq!(host.system.digest("/etc/large", &noted).unwrap(), Some(noted.clone()));
    fs::write(host.path("/etc/large"), "by hand").unwrap();
    assert_ne!(host.system.digest("/etc/large", &noted).unwrap(), Some(noted));
}
