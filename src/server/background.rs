//! Background work of the server: checks of idle clients, a sync each second, and the removal of
//! expired keys.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::clients::{ClientState, NOT_YET};
use super::settings::Settings;
use super::shared::Shared;
use crate::limits::DATABASE_COUNT;
use crate::storage::release_free_memory;
use crate::sync::Arc;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::{Durability, Error};

/// How often the clock that costs nothing is set, and clients are looked after.
const TICK: Duration = Duration::from_millis(100);

/// Keys that are looked at in a tick, at most, for whether they have expired.
const SWEPT_KEYS: usize = 256;

/// Clients that have gone, from which on the memory that they had is given back to the system.
const GONE_CLIENTS: usize = 256;

/// How far each database was looked through.
type Cursors = [u64; DATABASE_COUNT as usize];

/// Looks after the clients until the server ends.
pub(super) async fn look_after_clients(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut released = 0;
    loop {
        ticks.tick().await;
        let seconds = shared.started_at.elapsed().as_secs();
        let is_new_second = shared.seconds.swap(seconds, Ordering::Relaxed) != seconds;
        let gone = shared.clients.gone_count();
        if is_new_second && gone - released >= GONE_CLIENTS {
            released = gone;
            // The allocator keeps it otherwise. The call may be skipped while the server ends.
            drop(tokio::task::spawn_blocking(release_free_memory));
        }
        let settings = shared.settings();
        for client in shared.clients.all() {
            if let Some(reason) = reason_to_disconnect(&shared, &settings, &client, seconds) {
                tracing::info!(client = client.id, "disconnected: {reason}");
                client.disconnect();
            }
        }
    }
}

/// Why a client is no longer served, `seconds` after the server began.
fn reason_to_disconnect(
    shared: &Shared,
    settings: &Settings,
    client: &ClientState,
    seconds: u64,
) -> Option<&'static str> {
    let is_over = |since: &AtomicU64, limit: Duration| {
        let passed = seconds.saturating_sub(since.load(Ordering::Relaxed));
        !limit.is_zero() && passed > limit.as_secs()
    };
    if is_over(&client.halfway_since, settings.halfway_timeout) {
        return Some(match client.waiting_bytes() {
            0 => "timeout while waiting for the rest of a request",
            _ => "timeout while sending replies",
        });
    }
    let limits = [
        &settings.output_limits.normal,
        &settings.output_limits.pubsub,
    ];
    let mut waiting = client.waiting().into_iter().zip(limits);
    let exceeded = waiting.find(|(bytes, limit)| limit.soft > 0 && *bytes > limit.soft);
    let since = &client.over_soft_limit_since;
    match exceeded {
        None => since.store(NOT_YET, Ordering::Relaxed),
        Some((_, limit)) => {
            // The first time that it is over the limit.
            since.fetch_min(seconds, Ordering::Relaxed);
            if is_over(since, limit.soft_time) {
                return Some(
                    "its pending replies exceeded the soft client-output-buffer-limit for too long",
                );
            }
        }
    }
    // A client that waits for messages need not say anything.
    let listens = client.is_subscribed() || shared.clients.is_monitoring(client.id);
    let is_silent = !listens && is_over(&client.heard_at, settings.idle_timeout);
    is_silent.then_some("idle timeout")
}

/// Syncs the file after each interval in which it was written to, under [`Durability::Interval`].
pub(super) async fn sync_each_interval(shared: Arc<Shared>) {
    /// The setting may change while the task sleeps.
    const LONGEST: Duration = Duration::from_secs(1);
    const SHORTEST: Duration = Duration::from_millis(1);
    let interval_of = |durability| match durability {
        Durability::Interval(interval) => Some(interval),
        Durability::Always | Durability::Os => None,
    };
    let mut synced_at = Instant::now();
    loop {
        let durability = shared.setting(|settings| settings.durability);
        let pause = interval_of(durability).unwrap_or(LONGEST);
        tokio::time::sleep(pause.clamp(SHORTEST, LONGEST)).await;
        let durability = shared.setting(|settings| settings.durability);
        let is_due =
            interval_of(durability).is_some_and(|interval| synced_at.elapsed() >= interval);
        if !is_due {
            continue;
        }
        synced_at = Instant::now();
        if !shared.has_written.swap(false, Ordering::AcqRel) {
            continue;
        }
        let db = shared.db.clone();
        match tokio::task::spawn_blocking(move || db.sync()).await {
            Ok(Ok(())) => shared.note_sync(),
            Ok(Err(error)) => {
                // A failed sync that may succeed later is tried again, even without new writes.
                let is_final = shared.tell_of_failed_sync(&error);
                shared.has_written.fetch_or(!is_final, Ordering::AcqRel);
            }
            // The server is being ended, and syncs once more at last.
            Err(error) if error.is_cancelled() => return,
            Err(_) => {
                tracing::error!("a sync panicked");
                shared.has_written.store(true, Ordering::Release);
            }
        }
    }
}

/// Removes what has expired, a little at a time, where that is a tenth of a database or more: less is left to compaction.
pub(super) async fn remove_expired(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cursors: Cursors = [0; DATABASE_COUNT as usize];
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&shared);
        let from = cursors;
        // One call for all of them: it is made ten times a second by a server that has nothing to do.
        match tokio::task::spawn_blocking(move || sweep_all(&shared, from)).await {
            Ok(next) => cursors = next,
            // The server is being ended, and begins nothing any more.
            Err(error) if error.is_cancelled() => return,
            Err(_) => tracing::error!("removing expired keys panicked"),
        }
    }
}

/// Returns the cursors to continue from.
fn sweep_all(shared: &Shared, mut cursors: Cursors) -> Cursors {
    for (number, cursor) in (0..DATABASE_COUNT).zip(&mut cursors) {
        match sweep(shared, number, *cursor) {
            Ok(next) => *cursor = next,
            Err(error @ Error::Overwritten { .. }) => shared.errors.note(&error),
            Err(error) => tracing::debug!(%error, "cannot remove expired keys"),
        }
    }
    cursors
}

/// Returns the cursor to continue from.
fn sweep(shared: &Shared, number: u8, cursor: u64) -> crate::Result<u64> {
    let database = shared.db.database(number)?;
    let expired = database.expired_count()?;
    let tells = shared.setting(|settings| settings.tells('x'));
    let is_told = tells.0 || tells.1;
    if expired == 0 || (!is_told && expired < database.len()? / 10) {
        return Ok(cursor);
    }
    let remove = || database.remove_expired(cursor, SWEPT_KEYS);
    let (next, count) = shared.events.note_expired(number, remove)?;
    shared
        .counters
        .expired_keys
        .fetch_add(count as u64, Ordering::Relaxed);
    Ok(next)
}
