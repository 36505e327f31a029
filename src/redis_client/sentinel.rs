//! What Sentinels know and do.

use super::client::{Client, Endpoint};
use super::error::Error;
use super::reply::{endpoint, list, pairs, parsed, text};
use redis::{Value, cmd};
use std::collections::{BTreeMap, BTreeSet};

/// A master, replica or Sentinel as a Sentinel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its run id (a Sentinel's own id for Sentinels); empty while it is not known.
    pub run_id: String,
    /// For example `master`, `slave`, `s_down`, `o_down`, `disconnected`.
    pub flags: BTreeSet<String>,
    /// All fields, as they came.
    pub fields: BTreeMap<String, String>,
}

impl Instance {
    /// True when this Sentinel takes it for down, or lost it.
    pub fn is_down(&self) -> bool {
        ["s_down", "o_down", "disconnected"].iter().any(|flag| self.flags.contains(*flag))
    }

    /// A field that must be a number.
    ///
    /// # Errors
    /// When it is missing or no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Error> {
        let field = self.fields.get(name);
        let field = field.ok_or_else(|| Error::answer("SENTINEL", format!("no `{name}`")))?;
        parsed("SENTINEL", field)
    }

    pub(super) fn of(what: &str, value: &Value) -> Result<Self, Error> {
        let fields = pairs(what, value)?;
        let get = |name: &str| fields.get(name).cloned().unwrap_or_default();
        Ok(Self {
            endpoint: Endpoint { host: get("ip"), port: parsed(what, &get("port"))? },
            run_id: get("runid"),
            flags: get("flags").split(',').map(str::to_owned).collect(),
            fields,
        })
    }
}

/// The answer to SENTINEL CKQUORUM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quorum {
    /// Enough Sentinels for the quorum and for the majority that a failover needs.
    Enough(String),
    /// Not enough, as the Sentinel puts it.
    Missing(String),
}

impl Client {
    /// The master's address, as this Sentinel believes; `None` for a name that it does not watch.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sentinel_master_address(&self, name: &str) -> Result<Option<Endpoint>, Error> {
        const WHAT: &str = "SENTINEL GET-MASTER-ADDR-BY-NAME";
        let value =
            self.call(WHAT, cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name)).await?;
        match &value {
            Value::Nil => Ok(None),
            Value::Array(both) if both.len() == 2 => endpoint(WHAT, &both[0], &both[1]).map(Some),
            _ => Err(Error::answer(WHAT, "no address and port")),
        }
    }

    /// The master as this Sentinel sees it.
    ///
    /// # Errors
    /// See [`Error`]; a name that it does not watch is refused.
    pub async fn sentinel_master(&self, name: &str) -> Result<Instance, Error> {
        const WHAT: &str = "SENTINEL MASTER";
        Instance::of(WHAT, &self.call(WHAT, cmd("SENTINEL").arg("MASTER").arg(name)).await?)
    }

    /// The replicas that it knows.
    ///
    /// # Errors
    /// As [`Self::sentinel_master`].
    pub async fn sentinel_replicas(&self, name: &str) -> Result<Vec<Instance>, Error> {
        self.instances("SENTINEL REPLICAS", "REPLICAS", name).await
    }

    /// The other Sentinels that it knows.
    ///
    /// # Errors
    /// As [`Self::sentinel_master`].
    pub async fn sentinel_sentinels(&self, name: &str) -> Result<Vec<Instance>, Error> {
        self.instances("SENTINEL SENTINELS", "SENTINELS", name).await
    }

    async fn instances(&self, what: &str, verb: &str, name: &str) -> Result<Vec<Instance>, Error> {
        let value = self.call(what, cmd("SENTINEL").arg(verb).arg(name)).await?;
        list(what, &value)?.iter().map(|one| Instance::of(what, one)).collect()
    }

    /// This Sentinel's own id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sentinel_id(&self) -> Result<String, Error> {
        const WHAT: &str = "SENTINEL MYID";
        text(WHAT, &self.call(WHAT, cmd("SENTINEL").arg("MYID")).await?)
    }

    /// Whether a failover could be agreed on now.
    ///
    /// # Errors
    /// See [`Error`]; too few Sentinels are an answer, not an error.
    pub async fn sentinel_quorum(&self, name: &str) -> Result<Quorum, Error> {
        const WHAT: &str = "SENTINEL CKQUORUM";
        match self.call(WHAT, cmd("SENTINEL").arg("CKQUORUM").arg(name)).await {
            Ok(value) => text(WHAT, &value).map(Quorum::Enough),
            Err(Error::Refused { code, detail, .. })
                if code.starts_with("NOQUORUM") || code.starts_with("NOGOODSLAVE") =>
            {
                Ok(Quorum::Missing(format!("{code} {detail}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a failover without asking the others.
    ///
    /// # Errors
    /// See [`Error`]; refused while one is under way or no replica is fit (`INPROG`,
    /// `NOGOODSLAVE`).
    pub async fn sentinel_failover(&self, name: &str) -> Result<(), Error> {
        self.call("SENTINEL FAILOVER", cmd("SENTINEL").arg("FAILOVER").arg(name)).await.map(drop)
    }

    /// Forgets replicas and Sentinels of the master, and finds them anew.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sentinel_reset(&self, name: &str) -> Result<(), Error> {
        self.call("SENTINEL RESET", cmd("SENTINEL").arg("RESET").arg(name)).await.map(drop)
    }

    /// Writes what it knows into its own file.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sentinel_flush_config(&self) -> Result<(), Error> {
        self.call("SENTINEL FLUSHCONFIG", cmd("SENTINEL").arg("FLUSHCONFIG")).await.map(drop)
    }

    /// Watches a master.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sentinel_monitor(
        &self,
        name: &str,
        master: &Endpoint,
        quorum: u32,
    ) -> Result<(), Error> {
        let mut command = cmd("SENTINEL");
        command.arg("MONITOR").arg(name).arg(&master.host).arg(master.port).arg(quorum);
        self.call("SENTINEL MONITOR", &command).await.map(drop)
    }

    /// Sets one setting of a watched master. The value may be a secret: it stands in no error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sentinel_set(&self, name: &str, key: &str, value: &str) -> Result<(), Error> {
        let mut command = cmd("SENTINEL");
        command.arg("SET").arg(name).arg(key).arg(value);
        self.call(&format!("SENTINEL SET {key}"), &command).await.map(drop)
    }
}
