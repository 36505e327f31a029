//! The PostgreSQL client against a real server, on loopback: what is typed is what it answers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use strata::postgres_client::{Client, Error, Login, Type, literal, scram_verifier, state};
use tokio::net::TcpStream;

const PASSWORD: &str = "the-right-one";
const DEADLINE: Duration = Duration::from_secs(5);
/// `nobody`: PostgreSQL refuses to run as root.
const USER: u32 = 65_534;

fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("run tests/prepare");
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.unwrap().path().join("bin")).collect();
    found.sort();
    found.pop().expect("run tests/prepare")
}

fn as_user(program: &str) -> Command {
    let user = USER.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command.arg(programs().join(program)).env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().ok();
        self.child.wait().ok();
    }
}

impl Server {
    fn start(folder: &Path) -> Self {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        chown(&data, Some(USER), Some(USER)).unwrap();
        let password = folder.join("password");
        fs::write(&password, PASSWORD).unwrap();
        let made = as_user("initdb")
            .args(["--no-sync", "--auth=scram-sha-256", "--username=postgres", "--pgdata"])
            .arg(&data)
            .arg("--pwfile")
            .arg(&password)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = as_user("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "fsync=off", "-c", "unix_socket_directories="])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    async fn try_login(&self, user: &str, password: &str) -> Result<Client, Error> {
        let login = Login { user, password, database: "postgres", application: "strata" };
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await;
        let stream = stream
            .map_err(|error| Error::Lost { what: "dial".to_owned(), reason: error.to_string() })?;
        Client::login(stream, &login, DEADLINE).await
    }

    async fn login(&self) -> Client {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.try_login("postgres", PASSWORD).await {
                Ok(client) => return client,
                Err(error) if Instant::now() > end => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

#[tokio::test]
async fn it_says_what_the_server_says() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let client = server.login().await;
    assert!(client.server_version().unwrap().starts_with(|first: char| first.is_ascii_digit()));

    // Rows, by both ways, and NULL.
    let rows = client.rows("two rows", "select 1, null union all select 2, 'x' order by 1").await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(rows.unwrap(), vec![vec![text("1"), None], vec![text("2"), text("x")]]);
    let sum = "select $1::int8 + 1";
    let row = &client.query("sum", sum, &[(&41_i64, Type::INT8)]).await.unwrap()[0];
    assert_eq!(row.get::<_, i64>(0), 42);
    let prepared = client.prepare("prepare", "select $1::text").await.unwrap();
    let row = &client.run("run", &prepared, &[&"it's"]).await.unwrap()[0];
    assert_eq!(row.get::<_, &str>(0), "it's");

    // Refusals decide: they are typed, say for sure that nothing was done, and keep the statement.
    client.batch("table", "create table t (id int8 primary key)").await.unwrap();
    let insert = "insert into t values ($1)";
    let parameters: [(&(dyn strata::postgres_client::ToSql + Sync), Type); 1] =
        [(&7_i64, Type::INT8)];
    assert_eq!(client.execute("insert", insert, &parameters).await, Ok(1));
    let error = client.execute("insert", insert, &parameters).await.unwrap_err();
    assert_eq!(error.code(), Some(state::UNIQUE_VIOLATION));
    assert!(error.is_refusal() && !error.ends_connection());
    client.batch("reading", "set default_transaction_read_only = on").await.unwrap();
    let error = client.execute("insert", insert, &parameters).await.unwrap_err();
    assert_eq!(error, Error::ReadOnly { what: "insert".to_owned() });
    client.batch("writing", "set default_transaction_read_only = off").await.unwrap();
    let secret = "select 'hush' from nothing";
    let error = client.rows("looking", secret).await.unwrap_err();
    assert_eq!(error.code(), Some(state::NO_TABLE));
    assert!(!error.to_string().contains("hush"), "{error}");

    // A password set by its verifier logs in; another one and an unknown role do not.
    let verifier = literal(&scram_verifier("it's mine"));
    client.batch("role", &format!("create role app login password {verifier}")).await.unwrap();
    server.try_login("app", "it's mine").await.unwrap();
    for (user, password) in [("app", "wrong"), ("nobody-at-all", PASSWORD)] {
        let error = server.try_login(user, password).await.unwrap_err();
        assert!(matches!(error, Error::WrongPassword { .. }), "{error}");
    }

    // What an administrator cuts off may have been done: no refusal, and the connection is gone.
    let other = server.login().await;
    let pid = other.value("pid", "select pg_backend_pid()").await.unwrap().unwrap();
    let sleeping = other.rows("sleep", "select pg_sleep(60)");
    let ending = format!("select pg_terminate_backend({pid})");
    let (slept, ended) = tokio::join!(sleeping, client.rows("end", &ending));
    ended.unwrap();
    let error = slept.unwrap_err();
    assert!(!error.is_refusal() && error.ends_connection(), "{error:?}");

    // A dropped client leaves, and does not break off.
    drop(client);
    let client = server.login().await;
    let others = "select count(*) from pg_stat_activity where application_name = 'strata' and pid <> pg_backend_pid()";
    let end = Instant::now() + Duration::from_secs(10);
    while client.value("others", others).await.unwrap().as_deref() != Some("0") {
        assert!(Instant::now() < end, "a connection is left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let login = Login { user: "a", password: "b", database: "c", application: "strata" };
    let limit = Duration::from_millis(200);
    let error = Client::login(stream, &login, limit).await.unwrap_err();
    assert_eq!(error, Error::Timeout { what: "login".to_owned(), after: limit });
    assert!(!format!("{login:?}").contains("\"b\""));
}
