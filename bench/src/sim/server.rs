//! The SSH servers of simulated hosts, many in one process.

use super::host::no_programs;
use crate::Outcome;
use crate::sites::Node;
use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use strata::agent::serve_simulated;
use tokio::net::TcpListener;

/// The port of every server.
const PORT: u16 = 22;

/// Serves these hosts, whose roots are directories of their names below `roots`, until the process
/// is ended. `ready` is called when all of them listen.
///
/// # Errors
/// When an address cannot be listened at.
pub async fn serve(
    nodes: &[Node],
    roots: &Path,
    key: PrivateKey,
    ready: impl FnOnce(),
) -> Outcome<()> {
    let config = Arc::new(Config {
        keys: vec![key],
        auth_rejection_time: Duration::ZERO,
        nodelay: true,
        keepalive_interval: None,
        ..Config::default()
    });
    let mut all = tokio::task::JoinSet::new();
    for node in nodes {
        let listener = TcpListener::bind((node.address, PORT)).await?;
        all.spawn(listen(listener, Arc::clone(&config), roots.join(&node.name)));
    }
    ready();
    while let Some(ended) = all.join_next().await {
        ended??;
    }
    Ok(())
}

async fn listen(listener: TcpListener, config: Arc<Config>, root: PathBuf) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (config, root) = (Arc::clone(&config), root.clone());
        tokio::spawn(async move {
            let login = Login { root, channel: None };
            match russh::server::run_stream(config, stream, login).await {
                // How a controller leaves is its own matter.
                Ok(session) => drop(session.await),
                Err(error) => eprintln!("a session could not begin: {error}"),
            }
        });
    }
}

/// One connection.
struct Login {
    root: PathBuf,
    channel: Option<Channel<Msg>>,
}

impl Handler for Login {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    /// Whatever is asked for, the agent answers: it is there already, as on a host that was met
    /// before.
    async fn exec_request(
        &mut self,
        id: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(channel) = self.channel.take() else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let (handle, root) = (session.handle(), self.root.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(channel, root).await {
                eprintln!("an agent: {error}");
            }
            handle.exit_status_request(id, 0).await.ok();
            handle.close(id).await.ok();
        });
        Ok(())
    }
}

/// Carries bytes between a channel and an agent until the agent has ended.
async fn converse(channel: Channel<Msg>, root: PathBuf) -> std::io::Result<()> {
    let (ours, its) = UnixStream::pair()?;
    let output = its.try_clone()?;
    let agent = std::thread::Builder::new()
        .name("agent".into())
        .spawn(move || serve_simulated(&root, no_programs, its, output))?;
    ours.set_nonblocking(true)?;
    let (mut from_agent, mut to_agent) = tokio::net::UnixStream::from_std(ours)?.into_split();
    let (mut from_controller, mut to_controller) = tokio::io::split(channel.into_stream());
    let input = tokio::spawn(async move {
        tokio::io::copy(&mut from_controller, &mut to_agent).await.ok();
    });
    // The agent's end is the end: it closes its output last.
    tokio::io::copy(&mut from_agent, &mut to_controller).await?;
    input.abort();
    tokio::task::spawn_blocking(move || agent.join()).await.ok();
    Ok(())
}
