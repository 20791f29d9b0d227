//! `with_brasa WORD`, `with_brasa cache clear`, `with_brasa cache stats`.

use std::time::Duration;

use brasa::Cache;
use slow_lookup::look_up;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::for_app("slow-lookup-brasa")?.ttl(Duration::from_secs(600));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["cache", "clear"] => cache.clear()?,
        ["cache", "stats"] => {
            let usage = cache.usage()?;
            println!("{} entries, {} bytes", usage.entries, usage.bytes);
        }
        [word] => {
            let answer: String = cache.get_or_insert_with(word, || look_up(word))?;
            println!("{answer}");
        }
        _ => return Err("usage: with_brasa WORD | cache clear | cache stats".into()),
    }
    Ok(())
}
