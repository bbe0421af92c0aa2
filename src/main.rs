//! The `quorate` program.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use quorate::cli::{Cli, Command};
use quorate::command::{self, out};
use quorate::error::{ERROR, Failure, OK};
use quorate::render::Style;

fn main() -> ExitCode {
    // clap's own exit code for wrong usage is 2, which means "changes" here.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ERROR } else { OK };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if cli.no_color {
        anstream::ColorChoice::Never.write_global();
    }
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if failure.message.is_some() {
                out::tell(&format!("{failure}\n"));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: &Cli) -> Result<u8, Failure> {
    let width = rustix::termios::tcgetwinsize(stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|width| *width > 0);
    let style = Style::of_stream(&stdout(), width);
    let colour = Style::of_stream(&stderr(), width).color;
    let file = &cli.file;
    match &cli.command {
        Command::Init(args) => {
            command::init::run_args(file, args, &mut out::plain(), &mut out::stderr())
        }
        Command::Validate => Ok(command::validate::run(file, colour, &mut out::stderr())?),
        Command::Fmt { files, check } => {
            let files = if files.is_empty() {
                std::slice::from_ref(file)
            } else {
                files
            };
            Ok(command::fmt::run(
                files,
                *check,
                colour,
                &mut stdin(),
                &mut out::plain(),
                &mut out::stderr(),
            )?)
        }
        Command::Schema => Ok(command::schema::run(&mut out::plain())?),
        Command::Show(args) => command::show::run(args, style),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "quorate", &mut out::plain());
            Ok(OK)
        }
        Command::Man => {
            clap_mangen::Man::new(Cli::command()).render(&mut out::plain())?;
            Ok(OK)
        }
        Command::Plan(args) => block_on(command::plan::run(file, args, style)),
        Command::Apply(args) => block_on(command::apply::run(file, args, style)),
        Command::Destroy(args) => block_on(command::apply::run_destroy(file, args, style)),
        Command::Status(args) => block_on(command::status::run(file, args, style)),
        Command::Graph(args) => block_on(command::graph::run(file, args, style)),
    }
}

fn block_on(work: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(error.to_string()))?;
    let result = runtime.block_on(work);
    // A name that is still being resolved must not keep the program.
    runtime.shutdown_background();
    result
}
