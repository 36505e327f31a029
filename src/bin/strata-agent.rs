//! `strata-agent`: the host side of strata.

fn main() {}
