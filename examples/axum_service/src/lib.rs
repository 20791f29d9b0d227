//! A web service with a durable cache in front of a slow source.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use brasa::Cache;

/// The state that all requests share. A clone of a `Cache` is another handle on the same file.
#[derive(Clone)]
pub struct App {
    pub cache: Cache,
    pub selects: Arc<AtomicU32>,
}

pub fn routes(app: App) -> axum::Router {
    axum::Router::new()
        .route("/users/{id}", get(user))
        .with_state(app)
}

/// Of all requests that miss the same user at once, in all processes, one selects the row.
async fn user(State(app): State<App>, Path(id): Path<u64>) -> Result<String, StatusCode> {
    let row =
        (app.cache).get_or_insert_async(Cache::key(("user", id)), async || app.select(id).await);
    row.await.map_err(|_| StatusCode::BAD_GATEWAY)
}

impl App {
    /// Stands for a query of a database.
    async fn select(&self, id: u64) -> Result<String, String> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
        match id {
            0 => Err("there is no user 0".to_owned()),
            _ => Ok(format!("user {id}\n")),
        }
    }
}
