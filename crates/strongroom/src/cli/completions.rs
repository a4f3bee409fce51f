//! `strongroom completions`

use clap::CommandFactory;
use clap_complete::Shell;

use serde_json::json;

use crate::output::Outcome;

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
    let script = String::from_utf8_lossy(&script);
    Outcome::new(&json!({ "shell": arguments.shell.to_string(), "script": script }), script.clone())
}
