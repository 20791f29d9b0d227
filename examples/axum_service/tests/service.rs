//! Requests to the service over a socket, as a browser sends them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use axum_service::{App, routes};
use brasa::Cache;

fn request(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_requests_at_once_select_one_row_and_failures_are_not_cached() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path().join("cache.brasa")).unwrap();
    let selects = Arc::new(AtomicU32::new(0));
    let app = App {
        cache,
        selects: Arc::clone(&selects),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes(app)).await });
    let clients = tokio::task::spawn_blocking(move || {
        let clients: Vec<_> = (0..16)
            .map(|_| thread::spawn(move || request(address, "/users/7")))
            .collect();
        let responses = clients.into_iter().map(|client| client.join().unwrap());
        responses.collect::<Vec<_>>()
    });
    for response in clients.await.unwrap() {
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\nuser 7\n"), "{response}");
    }
    assert_eq!(selects.load(Ordering::Relaxed), 1);
    let failures =
        tokio::task::spawn_blocking(move || [(); 2].map(|()| request(address, "/users/0")));
    for response in failures.await.unwrap() {
        assert!(
            response.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{response}"
        );
    }
    assert_eq!(selects.load(Ordering::Relaxed), 3);
}
