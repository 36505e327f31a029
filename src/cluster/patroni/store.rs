//! What etcd holds of the cluster, asked through its JSON gateway from a member's own host.

use super::settings::Settings;
use super::view::Store;
use crate::cluster::reach::Reach;
use crate::http_client::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
}

/// What is there, and the dynamic settings.
///
/// # Errors
/// Why no etcd gave an answer.
pub async fn read(
    reach: &Reach<'_>,
    member: &str,
    settings: &Settings,
) -> Result<(Store, Value), String> {
    let mut reason = "no address of etcd is known".to_owned();
    for to in &settings.etcd {
        let prefix = settings.key();
        // The end of a range is the first key that is not in it: `/` is followed by `0`.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let range = json!({ "key": STANDARD.encode(&prefix), "range_end": STANDARD.encode(end) });
        let request = Request::json(Method::POST, to.to_string(), "/v3/kv/range", &range);
        let answer = match reach.http(member, *to, request).await {
            Ok(response) => response.succeeded().and_then(|answer| answer.read::<Answer>()),
            Err(error) => {
                reason = format!("etcd at {to} of {member}: {error}");
                continue;
            }
        };
        match answer {
            Ok(answer) => return Ok(of(&prefix, answer)),
            Err(error) => reason = format!("etcd at {to} of {member}: {error}"),
        }
    }
    Err(reason)
}

fn of(prefix: &str, answer: Answer) -> (Store, Value) {
    let text = |encoded: &str| {
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs: BTreeMap<String, String> = answer
        .kvs
        .iter()
        .filter_map(|pair| {
            let key = text(&pair.key);
            Some((key.strip_prefix(prefix)?.to_owned(), text(&pair.value)))
        })
        .collect();
    let dynamic: Value =
        pairs.get("config").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let store = Store {
        initialize: pairs.get("initialize").cloned(),
        leader: pairs.get("leader").cloned(),
        paused: dynamic["pause"] == json!(true),
    };
    (store, dynamic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_by_their_names() {
        let pair = |key: &str, value: &str| Pair {
            key: STANDARD.encode(key),
            value: STANDARD.encode(value),
        };
        let (store, dynamic) = of(
            "/service/pg/",
            Answer {
                kvs: vec![
                    pair("/service/pg/initialize", "7300000000000000001"),
                    pair("/service/pg/config", "{\"pause\":true,\"ttl\":30}"),
                    pair("/service/pg/members/db-01", "{}"),
                ],
            },
        );
        assert_eq!(store.initialize.as_deref(), Some("7300000000000000001"));
        assert_eq!(store.leader, None);
        assert!(store.paused);
        assert_eq!(dynamic["ttl"], 30);
        assert_eq!(of("/service/pg/", Answer { kvs: Vec::new() }).0, Store::default());
    }
}
