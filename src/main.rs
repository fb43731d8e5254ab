//! The `netdiag` command.

fn main() -> std::process::ExitCode {
    netdiag::cli::main()
}
