use crate::resource::outcome::Outcome;
use crate::resource::test_host::{Host, resource};

fn apply(host: &mut Host, text: &str) -> Outcome {
    host.apply(&resource(text))
}

#[test]
fn writes_once_with_mode_and_content() {
    let mut host = Host::new();
    let text = "[file]\npath='/etc/a'\ncontent='x'\nmode='0640'\n";
    assert!(matches!(apply(&mut host, text), Outcome::Changed(_)));
    assert_eq!(host.get("/etc/a").as_deref(), Some("x"));
    assert_eq!(host.mode("/etc/a"), 0o640);
    assert_eq!(apply(&mut host, text), Outcome::Unchanged);
    let Outcome::Changed(changes) = apply(&mut host, "[file]\npath='/etc/a'\ncontent='y'\n") else {
        panic!("content and mode differ")
    };
    let what: Vec<_> = changes.iter().map(|change| change.what.as_str()).collect();
    assert_eq!(what, ["mode", "content"]);
    assert_eq!(changes[1].before, None, "it was not for everyone");
}

#[test]
fn only_what_everyone_may_read_is_shown() {
    for (found, wanted, shown) in
        [(0o644, "0644", true), (0o640, "0644", false), (0o644, "0600", false)]
    {
        let mut host = Host::new();
        host.put("/etc/a", "password = old-canary");
        host.set_mode("/etc/a", found);
        let text = format!("[file]\npath='/etc/a'\ncontent='new'\nmode='{wanted}'\n");
        let outcome = apply(&mut host, &text);
        let before = b"password = old-canary".as_slice();
        let Outcome::Changed(changes) = outcome else { panic!("{outcome:?}") };
        assert_eq!(
            changes.iter().any(|change| change.before.as_deref() == Some(before)),
            shown,
            "{found:o} {wanted}"
        );
    }
}

#[test]
fn missing_directories_above_a_new_file_are_made() {
    let mut host = Host::new();
    let text = "[file]\npath='/etc/x/y/z.conf'\ncontent='x'\n";
    assert!(matches!(apply(&mut host, text), Outcome::Changed(_)));
    assert_eq!(host.mode("/etc/x/y"), 0o755);
    assert_eq!(apply(&mut host, text), Outcome::Unchanged);
}

#[test]
fn a_link_is_replaced_and_its_target_left() {
    let mut host = Host::new();
    host.put("/etc/target", "kept");
    host.link("/etc/a", "/etc/target");
    assert!(matches!(
        apply(&mut host, "[file]\npath='/etc/a'\ncontent='new'\n"),
        Outcome::Changed(_)
    ));
    assert_eq!(host.get("/etc/target").as_deref(), Some("kept"));
    assert_eq!(host.get("/etc/a").as_deref(), Some("new"));
}

#[test]
fn create_only_leaves_a_daemons_file() {
    let mut host = Host::new();
    host.put("/etc/redis.conf", "rewritten by the daemon");
    let text = "[file]\npath='/etc/redis.conf'\ncontent='first'\ncreate_only=true\nmode='0600'\n";
    assert_eq!(apply(&mut host, text), Outcome::Unchanged);
    // A link stays too, even one whose target is not there yet.
    for target in ["/etc/redis.conf", "/nowhere"] {
        host.link("/etc/linked.conf", target);
        let text = "[file]\npath='/etc/linked.conf'\ncontent='first'\ncreate_only=true\n";
        assert_eq!(apply(&mut host, text), Outcome::Unchanged);
        assert!(host.path("/etc/linked.conf").is_symlink());
        host.remove("/etc/linked.conf");
    }
    assert_eq!(host.get("/etc/redis.conf").as_deref(), Some("rewritten by the daemon"));
}

#[test]
fn a_live_region_stays_and_the_rest_follows_the_site() {
    let mut host = Host::new();
    let text = |port: u16, seed: &str| {
        format!(
            "[file]\npath='/etc/lb.cfg'\nkeep='master'\ncontent='''\nport {port}\n\
             # strata:keep master\nserver {seed}\n# strata:end master\nend\n'''\n"
        )
    };
    assert!(matches!(apply(&mut host, &text(1, "seed")), Outcome::Changed(_)));
    let written = host.get("/etc/lb.cfg").unwrap();
    assert!(written.contains("server seed\n"), "{written}");
    host.put("/etc/lb.cfg", &written.replace("server seed", "server live\n\n# more"));
    assert_eq!(apply(&mut host, &text(1, "other")), Outcome::Unchanged);
    assert!(matches!(apply(&mut host, &text(2, "other")), Outcome::Changed(_)));
    let mended = host.get("/etc/lb.cfg").unwrap();
    assert_eq!(
        mended,
        written.replace("port 1", "port 2").replace("server seed", "server live\n\n# more")
    );
    // Two regions: nobody can say which one lives.
    host.put("/etc/lb.cfg", &format!("{mended}{mended}"));
    assert!(matches!(apply(&mut host, &text(2, "seed")), Outcome::Changed(_)));
    assert_eq!(host.get("/etc/lb.cfg").unwrap(), written.replace("port 1", "port 2"));
}

#[test]
fn failures_say_what_to_do() {
    let mut host = Host::new();
    host.make_directory("/etc/dir");
    for (text, message) in [
        ("[file]\npath='/etc/dir'\n", "is a directory"),
        ("[file]\npath='/etc/a'\nowner='nobody-here'\n", "the user `nobody-here` does not exist"),
    ] {
        let Outcome::Failed(failure) = apply(&mut host, text) else { panic!("{text}") };
        assert!(failure.message.contains(message), "{failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
    }
}

#[test]
fn absence() {
    let mut host = Host::new();
    host.put("/etc/a", "x");
    let text = "[file]\npath='/etc/a'\nstate='absent'\n";
    assert!(matches!(apply(&mut host, text), Outcome::Changed(_)));
    assert_eq!(host.get("/etc/a"), None);
    assert_eq!(apply(&mut host, text), Outcome::Unchanged);
}

#[test]
fn a_guarded_file_is_taken_back_unless_proved() {
    let text = "[file]\npath='/etc/a'\ncontent='new'\n[file.guard]\nactivate=['activate']\n";
    let mut host = Host::new();
    host.put("/etc/a", "old");
    host.reachable(false);
    let Outcome::Failed(failure) = apply(&mut host, text) else { panic!("must fail") };
    assert!(failure.message.contains("the change was reverted"), "{failure:?}");
    assert_eq!(host.get("/etc/a").as_deref(), Some("old"));
    assert_eq!(host.ran().len(), 2, "activated, and activated again after the reversal");
    host.reachable(true);
    assert!(matches!(apply(&mut host, text), Outcome::Changed(_)));
    assert_eq!(host.get("/etc/a").as_deref(), Some("new"));
    assert_eq!(host.guards(), Vec::<String>::new());
    assert_eq!(apply(&mut host, text), Outcome::Unchanged);
}

#[test]
fn static_rules() {
    for (text, field) in [
        ("[file]\npath='etc/a'\n", "path"),
        ("[file]\npath='/a'\nowner='a b'\n", "owner"),
        ("[file]\npath='/a'\nvalidate=['sshd','-t']\n", "validate"),
        ("[file]\npath='/a'\nstate='absent'\ncontent='x'\n", "content"),
        ("[file]\npath='/a'\n[file.guard]\nactivate=[]\n", "guard.activate"),
        ("[file]\npath='/a'\nkeep='x'\ncontent='y'\n", "keep"),
        (
            "[file]\npath='/a'\nkeep='x'\ncreate_only=true\ncontent='''# strata:keep x\n# strata:end x'''\n",
            "keep",
        ),
    ] {
        let problems = resource(text).validate();
        assert!(problems.iter().any(|problem| problem.field == field), "{text}: {problems:?}");
    }
}
