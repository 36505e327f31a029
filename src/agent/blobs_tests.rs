use super::*;
use proptest::prelude::*;
use std::os::unix::fs::MetadataExt;

fn hex(bytes: &[u8]) -> String {
    sha256(bytes, |_| Ok(())).unwrap()
}

/// What is answered to `requests`, and what the engine got.
fn say(folder: &Path, requests: &[u8]) -> (Vec<String>, Vec<u8>) {
    let store = Store { folder: folder.to_owned() };
    let (mut answers, mut loaded) = (Vec::new(), Vec::new());
    let mut load = |size: u64, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>| {
        write(&mut loaded).map_err(|error| error.to_string())?;
        assert_eq!(size, loaded.len() as u64);
        Ok(())
    };
    // The end of a broken link may come in the middle of a request.
    serve(&store, requests, &mut answers, &mut load).ok();
    let text = String::from_utf8(answers).unwrap();
    (text.lines().map(str::to_owned).collect(), loaded)
}

fn put(bytes: &[u8], from: usize, to: usize) -> Vec<u8> {
    let head = format!("put {} {} {from}\n", hex(bytes), bytes.len());
    [head.as_bytes(), &bytes[from..to]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the moments at which the link breaks: each byte is taken once, and all of it arrives.
    #[test]
    fn a_layer_goes_on_where_the_link_broke(
        bytes in proptest::collection::vec(any::<u8>(), 1..5000),
        cuts in proptest::collection::vec(0..5000_usize, 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
        cuts.sort_unstable();
        let mut held = 0;
        for cut in cuts {
            let (answers, _) = say(folder.path(), &put(&bytes, held, cut));
            prop_assert!(answers[0].contains("the link broke"), "{:?}", answers);
            held = cut;
            let (answers, _) = say(folder.path(), format!("have {} {}\n", hex(&bytes), bytes.len()).as_bytes());
            prop_assert_eq!(&answers, &[held.to_string()]);
        }
        let mut requests = put(&bytes, held, bytes.len());
        let parts = format!("load 2\nbytes 3\nabcblob {} {}\n", hex(&bytes), bytes.len());
        requests.extend(parts.as_bytes());
        requests.extend(format!("drop {}\n", hex(&bytes)).as_bytes());
        let (answers, loaded) = say(folder.path(), &requests);
        prop_assert_eq!(answers, ["ok", "ok", "ok"]);
        prop_assert_eq!(loaded, [b"abc", &bytes[..]].concat());
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_request_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let folder = tempfile::tempdir().unwrap();
        say(folder.path(), &bytes);
    }
}

#[test]
fn what_is_not_as_it_should_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = b"a layer";
    let digest = hex(bytes);
    for (requests, reason) in [
        (format!("put {digest} 7 0\na  ayer"), "arrived with the digest"),
        (format!("put {digest} 7 3\nayer"), "0 bytes are here, and 3"),
        (format!("load 1\nblob {digest} 7\n"), "is not here"),
        ("have ../../etc/passwd 7\n".to_owned(), "is not understood"),
        (format!("load {}\n", PARTS_LIMIT + 1), "is not understood"),
        ("load 1\nbytes 99999999999\n".to_owned(), "is not understood"),
        ("load 2\nbytes 1\na".to_owned(), "no end"),
        (format!("put {digest} {} 0\n", u64::MAX >> 2), "are free at"),
    ] {
        let (answers, loaded) = say(folder.path(), requests.as_bytes());
        assert_eq!(answers.len(), 1, "{requests}");
        assert!(answers[0].starts_with("error ") && answers[0].contains(reason), "{answers:?}");
        assert_eq!(loaded, b"");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing wrong is kept");
}

#[test]
fn what_nobody_came_back_for_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store { folder: folder.path().to_owned() };
    say(folder.path(), &put(b"abcdef", 0, 3));
    let now = SystemTime::now();
    store.sweep(now + FORGOTTEN / 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    store.sweep(now + FORGOTTEN * 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_packed_is_kept_as_what_it_packs() {
    let folder = tempfile::tempdir().unwrap();
    let content = b"the same word the same word the same word".repeat(100);
    let packed = zstd::encode_all(&content[..], 3).unwrap();
    let unpack = |digest: &str, length: usize| {
        format!("unpack {} {} {digest} {length}\n", hex(&packed), packed.len())
    };
    let mut requests = put(&packed, 0, packed.len());
    requests.extend(unpack(&hex(&content), content.len()).as_bytes());
    requests.extend(format!("have {} {}\n", hex(&content), content.len()).as_bytes());
    let (answers, _) = say(folder.path(), &requests);
    assert_eq!(answers, ["ok".to_owned(), "ok".to_owned(), content.len().to_string()]);
    assert_eq!(fs::read(folder.path().join(hex(&content))).unwrap(), content);
    let packed_left = fs::exists(folder.path().join(hex(&packed))).unwrap();
    assert!(!packed_left && fs::read_dir(folder.path()).unwrap().count() == 2, "it and its note");

    // Another content than was said, longer than was said, and nothing that is packed at all.
    for (bytes, digest, length, reason) in [
        (&packed, hex(b"another"), content.len(), "was packed"),
        (&packed, hex(&content), 10, "was packed"),
        (&content, hex(b"another"), 10, "error "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut requests = put(bytes, 0, bytes.len());
        let head = format!("unpack {} {} {digest} {length}\n", hex(bytes), bytes.len());
        requests.extend(head.as_bytes());
        let (answers, _) = say(folder.path(), &requests);
        assert!(answers[1].starts_with("error ") && answers[1].contains(reason), "{answers:?}");
        assert!(!folder.path().join(&digest).exists());
    }
}

#[test]
fn a_file_is_known_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a file");
    fs::write(&path, "content").unwrap();
    let at = |digest: &str, path: &Path| {
        let (answers, _) =
            say(folder.path(), format!("at {digest} {}\n", path.display()).as_bytes());
        answers[0].clone()
    };
    assert_eq!(at(&hex(b"content"), &path), "yes");
    assert_eq!(at(&hex(b"other"), &path), "no");
    assert_eq!(at(&hex(b"content"), &folder.path().join("missing")), "no");
    assert_eq!(at(&hex(b"content"), folder.path()), "no");
}

#[test]
fn what_was_hashed_is_noted_where_nobody_can_have_changed_it_since() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("a file");
    let store = Store { folder: folder.path().to_owned() };
    let digest = hex(b"content");
    let note = folder.path().join(hashed::note(&digest));
    let noted = |file: &File| {
        fs::read_link(&note)
            .is_ok_and(|text| text.to_str() == Some(&*Stamp::of(file).unwrap().to_string()))
    };
    fs::write(&path, "content").unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let changed = || {
        let found = file.metadata().unwrap();
        let nanoseconds = u32::try_from(found.ctime_nsec()).unwrap();
        SystemTime::UNIX_EPOCH + Duration::new(found.ctime().try_into().unwrap(), nanoseconds)
    };
    let (now, later) = (changed() + Duration::from_millis(5), changed() + Duration::from_secs(10));
    assert!(store.is_at(&digest, &path, now).unwrap());
    assert!(!note.is_symlink(), "it was written a moment ago, and may be again within that moment");
    assert!(store.is_at(&digest, &path, later).unwrap() && noted(&file));
    assert!(!store.is_at(&hex(b"other"), &path, later).unwrap());
    assert!(noted(&file), "of the digest that it has");
    // A new content with the old time, as its owner can make it.
    let written = file.metadata().unwrap().modified().unwrap();
    fs::write(&path, "forgery").unwrap();
    file.set_modified(written).unwrap();
    assert!(!noted(&file), "the change itself has a time that nobody sets");
    assert!(!store.is_at(&digest, &path, later).unwrap());
    assert!(!note.is_symlink(), "a file that was found to be another has no note");

    // What was received is in a folder of strata's own.
    say(folder.path(), &put(b"content", 0, 7));
    assert!(noted(&File::open(folder.path().join(&digest)).unwrap()));
    let (answers, _) = say(folder.path(), format!("drop {digest}\n").as_bytes());
    assert_eq!(answers, ["ok"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the note goes with the file");
}
