//! How far a command is: a line on a terminal, now and then a line in a log with `-v`.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, Cx};

/// Between two looks.
const TICK: Duration = Duration::from_millis(200);

/// Looks between two lines in a log: ten seconds.
const LINES: u32 = 50;

/// Characters of the bar.
const BAR: u64 = 24;

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

/// How far one phase is.
struct Reading {
    phase: String,
    done: u64,
    total: u64,
    stored: u64,
    since: Duration,
}

impl ProgressLine {
    /// Starts showing the progress of `cx`.
    pub fn start(cx: &Cx, show: Show) -> ProgressLine {
        let terminal = show == Show::Usual && std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        let (cx, line) = (cx.clone(), bar.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            let (mut current, mut began, mut count) = (String::new(), cx.now(), 0u32);
            loop {
                ticks.tick().await;
                let (phase, done, total, stored) = cx.progress.read();
                if phase.is_empty() {
                    continue;
                }
                if phase != current {
                    (current, began) = (phase.clone(), cx.now());
                }
                let text = text(&Reading { phase, done, total, stored, since: cx.now().since(began) });
                count += 1;
                if show == Show::Usual && count.is_multiple_of(LINES) {
                    tracing::info!("{text}");
                }
                line.set_message(text);
                line.tick();
            }
        });
        ProgressLine { task, bar }
    }
}

/// `copying ━━━━━╸────── 1.2 GiB of 3.8 GiB, 890 MiB/s, 3.1 s left, 201 MiB stored`
fn text(reading: &Reading) -> String {
    let Reading { phase, done, total, stored, since } = reading;
    let mut text = phase.clone();
    if *total > 0 {
        let share = (done * BAR / total).min(BAR) as usize;
        let (full, empty) = ("━".repeat(share), "─".repeat(BAR as usize - share));
        text.push_str(&format!(" {full}{empty} {} of {}", ByteSize(*done), ByteSize(*total)));
        let rate = *done as f64 / since.as_secs_f64().max(0.001);
        // The first moments say nothing about the rest.
        if *done > 0 && *since > Duration::from_secs(1) {
            let left = Duration::from_secs_f64(total.saturating_sub(*done) as f64 / rate);
            text.push_str(&format!(", {}/s, {} left", ByteSize(rate as u64), human_duration(left)));
        }
    }
    if *stored > 0 {
        text.push_str(&format!(", {} stored", ByteSize(*stored)));
    }
    text
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_share_rate_and_what_is_left() {
        let reading = |done, total, stored, seconds| {
            text(&Reading {
                phase: "copying".into(),
                done,
                total,
                stored,
                since: Duration::from_secs(seconds),
            })
        };
        assert_eq!(reading(0, 0, 0, 9), "copying");
        assert_eq!(reading(0, 4 << 30, 0, 0), format!("copying {} 0 B of 4.0 GiB", "─".repeat(24)));
        assert_eq!(
            reading(1 << 30, 4 << 30, 200 << 20, 2),
            format!(
                "copying {}{} 1.0 GiB of 4.0 GiB, 512 MiB/s, 6.0 s left, 200 MiB stored",
                "━".repeat(6),
                "─".repeat(18)
            )
        );
        // A source that grew while it was copied: the bar is full, not longer.
        assert!(reading(5 << 30, 4 << 30, 0, 10).contains(&"━".repeat(24)));
    }
}
