//! Progress on long work: a bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// Where progress goes.
pub trait Progress {
    /// Begins a stage of so many steps.
    fn start(&self, stage: &'static str, steps: usize) -> Bar;

    /// Begins a stage of which nobody knows how many steps it takes.
    fn start_open(&self, stage: &'static str) -> Bar;
}

/// One stage's progress. Ends when dropped.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// One step is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A bar on standard error, if that is a terminal.
pub struct Terminal;

impl Progress for Terminal {
    fn start(&self, stage: &'static str, steps: usize) -> Bar {
        let bar = ProgressBar::new(steps as u64).with_prefix(stage);
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {elapsed}, {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar(Some(bar))
    }

    fn start_open(&self, stage: &'static str) -> Bar {
        let bar = ProgressBar::no_length().with_prefix(stage);
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12} {spinner} {pos}, {elapsed}") {
            bar.set_style(style);
        }
        Bar(Some(bar))
    }
}

/// Nothing is shown.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &'static str, _: usize) -> Bar {
        Bar(None)
    }

    fn start_open(&self, _: &'static str) -> Bar {
        Bar(None)
    }
}
