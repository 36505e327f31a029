//! fail2ban bans and lets in again.

use super::{Finding, Surroundings};
use crate::gate::probe;
use serde::Deserialize;
use std::time::Duration;

/// What is banned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// An address nobody has: from a documentation range.
    address: String,
    /// Seconds until the firewall must show it.
    within: u64,
}

/// Bans the address on every host, sees it in the packet filter, lets it in again, sees it gone.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let mut finding = surroundings
        .on_each("banned, seen in the packet filter, let in again, gone", |_, session| {
            let bounds = &bounds;
            async move {
                let set = |verb: &'static str| {
                    let session = &session;
                    async move {
                        let argv = ["fail2ban-client", "set", "sshd", verb, &bounds.address];
                        probe::output(session, &argv).await
                    }
                };
                let filtered = |wanted: bool| {
                    let session = &session;
                    probe::wait_until(Duration::from_secs(bounds.within), move || async move {
                        let rules = probe::output(session, &["nft", "list", "ruleset"]).await?;
                        if rules.contains(&bounds.address) == wanted {
                            return Ok(());
                        }
                        let word = if wanted { "not in" } else { "still in" };
                        Err(format!("{} is {word} the packet filter", bounds.address))
                    })
                };
                set("banip").await?;
                let banned = filtered(true).await;
                // Let in again whatever was seen.
                let unbanned = match set("unbanip").await {
                    Ok(_) => filtered(false).await.map_err(|error| format!("{NOT_HEALED}{error}")),
                    Err(error) => Err(format!("{NOT_HEALED}{error}")),
                };
                banned.and(unbanned).map(|()| Vec::new())
            }
        })
        .await;
    finding.not_healed = finding.found.iter().any(|line| line.contains(NOT_HEALED));
    finding
}

/// Marks a line that says that the ban could not be taken back.
const NOT_HEALED: &str = "not healed: ";
