//! Figures, as they are shown and kept.

use std::fmt::Write;
use std::path::Path;

use plotters::prelude::*;
use serde_json::json;

use crate::floors::FLOOR;
use crate::kills::LOST;
use crate::peers::Peer;

/// The stores of the chart: brasa as it is opened by default, and those that keep what a kill takes.
const IN_CHART: [&str; 6] = ["brasa shared", "LMDB", "redb", "SQLite", "fjall", "sled"];

/// All that was measured.
pub struct Results {
    size: usize,
    rows: Vec<Row>,
    growth: Vec<Point>,
}

/// One work by one peer, a figure a round.
struct Row {
    work: String,
    peer: &'static str,
    figures: Vec<f64>,
}

struct Point {
    work: &'static str,
    peer: &'static str,
    size: usize,
    ns: f64,
}

impl Row {
    fn median(&self) -> f64 {
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        }
    }

    fn ends(&self) -> (f64, f64) {
        let least = self.figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.figures.iter().copied().fold(0.0, f64::max);
        (least, most)
    }
}

impl Results {
    pub fn new(size: usize) -> Results {
        Results {
            size,
            rows: Vec::new(),
            growth: Vec::new(),
        }
    }

    pub fn add(&mut self, work: &str, peer: &'static str, figure: f64) {
        let found = self
            .rows
            .iter_mut()
            .find(|row| row.work == work && row.peer == peer);
        match found {
            Some(row) => row.figures.push(figure),
            None => self.rows.push(Row {
                work: work.to_owned(),
                peer,
                figures: vec![figure],
            }),
        }
    }

    pub fn add_growth(&mut self, work: &'static str, peer: &'static str, size: usize, ns: f64) {
        self.growth.push(Point {
            work,
            peer,
            size,
            ns,
        });
    }

    fn row(&self, work: &str, peer: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.work == work && row.peer == peer)
    }

    fn works(&self) -> Vec<&str> {
        let mut works: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !works.contains(&&*row.work) {
                works.push(&row.work);
            }
        }
        works
    }

    /// A table with a line for each work and a column for each peer.
    pub fn markdown(&self, peers: &[Peer]) -> String {
        let mut text = String::new();
        let names: Vec<&str> = std::iter::once(FLOOR)
            .chain(peers.iter().map(|peer| peer.name))
            .collect();
        let _ = writeln!(
            text,
            "| work | {} | brasa / floor | best peer / brasa |",
            names.join(" | ")
        );
        let _ = writeln!(
            text,
            "| --- |{} ---: | ---: |",
            " ---: |".repeat(names.len())
        );
        for work in self.works() {
            let cells: Vec<String> = names
                .iter()
                .map(|name| {
                    self.row(work, name).map_or_else(String::new, |row| {
                        let (least, most) = row.ends();
                        match row.figures.len() {
                            1 => shown(row.median()),
                            _ => format!(
                                "{} ({} to {})",
                                shown(row.median()),
                                shown(least),
                                shown(most)
                            ),
                        }
                    })
                })
                .collect();
            let own = self.row(work, "brasa");
            let others = names
                .iter()
                .filter(|name| **name != FLOOR && !name.starts_with("brasa"));
            let best = others
                .filter_map(|name| self.row(work, name))
                .min_by(|a, b| a.median().total_cmp(&b.median()));
            let to_best = ratio(best, own);
            let to_floor = ratio(own, self.row(work, FLOOR));
            let cells = cells.join(" | ");
            let _ = writeln!(text, "| {work} | {cells} | {to_floor} | {to_best} |");
        }
        let _ = writeln!(
            text,
            "\nNanoseconds each, medians of the rounds with their spread; {} keys of 16 bytes, values of 100. {}",
            self.size,
            machine(peers)
        );
        for row in &self.rows {
            let lost = row.median();
            if row.work == LOST && lost > 0.0 {
                let _ = writeln!(
                    text,
                    "{}'s figures are of writes that a kill takes: {lost} of 1,000.",
                    row.peer
                );
            }
        }
        text
    }

    pub fn write(&self, out: &Path, peers: &[Peer]) -> Result<(), Box<dyn std::error::Error>> {
        std::fs::create_dir_all(out)?;
        let rows: Vec<_> = self.rows.iter().map(|row| json!({
            "work": row.work, "peer": row.peer, "median": row.median(), "rounds": row.figures,
        })).collect();
        let growth: Vec<_> = self
            .growth
            .iter()
            .map(|point| {
                json!({
                    "work": point.work, "peer": point.peer, "keys": point.size, "ns": point.ns,
                })
            })
            .collect();
        let all =
            json!({ "machine": machine(peers), "keys": self.size, "rows": rows, "growth": growth });
        std::fs::write(
            out.join("results.json"),
            serde_json::to_string_pretty(&all)?,
        )?;
        std::fs::write(out.join("results.md"), self.markdown(peers))?;
        std::fs::write(out.join("chart.txt"), self.chart(peers))?;
        for work in ["get", "set"] {
            self.plot(work, peers, &out.join(format!("growth-{work}.svg")))?;
        }
        Ok(())
    }

    /// The chart of the project's README: how many calls a second, as bars of text.
    fn chart(&self, peers: &[Peer]) -> String {
        const WIDTH: f64 = 40.0;
        let mut text = String::new();
        for work in ["get", "set", "set, synced"] {
            let mut rates: Vec<(&str, f64)> = peers
                .iter()
                .filter(|peer| IN_CHART.contains(&peer.name))
                .filter_map(|peer| Some((peer.name, 1e9 / self.row(work, peer.name)?.median())))
                .collect();
            rates.sort_by(|a, b| b.1.total_cmp(&a.1));
            let most = rates.first().map_or(1.0, |(_, rate)| *rate);
            let _ = writeln!(text, "{work}, thousand calls a second");
            for (name, rate) in rates {
                let name = name.trim_end_matches(" shared");
                let bar = "█".repeat((rate / most * WIDTH).round() as usize);
                let shown = match rate / 1e3 {
                    thousands @ ..10.0 => format!("{thousands:.1}"),
                    thousands => format!("{thousands:.0}"),
                };
                let _ = writeln!(text, "  {name:<7}{bar} {shown}");
            }
        }
        text
    }

    /// The cost of a call as the data grows, both on a logarithmic scale.
    fn plot(
        &self,
        work: &str,
        peers: &[Peer],
        path: &Path,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let points: Vec<&Point> = self
            .growth
            .iter()
            .filter(|point| point.work == work)
            .collect();
        let most = points.iter().map(|point| point.ns).fold(1.0, f64::max);
        let least = points.iter().map(|point| point.ns).fold(most, f64::min);
        let root = SVGBackend::new(path, (800, 500)).into_drawing_area();
        root.fill(&WHITE)?;
        let keys = (1_000_f64..self.size as f64 * 1.1).log_scale();
        let mut chart = ChartBuilder::on(&root)
            .caption(format!("{work}: nanoseconds by keys"), ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(70)
            .build_cartesian_2d(keys, (least / 1.5..most * 1.5).log_scale())?;
        chart.configure_mesh().x_desc("keys").y_desc("ns").draw()?;
        for (number, peer) in peers.iter().enumerate() {
            let color = Palette99::pick(number).to_rgba();
            let line = points.iter().filter(|point| point.peer == peer.name);
            let line = line.map(|point| (point.size as f64, point.ns));
            chart
                .draw_series(LineSeries::new(line, color.stroke_width(2)))?
                .label(peer.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        root.present()?;
        Ok(())
    }
}

/// How often the first contains the second: the ratio of the medians, and the least and the most of the rounds.
fn ratio(over: Option<&Row>, under: Option<&Row>) -> String {
    let (Some(over), Some(under)) = (over, under) else {
        return String::new();
    };
    if under.figures.contains(&0.0) {
        return String::new();
    }
    let all = over.median() / under.median();
    let rounds = || over.figures.iter().zip(&under.figures).map(|(a, b)| a / b);
    if rounds().count() == 1 {
        return format!("{all:.2}");
    }
    let least = rounds().fold(f64::INFINITY, f64::min);
    let most = rounds().fold(0.0, f64::max);
    format!("{all:.2} ({least:.2} to {most:.2})")
}

fn shown(figure: f64) -> String {
    match figure {
        ..100.0 => format!("{figure:.1}"),
        ..10_000.0 => format!("{figure:.0}"),
        ..1e6 => format!("{:.1} µs", figure / 1e3),
        _ => format!("{:.1} ms", figure / 1e6),
    }
}

/// What was measured, and on what.
fn machine(peers: &[Peer]) -> String {
    let lock = include_str!("../Cargo.lock");
    let version = |package: &str| {
        let name = format!("name = \"{package}\"\nversion = \"");
        let found = lock
            .split(&name)
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        format!("{package} {}", found.unwrap_or("?"))
    };
    let mut packages: Vec<&str> = peers.iter().map(|peer| peer.package).collect();
    packages.dedup();
    let versions: Vec<String> = packages.into_iter().map(version).collect();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("?");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let file_system = std::process::Command::new("df")
        .args(["--output=fstype", "."])
        .output();
    let file_system = file_system.map(|output| {
        String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .last()
            .unwrap_or("?")
            .to_owned()
    });
    let rustc = std::process::Command::new("rustc")
        .arg("--version")
        .output();
    let rustc = rustc.map_or_else(
        |_| "rustc ?".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    format!(
        "{}; {rustc}; {}, {cores} cores, Linux {}, {}.",
        versions.join(", "),
        cpu.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        file_system.unwrap_or_default()
    )
}
