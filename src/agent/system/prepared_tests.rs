use super::super::tests::{Host, host};
use super::*;
use crate::resource::System;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

fn file<'a>(path: &'a str, content: &'a str) -> FileWrite<'a> {
    FileWrite { uid: own_uid(), gid: own_gid(), ..FileWrite::of_root(path, content.as_bytes()) }
}

fn temporaries(host: &Host, path: &str) -> usize {
    host.names(path).iter().filter(|name| name.starts_with(".strata-")).count()
}

fn inode(host: &Host, directory: &str, name: &str) -> u64 {
    fs::metadata(host.path(directory).join(name)).unwrap().ino()
}

#[test]
fn a_prepared_file_takes_its_name_in_its_turn() {
    let mut host = host(true);
    host.write("/etc/a", "old").unwrap();
    let new = FileWrite { mode: 0o640, ..file("/etc/a", "new") };
    host.system.prepare(&new);
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"old");
    let temporary = host.names("/etc").into_iter().find(|name| name.starts_with(".strata-"));
    let prepared = inode(&host, "/etc", &temporary.unwrap());
    host.system.write(&new).unwrap();
    assert_eq!(fs::read(host.path("/etc/a")).unwrap(), b"new");
    assert_eq!(inode(&host, "/etc", "a"), prepared, "the file that was prepared");
    assert_eq!(host.system.metadata("/etc/a").unwrap().unwrap().mode, 0o640);
    let copies =
        format!("{}/{}", super::super::BACKUP_DIRECTORY, super::super::escape_path("/etc/a"));
    assert_eq!(host.names(&copies).len(), 1, "the old one is kept");
    host.system.settle().unwrap();
    assert!(host.system.prepared.directories.is_empty(), "no handle stays open");
    host.system.forget_prepared();
    assert_eq!(host.names("/etc"), ["a"]);
    assert_eq!(host.names(RECORDS), Vec::<String>::new());
}

#[test]
fn any_other_write_is_as_if_nothing_had_been_prepared() {
    let mut host = host(true);
    for (prepared, written) in [
        (file("/etc/a", "other"), file("/etc/a", "new")),
        (FileWrite { mode: 0o600, ..file("/etc/b", "new") }, file("/etc/b", "new")),
    ] {
        host.system.prepare(&prepared);
        host.system.write(&written).unwrap();
        assert_eq!(fs::read(host.path(written.path)).unwrap(), b"new");
        let mode = host.system.metadata(written.path).unwrap().unwrap().mode;
        assert_eq!(mode, 0o644);
    }
    assert_eq!(temporaries(&host, "/etc"), 0);
}

#[test]
fn a_directory_that_is_another_by_then_gets_a_file_of_its_own() {
    let mut host = host(true);
    for name in ["first", "second"] {
        fs::create_dir(host.path("/etc").join(name)).unwrap();
    }
    symlink("first", host.path("/etc/now")).unwrap();
    host.system.prepare(&file("/etc/now/a", "new"));
    fs::remove_file(host.path("/etc/now")).unwrap();
    symlink("second", host.path("/etc/now")).unwrap();
    host.system.write(&file("/etc/now/a", "new")).unwrap();
    assert_eq!(host.names("/etc/second"), ["a"]);
    assert_eq!(host.names("/etc/first"), Vec::<String>::new());
}

#[test]
fn what_is_not_used_goes() {
    let mut host = host(true);
    host.system.prepare(&file("/etc/a", "new"));
    host.system.prepare(&file("/etc/none/b", "no such directory"));
    assert_eq!(temporaries(&host, "/etc"), 1);
    host.system.drop_prepared();
    assert_eq!(host.names("/etc"), Vec::<String>::new());
    assert_eq!(host.names(RECORDS).len(), 1, "until the batch ends");
    host.system.forget_prepared();
    assert_eq!(host.names(RECORDS), Vec::<String>::new());
}

#[test]
fn what_a_killed_agent_had_prepared_is_removed_by_the_next() {
    let mut host = host(true);
    fs::create_dir(host.path("/etc/conf.d")).unwrap();
    host.system.prepare(&file("/etc/conf.d/a", "secret"));
    host.system.prepare(&file("/etc/b", "secret"));
    // Killed: nothing of it is called any more.
    std::mem::take(&mut host.system.prepared.files).into_values().for_each(std::mem::forget);
    assert_eq!((temporaries(&host, "/etc/conf.d"), temporaries(&host, "/etc")), (1, 1));
    // This process still lives, so that it may need them.
    assert_eq!(host.system.remove_prepared().unwrap(), 0);
    // No process has this number: it is above the kernel's largest.
    let dead = |name: &str| name.replace(&std::process::id().to_string(), "4194305");
    for directory in ["/etc/conf.d", "/etc", RECORDS] {
        for name in host.names(directory) {
            let directory = host.path(directory);
            fs::rename(directory.join(&name), directory.join(dead(&name))).unwrap();
        }
    }
    fs::write(host.path("/etc/.strata-cluster"), "a marker").unwrap();
    assert_eq!(host.system.recover().unwrap(), ["removed 2 files that were prepared and not used"]);
    assert_eq!(host.names("/etc"), [".strata-cluster", "conf.d"]);
    assert_eq!(host.names("/etc/conf.d"), Vec::<String>::new());
    assert_eq!(host.names(RECORDS), Vec::<String>::new());
}

#[test]
fn no_more_than_a_bounded_number_is_prepared() {
    let mut host = host(true);
    for number in 0..MOST + 10 {
        host.system.prepare(&file(&format!("/etc/{number}"), "new"));
    }
    let large = "x".repeat(LARGEST + 1);
    host.system.drop_prepared();
    host.system.prepare(&file("/etc/large", &large));
    assert_eq!(temporaries(&host, "/etc"), 0);
    for number in 0..MOST + 10 {
        host.system.prepare(&file(&format!("/etc/{number}"), "new"));
    }
    assert_eq!(temporaries(&host, "/etc"), MOST);
    host.system.drop_prepared();
    let large = "x".repeat(LARGEST);
    for number in 0..MOST {
        host.system.prepare(&file(&format!("/etc/{number}"), &large));
    }
    assert_eq!(temporaries(&host, "/etc"), MOST_BYTES / LARGEST);
}

#[test]
fn a_full_disk_gives_the_room_of_prepared_files_to_the_one_in_hand() {
    // A small tmpfs needs root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut host = host(true);
    let mount = host.path("/etc");
    let options = std::ffi::CString::new("size=64k").unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &mount, "tmpfs", flags, Some(options.as_c_str())).unwrap();
    let large = "x".repeat(40 * 1024);
    host.system.prepare(&file("/etc/later", &large));
    let prepared = temporaries(&host, "/etc");
    let written = host.system.write(&file("/etc/now", &large));
    let names = host.names("/etc");
    rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(prepared, 1);
    written.unwrap();
    assert_eq!(names, ["now"]);
}
