//! The text of INFO, typed.

use super::client::Endpoint;
use super::error::Error;
use super::reply::parsed;
use std::collections::BTreeMap;

const WHAT: &str = "INFO";

/// Fields of INFO by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info(BTreeMap<String, String>);

/// One replica as its master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Where it announces itself.
    pub endpoint: Endpoint,
    /// `online` once it follows.
    pub state: String,
    /// The offset that it acknowledged.
    pub offset: u64,
    /// Seconds since it acknowledged.
    pub lag: u64,
}

/// INFO replication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// True for a master.
    pub master: bool,
    /// What it follows; `None` for a master.
    pub follows: Option<Endpoint>,
    /// A replica's link to its master is up.
    pub link_up: bool,
    /// A replica is still taking its first copy.
    pub sync_in_progress: bool,
    /// The replicas of a master.
    pub replicas: Vec<Replica>,
    /// The id of the history that the data belongs to.
    pub replid: String,
    /// Bytes of replication that this node has.
    pub offset: u64,
}

impl Info {
    /// Reads `name:value` lines; headings and empty lines count for nothing.
    pub fn parse(text: &str) -> Self {
        let fields = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            fields
                .filter_map(|line| line.trim_end().split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self, name: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| Error::answer(WHAT, format!("`{name}` is missing")))
    }

    /// A field that must be there and be a number.
    ///
    /// # Errors
    /// When it is not.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Error> {
        parsed(WHAT, self.text(name)?)
    }

    /// The section `replication`.
    ///
    /// # Errors
    /// When a field is missing or is no number.
    pub fn replication(&self) -> Result<Replication, Error> {
        let master = match self.text("role")? {
            "master" => true,
            "slave" => false,
            other => return Err(Error::answer(WHAT, format!("the role `{other}` is not known"))),
        };
        let follows = if master {
            None
        } else {
            let host = self.text("master_host")?.to_owned();
            Some(Endpoint { host, port: self.number("master_port")? })
        };
        let count: u32 = self.number("connected_slaves")?;
        // Each takes a line of the answer: a larger count than lines is not counted to.
        let replicas = (0..count)
            .map_while(|n| self.get(&format!("slave{n}")))
            .map(replica)
            .collect::<Result<Vec<_>, _>>()?;
        let offset = if master { "master_repl_offset" } else { "slave_repl_offset" };
        Ok(Replication {
            master,
            follows,
            link_up: self.get("master_link_status") == Some("up"),
            sync_in_progress: self.get("master_sync_in_progress") == Some("1"),
            replicas,
            replid: self.text("master_replid")?.to_owned(),
            offset: self.number(offset)?,
        })
    }
}

/// `ip=10.0.0.123,port=6379,state=online,offset=42,lag=0`.
fn replica(line: &str) -> Result<Replica, Error> {
    let fields: BTreeMap<&str, &str> =
        line.split(',').filter_map(|field| field.split_once('=')).collect();
    let field = |name: &str| {
        fields
            .get(name)
            .copied()
            .ok_or_else(|| Error::answer(WHAT, format!("a replica without `{name}`")))
    };
    Ok(Replica {
        endpoint: Endpoint { host: field("ip")?.to_owned(), port: parsed(WHAT, field("port")?)? },
        state: field("state")?.to_owned(),
        offset: parsed(WHAT, field("offset")?)?,
        lag: parsed(WHAT, field("lag")?)?,
    })
}
