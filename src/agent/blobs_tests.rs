use super::*;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
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
