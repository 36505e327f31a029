use super::*;

fn bundle(id: &str) -> Arc<Bundle> {
    let path = "/site/images/a_1.tar.gz".into();
    let (config, layers) = (Vec::new(), Vec::new());
    Arc::new(Bundle { image: "a:1".into(), id: id.into(), path, size: 1, config, layers })
}

fn preflight(bundles: Option<&str>, locked: Option<&str>, hosts: &[(&str, Standing)]) -> Preflight {
    let by_image = |standing: &Standing| [("a:1".to_owned(), standing.clone())].into();
    let lock = |id: &str| Locked { id: Some(id.to_owned()), ..Locked::default() };
    Preflight {
        hosts: hosts.iter().map(|(host, s)| ((*host).to_owned(), by_image(s))).collect(),
        bundles: bundles.map(|id| ("a:1".to_owned(), bundle(id))).into_iter().collect(),
        locks: locked.map(|id| ("a:1".to_owned(), lock(id))).into_iter().collect(),
        refused: Vec::new(),
    }
}

#[test]
fn all_hosts_hold_the_same_image_and_it_is_the_archives() {
    let there = |id: &str| Standing::Present(id.to_owned());
    let load = Standing::ToLoad(bundle("x"));
    let other = Standing::Other { found: "y".to_owned(), wanted: "x".to_owned() };
    for (archive, locked, hosts, problems) in [
        (None, None, vec![("h1", there("x")), ("h2", there("x"))], 0),
        (None, None, vec![("h1", there("x")), ("h2", there("y")), ("h3", there("y"))], 2),
        (Some("x"), None, vec![("h1", there("x")), ("h2", load.clone())], 0),
        (Some("x"), None, vec![("h1", there("y")), ("h2", load.clone())], 1),
        (None, None, vec![("h1", there("x")), ("h2", Standing::Missing("why".into()))], 1),
        (Some("x"), Some("x"), vec![("h1", there("x")), ("h2", load.clone())], 0),
        (Some("x"), Some("z"), vec![("h1", load)], 1),
        (None, Some("x"), vec![("h1", there("x")), ("h2", other)], 1),
    ] {
        let found = preflight(archive, locked, &hosts).problems();
        assert_eq!(found.len(), problems, "{hosts:?}: {found:?}");
        for problem in found {
            assert!(problem.to_string().contains("a:1") && !problem.hint().is_empty());
        }
    }
    let differing = preflight(None, None, &[("h1", there("x")), ("h2", there("y"))]).problems();
    let text = differing[0].to_string();
    for word in ["h1", "h2", "x", "y"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_locked_image_is_known_by_either_digest() {
    let found = |id: &str, digests: &[&str]| Found {
        id: id.to_owned(),
        digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
        layers: Vec::new(),
    };
    let locked = |digest: Option<&str>, id: Option<&str>| Locked {
        from: None,
        digest: digest.map(str::to_owned),
        id: id.map(str::to_owned),
    };
    for (lock, image, same) in [
        (locked(None, Some("i")), found("i", &[]), true),
        (locked(Some("d"), Some("i")), found("i", &[]), true),
        // Another architecture of the same image.
        (locked(Some("d"), Some("i")), found("j", &["d"]), true),
        (locked(Some("d"), None), found("j", &["x", "d"]), true),
        (locked(Some("d"), None), found("j", &["x"]), false),
        (locked(Some("d"), None), found("j", &[]), false),
        (locked(None, Some("i")), found("j", &["d"]), false),
    ] {
        assert_eq!(lock.is(&image), same, "{lock:?} {image:?}");
        let standing = present(image, Some(&lock));
        assert_eq!(matches!(standing, Standing::Present(_)), same);
    }
    assert_eq!(present(found("j", &[]), None), Standing::Present("j".to_owned()));
}
