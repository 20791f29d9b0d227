//! `with_rusqlite WORD`, `with_rusqlite cache clear`, `with_rusqlite cache stats`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};
use slow_lookup::look_up;

const TTL: Duration = Duration::from_secs(600);
const MAX_ENTRIES: i64 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = open().or_else(|error| {
        eprintln!("the cache is in memory: {error}");
        let cache = Connection::open_in_memory()?;
        create_table(&cache)?;
        Ok::<_, rusqlite::Error>(cache)
    })?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["cache", "clear"] => {
            cache.execute("DELETE FROM cache", ())?;
            cache.execute("VACUUM", ())?;
        }
        ["cache", "stats"] => {
            let sql = "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM cache
                       WHERE expires_ms > ?1";
            let (entries, bytes): (i64, i64) =
                cache.query_row(sql, [now_ms()?], |row| Ok((row.get(0)?, row.get(1)?)))?;
            println!("{entries} entries, {bytes} bytes");
        }
        [word] => println!("{}", get_or_look_up(&cache, word)?),
        _ => return Err("usage: with_rusqlite WORD | cache clear | cache stats".into()),
    }
    Ok(())
}

fn open() -> Result<Connection, Box<dyn std::error::Error>> {
    let directory = match std::env::var_os("XDG_CACHE_HOME") {
        Some(directory) if !directory.is_empty() => PathBuf::from(directory),
        _ => PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?).join(".cache"),
    };
    let directory = directory.join("slow-lookup-rusqlite");
    std::fs::create_dir_all(&directory)?;
    let cache = Connection::open(directory.join("cache.sqlite"))?;
    // Without these, runs at the same time fail with "database is locked".
    cache.busy_timeout(Duration::from_secs(5))?;
    cache.pragma_update(None, "journal_mode", "WAL")?;
    cache.pragma_update(None, "synchronous", "NORMAL")?;
    create_table(&cache)?;
    Ok(cache)
}

fn create_table(cache: &Connection) -> rusqlite::Result<()> {
    cache.execute_batch(
        "CREATE TABLE IF NOT EXISTS cache (
             key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_ms INTEGER NOT NULL
         ) WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS cache_by_expiry ON cache (expires_ms);",
    )
}

fn get_or_look_up(cache: &Connection, word: &str) -> Result<String, Box<dyn std::error::Error>> {
    let sql = "SELECT value FROM cache WHERE key = ?1 AND expires_ms > ?2";
    let found: Option<String> = cache
        .query_row(sql, params![word, now_ms()?], |row| row.get(0))
        .optional()?;
    if let Some(value) = found {
        return Ok(value);
    }
    let value = look_up(word)?;
    let now_ms = now_ms()?;
    let expires_ms = now_ms + i64::try_from(TTL.as_millis())?;
    let sql = "INSERT OR REPLACE INTO cache (key, value, expires_ms) VALUES (?1, ?2, ?3)";
    cache.execute(sql, params![word, value, expires_ms])?;
    // Nothing else keeps the file from growing.
    cache.execute("DELETE FROM cache WHERE expires_ms <= ?1", [now_ms])?;
    let sql = "DELETE FROM cache WHERE key IN (
                   SELECT key FROM cache ORDER BY expires_ms DESC LIMIT -1 OFFSET ?1)";
    cache.execute(sql, [MAX_ENTRIES])?;
    Ok(value)
}

fn now_ms() -> Result<i64, Box<dyn std::error::Error>> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since_epoch.as_millis())?)
}
