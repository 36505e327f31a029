//! Answers as servers send them, and answers that none should.

use super::reply::{pairs, role};
use super::{Endpoint, Error, Info, Instance, Role};
use proptest::prelude::*;
use redis::Value;

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn at(host: &str) -> Endpoint {
    Endpoint { host: host.to_owned(), port: 6379 }
}

#[test]
fn roles() {
    let replica = Value::Array(vec![bulk("10.0.0.124"), bulk("6379"), bulk("3129543")]);
    let master =
        Value::Array(vec![bulk("master"), Value::Int(3129659), Value::Array(vec![replica])]);
    let wanted = Role::Master { offset: 3129659, replicas: vec![(at("10.0.0.124"), 3129543)] };
    assert_eq!(role(&master), Ok(wanted));
    let connecting = Value::Array(vec![
        bulk("slave"),
        bulk("10.0.0.123"),
        Value::Int(6379),
        bulk("connect"),
        Value::Int(-1),
    ]);
    let wanted =
        Role::Replica { master: at("10.0.0.123"), state: "connect".to_owned(), offset: -1 };
    assert_eq!(role(&connecting), Ok(wanted));
    let sentinel = Value::Array(vec![bulk("sentinel"), Value::Array(vec![bulk("m")])]);
    assert_eq!(role(&sentinel), Ok(Role::Sentinel { masters: vec!["m".to_owned()] }));
}

#[test]
fn replication_of_a_master_and_of_a_replica() {
    let text = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        slave0:ip=10.0.0.124,port=6379,state=online,offset=42,lag=1\r\n\
        slave1:ip=10.0.0.125,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
        master_replid:abc\r\nmaster_repl_offset:43\r\n";
    let master = Info::parse(text).replication().unwrap();
    assert!(master.master && master.follows.is_none() && master.replicas.len() == 2);
    assert_eq!((master.replicas[0].lag, master.replicas[0].offset, master.offset), (1, 42, 43));
    assert_eq!(master.replicas[1].state, "wait_bgsave");
    let text = "role:slave\nmaster_host:10.0.0.123\nmaster_port:6379\nmaster_link_status:down\n\
        master_sync_in_progress:1\nslave_repl_offset:7\nconnected_slaves:0\nmaster_replid:abc\n";
    let replica = Info::parse(text).replication().unwrap();
    assert_eq!(replica.follows, Some(at("10.0.0.123")));
    assert!(!replica.link_up && replica.sync_in_progress && replica.offset == 7);
}

#[test]
fn an_instance_that_is_down_says_so() {
    let value = Value::Array(vec![
        bulk("ip"),
        bulk("10.0.0.123"),
        bulk("port"),
        bulk("6379"),
        bulk("flags"),
        bulk("s_down,master,disconnected"),
        bulk("num-slaves"),
        bulk("2"),
    ]);
    let instance = Instance::of("SENTINEL MASTER", &value).unwrap();
    assert!(instance.is_down());
    assert_eq!(instance.number::<u32>("num-slaves"), Ok(2));
    assert!(instance.number::<u32>("config-epoch").is_err());
}

#[test]
fn a_name_without_a_value_is_no_answer() {
    let error = pairs("CONFIG GET", &Value::Array(vec![bulk("save")])).unwrap_err();
    assert!(matches!(error, Error::Answer { .. }) && !error.is_refusal());
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        Just(Value::Okay),
        any::<i64>().prop_map(Value::Int),
        any::<Vec<u8>>().prop_map(Value::BulkString),
        "master|slave|sentinel|[0-9]{1,6}".prop_map(|text| Value::BulkString(text.into_bytes())),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        proptest::collection::vec(inner, 0..6).prop_map(Value::Array)
    })
}

proptest! {
    #[test]
    fn no_answer_panics(value in any_value(), text in "(role:master\n|slave0:ip=,port=|connected_slaves:4294967295\n|[ -~]{0,12}[:=\n]){0,12}") {
        let _ = role(&value);
        let _ = pairs("x", &value);
        let _ = Instance::of("x", &value);
        let _ = Info::parse(&text).replication();
    }
}
