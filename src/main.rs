use clap::Parser;

#[derive(Parser)]
#[command(name = "passloom", version)]
enum Command {
    Inspect(passloom::cli::inspect::InspectArgs),
}

fn main() -> std::process::ExitCode {
    let Command::Inspect(args) = Command::parse();
    passloom::cli::inspect::run(args).unwrap_or_else(|error| {
        eprintln!("passloom: {error:#}");
        std::process::ExitCode::from(2)
    })
}
