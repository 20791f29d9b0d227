//! Computations that are futures: one for all who miss, and none left behind by a dropped future.
#![cfg(feature = "tokio")]

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use brasa::{Cache, CacheError, ManualClock, WaitTimeout};

const SECOND: Duration = Duration::from_secs(1);
/// A hang limit, and no more.
const LIMIT: Duration = Duration::from_secs(60);

fn run<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let limited = async { tokio::time::timeout(LIMIT, future).await };
    runtime.unwrap().block_on(limited).expect("it hangs")
}

type Never = std::convert::Infallible;

fn two_processes() -> (tempfile::TempDir, [Cache; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.brasa");
    let open = || Cache::open(&path).unwrap();
    let caches = [open(), open()];
    (directory, caches)
}

#[test]
fn tasks_of_two_handles_compute_once() {
    let (_directory, caches) = two_processes();
    let computations = AtomicU32::new(0);
    let values = run(async {
        let mut tasks = Vec::new();
        for number in 0..64 {
            let cache = caches[number % 2].clone().max_wait(LIMIT);
            let computations = &computations;
            tasks.push(Box::pin(async move {
                let compute = async || {
                    computations.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<_, Never>("computed".to_owned())
                };
                cache.get_or_insert_async("k", compute).await.unwrap()
            }));
        }
        // All of them at once, in one task: each is polled in turn.
        let mut values = vec![None; tasks.len()];
        std::future::poll_fn(|context| {
            for (task, value) in tasks.iter_mut().zip(&mut values) {
                if value.is_none()
                    && let std::task::Poll::Ready(done) = task.as_mut().poll(context)
                {
                    *value = Some(done);
                }
            }
            match values.iter().all(Option::is_some) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        values
    });
    assert!(
        values
            .iter()
            .all(|value| value.as_deref() == Some("computed"))
    );
    assert_eq!(computations.into_inner(), 1);
    let hit = caches[0].get::<String>("k").unwrap();
    assert_eq!(hit.as_deref(), Some("computed"));
}

#[test]
fn dropped_future_gives_its_lease_back() {
    let (_directory, [one, other]) = two_processes();
    run(async {
        let never = async || std::future::pending::<Result<String, Never>>().await;
        let asked = one.get_or_insert_async("k", never);
        assert!(
            tokio::time::timeout(Duration::from_millis(100), asked)
                .await
                .is_err()
        );
        let patient = other.clone().max_wait(LIMIT);
        let patient = patient.on_wait_timeout(WaitTimeout::Error);
        for cache in [&patient, &one] {
            let compute = async || Ok::<_, Never>("computed".to_owned());
            let value = cache.get_or_insert_async("k", compute).await.unwrap();
            assert_eq!(value, "computed");
        }
    });
    // The handle that acquired the lease counts a takeover if the lease had to lapse first.
    assert_eq!(other.stats().takeovers, 0);
    assert_eq!(one.stats().hits, 1);
}

#[test]
fn failure_is_returned_and_a_stale_value_outlives_a_failed_refresh() {
    let clock = ManualClock::new(1_700_000_000_000);
    let cache = Cache::options()
        .clock(clock.clone())
        .open_in_memory()
        .unwrap();
    let cache = cache.ttl(SECOND).stale_while_revalidate(100 * SECOND);
    run(async {
        let fail = async || Err::<String, _>("no answer");
        let failed = cache.get_or_insert_async("k", fail).await;
        assert!(matches!(failed, Err(CacheError::Compute("no answer"))));
        let compute = async || Ok::<_, Never>("1".to_owned());
        assert_eq!(cache.get_or_insert_async("k", compute).await.unwrap(), "1");
        clock.advance(2 * SECOND);
        assert_eq!(cache.get_or_insert_async("k", fail).await.unwrap(), "1");
    });
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.stale_hits, stats.failures), (2, 1, 2));
}

#[test]
fn wait_for_another_process_ends_as_the_caller_chose() {
    let (_directory, [one, other]) = two_processes();
    run(async {
        let value = one.get_or_insert_async("k", async || {
            let hasty = other.clone().max_wait(Duration::from_millis(5));
            let compute = async || Ok::<_, Never>("hasty".to_owned());
            let value = hasty.get_or_insert_async("k", compute).await.unwrap();
            assert_eq!(value, "hasty");
            let strict = hasty.on_wait_timeout(WaitTimeout::Error);
            let refused = strict.get_or_insert_async("k", compute).await;
            assert!(matches!(refused, Err(CacheError::TimedOut { .. })));
            Ok::<_, Never>("slow".to_owned())
        });
        assert_eq!(value.await.unwrap(), "slow");
    });
    assert_eq!(other.get::<String>("k").unwrap().as_deref(), Some("slow"));
}
