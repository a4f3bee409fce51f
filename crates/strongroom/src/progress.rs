//! How far a command is: a line on a terminal, now and then a line in a log with `-v`.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use strongroom_model::{ByteSize, Cx};

/// Between two looks.
const TICK: Duration = Duration::from_millis(200);

/// Between two lines in a log.
const LINES: u32 = 50;

/// Shows progress until dropped.
pub struct ProgressLine {
    task: tokio::task::JoinHandle<()>,
    bar: ProgressBar,
}

/// Whether and how to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A bar if standard error is a terminal, lines at `info` level otherwise.
    Usual,
    /// Nothing.
    Nothing,
}

impl ProgressLine {
    /// Starts showing the progress of `cx`.
    pub fn start(cx: &Cx, show: Show) -> ProgressLine {
        let terminal = show == Show::Usual && std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let (cx, line) = (cx.clone(), bar.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            let (mut last_phase, mut count) = (String::new(), 0u32);
            loop {
                ticks.tick().await;
                let (phase, done, total, stored) = cx.progress.read();
                if phase.is_empty() {
                    continue;
                }
                if phase != last_phase {
                    style(&line, total);
                    last_phase.clone_from(&phase);
                    line.reset();
                }
                line.set_length(total);
                line.set_position(done.min(total.max(done)));
                let kept = if stored > 0 { format!(", {} stored", ByteSize(stored)) } else { String::new() };
                line.set_message(kept);
                line.set_prefix(phase.clone());
                count += 1;
                if count.is_multiple_of(LINES) {
                    tracing::info!("{phase}: {} of {}", ByteSize(done), ByteSize(total));
                }
            }
        });
        ProgressLine { task, bar }
    }
}

fn style(bar: &ProgressBar, total: u64) {
    let template = match total {
        0 => "{spinner} {prefix}{msg}",
        _ => "{spinner} {prefix} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left{msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
