//! `strata`: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    if let Some(code) = strata::lab::supervisor_entry(std::env::args_os()) {
        return code;
    }
    strata::cli::main()
}
