//! The shared things of a host as steps.

use super::aggregate::OpenPort;
use crate::resource::Item;
use crate::site::{Host, Site};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Steps for `/etc/hosts`, the firewall and the kernel settings.
pub fn items(
    _site: &Site,
    _host: &Host,
    _hosts: &[(Ipv4Addr, Vec<String>)],
    _firewall: &[OpenPort],
    _sysctl: BTreeMap<String, String>,
) -> Vec<Item> {
    Vec::new()
}
