//! `strata-agent`: the host side of strata.

fn main() -> std::process::ExitCode {
    strata::agent::main(std::env::args().skip(1))
}
