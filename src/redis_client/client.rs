//! A connection, and the commands of a data node.

use super::error::Error;
use super::info::{Info, Replication};
use super::reply::{number, optional_text, pairs, role, text};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, Value, cmd};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Where a node says that it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// An address, or a name where nodes announce names.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The answer to ROLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Master {
        /// Bytes of replication that it wrote.
        offset: u64,
        /// Its connected replicas with the offsets that they acknowledged.
        replicas: Vec<(Endpoint, u64)>,
    },
    /// It follows.
    Replica {
        /// Whom.
        master: Endpoint,
        /// `connected` when it is in step; else `connect`, `connecting`, `sync`.
        state: String,
        /// Bytes of replication that it has; -1 before the first.
        offset: i64,
    },
    /// It is a Sentinel.
    Sentinel {
        /// The masters that it watches, by name.
        masters: Vec<String>,
    },
}

impl Role {
    /// True for a master.
    pub const fn is_master(&self) -> bool {
        matches!(self, Self::Master { .. })
    }
}

/// What a server says to a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// It is the right one.
    Accepted,
    /// It is another one.
    WrongPassword,
    /// The server has none.
    NoPasswordSet,
}

/// A connection to one server. Dropping it closes the stream.
pub struct Client {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    deadline: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Speaks over a stream that is connected; nothing is sent yet. `deadline` is that of each
    /// call.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn over<S>(stream: S, deadline: Duration) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        const WHAT: &str = "connection";
        let settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let making = MultiplexedConnection::new_with_config(&settings, stream, config);
        let (connection, driver) = timeout(deadline, making)
            .await
            .map_err(|_| Error::Timeout { what: WHAT.to_owned(), after: deadline })?
            .map_err(|error| Error::of(WHAT, &error))?;
        let driver = tokio::spawn(driver).abort_handle();
        Ok(Self { connection, driver, deadline })
    }

    /// As [`Self::over`], and gives the password; a server that has none is content too.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::WrongPassword`] when it is not the server's.
    pub async fn login<S>(stream: S, password: &str, deadline: Duration) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = Self::over(stream, deadline).await?;
        match client.auth(password).await? {
            Auth::Accepted | Auth::NoPasswordSet => Ok(client),
            Auth::WrongPassword => Err(Error::WrongPassword),
        }
    }

    /// Sends a command and waits for its answer. `what` names it in errors and carries no secret.
    pub(super) async fn call(&self, what: &str, command: &Cmd) -> Result<Value, Error> {
        self.call_within(what, command, self.deadline).await
    }

    async fn call_within(
        &self,
        what: &str,
        command: &Cmd,
        deadline: Duration,
    ) -> Result<Value, Error> {
        let mut connection = self.connection.clone();
        match timeout(deadline, connection.send_packed_command(command)).await {
            Err(_) => Err(Error::Timeout { what: what.to_owned(), after: deadline }),
            Ok(Err(error)) => Err(Error::of(what, &error)),
            Ok(Ok(Value::ServerError(error))) => Err(Error::of(what, &error.into())),
            Ok(Ok(value)) => Ok(value),
        }
    }

    /// Gives a password.
    ///
    /// # Errors
    /// See [`Error`]; a wrong password is an answer, not an error.
    pub async fn auth(&self, password: &str) -> Result<Auth, Error> {
        match self.call("AUTH", cmd("AUTH").arg(password)).await {
            Ok(_) => Ok(Auth::Accepted),
            Err(Error::WrongPassword) => Ok(Auth::WrongPassword),
            Err(Error::Refused { detail, .. }) if detail.contains("without any password") => {
                Ok(Auth::NoPasswordSet)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.call("PING", &cmd("PING")).await.map(drop)
    }

    /// What it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn role(&self) -> Result<Role, Error> {
        role(&self.call("ROLE", &cmd("ROLE")).await?)
    }

    /// One section of INFO.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self, section: &str) -> Result<Info, Error> {
        let value = self.call("INFO", cmd("INFO").arg(section)).await?;
        text("INFO", &value).map(|text| Info::parse(&text))
    }

    /// INFO replication.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replication(&self) -> Result<Replication, Error> {
        self.info("replication").await?.replication()
    }

    /// The id of this start of the server.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run_id(&self) -> Result<String, Error> {
        Ok(self.info("server").await?.text("run_id")?.to_owned())
    }

    /// The settings that match a pattern.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn config_get(&self, pattern: &str) -> Result<BTreeMap<String, String>, Error> {
        let what = format!("CONFIG GET {pattern}");
        pairs(&what, &self.call(&what, cmd("CONFIG").arg("GET").arg(pattern)).await?)
    }

    /// Sets a setting. The value may be a secret: it stands in no error of this client.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn config_set(&self, name: &str, value: &str) -> Result<(), Error> {
        let what = format!("CONFIG SET {name}");
        self.call(&what, cmd("CONFIG").arg("SET").arg(name).arg(value)).await.map(drop)
    }

    /// Writes the settings into the server's own file.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn config_rewrite(&self) -> Result<(), Error> {
        self.call("CONFIG REWRITE", cmd("CONFIG").arg("REWRITE")).await.map(drop)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// See [`Error`]; whether an error leaves it open that the write happened is said by
    /// [`Error::is_refusal`].
    pub async fn set(&self, key: &str, value: &str) -> Result<(), Error> {
        self.call("SET", cmd("SET").arg(key).arg(value)).await.map(drop)
    }

    /// A key's value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: &str) -> Result<Option<String>, Error> {
        optional_text("GET", &self.call("GET", cmd("GET").arg(key)).await?)
    }

    /// The values of keys, in their order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, Error> {
        let value = self.call("MGET", cmd("MGET").arg(keys)).await?;
        super::reply::list("MGET", &value)?.iter().map(|one| optional_text("MGET", one)).collect()
    }

    /// One step through the keys that match a pattern: the cursor to go on with (0 at the end) and
    /// keys, some perhaps twice.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn scan(&self, cursor: u64, pattern: &str) -> Result<(u64, Vec<String>), Error> {
        let mut command = cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
        let value = self.call("SCAN", &command).await?;
        match super::reply::list("SCAN", &value)? {
            [cursor, keys] => {
                let cursor = super::reply::parsed("SCAN", &text("SCAN", cursor)?)?;
                let keys = super::reply::list("SCAN", keys)?;
                Ok((cursor, keys.iter().map(|key| text("SCAN", key)).collect::<Result<_, _>>()?))
            }
            _ => Err(Error::answer("SCAN", "no cursor and keys")),
        }
    }

    /// Deletes keys; how many there were.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, keys: &[String]) -> Result<u64, Error> {
        number("DEL", &self.call("DEL", cmd("DEL").arg(keys)).await?)
    }

    /// Waits until this many replicas have this connection's writes, at most `limit`; how many
    /// have.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn wait(&self, replicas: u32, limit: Duration) -> Result<u32, Error> {
        let mut command = cmd("WAIT");
        command.arg(replicas).arg(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        number("WAIT", &self.call_within("WAIT", &command, limit + self.deadline).await?)
    }

    /// Holds all writes of clients for a while, reads go on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pause_writes(&self, for_: Duration) -> Result<(), Error> {
        let milliseconds = u64::try_from(for_.as_millis()).unwrap_or(u64::MAX);
        let mut command = cmd("CLIENT");
        command.arg("PAUSE").arg(milliseconds).arg("WRITE");
        self.call("CLIENT PAUSE", &command).await.map(drop)
    }

    /// Lets held writes go.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unpause(&self) -> Result<(), Error> {
        self.call("CLIENT UNPAUSE", cmd("CLIENT").arg("UNPAUSE")).await.map(drop)
    }

    /// Follows a master.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn follow(&self, master: &Endpoint) -> Result<(), Error> {
        let mut command = cmd("REPLICAOF");
        command.arg(&master.host).arg(master.port);
        self.call("REPLICAOF", &command).await.map(drop)
    }
}
