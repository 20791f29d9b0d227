//! What a session asks of the server that it belongs to, with one that only notes it.

use super::super::host::{ClientFilter, ClientInfo, Host, InfoLine, Subscription};
use super::{SYNTAX, Talk, show};
use crate::command::{Reply, Session};
use crate::limits::MAX_SUBSCRIBED_BYTES;
use crate::sync::{Arc, Mutex};
use crate::{Db, ManualClock};

/// A server without clients, which notes what it is asked to do.
pub(super) struct Noting {
    done: Mutex<Vec<String>>,
    /// Settings that take numbers.
    settings: Mutex<[(&'static str, u32); 2]>,
}

impl Noting {
    fn note(&self, what: impl Into<String>) {
        self.done.lock().unwrap().push(what.into());
    }

    /// What was done since this was last asked.
    fn takes_done(&self) -> Vec<String> {
        std::mem::take(&mut self.done.lock().unwrap())
    }
}

impl crate::command::host::sealed::Sealed for Noting {}

impl Host for Noting {
    fn info(&self, _: &str) -> Vec<InfoLine> {
        Vec::new()
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings.lock().unwrap();
        let settings = settings.iter();
        settings
            .map(|(name, value)| (*name, value.to_string()))
            .collect()
    }

    fn change_settings(&self, changes: &[(String, &[u8])]) -> Result<(), String> {
        let mut settings = self.settings.lock().unwrap();
        let mut changed = *settings;
        for (name, value) in changes {
            let mut of_name = changed.iter_mut().filter(|(known, _)| known == name);
            let number = str::from_utf8(value).unwrap().parse();
            of_name.next().ok_or("unknown")?.1 = number.map_err(|_| format!("{name} is wrong"))?;
        }
        *settings = changed;
        Ok(())
    }

    fn reset_counters(&self) {}

    fn purge_memory(&self) {
        self.note("purge");
    }

    fn note_error(&self, error: &crate::Error) {
        self.note(format!("error {error}"));
    }

    fn is_password(&self, _: &[u8]) -> Option<bool> {
        None
    }

    /// Two: one that listens, and this one.
    fn clients(&self) -> Vec<ClientInfo> {
        let client = |id, listens| ClientInfo {
            id,
            subscriptions: [listens, 0, 0],
            ..ClientInfo::default()
        };
        vec![client(3, 1), client(7, 0)]
    }

    fn disconnect(&self, filter: &ClientFilter, _: u64) -> usize {
        let is_meant = |client: &ClientInfo| {
            filter.id.is_none_or(|id| id == client.id) && filter.except != Some(client.id)
        };
        let mut clients = self.clients();
        clients.retain(is_meant);
        for client in &clients {
            self.note(format!("disconnect {}", client.id));
        }
        clients.len()
    }

    fn publish(&self, _: &[u8], message: &[u8], _: bool) -> u64 {
        self.note(format!("publish {}", message.escape_ascii()));
        0
    }

    fn subscribe(&self, _: u64, _: &Subscription) {}

    fn unsubscribe(&self, _: u64, _: &Subscription) {}

    fn channels(&self, _: bool) -> Vec<(Vec<u8>, u64)> {
        Vec::new()
    }

    fn pattern_count(&self) -> u64 {
        0
    }

    fn monitor(&self, client: u64) {
        self.note(format!("monitor {client}"));
    }

    fn stop_monitoring(&self, client: u64) {
        self.note(format!("stop monitoring {client}"));
    }

    fn last_sync_seconds(&self) -> u64 {
        0
    }

    fn shut_down(&self) {
        self.note("shut down");
    }
}

/// A session of a server's client, and the server.
pub(super) fn served() -> (Talk, Arc<Noting>) {
    let clock = ManualClock::new(super::NOW_MS);
    let db = Db::options().clock(clock.clone()).open_in_memory().unwrap();
    let host = Arc::new(Noting {
        done: Mutex::default(),
        settings: Mutex::new([("timeout", 0), ("maxclients", 1)]),
    });
    let session = Session::of_client(db, Arc::clone(&host) as Arc<dyn Host>, 7, true);
    (Talk { session, clock }, host)
}

#[test]
fn shutdown_with_words_that_it_does_not_take_ends_nothing() {
    let (mut talk, host) = served();
    for words in [
        "FOO",
        "NOSAVE SAVE",
        "SAVE NOSAVE",
        "NOW FORCE FOO",
        "ABORT NOW",
        "NOSAVE ABORT",
    ] {
        talk.hold(&[(&format!("SHUTDOWN {words}"), SYNTAX)]);
    }
    talk.hold(&[
        ("SHUTDOWN ABORT", "ERR No shutdown in progress."),
        ("SHUTDOWN abort ABORT", "ERR No shutdown in progress."),
    ]);
    assert!(host.takes_done().is_empty());
    assert!(!talk.session.is_leaving());
}

#[test]
fn shutdown_takes_what_redis_takes() {
    for words in [
        "",
        "NOSAVE",
        "save",
        "NOW",
        "FORCE",
        "SAVE NOW FORCE",
        "FORCE NOSAVE NOSAVE",
    ] {
        let (mut talk, host) = served();
        talk.hold(&[(&format!("SHUTDOWN {words}"), "")]);
        assert_eq!(host.takes_done(), ["shut down"], "{words}");
        assert!(talk.session.is_leaving());
    }
}

#[test]
fn settings_are_changed_all_or_none() {
    let unknown = "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'";
    let (mut talk, _) = served();
    for (pairs, refused) in [
        ("timeout 77 maxclients abc", "ERR maxclients is wrong"),
        ("timeout 77 nosuch 1", unknown),
        ("nosuch 1 timeout 77", unknown),
        ("timeout abc nosuch 1", unknown),
        (
            "timeout 77 timeout 78",
            "ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter",
        ),
        (
            "timeout 77 TimeOut 78",
            "ERR CONFIG SET failed (possibly related to argument 'TimeOut') - duplicate parameter",
        ),
        (
            "timeout 77 databases 3",
            "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
        ),
        ("timeout 1 maxclients", SYNTAX),
    ] {
        talk.hold(&[
            (&format!("CONFIG SET {pairs}"), refused),
            ("CONFIG GET timeout", "{\"timeout\": \"0\"}"),
        ]);
    }
    talk.hold(&[
        ("CONFIG SET Timeout 77 maxclients 78", "OK"),
        (
            "CONFIG GET timeout maxclients",
            "{\"maxclients\": \"78\", \"timeout\": \"77\"}",
        ),
    ]);
}

#[test]
fn reset_leaves_monitor() {
    let (mut talk, host) = served();
    talk.hold(&[("RESET", "RESET"), ("MONITOR", "OK")]);
    assert_eq!(host.takes_done(), ["monitor 7"]);
    talk.hold(&[("RESET", "RESET"), ("RESET", "RESET")]);
    assert_eq!(host.takes_done(), ["stop monitoring 7"]);
}

#[test]
fn a_transaction_does_not_begin_to_monitor() {
    let (mut talk, host) = served();
    talk.hold(&[
        ("MULTI", "OK"),
        ("MONITOR", "QUEUED"),
        ("SET k v", "QUEUED"),
        (
            "EXEC",
            "[ERR MONITOR isn't allowed for DENY BLOCKING client OK]",
        ),
        ("MONITOR", "OK"),
    ]);
    assert_eq!(host.takes_done(), ["monitor 7"]);
}

#[test]
fn the_names_that_a_client_has_subscribed_to_have_a_limit() {
    // Each counts 64 KiB.
    let name = |number: u64| format!("{number:065520}");
    let most = MAX_SUBSCRIBED_BYTES / 65_536;
    let words = |verb: &str, numbers: std::ops::Range<u64>| {
        let names = numbers.map(name);
        let words = std::iter::once(verb.to_owned()).chain(names);
        words.collect::<Vec<_>>()
    };
    let refused = "ERR the names of the subscriptions would exceed 64 MiB: UNSUBSCRIBE from some of them first";
    let (mut talk, _) = served();
    for verb in ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"] {
        let all = talk.session.execute(&words(verb, 0..most + 1));
        assert!(show(&all) == refused, "{verb}");
        assert!(!talk.session.is_subscribed());
    }
    talk.session.execute(&words("SUBSCRIBE", 0..most / 2));
    talk.session.execute(&words("PSUBSCRIBE", 0..most / 2 - 1));
    talk.session.execute(&words("SSUBSCRIBE", 0..1));
    let counts = talk.session.client_info().subscriptions;
    let half = usize::try_from(most / 2).unwrap();
    assert_eq!(counts, [half, half - 1, 1]);
    for verb in ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"] {
        talk.hold(&[(&format!("{verb} \"\""), refused)]);
    }
    // Known ones take no more, and what is left gives room.
    talk.session.execute(&words("SUBSCRIBE", 0..most / 2));
    talk.session.execute(&words("PUNSUBSCRIBE", 0..1));
    talk.hold(&[("SUBSCRIBE \"\"", ">[\"subscribe\" \"\" 1023]")]);
}

#[test]
fn clients_are_disconnected_by_what_they_do_and_by_who_they_are() {
    let (mut talk, host) = served();
    let unknown = "ERR Unknown client type 'foo'";
    for (words, expected, gone) in [
        ("TYPE foo", unknown, &[][..]),
        ("USER nosuch", "ERR No such user 'nosuch'", &[]),
        ("TYPE pubsub", "1", &["disconnect 3"]),
        ("TYPE NORMAL", "0", &[]),
        ("TYPE normal SKIPME no", "1", &["disconnect 7"]),
        ("TYPE normal ID 3", "0", &[]),
        ("TYPE master", "0", &[]),
        ("TYPE replica", "0", &[]),
        ("TYPE slave", "0", &[]),
        ("USER default", "1", &["disconnect 3"]),
        ("USER default TYPE normal", "0", &[]),
        ("TYPE", "OK", &["disconnect 3", "disconnect 7"]),
    ] {
        talk.hold(&[(&format!("CLIENT KILL {words}"), expected)]);
        assert_eq!(host.takes_done(), gone, "{words}");
    }
    talk.hold(&[
        ("CLIENT LIST TYPE slave", ""),
        ("CLIENT LIST TYPE foo", unknown),
    ]);
}

/// A text is verbatim where Redis's is, which version 3 of the protocol shows.
#[test]
fn texts_for_people_are_verbatim() {
    let (mut talk, _) = served();
    for command in [
        &["CLIENT", "LIST"][..],
        &["CLIENT", "INFO"],
        &["MEMORY", "DOCTOR"],
        &["MEMORY", "MALLOC-STATS"],
        &["LATENCY", "DOCTOR"],
        &["INFO"],
    ] {
        let reply = talk.session.execute(command);
        assert!(matches!(reply, Reply::Verbatim(_)), "{command:?}");
    }
}
