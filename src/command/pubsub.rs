//! Messages between the clients of a server: SUBSCRIBE, PUBLISH and their kin.

use std::collections::HashMap;

use super::error::Failure;
use super::host::{Host, Subscription};
use super::table::{Command, Flags, Group};
use super::{Reply, Session};
use crate::command::arguments::is;
use crate::glob::Pattern;
use crate::sync::Arc;

const FLAGS: Flags = Flags::PUBSUB
    .and(Flags::NOSCRIPT)
    .and(Flags::LOADING)
    .and(Flags::STALE);
const SEND: Flags = Flags::PUBSUB
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST);

macro_rules! of_kind {
    ($generic:ident, $kind:ident) => {
        |session, arguments| $generic(session, arguments, Subscription::$kind)
    };
}

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::PubSub, "subscribe", -2, of_kind!(subscribe, Channel))
        .flags(FLAGS)
        .help("channel [channel ...]", "Subscribes to channels"),
    Command::new(
        Group::PubSub,
        "psubscribe",
        -2,
        of_kind!(subscribe, Pattern),
    )
    .flags(FLAGS)
    .help(
        "pattern [pattern ...]",
        "Subscribes to all channels that match a pattern",
    ),
    Command::new(Group::PubSub, "ssubscribe", -2, of_kind!(subscribe, Shard))
        .flags(FLAGS)
        .help(
            "shardchannel [shardchannel ...]",
            "Subscribes to sharded channels",
        ),
    Command::new(
        Group::PubSub,
        "unsubscribe",
        -1,
        of_kind!(unsubscribe, Channel),
    )
    .flags(FLAGS)
    .help(
        "[channel [channel ...]]",
        "Unsubscribes from channels, or from all of them",
    ),
    Command::new(
        Group::PubSub,
        "punsubscribe",
        -1,
        of_kind!(unsubscribe, Pattern),
    )
    .flags(FLAGS)
    .help(
        "[pattern [pattern ...]]",
        "Unsubscribes from patterns, or from all of them",
    ),
    Command::new(
        Group::PubSub,
        "sunsubscribe",
        -1,
        of_kind!(unsubscribe, Shard),
    )
    .flags(FLAGS)
    .help(
        "[shardchannel [shardchannel ...]]",
        "Unsubscribes from sharded channels, or from all of them",
    ),
    Command::new(Group::PubSub, "publish", 3, |session, arguments| {
        publish(session, arguments, false)
    })
    .flags(SEND)
    .help(
        "channel message",
        "Sends a message to a channel, and returns the number of its receivers",
    ),
    Command::new(Group::PubSub, "spublish", 3, |session, arguments| {
        publish(session, arguments, true)
    })
    .flags(SEND)
    .help(
        "shardchannel message",
        "Sends a message to a sharded channel, and returns the number of its receivers",
    ),
    Command::new(Group::PubSub, "pubsub", -2, pubsub)
        .subcommands(&[
            ("CHANNELS", -2),
            ("HELP", 2),
            ("NUMPAT", 2),
            ("NUMSUB", -2),
            ("SHARDCHANNELS", -2),
            ("SHARDNUMSUB", -2),
        ])
        .help(
            "subcommand [argument ...]",
            "Lists the channels and the number of their subscribers",
        ),
];

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the channels with a subscriber; with a pattern, those that match it.",
    "NUMPAT",
    "    Return the number of patterns with a subscriber.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers of each of these channels.",
    "SHARDCHANNELS [<pattern>]",
    "    Like CHANNELS, for sharded channels.",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Like NUMSUB, for sharded channels.",
    "HELP",
    "    Print this help.",
];

fn host(session: &Session) -> Result<Arc<dyn Host>, Failure> {
    session.client.host.clone().ok_or(Failure::text(
        "messages need a server with other clients: start one with brasa serve",
    ))
}

/// What a kind of subscription is called, and how many count together with it.
fn words_of(subscription: &Subscription) -> (&'static str, &'static str) {
    match subscription {
        Subscription::Channel(_) => ("subscribe", "unsubscribe"),
        Subscription::Pattern(_) => ("psubscribe", "punsubscribe"),
        Subscription::Shard(_) => ("ssubscribe", "sunsubscribe"),
    }
}

fn count_with(session: &Session, subscription: &Subscription) -> Reply {
    let [channels, patterns, shards] = session.client.subscriptions.counts();
    Reply::count(match subscription {
        Subscription::Shard(_) => shards as u64,
        _ => (channels + patterns) as u64,
    })
}

fn subscribe(
    session: &mut Session,
    names: &[&[u8]],
    kind: fn(Vec<u8>) -> Subscription,
) -> Result<Reply, Failure> {
    let host = host(session)?;
    let wanted: Vec<Subscription> = names.iter().map(|name| kind(name.to_vec())).collect();
    if !session.client.subscriptions.have_room_for(&wanted) {
        return Err(Failure::text(
            "the names of the subscriptions would exceed 64 MiB: UNSUBSCRIBE from some of them first",
        ));
    }
    let mut replies = Vec::with_capacity(wanted.len());
    for subscription in wanted {
        if session.client.subscriptions.insert(subscription.clone()) {
            host.subscribe(session.client.id, &subscription);
        }
        replies.push(Reply::Push(vec![
            Reply::bulk(words_of(&subscription).0),
            Reply::bulk(subscription.name()),
            count_with(session, &subscription),
        ]));
    }
    Ok(Reply::Several(replies))
}

fn unsubscribe(
    session: &mut Session,
    names: &[&[u8]],
    kind: fn(Vec<u8>) -> Subscription,
) -> Result<Reply, Failure> {
    let host = host(session)?;
    let example = kind(Vec::new());
    let is_kind = |subscription: &&Subscription| {
        std::mem::discriminant(*subscription) == std::mem::discriminant(&example)
    };
    let names: Vec<Vec<u8>> = match names {
        [] => {
            let all = session.client.subscriptions.iter().filter(is_kind);
            all.map(|subscription| subscription.name().to_vec())
                .collect()
        }
        names => names.iter().map(|name| name.to_vec()).collect(),
    };
    if names.is_empty() {
        return Ok(Reply::Several(vec![Reply::Push(vec![
            Reply::bulk(words_of(&example).1),
            Reply::Nil,
            count_with(session, &example),
        ])]));
    }
    let mut replies = Vec::with_capacity(names.len());
    for name in names {
        let subscription = kind(name);
        if session.client.subscriptions.remove(&subscription) {
            host.unsubscribe(session.client.id, &subscription);
        }
        replies.push(Reply::Push(vec![
            Reply::bulk(words_of(&subscription).1),
            Reply::bulk(subscription.name()),
            count_with(session, &subscription),
        ]));
    }
    Ok(Reply::Several(replies))
}

fn publish(session: &mut Session, arguments: &[&[u8]], is_sharded: bool) -> Result<Reply, Failure> {
    let [channel, message] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::count(
        host(session)?.publish(channel, message, is_sharded),
    ))
}

fn pubsub(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let host = host(session)?;
    let channels = |are_sharded, pattern: &[&[u8]]| {
        let pattern = pattern.first().map(|pattern| Pattern::new(pattern));
        let found = host.channels(are_sharded).into_iter();
        let found =
            found.filter(|(name, _)| pattern.as_ref().is_none_or(|pattern| pattern.matches(name)));
        Reply::Array(found.map(|(name, _)| Reply::bulk(name)).collect())
    };
    let counts = |are_sharded, names: &[&[u8]]| {
        let known: HashMap<_, _> = host.channels(are_sharded).into_iter().collect();
        let mut replies = Vec::new();
        for name in names {
            replies.push(Reply::bulk(*name));
            replies.push(Reply::count(known.get(*name).copied().unwrap_or(0)));
        }
        Reply::Array(replies)
    };
    match arguments {
        [name] if is(name, "HELP") => {
            let lines = HELP.iter().map(|line| Reply::Status((*line).into()));
            Ok(Reply::Array(lines.collect()))
        }
        [name, pattern @ ..] if is(name, "CHANNELS") && pattern.len() < 2 => {
            Ok(channels(false, pattern))
        }
        [name, pattern @ ..] if is(name, "SHARDCHANNELS") && pattern.len() < 2 => {
            Ok(channels(true, pattern))
        }
        [name, names @ ..] if is(name, "NUMSUB") => Ok(counts(false, names)),
        [name, names @ ..] if is(name, "SHARDNUMSUB") => Ok(counts(true, names)),
        [name] if is(name, "NUMPAT") => Ok(Reply::count(host.pattern_count())),
        // Others have said before how many words they take.
        [name, ..] => Err(Failure::subcommand_or_arity("pubsub", name)),
        [] => Err(Failure::Arity),
    }
}
