//! INFO: what tools ask of a server.

use super::Talk;

#[test]
fn info_says_nothing_that_is_not_known() {
    let text = Talk::new().say("INFO");
    let lines: Vec<&str> = text.lines().collect();
    let has = |name: &str| {
        let name = format!("{name}:");
        lines.iter().any(|line| line.starts_with(&name))
    };
    // What clients and GUIs look for.
    for known in [
        "redis_version",
        "redis_mode",
        "os",
        "process_id",
        "used_memory",
        "used_memory_human",
        "maxmemory",
        "maxmemory_policy",
        "loading",
        "async_loading",
        "aof_enabled",
        "aof_current_size",
        "role",
        "connected_slaves",
    ] {
        assert!(has(known), "{known}");
    }
    for invented in [
        "mem_fragmentation_ratio",
        "aof_last_write_status",
        "aof_rewrite_in_progress",
        "rdb_changes_since_last_save",
    ] {
        assert!(!has(invented), "{invented}");
    }
}
