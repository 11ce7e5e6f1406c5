//! The `passloom` command.

fn main() -> std::process::ExitCode {
    passloom::cli::run()
}
