//! Messages in the log: for trying things out without a mail server. The one place where a code may be logged.

use super::Letter;

/// The target of its lines, for filters.
pub(super) const TARGET: &str = "vouchsafe::notify::log";

/// Writes a message, with its code if it has one.
pub(super) fn write(letter: &Letter) {
    let Letter { channel, to, subject, code, .. } = letter;
    let how = if *channel == "sms" { "SMS" } else { "e-mail" };
    let code = code.as_ref().map_or_else(String::new, |code| format!(" Code: {code}"));
    tracing::info!(target: TARGET, "{how} to {to}: {subject}.{code}");
}
