//! Ten million overwrites of 100,000 keys, with a reader that checks: how large does the file get?
//!
//! `cargo bench --manifest-path benches/parts/Cargo.toml --bench churn` takes about a minute.
//! `-- --plot "$PWD/src/docs/churn.svg"` draws the sizes over time, and `-- --writes N` makes another
//! number of writes. It fails if the file exceeds its bound, or the reader sees something older than what had been
//! acknowledged.
//!
//! The bound: a compaction is due when the log is twice the live data, or exceeds it by the floor (1 MiB); that is looked at after each 32nd
//! part of the log; and the file goes on growing while the compaction runs, which is
//! bounded by the engine: a writer waits for the compaction once the file is four times the live data and the floor.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brasa::{Db, Durability};
use plotters::prelude::*;

const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 100;

/// Sizes at one moment.
struct Sample {
    seconds: f64,
    file_bytes: u64,
    live_bytes: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --all-targets` runs benches too, without this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let value_of = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let writes = value_of("--writes").map_or(10_000_000, |text| text.parse().unwrap());
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("churn.brasa");
    let (samples, stall) = churn(&path, writes);
    let live_bytes = samples
        .iter()
        .map(|sample| sample.live_bytes)
        .max()
        .unwrap();
    let largest = samples
        .iter()
        .map(|sample| sample.file_bytes)
        .max()
        .unwrap();
    let seconds = samples.last().unwrap().seconds;
    println!(
        "{writes} writes in {seconds:.1} s, {:.2} us each",
        seconds / writes as f64 * 1e6
    );
    println!("live data            {:>12} bytes", live_bytes);
    println!(
        "largest file         {:>12} bytes, {:.2} times",
        largest,
        largest as f64 / live_bytes as f64
    );
    println!(
        "longest single set   {:>12.1} ms",
        stall.as_secs_f64() * 1e3
    );
    if let Some(plot) = value_of("--plot") {
        // Cargo runs benches in the package's directory.
        draw(Path::new(&plot), &samples).unwrap();
        println!("drawn to {plot}");
    }
    let bound = (live_bytes + (1 << 20)) * 4 * 33 / 32;
    println!("bound                {bound:>12} bytes");
    assert!(largest <= bound, "{largest} bytes exceed {bound}");
}

/// Writes, reads and samples at once; gives back the samples and the longest write.
fn churn(path: &Path, writes: u64) -> (Vec<Sample>, Duration) {
    let db = Db::options().durability(Durability::Os).open(path).unwrap();
    // The newest value of each key that was acknowledged.
    let acknowledged: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    let done = AtomicBool::new(false);
    let checks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(&db, &done));
        scope.spawn(|| {
            for number in (0..KEYS).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let at_least = acknowledged[number].load(Ordering::Acquire);
                let Some(value) = db.get(key(number)).unwrap() else {
                    assert_eq!(at_least, 0, "key {number} is gone");
                    continue;
                };
                let found = u32::from_le_bytes(value[..4].try_into().unwrap());
                assert!(found >= at_least, "key {number}: {found} after {at_least}");
                assert!(
                    value[4..].iter().all(|byte| *byte == value[4]),
                    "a torn value"
                );
                checks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut longest = Duration::ZERO;
        let mut value = [0; VALUE_BYTES];
        for write in 0..writes {
            // A stride that meets every key before it meets one again.
            let number = usize::try_from(write * 7_919).unwrap() % KEYS;
            let round = u32::try_from(write / KEYS as u64 + 1).unwrap();
            value.fill(u8::try_from(round % 251).unwrap());
            value[..4].copy_from_slice(&round.to_le_bytes());
            let begun = Instant::now();
            db.set(key(number), value).unwrap();
            longest = longest.max(begun.elapsed());
            acknowledged[number].store(round, Ordering::Release);
        }
        done.store(true, Ordering::Relaxed);
        println!("{} checks by the reader", checks.load(Ordering::Relaxed));
        (sampler.join().unwrap(), longest)
    })
}

fn key(number: usize) -> String {
    format!("key:{number:012}")
}

fn sample(db: &Db, done: &AtomicBool) -> Vec<Sample> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    loop {
        let is_over = done.load(Ordering::Relaxed);
        let stats = db.stats().unwrap();
        samples.push(Sample {
            seconds: begun.elapsed().as_secs_f64(),
            file_bytes: stats.file_bytes,
            live_bytes: stats.live_bytes,
        });
        if is_over {
            return samples;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn draw(plot: &Path, samples: &[Sample]) -> Result<(), Box<dyn std::error::Error>> {
    const MIB: f64 = (1 << 20) as f64;
    let seconds = samples.last().map_or(1.0, |sample| sample.seconds);
    let largest = samples
        .iter()
        .map(|sample| sample.file_bytes)
        .max()
        .unwrap_or(1);
    let root = SVGBackend::new(plot, (900, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "File size during overwrites of 100,000 keys",
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..seconds, 0.0..largest as f64 / MIB * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("MiB")
        .draw()?;
    type Size = fn(&Sample) -> u64;
    let lines: [(&str, RGBColor, Size); 2] = [
        ("file", RGBColor(200, 60, 20), |sample| sample.file_bytes),
        ("live data", RGBColor(30, 110, 60), |sample| {
            sample.live_bytes
        }),
    ];
    for (name, color, size) in lines {
        let points = samples
            .iter()
            .map(|sample| (sample.seconds, size(sample) as f64 / MIB));
        chart
            .draw_series(LineSeries::new(points, color))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
