//! RabbitMQ's management interface, asked on the node's own host.

use super::settings::{Login, Policy, Settings, host};
use crate::cluster::{NoAnswer, Reach};
use crate::http_client::{Request, Response};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A node's management interface.
pub struct Management<'a> {
    /// The hosts.
    pub reach: Reach<'a>,
    /// Names and passwords.
    pub settings: &'a Settings,
    /// The node's host.
    pub member: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Why it gave no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody listens.
    Down,
    /// It does not take the password.
    Refuses(String),
    /// Anything else.
    Unready(String),
}

impl From<NoAnswer> for Unanswered {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Down => Self::Down,
            NoAnswer::Unready(why) => Self::Unready(why),
        }
    }
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down => f.write_str("nobody listens"),
            Self::Refuses(why) | Self::Unready(why) => f.write_str(why),
        }
    }
}

/// One node, as another sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// `rabbit@HOST`.
    pub name: String,
    /// True while it runs.
    #[serde(default)]
    pub running: bool,
    /// Nodes that it is cut off from.
    #[serde(default)]
    pub partitions: Vec<String>,
    /// True while it takes no clients.
    #[serde(default)]
    pub being_drained: bool,
}

#[derive(Deserialize)]
struct Parameter {
    value: Value,
}

#[derive(Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<Alarm>,
}

#[derive(Deserialize)]
struct Alarm {
    resource: String,
}

#[derive(Deserialize)]
struct Flag {
    name: String,
    state: String,
    #[serde(default)]
    stability: String,
}

#[derive(Deserialize)]
struct Queue {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    members: Vec<String>,
}

#[derive(Deserialize)]
struct Vhost {
    #[serde(default)]
    default_queue_type: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Permissions {
    configure: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
struct LivePolicy {
    name: String,
    pattern: String,
    #[serde(rename = "apply-to")]
    apply_to: String,
    priority: i64,
    definition: BTreeMap<String, Value>,
}

impl Management<'_> {
    /// The cluster's own id, which its first node made; nodes of two clusters never share it.
    pub async fn cluster_id(&self) -> Result<String, Unanswered> {
        let found = self.find::<Parameter>("/api/global-parameters/internal_cluster_id").await?;
        let found = found.map(|found| found.value.as_str().unwrap_or_default().to_owned());
        found.ok_or_else(|| Unanswered::Unready("its cluster has no id yet".to_owned()))
    }

    /// All nodes of the cluster.
    pub async fn nodes(&self) -> Result<Vec<Node>, Unanswered> {
        self.get("/api/nodes").await
    }

    /// What makes this node block publishers now: `memory`, `disk`. The list of nodes tells it some
    /// seconds later.
    pub async fn alarms(&self) -> Result<BTreeSet<String>, Unanswered> {
        let path = "/api/health/checks/local-alarms";
        let answer = self.ask(self.request(Method::GET, path)).await?;
        if answer.status != 503 {
            return succeeded(answer).map(|_| BTreeSet::new());
        }
        let told = answer.read::<Alarms>();
        let told = told.map_err(|error| Unanswered::Unready(error.to_string()))?;
        Ok(told.alarms.into_iter().map(|alarm| alarm.resource).collect())
    }

    /// Features that this version has and that are not in use.
    pub async fn unused_features(&self) -> Result<BTreeSet<String>, Unanswered> {
        let flags = self.get::<Vec<Flag>>("/api/feature-flags").await?;
        let unused =
            flags.into_iter().filter(|flag| flag.state == "disabled" && flag.stability == "stable");
        Ok(unused.map(|flag| flag.name).collect())
    }

    /// Hosts of these running nodes on which a quorum queue has no copy.
    pub async fn uncopied(
        &self,
        running: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Unanswered> {
        let queues = self.get::<Vec<Queue>>("/api/queues?columns=name,type,members").await?;
        let quorum = queues.into_iter().filter(|queue| queue.kind == "quorum");
        let mut uncopied = BTreeSet::new();
        for queue in quorum {
            let copies: BTreeSet<&str> = queue.members.iter().map(|node| host(node)).collect();
            uncopied.extend(running.iter().filter(|name| !copies.contains(name.as_str())).cloned());
        }
        Ok(uncopied)
    }

    /// What the role declares and the cluster has not, by names to show.
    pub async fn undeclared(&self) -> Result<Vec<String>, Unanswered> {
        let mut names = Vec::new();
        let vhost = self.find::<Vhost>(&self.vhost_path("vhosts")).await?;
        let kind = vhost.map(|vhost| {
            let stored = vhost.metadata.get("default_queue_type").and_then(Value::as_str);
            vhost.default_queue_type.or(stored.map(str::to_owned)).unwrap_or_default()
        });
        if kind.as_deref() != Some(&self.settings.queue_type) {
            names.push(format!("vhost {}", self.settings.vhost));
        }
        for (number, login) in self.settings.users.iter().enumerate() {
            // A name may be a secret: it is not shown.
            if !self.takes(login).await? {
                names.push(format!("user {}", number + 1));
            } else if kind.is_some() && !self.allows(login).await? {
                names.push(format!("permissions of user {}", number + 1));
            }
        }
        if self.find::<Value>("/api/users/guest").await?.is_some() {
            names.push("no user guest".to_owned());
        }
        let live = match kind {
            Some(_) => self.get::<Vec<LivePolicy>>(&self.vhost_path("policies")).await?,
            None => Vec::new(),
        };
        let stale = |policy: &&Policy| !live.iter().any(|found| same(policy, found));
        let stale = self.settings.policies.iter().filter(stale);
        names.extend(stale.map(|policy| format!("policy {}", policy.name)));
        Ok(names)
    }

    /// Declares everything that the role says; what is there already stays as it is.
    pub async fn declare(&self) -> Result<(), Unanswered> {
        // Releases before 3.11 know the second name alone, later ones both.
        let kind = &self.settings.queue_type;
        let vhost = json!({ "default_queue_type": kind, "defaultqueuetype": kind });
        self.put(&self.vhost_path("vhosts"), &vhost).await?;
        for login in &self.settings.users {
            if !self.takes(login).await? {
                let body = json!({ "password": login.password.expose(), "tags": "" });
                self.put(&format!("/api/users/{}", segment(login.user.expose())), &body).await?;
            }
            let everything = json!({ "configure": ".*", "write": ".*", "read": ".*" });
            self.put(&self.permissions_path(login), &everything).await?;
        }
        for policy in &self.settings.policies {
            let body = json!({
                "pattern": policy.pattern,
                "apply-to": policy.apply_to,
                "priority": policy.priority,
                "definition": policy.definition,
            });
            let path = format!("{}/{}", self.vhost_path("policies"), segment(&policy.name));
            self.put(&path, &body).await?;
        }
        let gone = self.ask(self.request(Method::DELETE, "/api/users/guest")).await?;
        if gone.status == 404 { Ok(()) } else { succeeded(gone).map(drop) }
    }

    /// True when the server takes this user's password.
    async fn takes(&self, login: &Login) -> Result<bool, Unanswered> {
        let request = Request::get(self.member, "/api/whoami")
            .login(login.user.expose(), login.password.expose());
        let answer = self.ask(request).await?;
        // Whoever may not manage is told so only after the password was taken.
        let text = String::from_utf8_lossy(&answer.body).to_lowercase();
        Ok(answer.is_success() || text.contains("not management user"))
    }

    async fn allows(&self, login: &Login) -> Result<bool, Unanswered> {
        let found = self.find::<Permissions>(&self.permissions_path(login)).await?;
        Ok(found.is_some_and(|found| {
            [&found.configure, &found.write, &found.read].iter().all(|pattern| *pattern == ".*")
        }))
    }

    fn vhost_path(&self, kind: &str) -> String {
        format!("/api/{kind}/{}", segment(&self.settings.vhost))
    }

    fn permissions_path(&self, login: &Login) -> String {
        format!("{}/{}", self.vhost_path("permissions"), segment(login.user.expose()))
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let admin = &self.settings.admin;
        Request::new(method, self.member, path).login(admin.user.expose(), admin.password.expose())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Unanswered> {
        let answer = succeeded(self.ask(self.request(Method::GET, path)).await?)?;
        answer.read().map_err(|error| Unanswered::Unready(error.to_string()))
    }

    /// What is at a path, if anything is.
    async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Unanswered> {
        match self.ask(self.request(Method::GET, path)).await? {
            answer if answer.status == 404 => Ok(None),
            answer => succeeded(answer)?
                .read()
                .map(Some)
                .map_err(|error| Unanswered::Unready(error.to_string())),
        }
    }

    async fn put(&self, path: &str, value: &Value) -> Result<(), Unanswered> {
        let admin = &self.settings.admin;
        let request = Request::json(Method::PUT, self.member, path, value)
            .login(admin.user.expose(), admin.password.expose());
        succeeded(self.ask(request).await?).map(drop)
    }

    async fn ask(&self, request: Request) -> Result<Response, Unanswered> {
        let to = SocketAddr::new(IpAddr::V4(self.address), self.settings.management_port);
        Ok(self.reach.http(self.member, to, request).await?)
    }
}

fn succeeded(answer: Response) -> Result<Response, Unanswered> {
    let refused = answer.status == 401;
    answer.succeeded().map_err(|error| match refused {
        true => Unanswered::Refuses(error.to_string()),
        false => Unanswered::Unready(error.to_string()),
    })
}

fn same(policy: &Policy, found: &LivePolicy) -> bool {
    policy.name == found.name
        && policy.pattern == found.pattern
        && policy.apply_to == found.apply_to
        && policy.priority == found.priority
        && policy.definition == found.definition
}

/// One segment of a path: whatever is not a letter, a digit or one of `-._~` is encoded.
fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment_of_a_path() {
        assert_eq!(segment("/"), "%2F");
        assert_eq!(segment("kb-app_1.x~"), "kb-app_1.x~");
        assert_eq!(segment("ä b"), "%C3%A4%20b");
    }
}
