//! The output of MONITOR.

use super::clients::ClientState;
use super::shared::Shared;
use crate::command::{Command, Flags, Session, find, refusal, write_quoted};

/// Shows a request to all clients that monitor. Secrets and unexecuted requests are not shown.
pub(super) fn show(shared: &Shared, session: &Session, state: &ClientState, words: &[&[u8]]) {
    let command = words.first().and_then(|name| find(name));
    let is_secret = |command: &Command| {
        command.flags.contains(Flags::ADMIN)
            || ["auth", "config", "hello", "monitor"].contains(&command.name)
    };
    if !session.is_trusted() || command.is_none_or(is_secret) || refusal(words).is_some() {
        return;
    }
    let now_ms = session.db().now_ms();
    let mut line = format!(
        "{}.{:06} [{} {}]",
        now_ms / 1_000,
        now_ms % 1_000 * 1_000,
        session.db().database_number(),
        state.info().address,
    )
    .into_bytes();
    for word in words {
        line.push(b' ');
        // Writing to memory cannot fail.
        let _ = write_quoted(word, &mut line);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    shared.clients.show(line);
}
