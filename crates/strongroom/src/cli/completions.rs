//! `strongroom completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::output::{Outcome, raw};

/// Print completions for a shell
#[derive(clap::Args)]
#[command(after_help = "Example:\n  strongroom completions bash > /etc/bash_completion.d/strongroom")]
pub struct Arguments {
    /// Which shell
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "strongroom", &mut script);
    raw(&script);
    Outcome::new(&(), "")
}
