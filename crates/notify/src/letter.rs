//! What is handed over on a schedule and is no alert: a report, in words, as a file, and as JSON.

/// A letter.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// For a subject line, without line breaks.
    pub subject: &'a str,
    /// For people, some lines: what it comes to, and where to find the whole.
    pub text: &'a str,
    /// For programs: webhooks, and programs on this host. A promise (`docs/runbook/report.md`).
    pub json: &'a serde_json::Value,
    /// The whole, for channels that carry files.
    pub attached: &'a Attached,
}

/// A file.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Its name: `status-20261120T120000Z.html`.
    pub name: String,
    /// What it is: `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// All of it.
    pub bytes: Vec<u8>,
}
