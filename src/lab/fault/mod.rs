//! Faults: what can be done to a host or a network, each for a limited time.
//!
//! A fault belongs to a detached process, started before anything is broken: it injects the
//! fault, waits for the deadline, and undoes it. Whoever asked for the fault may die. Should that
//! process itself be killed, the next `heal`, `up` or `down` undoes the fault.

mod cut;
mod delay;
mod effect;
mod hold;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(super) use hold::{active, heal, heal_all, heal_orphans, hold, inject};

/// Something that breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Processes of a host get a signal. Only SIGSTOP is undone (by SIGCONT): a killed process
    /// stays dead unless something on the host starts it again.
    KillProcess {
        /// The host.
        host: String,
        /// Which processes.
        target: KillTarget,
        /// What they get.
        signal: Signal,
    },
    /// A host loses its power; healing starts it again.
    StopHost {
        /// The host.
        host: String,
    },
    /// A host reboots in good order.
    RebootHost {
        /// The host.
        host: String,
    },
    /// A host hangs: its processes get no processor time, its connections stay open.
    FreezeHost {
        /// The host.
        host: String,
    },
    /// Frames between two sets of members are dropped, on both networks.
    CutNetwork {
        /// Hosts, balancers or `outside`.
        between: Vec<String>,
        /// The same; nothing means everybody else.
        and: Vec<String>,
        /// Which way frames are dropped.
        direction: Direction,
        /// The host whose ssh connections pass the cut all the same.
        keep_ssh_from: Option<String>,
    },
    /// Every frame from and to a host is delayed, on both networks.
    DelayNetwork {
        /// The host.
        host: String,
        /// Milliseconds for each frame in each direction: a round trip takes twice as much longer.
        milliseconds: u32,
    },
    /// A filesystem of a host fills up.
    FillDisk {
        /// The host.
        host: String,
        /// A directory on the filesystem.
        path: String,
        /// Bytes that stay free.
        leave_bytes: u64,
    },
}

/// Which way frames are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both ways.
    Both,
    /// From the first set to the second.
    Forth,
    /// From the second set to the first.
    Back,
}

/// Which processes of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillTarget {
    /// Every process whose command line contains this text.
    Pattern(String),
    /// The process with this id inside the host.
    Pid(u32),
    /// The main process of this systemd unit.
    Unit(String),
}

/// The signals a fault may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Ends the process at once.
    Kill,
    /// Asks the process to end.
    Term,
    /// Stops the process until the fault is healed.
    Stop,
    /// Ends the process as an interrupt from a terminal does.
    Int,
    /// Most daemons read their configuration again.
    Hup,
}

/// The name of an active fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FaultId(String);

/// A fault that is in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveFault {
    /// Its name.
    pub id: FaultId,
    /// What is broken.
    pub fault: Fault,
    /// Seconds until it heals itself; 0 if it should have by now.
    pub seconds_left: u64,
    /// What its keeper has to say: what a forwarder costs, or why healing failed.
    pub note: String,
}

/// A text that names no signal, target or fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct ParseFaultError(String, &'static str);

impl FaultId {
    /// The fault with this name, active or not.
    ///
    /// # Errors
    /// Where the text cannot be a fault's name.
    pub fn parse(text: &str) -> Result<Self, ParseFaultError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > 40 || !text.bytes().all(fits) {
            return Err(ParseFaultError(text.to_owned(), "the name of a fault"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FaultId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for KillTarget {
    type Err = ParseFaultError;

    /// `pid:123`, `unit:docker.service`, or a text that command lines contain.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |what| Err(ParseFaultError(text.to_owned(), what));
        if let Some(pid) = text.strip_prefix("pid:") {
            return pid.parse().map(Self::Pid).or_else(|_| refuse("a process id"));
        }
        if let Some(unit) = text.strip_prefix("unit:") {
            let fits = |c: char| c.is_ascii_alphanumeric() || "@._-\\:".contains(c);
            return if !unit.is_empty() && !unit.starts_with('-') && unit.chars().all(fits) {
                Ok(Self::Unit(unit.to_owned()))
            } else {
                refuse("the name of a unit")
            };
        }
        if text.is_empty() {
            // It would match every process of the host.
            return refuse("a pattern");
        }
        Ok(Self::Pattern(text.to_owned()))
    }
}

impl FromStr for Signal {
    type Err = ParseFaultError;

    /// `KILL`, `SIGKILL`, in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_uppercase();
        Ok(match name.strip_prefix("SIG").unwrap_or(&name) {
            "KILL" => Self::Kill,
            "TERM" => Self::Term,
            "STOP" => Self::Stop,
            "INT" => Self::Int,
            "HUP" => Self::Hup,
            _ => {
                let known = "one of the signals KILL, TERM, STOP, INT and HUP";
                return Err(ParseFaultError(text.to_owned(), known));
            }
        })
    }
}

impl Signal {
    fn number(self) -> rustix::process::Signal {
        match self {
            Self::Kill => rustix::process::Signal::KILL,
            Self::Term => rustix::process::Signal::TERM,
            Self::Stop => rustix::process::Signal::STOP,
            Self::Int => rustix::process::Signal::INT,
            Self::Hup => rustix::process::Signal::HUP,
        }
    }
}

impl Fault {
    /// The word with which the fault's name begins.
    fn kind(&self) -> &'static str {
        match self {
            Self::KillProcess { .. } => "kill",
            Self::StopHost { .. } => "stop",
            Self::RebootHost { .. } => "reboot",
            Self::FreezeHost { .. } => "freeze",
            Self::CutNetwork { .. } => "cut",
            Self::DelayNetwork { .. } => "delay",
            Self::FillDisk { .. } => "fill",
        }
    }

    /// The members it names.
    fn members(&self) -> Vec<&str> {
        match self {
            Self::KillProcess { host, .. }
            | Self::StopHost { host }
            | Self::RebootHost { host }
            | Self::FreezeHost { host }
            | Self::DelayNetwork { host, .. }
            | Self::FillDisk { host, .. } => vec![host],
            Self::CutNetwork { between, and, keep_ssh_from, .. } => {
                between.iter().chain(and).chain(keep_ssh_from).map(String::as_str).collect()
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProcess { host, target, signal } => {
                let what = match target {
                    KillTarget::Pattern(text) => format!("processes matching {text:?}"),
                    KillTarget::Pid(pid) => format!("process {pid}"),
                    KillTarget::Unit(unit) => format!("unit {unit}"),
                };
                write!(formatter, "{signal:?} to {what} on {host}")
            }
            Self::StopHost { host } => write!(formatter, "{host} without power"),
            Self::RebootHost { host } => write!(formatter, "{host} reboots"),
            Self::FreezeHost { host } => write!(formatter, "{host} hangs"),
            Self::CutNetwork { between, and, direction, keep_ssh_from } => {
                let others = if and.is_empty() { "all others".to_owned() } else { and.join(",") };
                let arrow = match direction {
                    Direction::Both => "and",
                    Direction::Forth => "to",
                    Direction::Back => "from",
                };
                write!(formatter, "no frames between {} {arrow} {others}", between.join(","))?;
                match keep_ssh_from {
                    Some(operator) => write!(formatter, ", but ssh from {operator}"),
                    None => Ok(()),
                }
            }
            Self::DelayNetwork { host, milliseconds } => {
                write!(formatter, "{host} {milliseconds} ms further away")
            }
            Self::FillDisk { host, path, leave_bytes } => {
                write!(formatter, "{host}:{path} full but for {leave_bytes} bytes")
            }
        }
    }
}

impl fmt::Display for ActiveFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}, heals in {} s", self.id, self.fault, self.seconds_left)?;
        if self.note.is_empty() { Ok(()) } else { write!(formatter, " ({})", self.note) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_signals_are_read() {
        assert_eq!("pid:12".parse(), Ok(KillTarget::Pid(12)));
        assert_eq!("unit:docker.service".parse(), Ok(KillTarget::Unit("docker.service".into())));
        assert_eq!("redis-server".parse(), Ok(KillTarget::Pattern("redis-server".into())));
        for bad in ["", "pid:x", "unit:", "unit:-H", "unit:a b"] {
            bad.parse::<KillTarget>().unwrap_err();
        }
        assert_eq!("sigkill".parse(), Ok(Signal::Kill));
        assert_eq!("STOP".parse(), Ok(Signal::Stop));
        let refusal = "usr1".parse::<Signal>().unwrap_err().to_string();
        assert_eq!(refusal, "\"usr1\" is not one of the signals KILL, TERM, STOP, INT and HUP");
    }

    #[test]
    fn fault_names_cannot_leave_their_directory() {
        FaultId::parse("cut-1a2b").unwrap();
        for bad in ["", "../x", "a/b", "a.b"] {
            FaultId::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn faults_say_what_they_are() {
        let cut = Fault::CutNetwork {
            between: vec!["redis-01".into()],
            and: Vec::new(),
            direction: Direction::Both,
            keep_ssh_from: Some("install-01".into()),
        };
        assert_eq!(
            cut.to_string(),
            "no frames between redis-01 and all others, but ssh from install-01"
        );
    }
}
