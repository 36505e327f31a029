//! Proving that a host lets new connections in, while a guarded change waits for it.

use super::connection::establish;
use super::target::{ConnectOptions, Target, Transport};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Between two attempts: a daemon that reloads refuses for a moment.
const BETWEEN: Duration = Duration::from_millis(300);

/// True once a connection made from nothing succeeded: TCP, key exchange, host key and our key. For
/// the machine that strata runs on, its SSH server must answer at its address.
pub(super) async fn prove(target: &Target, options: &ConnectOptions, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut last = "nothing answered".to_owned();
    loop {
        match timeout_at(deadline, attempt(target, options)).await {
            Ok(Ok(())) => return true,
            Ok(Err(reason)) => last = reason,
            Err(_) => {}
        }
        if Instant::now() + BETWEEN >= deadline {
            tracing::info!(host = %target.name, reason = %last, "no new connection could be made");
            return false;
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

async fn attempt(target: &Target, options: &ConnectOptions) -> Result<(), String> {
    match target.transport {
        Transport::Ssh => match establish(target, options).await {
            Ok(connection) => {
                let bye = russh::Disconnect::ByApplication;
                connection.handle.disconnect(bye, "", "").await.ok();
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        },
        Transport::Local => {
            let failed = |error: std::io::Error| format!("{}: {error}", target.address);
            let mut stream = TcpStream::connect(target.address).await.map_err(failed)?;
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).await.map_err(failed)?;
            if &greeting == b"SSH-" {
                Ok(())
            } else {
                Err(format!("{}: what answers is no SSH server", target.address))
            }
        }
    }
}
