//! The frame of every test that breaks something, whatever the service: full health first, writes
//! through the clients' path all the while, faults and their healing, the account of what was
//! acknowledged, and the old order again, whatever happened.
//!
//! A [`Technology`] says how its service is asked; nothing here knows any of them.

mod frame;
mod place;
mod proxy_down;
mod verdict;

pub use frame::{Drill, drill};
pub use place::{Host, Place, Roles};
pub use proxy_down::{ProxyDown, proxy_down};
pub use verdict::{Limits, Promise};

use super::writer::{Connect, Watch};
use crate::event::Measurement;
use std::collections::BTreeMap;

/// A service that tests break.
pub trait Technology {
    /// How clients write, through the path that they use.
    type Clients: Connect;
    /// How one node is looked at, past that path.
    type Node: Watch;

    /// What its leader is called.
    const LEADER: &'static str;

    /// Which writes must never be lost.
    const PROMISE: Promise;

    /// Where it stands.
    fn place(&self) -> &Place<'_>;

    /// Connections of clients, for the writes of this test.
    fn clients(&self) -> Self::Clients;

    /// Its nodes, for the looks of this test.
    fn nodes(&self) -> Vec<Self::Node>;

    /// Makes what writes of this test need.
    ///
    /// # Errors
    /// Why it could not be made.
    async fn prepare(&self) -> Result<(), String> {
        Ok(())
    }

    /// Who leads, while all of it is healthy.
    ///
    /// # Errors
    /// What is not healthy.
    async fn healthy(&self) -> Result<Host, String>;

    /// Who leads now, as all members but `old` agree, and is not `old`.
    ///
    /// # Errors
    /// What there is instead.
    async fn successor(&self, old: &Host) -> Result<Host, String>;

    /// An error unless the member follows the leader in step.
    ///
    /// # Errors
    /// What it does instead.
    async fn follows(&self, member: &Host, leader: &Host) -> Result<(), String>;

    /// An error unless every way (but one through the host `except`) leads to this leader.
    ///
    /// # Errors
    /// Where else one leads.
    async fn lead_to(&self, leader: &Host, except: Option<&str>) -> Result<(), String>;

    /// What this test wrote and can be read, through the clients' path: keys with their values, as
    /// [`super::writer::journal::key`] makes them of [`Connect::prefix`].
    ///
    /// # Errors
    /// Why it cannot be read.
    async fn readable(&self, prefix: &str) -> Result<BTreeMap<String, String>, String>;

    /// Makes a member the leader, in a planned way.
    ///
    /// # Errors
    /// What did not happen in time.
    async fn hand_over(&self, to: &Host) -> Result<(), String>;

    /// What it counted beside the account of the writes, once everything was read back.
    fn figures(&self) -> Vec<Measurement> {
        Vec::new()
    }

    /// Removes what this test wrote.
    ///
    /// # Errors
    /// What is left.
    async fn clean(&self) -> Result<(), String>;
}
