//! The byte stream to an agent, whatever carries it: an SSH channel or the pipes of a child.

use russh::{ChannelMsg, ChannelReadHalf};
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::process::Child;
use tokio::sync::mpsc;

/// What arrives.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// Bytes of standard output.
    Data(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// How the program ended.
    Exit(String),
    /// Nothing more will arrive.
    Closed,
}

/// The receiving side.
pub(super) enum LinkReader {
    Ssh(ChannelReadHalf),
    Local(mpsc::Receiver<LinkEvent>),
}

/// The sending side.
pub(super) type LinkWriter = Pin<Box<dyn AsyncWrite + Send>>;

impl LinkReader {
    /// The next event; safe to cancel.
    pub(super) async fn next(&mut self) -> LinkEvent {
        match self {
            Self::Local(events) => events.recv().await.unwrap_or(LinkEvent::Closed),
            Self::Ssh(channel) => loop {
                match channel.wait().await {
                    None => return LinkEvent::Closed,
                    Some(ChannelMsg::Data { data }) => return LinkEvent::Data(data.into()),
                    Some(ChannelMsg::ExtendedData { data, .. }) => {
                        return LinkEvent::Stderr(data.into());
                    }
                    Some(ChannelMsg::ExitStatus { exit_status }) => {
                        return LinkEvent::Exit(format!("status {exit_status}"));
                    }
                    Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                        return LinkEvent::Exit(format!("signal {signal_name:?}"));
                    }
                    Some(ChannelMsg::Failure) => {
                        return LinkEvent::Exit("the server runs no commands".into());
                    }
                    Some(_) => {}
                }
            },
        }
    }
}

/// The link to a child whose three pipes are piped. Its end is waited for in the background.
pub(super) fn local(mut child: Child) -> Option<(LinkReader, LinkWriter)> {
    let (stdin, stdout, stderr) = (child.stdin.take()?, child.stdout.take()?, child.stderr.take()?);
    let (events, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let output = pump(stdout, events.clone(), LinkEvent::Data);
        let errors = pump(stderr, events.clone(), LinkEvent::Stderr);
        tokio::join!(output, errors);
        if let Ok(status) = child.wait().await {
            events.send(LinkEvent::Exit(status.to_string())).await.ok();
        }
    });
    Some((LinkReader::Local(receiver), Box::pin(stdin)))
}

async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    events: mpsc::Sender<LinkEvent>,
    event: impl Fn(Vec<u8>) -> LinkEvent,
) {
    loop {
        let mut buffer = Vec::with_capacity(64 * 1024);
        match pipe.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if events.send(event(buffer)).await.is_err() {
                    return;
                }
            }
        }
    }
}
