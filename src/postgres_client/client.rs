//! A connection, and its calls.

use super::error::Error;
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, NoTls, Row, SimpleQueryMessage, Statement};

/// How long the farewell of a connection may take: without one the server logs a broken client.
const FAREWELL: Duration = Duration::from_secs(1);

/// One row as text, in the order of its columns; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

/// Who connects, and where to.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The role.
    pub user: &'a str,
    /// Its password.
    pub password: &'a str,
    /// The database.
    pub database: &'a str,
    /// How this connection is called in `pg_stat_activity`.
    pub application: &'a str,
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// A connection to one server, or to a pooler in front of it. Dropping it says farewell.
pub struct Client {
    client: tokio_postgres::Client,
    user: String,
    version: Option<String>,
    deadline: Duration,
    /// Dropped with the client: ends the task of the connection.
    _closing: oneshot::Sender<()>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("user", &self.user)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Logs in over a stream that is connected. `deadline` is that of the login and of each call.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::WrongPassword`] when the server knows another one.
    pub async fn login<S>(stream: S, login: &Login<'_>, deadline: Duration) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        const WHAT: &str = "login";
        let mut config = Config::new();
        config
            .user(login.user)
            .password(login.password)
            .dbname(login.database)
            .application_name(login.application)
            .ssl_mode(SslMode::Disable);
        let (client, mut connection) = timeout(deadline, config.connect_raw(stream, NoTls))
            .await
            .map_err(|_| Error::Timeout { what: WHAT.to_owned(), after: deadline })?
            .map_err(|error| Error::of(WHAT, login.user, &error))?;
        let version = connection.parameter("server_version").map(str::to_owned);
        let (closing, closed) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                _ = &mut connection => {}
                _ = closed => { timeout(FAREWELL, connection).await.ok(); }
            }
        });
        Ok(Self { client, user: login.user.to_owned(), version, deadline, _closing: closing })
    }

    /// The same connection with another deadline for each call: a login computes for a while, a
    /// short statement does not.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The version that the server gave at login; a pooler may give another one, or none.
    #[must_use]
    pub fn server_version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// True when the connection is known to be gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    async fn within<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        match timeout(self.deadline, call).await {
            Err(_) => Err(Error::Timeout { what: what.to_owned(), after: self.deadline }),
            Ok(result) => result.map_err(|error| Error::of(what, &self.user, &error)),
        }
    }

    /// Statements without an answer, by the simple protocol: one transaction unless they say
    /// otherwise. `what` names the call in errors and carries no secret.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn batch(&self, what: &str, statements: &str) -> Result<(), Error> {
        self.within(what, self.client.batch_execute(statements)).await
    }

    /// Rows as text, by the simple protocol, which poolers of transactions take too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rows(&self, what: &str, statement: &str) -> Result<Vec<TextRow>, Error> {
        let messages = self.within(what, self.client.simple_query(statement)).await?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The first column of the first row, by the simple protocol. `None` is NULL, or no row.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn value(&self, what: &str, statement: &str) -> Result<Option<String>, Error> {
        Ok(self
            .rows(what, statement)
            .await?
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten())
    }

    /// Rows of a statement with parameters of named types, which nothing on the server remembers
    /// afterwards: poolers of transactions take it too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query(
        &self,
        what: &str,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        self.within(what, self.client.query_typed(statement, parameters)).await
    }

    /// As [`Self::query`], for a statement that gives no rows: how many it touched.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn execute(
        &self,
        what: &str,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<u64, Error> {
        self.within(what, self.client.execute_typed(statement, parameters)).await
    }

    /// A statement that the server remembers for this connection: not through a pooler of
    /// transactions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prepare(&self, what: &str, statement: &str) -> Result<Statement, Error> {
        self.within(what, self.client.prepare(statement)).await
    }

    /// Rows of a prepared statement.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(
        &self,
        what: &str,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.within(what, self.client.query(statement, parameters)).await
    }
}
