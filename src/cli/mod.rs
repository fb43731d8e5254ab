//! The command line: what each subcommand prints and its exit code.
