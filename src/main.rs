//! `strata`: arguments in, exit code out.

/// A run allocates for each host, step and event on all its threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    if let Some(code) = strata::lab::supervisor_entry(std::env::args_os()) {
        return code;
    }
    strata::cli::main()
}
