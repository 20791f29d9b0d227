//! Settings that can change while the server runs: CONFIG.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::buffer_limits::{
    MIN_QUERY_BUFFER_BYTES, OutputLimits, QUERY_BUFFER_BYTES, parse_memory,
};
use super::descriptors;
use crate::Durability;
use crate::db::parse_integer;

/// Returns the value of Redis's `appendfsync` that stands for a durability.
pub(super) fn append_fsync_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Always => "always",
        Durability::Interval(_) => "everysec",
        Durability::Os => "no",
    }
}

/// Returns the durability that a value of Redis's `appendfsync` stands for.
fn durability_named(name: &str) -> Option<Durability> {
    match name {
        "always" => Some(Durability::Always),
        "everysec" => Some(Durability::Interval(Duration::from_secs(1))),
        "no" => Some(Durability::Os),
        _ => None,
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) durability: Durability,
    pub(super) password: Option<Vec<u8>>,
    pub(super) max_clients: usize,
    /// How long a client may say nothing; zero for ever.
    pub(super) idle_timeout: Duration,
    /// How long a client may neither send nor take a byte of what is unfinished; zero for ever.
    pub(super) halfway_timeout: Duration,
    /// Which changes are told as messages, in Redis's letters.
    pub(super) notify_events: String,
    /// Whether requests may be lines.
    pub(super) lines: bool,
    /// How many bytes may wait for a client.
    pub(super) output_limits: OutputLimits,
    /// How many bytes of requests a client may have sent that are not executed.
    pub(super) query_buffer_limit: usize,
    /// Whether other machines can reach the server.
    pub(super) is_reachable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            durability: Durability::default(),
            password: None,
            max_clients: 10_000,
            idle_timeout: Duration::ZERO,
            halfway_timeout: Duration::from_secs(60),
            notify_events: String::new(),
            lines: false,
            output_limits: OutputLimits::default(),
            query_buffer_limit: QUERY_BUFFER_BYTES,
            is_reachable: false,
        }
    }
}

/// A number as Redis reads one in a setting, or what is wrong with it.
fn number_within(value: &[u8], range: RangeInclusive<i64>) -> Result<i64, String> {
    let number = parse_integer(value);
    let number = number.ok_or("argument couldn't be parsed into an integer")?;
    match range.contains(&number) {
        true => Ok(number),
        false => Err(format!(
            "argument must be between {} and {} inclusive",
            range.start(),
            range.end()
        )),
    }
}

/// Whether these are letters of `notify-keyspace-events`; what is wrong with them otherwise.
pub(super) fn check_events(letters: &str) -> Result<(), &'static str> {
    let is_known = |letter: char| "KEg$lshzxetdmnA".contains(letter);
    match letters.chars().all(is_known) {
        true => Ok(()),
        false => Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
    }
}

impl Settings {
    /// Names and values, for CONFIG GET. The password is not among them.
    pub(super) fn list(&self) -> Vec<(&'static str, String)> {
        vec![
            ("appendfsync", append_fsync_name(self.durability).to_owned()),
            ("maxclients", self.max_clients.to_string()),
            ("timeout", self.idle_timeout.as_secs().to_string()),
            ("notify-keyspace-events", self.notify_events_in_order()),
            ("requirepass", String::new()),
            ("client-output-buffer-limit", self.output_limits.text()),
            (
                "client-query-buffer-limit",
                self.query_buffer_limit.to_string(),
            ),
        ]
    }

    /// Changes one of them.
    pub(super) fn change(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        // No setting has a value that is no text: it is refused as whatever else has no meaning.
        let text = std::str::from_utf8(value).unwrap_or("\u{fffd}");
        let wrong = |why: &str| {
            format!("CONFIG SET failed (possibly related to argument '{name}') - {why}")
        };
        match name {
            "appendfsync" => {
                let chosen = durability_named(&text.to_ascii_lowercase());
                self.durability = chosen.ok_or_else(|| {
                    wrong("argument(s) must be one of the following: everysec, always, no")
                })?;
            }
            "timeout" => {
                let seconds =
                    number_within(value, 0..=i32::MAX.into()).map_err(|why| wrong(&why))?;
                self.idle_timeout = Duration::from_secs(seconds.unsigned_abs());
            }
            "maxclients" => {
                let count = number_within(value, 1..=u32::MAX.into()).map_err(|why| wrong(&why))?;
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let possible = descriptors::room_for(count).clients;
                if possible < count {
                    return Err(wrong(&format!(
                        "The operating system is not able to handle the specified number of clients, try with {possible}"
                    )));
                }
                self.max_clients = count;
            }
            "notify-keyspace-events" => {
                check_events(text).map_err(wrong)?;
                self.notify_events = text.to_owned();
            }
            "requirepass" => {
                if value.is_empty() && self.is_reachable {
                    return Err(wrong(
                        "other machines can reach this server, so it needs a password",
                    ));
                }
                self.password = (!value.is_empty()).then(|| value.to_vec());
            }
            "client-output-buffer-limit" => self.output_limits.change(text).map_err(wrong)?,
            "client-query-buffer-limit" => {
                let bytes =
                    parse_memory(text).ok_or_else(|| wrong("argument must be a memory value"))?;
                if !(MIN_QUERY_BUFFER_BYTES..=i64::MAX.unsigned_abs()).contains(&bytes) {
                    return Err(wrong(&format!(
                        "argument must be between {MIN_QUERY_BUFFER_BYTES} and {} inclusive",
                        i64::MAX
                    )));
                }
                self.query_buffer_limit = usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            // Clients set these to what they are.
            "save"
            | "appendonly"
            | "maxmemory"
            | "maxmemory-policy"
            | "slowlog-log-slower-than"
            | "slowlog-max-len"
            | "latency-monitor-threshold" => {
                return Err(wrong("can't set immutable config"));
            }
            _ => {
                return Err(format!(
                    "Unknown option or number of arguments for CONFIG SET - '{name}'"
                ));
            }
        }
        Ok(())
    }

    /// The letters in Redis's order, `A` for all that it stands for.
    fn notify_events_in_order(&self) -> String {
        /// What `A` stands for.
        const ALL: &str = "g$lshzxetd";
        let has = |letter: char| self.notify_events.contains(letter);
        let classes: String = match has('A') || ALL.chars().all(has) {
            true => "A".to_owned(),
            false => ALL.chars().chain(['n']).filter(|one| has(*one)).collect(),
        };
        let others = ['K', 'E', 'm'].into_iter().filter(|one| has(*one));
        classes.chars().chain(others).collect()
    }

    /// Whether changes of a class are told, and to which kind of channel: by key, by event.
    pub(super) fn tells(&self, class: char) -> (bool, bool) {
        let has = |letter: char| self.notify_events.contains(letter);
        let is_told = has(class) || has('A');
        (is_told && has('K'), is_told && has('E'))
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn numbers_are_refused_in_the_words_of_redis() {
        let said = |name: &str, value: &[u8]| {
            let refused = Settings::default().change(name, value).err();
            refused.map(|text| text.rsplit(" - ").next().unwrap_or_default().to_owned())
        };
        let seconds = "argument must be between 0 and 2147483647 inclusive";
        let clients = "argument must be between 1 and 4294967295 inclusive";
        let no_number = "argument couldn't be parsed into an integer";
        for (name, value, expected) in [
            ("timeout", "0", None),
            ("timeout", "2147483647", None),
            ("timeout", "2147483648", Some(seconds)),
            ("timeout", "-1", Some(seconds)),
            ("timeout", "1.5", Some(no_number)),
            ("maxclients", "1", None),
            ("maxclients", "4294967296", Some(clients)),
            ("maxclients", "0", Some(clients)),
            ("maxclients", "abc", Some(no_number)),
        ] {
            let said = said(name, value.as_bytes());
            assert_eq!(said.as_deref(), expected, "{name} {value}");
        }
    }

    #[test]
    fn what_is_no_text_is_no_letter() {
        let mut settings = Settings::default();
        settings.change("notify-keyspace-events", b"KEA").unwrap();
        let refused = settings.change("notify-keyspace-events", b"\xff");
        assert!(refused.is_err());
        assert!(settings.tells('$').0);
    }

    #[test]
    fn the_letters_of_events_are_given_in_order() {
        for (given, expected) in [
            ("", ""),
            ("KEA", "AKE"),
            ("Kg$lshzxe", "g$lshzxeK"),
            ("KEg", "gKE"),
            ("KmA", "AKm"),
            ("Ktdn", "tdnK"),
            ("Eg$lshzxetdn", "AE"),
        ] {
            let mut settings = Settings::default();
            settings
                .change("notify-keyspace-events", given.as_bytes())
                .unwrap();
            let list = settings.list();
            let mut list = list.iter();
            let (_, told) = list
                .find(|(name, _)| *name == "notify-keyspace-events")
                .unwrap();
            assert_eq!(told, expected, "{given}");
        }
    }
}
