//! `cargo run --manifest-path examples/axum_service/Cargo.toml`, then
//! `curl http://127.0.0.1:3000/users/7`.

use std::time::Duration;

use axum_service::{App, routes};
use brasa::Cache;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::for_app("brasa-axum-service")?.ttl(Duration::from_secs(60));
    let selects = Default::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}/users/7", listener.local_addr()?);
    axum::serve(listener, routes(App { cache, selects })).await?;
    Ok(())
}
