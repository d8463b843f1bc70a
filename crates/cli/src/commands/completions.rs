//! `outlive completions`: for bash, zsh, fish and PowerShell.

use super::Done;
use crate::exit::Exit;
use crate::render::print_bytes;
use clap::Command;
use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  outlive completions bash > ~/.local/share/bash-completion/completions/outlive
  outlive completions zsh > ~/.zfunc/_outlive
  outlive completions fish > ~/.config/fish/completions/outlive.fish
")]
pub(crate) struct Args {
    /// bash, zsh, fish or powershell
    #[arg(value_parser = clap::builder::EnumValueParser::<Shell>::new(), hide_possible_values = true)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut tree: Command) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree, "outlive", &mut script);
    print_bytes(&script)?;
    Ok(Exit::Ok)
}
