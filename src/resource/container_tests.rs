use super::*;
use crate::resource::Resource;
use crate::resource::test_host::resource;
use proptest::prelude::*;

const IMAGE: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn container(text: &str) -> Container {
    match resource(&format!("[container]\nname='a'\nimage='a:1'\n{text}")) {
        Resource::Container(container) => container,
        other => panic!("{other:?}"),
    }
}

fn labels(wanted: &Container, image: &str) -> BTreeMap<String, String> {
    Fields::of(wanted, image).labels().map(|(key, value)| (key.to_owned(), value)).into()
}

fn differing(found: &str, wanted: &str) -> Vec<String> {
    let labels = labels(&container(found), IMAGE);
    match Fields::of(&container(wanted), IMAGE).differing(&labels) {
        Differing::Nothing => Vec::new(),
        Differing::Fields(changes) => changes.into_iter().map(|change| change.what).collect(),
        Differing::Foreign => panic!("it has labels"),
    }
}

#[test]
fn differences_are_named() {
    for (found, wanted, fields) in [
        ("", "", &[][..]),
        ("command=['a']", "command=['a', 'b']", &["command"]),
        ("command=['a b']", "command=['a', 'b']", &["command"]),
        ("volumes=['/a:/b', '/c:/d']", "volumes=['/c:/d', '/a:/b']", &[]),
        ("volumes=['/a:/b']", "volumes=['/a:/b:ro']", &["volumes"]),
        ("network='host'", "", &["network"]),
        ("env={A='1'}", "env={A='2'}", &[]),
        ("env={A='1'}", "env={A='1',B='2'}", &["env"]),
        ("stop_timeout=30", "", &[]),
        ("restart='always'", "restart='no'", &[]),
        ("state='started'", "state='stopped'\nadopt=true", &[]),
        ("user='1'\nhostname='h'", "", &["hostname", "user"]),
        (
            "labels={a='b'}",
            "labels={a='c'}\nlog_options={max-size='1m'}",
            &["labels", "log_options"],
        ),
    ] {
        assert_eq!(differing(found, wanted), fields, "{found} / {wanted}");
    }
}

#[test]
fn another_image_under_the_same_name_is_a_difference() {
    let labels = labels(&container(""), IMAGE);
    let other = format!("sha256:{}", "b".repeat(64));
    let Differing::Fields(changes) = Fields::of(&container(""), &other).differing(&labels) else {
        panic!("the ids differ")
    };
    assert_eq!(changes[0].what, "image");
    assert_eq!(changes[0].from.as_deref(), Some("aaaaaaaaaaaa"));
}

/// What a run of an earlier version left must be what this version would leave: another digest
/// would replace every container of a fleet.
#[test]
fn the_digest_never_changes() {
    let wanted = container(
        "network='host'\nvolumes=['/c:/c:ro']\nenv={P='x'}\ncommand=['r', '--port', '1']\nulimits=['nofile=1']",
    );
    let fields = Fields::of(&wanted, IMAGE);
    assert_eq!(
        fields.text(),
        format!(
            r#"{{"command":"[\"r\",\"--port\",\"1\"]","env":"[\"P\"]","image":"{IMAGE}","network":"host","stop_timeout":"30","ulimits":"[\"nofile=1\"]","volumes":"[\"/c:/c:ro\"]"}}"#
        )
    );
    assert_eq!(
        fields.digest(),
        "1:386600b8ce476745fcd700658ca0a4a7214f5033e6856271e51dfafebba07e08"
    );
}

#[test]
fn values_of_the_environment_are_only_where_they_must_be() {
    let wanted = container("env={PASSWORD='canary'}");
    assert!(!format!("{wanted:?}").contains("canary"));
    assert!(!Fields::of(&wanted, IMAGE).text().contains("canary"));
    let body = creation(&wanted, IMAGE);
    assert_eq!(body["Env"], json!(["PASSWORD=canary"]));
    assert_eq!(body.to_string().matches("canary").count(), 1);
}

#[test]
fn the_engine_is_told_everything() {
    let body = creation(
        &container(
            "network='bridge'\nvolumes=['/a:/b:ro']\ncommand=['c']\nentrypoint=['e']\nuser='999'\nhostname='h'\n\
             add_hosts=['n:10.0.0.1']\nports=['10.0.0.5:9000:9001', '53:53/udp']\nrestart='unless-stopped'\n\
             stop_timeout=120\nshm_size='2m'\nulimits=['nofile=1:2']\ntmpfs=['/t:size=1m']\nlabels={l='v'}\nlog_options={max-size='1m'}",
        ),
        IMAGE,
    );
    let host = &body["HostConfig"];
    for (found, wanted) in [
        (&body["Image"], json!("a:1")),
        (&body["Cmd"], json!(["c"])),
        (&body["Entrypoint"], json!(["e"])),
        (&body["User"], json!("999")),
        (&body["Hostname"], json!("h")),
        (&body["StopTimeout"], json!(120)),
        (&body["Labels"]["l"], json!("v")),
        (&body["ExposedPorts"], json!({ "9001/tcp": {}, "53/udp": {} })),
        (&host["Binds"], json!(["/a:/b:ro"])),
        (&host["ExtraHosts"], json!(["n:10.0.0.1"])),
        (&host["PortBindings"]["9001/tcp"], json!([{ "HostIp": "10.0.0.5", "HostPort": "9000" }])),
        (&host["RestartPolicy"]["Name"], json!("unless-stopped")),
        (&host["ShmSize"], json!(2 * 1024 * 1024)),
        (&host["Ulimits"], json!([{ "Name": "nofile", "Soft": 1, "Hard": 2 }])),
        (&host["Tmpfs"], json!({ "/t": "size=1m" })),
        (&host["LogConfig"]["Config"], json!({ "max-size": "1m" })),
    ] {
        assert_eq!(*found, wanted);
    }
    let bare = creation(&container(""), IMAGE);
    for key in ["Cmd", "Entrypoint", "User", "Hostname"] {
        assert!(bare.get(key).is_none(), "{key} stays the image's own");
    }
}

#[test]
fn static_rules() {
    for (text, field) in [
        ("name='a b'\nimage='a:1'", "name"),
        ("name='a.strata-old'\nimage='a:1'", "name"),
        ("name='a'", "image"),
        ("name='a'\nimage='a'", "image"),
        ("name='a'\nimage='a:latest'", "image"),
        ("name='a'\nimage='a:1'\nvolumes=['data:/data']", "volumes"),
        ("name='a'\nimage='a:1'\nvolumes=['/a']", "volumes"),
        ("name='a'\nimage='a:1'\nvolumes=['/a:/b', '/c:/b']", "volumes"),
        ("name='a'\nimage='a:1'\nvolumes=['/a:/b:rx']", "volumes"),
        ("name='a'\nimage='a:1'\nvolumes=['/:/b']", "volumes"),
        ("name='a'\nimage='a:1'\nenv={'A B'='1'}", "env"),
        ("name='a'\nimage='a:1'\nports=['9000']", "ports"),
        ("name='a'\nimage='a:1'\nports=['0:1']", "ports"),
        ("name='a'\nimage='a:1'\nnetwork='host'\nports=['1:1']", "ports"),
        ("name='a'\nimage='a:1'\nadd_hosts=['a']", "add_hosts"),
        ("name='a'\nimage='a:1'\nulimits=['nofile=2:1']", "ulimits"),
        ("name='a'\nimage='a:1'\nshm_size='0'", "shm_size"),
        ("name='a'\nimage='a:1'\nstop_timeout=0", "stop_timeout"),
        ("name='a'\nimage='a:1'\nlabels={'strata.spec'='x'}", "labels"),
        ("name='a'\nimage='a:1'\ntmpfs=['tmp']", "tmpfs"),
    ] {
        let problems = resource(&format!("[container]\n{text}\n")).validate();
        assert!(problems.iter().any(|problem| problem.field == field), "{text}: {problems:?}");
    }
    assert_eq!(resource("[container]\nname='a'\nstate='absent'\n").validate(), []);
}

proptest! {
    #[test]
    fn forms_are_read_or_refused(text in "[a-z0-9:/=.\\[\\]-]{0,20}") {
        port(&text);
        ulimit(&text);
        size(&text);
        volume(&text);
    }

    #[test]
    fn two_lists_are_never_one(a in proptest::collection::vec("[a\",\\\\\\[ ]{0,3}", 0..4), b in proptest::collection::vec("[a\",\\\\\\[ ]{0,3}", 0..4)) {
        let of = |command: &Vec<String>| Fields::of(&Container { command: command.clone(), ..container("") }, IMAGE).digest();
        prop_assert_eq!(of(&a) == of(&b), a == b);
    }
}
