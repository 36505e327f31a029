//! The Redis client against the real servers, on loopback: what is typed is what they answer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use strata::redis_client::{Auth, Client, Endpoint, Error, Quorum, Role};
use tokio::net::TcpStream;

const PASSWORD: &str = "the-right-one";
const DEADLINE: Duration = Duration::from_secs(2);

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start(program: &str, folder: &Path, port: u16, settings: &str) -> Self {
        let folder = folder.join(port.to_string());
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("daemon.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\ndaemonize no\n{settings}\n",
            folder.display()
        );
        fs::write(&config, text).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let child = Command::new(program)
            .arg(&config)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; run tests/prepare"));
        Self { child, port }
    }

    fn data(folder: &Path, more: &str) -> Self {
        let settings = format!("requirepass {PASSWORD}\nmasterauth {PASSWORD}\nsave \"\"\n{more}");
        Self::start("redis-server", folder, free_port(), &settings)
    }

    async fn open(&self) -> Client {
        until(|| async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let client = Client::over(stream, DEADLINE).await.map_err(|error| error.to_string())?;
            match client.ping().await {
                Ok(()) | Err(Error::NoAuth { .. }) => Ok(client),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    async fn login(&self) -> Client {
        let client = self.open().await;
        assert_eq!(client.auth(PASSWORD).await, Ok(Auth::Accepted));
        client
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { host: "127.0.0.1".to_owned(), port: self.port }
    }
}

/// Looks again until it succeeds.
async fn until<T, F: Future<Output = Result<T, String>>>(mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match look().await {
            Ok(value) => return value,
            Err(reason) if Instant::now() > end => panic!("{reason}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[tokio::test]
async fn passwords_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::data(folder.path(), "");
    let client = server.open().await;
    assert!(matches!(client.role().await, Err(Error::NoAuth { .. })));
    assert_eq!(client.auth("another").await, Ok(Auth::WrongPassword));
    assert!(matches!(client.set("a", "b").await, Err(Error::NoAuth { .. })));
    assert_eq!(client.auth(PASSWORD).await, Ok(Auth::Accepted));
    client.set("a", "b").await.unwrap();
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let refused = Client::login(stream, "another", DEADLINE).await.unwrap_err();
    assert_eq!(refused, Error::WrongPassword);
    let open = Server::start("redis-server", folder.path(), free_port(), "save \"\"");
    assert_eq!(open.open().await.auth(PASSWORD).await, Ok(Auth::NoPasswordSet));
}

#[tokio::test]
async fn a_pair_is_seen_from_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let master = Server::data(folder.path(), "min-replicas-to-write 1");
    let on_master = master.login().await;
    let alone = on_master.set("alone", "1").await.unwrap_err();
    assert!(matches!(alone, Error::NoReplicas { .. }) && alone.is_refusal());
    let replica = Server::data(folder.path(), &format!("replicaof 127.0.0.1 {}", master.port));
    let on_replica = replica.login().await;
    until(|| async {
        let seen = on_master.replication().await.map_err(|error| error.to_string())?;
        match seen.replicas.first() {
            Some(one) if one.state == "online" && one.endpoint == replica.endpoint() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    on_master.set("gate:1", "one").await.unwrap();
    // On a busy machine a replica that is only just online takes a moment until it answers.
    until(|| async {
        match on_master.wait(1, Duration::from_millis(500)).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(on_master.wait(2, Duration::from_millis(50)).await, Ok(1));
    let keys = ["gate:1".to_owned(), "gate:2".to_owned()];
    assert_eq!(on_replica.get_many(&keys).await, Ok(vec![Some("one".to_owned()), None]));
    assert_eq!(on_master.scan(0, "gate:*").await, Ok((0, vec!["gate:1".to_owned()])));
    let refused = on_replica.set("x", "y").await.unwrap_err();
    assert!(matches!(refused, Error::ReadOnly { .. }));
    assert!(on_master.role().await.unwrap().is_master());
    let role = on_replica.role().await.unwrap();
    assert!(matches!(&role, Role::Replica { master: at, state, .. }
            if *at == master.endpoint() && state == "connected"));
    let (left, right) =
        (on_master.replication().await.unwrap(), on_replica.replication().await.unwrap());
    assert!(right.link_up && left.replid == right.replid);
    assert_ne!(on_master.run_id().await.unwrap(), on_replica.run_id().await.unwrap());
    let settings = on_master.config_get("min-replicas-*").await.unwrap();
    assert_eq!(settings["min-replicas-to-write"], "1");
    on_master.config_set("maxmemory-policy", "noeviction").await.unwrap();
    on_master.config_rewrite().await.unwrap();
    on_master.pause_writes(Duration::from_secs(5)).await.unwrap();
    on_master.get("gate:1").await.unwrap();
    on_master.unpause().await.unwrap();
    assert_eq!(on_master.delete(&keys).await, Ok(1));
}

#[tokio::test]
async fn one_sentinel_knows_its_master_and_that_it_has_no_majority() {
    let folder = tempfile::tempdir().unwrap();
    let master = Server::data(folder.path(), "");
    master.login().await;
    let settings = format!(
        "sentinel monitor m 127.0.0.1 {} 2\nsentinel auth-pass m {PASSWORD}\nsentinel \
         down-after-milliseconds m 1000",
        master.port
    );
    let sentinel = Server::start("redis-sentinel", folder.path(), free_port(), &settings);
    let client = sentinel.open().await;
    assert_eq!(client.role().await, Ok(Role::Sentinel { masters: vec!["m".to_owned()] }));
    assert_eq!(client.sentinel_master_address("m").await, Ok(Some(master.endpoint())));
    assert_eq!(client.sentinel_master_address("other").await, Ok(None));
    let seen = client.sentinel_master("m").await.unwrap();
    assert_eq!(seen.endpoint, master.endpoint());
    assert_eq!(seen.number::<u32>("num-other-sentinels"), Ok(0));
    assert_eq!(client.sentinel_replicas("m").await, Ok(Vec::new()));
    assert_eq!(client.sentinel_sentinels("m").await, Ok(Vec::new()));
    assert_eq!(client.sentinel_id().await.unwrap().len(), 40);
    assert!(matches!(client.sentinel_quorum("m").await, Ok(Quorum::Missing(_))));
    assert!(matches!(client.sentinel_master("other").await, Err(Error::Refused { .. })));
    let refused = client.sentinel_failover("m").await.unwrap_err();
    assert!(matches!(refused, Error::Refused { code, .. } if code == "NOGOODSLAVE"));
    drop(master);
    until(|| async {
        let seen = client.sentinel_master("m").await.map_err(|error| error.to_string())?;
        if seen.is_down() { Ok(()) } else { Err(format!("{:?}", seen.flags)) }
    })
    .await;
}

/// A server that takes the connection and says nothing, as a frozen one does.
#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::data(folder.path(), "");
    drop(server.open().await);
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let started = Instant::now();
    let limit = Duration::from_millis(300);
    let error = Client::login(stream, PASSWORD, limit).await.unwrap_err();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(matches!(error, Error::Timeout { .. }) && error.ends_connection());
    assert!(!error.is_refusal() && started.elapsed() < DEADLINE);
    assert!(!error.to_string().contains(PASSWORD));
}
