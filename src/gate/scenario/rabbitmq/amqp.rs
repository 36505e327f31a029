//! An AMQP 0-9-1 client with a deadline for each call, over a stream that somebody else opened, for
//! example another host.

use super::names::Account;
use crate::gate::writer::Stream;
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The mode of a message that is written to disk.
const PERSISTENT: u8 = 2;

/// Messages that a consumer has at most without having acknowledged them.
const PREFETCH: u16 = 200;

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmqpError {
    /// The broker refused it; with its code, 403 for a wrong password.
    #[error("{words} ({code})")]
    Refused {
        /// The protocol's code.
        code: u16,
        /// The broker's words.
        words: String,
    },
    /// The connection broke, or there was none.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer to {what} within {seconds} s")]
    Timeout {
        /// The call.
        what: &'static str,
        /// The deadline.
        seconds: u64,
    },
}

impl From<lapin::Error> for AmqpError {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(told) => {
                Self::Refused { code: told.get_id(), words: told.get_message().to_string() }
            }
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// A connection with one channel that has its messages confirmed.
pub struct Amqp {
    connection: Connection,
    channel: Channel,
    deadline: Duration,
    _forward: Option<Forward>,
}

/// What a consumer got.
pub struct Delivered {
    /// The message.
    pub text: String,
    acker: lapin::Acker,
}

/// A consumer's messages as they come.
pub struct Deliveries(Consumer);

/// Moves bytes between a loopback connection and a stream; dropped, both end.
struct Forward(JoinHandle<()>);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Amqp {
    /// Logs in over a stream; `name` is how the broker lists the connection.
    ///
    /// # Errors
    /// What the broker refuses, or what broke.
    pub async fn over(
        stream: Box<dyn Stream>,
        account: &Account,
        vhost: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Self, AmqpError> {
        let (at, forward) =
            forward(stream).await.map_err(|error| AmqpError::Broken(error.to_string()))?;
        Self::login(at, account, vhost, name, deadline, Some(forward)).await
    }

    /// Logs in at an address, from here.
    ///
    /// # Errors
    /// What the broker refuses, or what broke.
    pub async fn at(
        address: SocketAddr,
        account: &Account,
        vhost: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Self, AmqpError> {
        Self::login(address, account, vhost, name, deadline, None).await
    }

    async fn login(
        at: SocketAddr,
        account: &Account,
        vhost: &str,
        name: &str,
        deadline: Duration,
        forward: Option<Forward>,
    ) -> Result<Self, AmqpError> {
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: account.user.expose().clone(),
                    password: account.password.expose().clone(),
                },
                host: at.ip().to_string(),
                port: at.port(),
            },
            vhost: vhost.to_owned(),
            query: AMQPQueryString::default(),
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let login = async {
            let connection = Connection::connect_uri(uri, properties).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok((connection, channel))
        };
        let (connection, channel) = within("the login", deadline, login).await?;
        Ok(Self { connection, channel, deadline, _forward: forward })
    }

    /// Makes a durable queue of the kind that the vhost says.
    ///
    /// # Errors
    /// What the broker refuses, or what broke.
    pub async fn declare(&self, queue: &str) -> Result<(), AmqpError> {
        let options = QueueDeclareOptions::durable();
        let declare = self.channel.queue_declare(short(queue)?, options, FieldTable::default());
        within("the declaration of a queue", self.deadline, declare).await.map(drop)
    }

    /// Removes a queue; one that is not there is removed already.
    ///
    /// # Errors
    /// What the broker refuses, or what broke.
    pub async fn delete(&self, queue: &str) -> Result<(), AmqpError> {
        let delete = self.channel.queue_delete(short(queue)?, QueueDeleteOptions::default());
        within("the removal of a queue", self.deadline, delete).await.map(drop)
    }

    /// Publishes persistent messages without waiting in between, then waits for every confirmation.
    /// `confirmed` is told of each message that the broker confirmed, by its place.
    ///
    /// # Errors
    /// Why not every one is confirmed.
    pub async fn publish(
        &self,
        queue: &str,
        messages: &[Vec<u8>],
        mut confirmed: impl FnMut(usize),
    ) -> Result<(), AmqpError> {
        let queue = short(queue)?;
        let send = async {
            let mut waiting = Vec::with_capacity(messages.len());
            for message in messages {
                let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
                let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                let published = self.channel.basic_publish(
                    "".into(),
                    queue.clone(),
                    options,
                    message,
                    properties,
                );
                waiting.push(published.await?);
            }
            Ok::<_, lapin::Error>(waiting)
        };
        let waiting = within("a message", self.deadline, send).await?;
        let end = tokio::time::Instant::now() + self.deadline;
        let mut refused = None;
        // Each is awaited to the end: what was confirmed counts, whatever became of the others.
        for (place, confirmation) in waiting.into_iter().enumerate() {
            match tokio::time::timeout_at(end, confirmation).await {
                Ok(Ok(lapin::Confirmation::Ack(None))) => confirmed(place),
                Ok(Ok(other)) => {
                    let words = match other {
                        lapin::Confirmation::Ack(_) => "the message was returned",
                        _ => "the message was not taken",
                    };
                    refused.get_or_insert(AmqpError::Refused { code: 0, words: words.to_owned() });
                }
                Ok(Err(error)) => drop(refused.get_or_insert(error.into())),
                Err(_) => {
                    let seconds = self.deadline.as_secs();
                    refused.get_or_insert(AmqpError::Timeout { what: "a message", seconds });
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Takes one message, and acknowledges it; `None` where there is none.
    ///
    /// # Errors
    /// What the broker refuses, or what broke.
    pub async fn take(&self, queue: &str) -> Result<Option<String>, AmqpError> {
        let get = self.channel.basic_get(short(queue)?, BasicGetOptions::default());
        let Some(found) = within("a message", self.deadline, get).await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&found.delivery.data).into_owned();
        let ack = found.delivery.acker.ack(BasicAckOptions::default());
        within("an acknowledgement", self.deadline, ack).await?;
        Ok(Some(text))
    }

    /// Begins to consume with acknowledgements by hand.
    ///
    /// # Errors
    /// What the broker refuses, or what broke.
    pub async fn consume(&self, queue: &str) -> Result<Deliveries, AmqpError> {
        let options = BasicQosOptions::default();
        let limit = self.channel.basic_qos(PREFETCH, options);
        within("the limit of a consumer", self.deadline, limit).await?;
        let options = BasicConsumeOptions::default();
        let consume =
            self.channel.basic_consume(short(queue)?, "".into(), options, FieldTable::default());
        within("a consumer", self.deadline, consume).await.map(Deliveries)
    }

    /// Ends it in good order.
    pub async fn close(self) {
        // The broker ends what is left of it by itself.
        timeout(self.deadline, self.connection.close(200, "".into())).await.ok();
    }
}

impl Deliveries {
    /// The next message.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn next(&mut self) -> Result<Delivered, AmqpError> {
        let next = self.0.next().await;
        let delivery = next.ok_or_else(|| AmqpError::Broken("the consumer ended".to_owned()))??;
        let text = String::from_utf8_lossy(&delivery.data).into_owned();
        Ok(Delivered { text, acker: delivery.acker })
    }
}

impl Delivered {
    /// Tells the broker that it was worked on.
    ///
    /// # Errors
    /// What broke.
    pub async fn acknowledge(self) -> Result<(), AmqpError> {
        self.acker.ack(BasicAckOptions::default()).await?;
        Ok(())
    }
}

async fn within<T>(
    what: &'static str,
    deadline: Duration,
    call: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, AmqpError> {
    match timeout(deadline, call).await {
        Ok(answer) => answer.map_err(AmqpError::from),
        Err(_) => Err(AmqpError::Timeout { what, seconds: deadline.as_secs() }),
    }
}

fn short(text: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(text).map_err(|error| AmqpError::Broken(error.to_string()))
}

/// A loopback address that leads into the stream, for one connection: the client crate dials for
/// itself.
async fn forward(mut stream: Box<dyn Stream>) -> std::io::Result<(SocketAddr, Forward)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let at = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let Ok((mut client, _)) = listener.accept().await else { return };
        drop(listener);
        client.set_nodelay(true).ok();
        tokio::io::copy_bidirectional(&mut client, &mut stream).await.ok();
    });
    Ok((at, Forward(task)))
}
