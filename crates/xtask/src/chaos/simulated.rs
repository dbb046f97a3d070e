//! The same scenario in the simulator.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::figures::{Figure, Samples};

/// How many runs stand for all.
pub(crate) const SEEDS: usize = 32;

/// Plays a scenario in the simulator; gives the figures of every run.
pub(crate) fn play(program: &Path, file: &Path, nodes: usize, figures: &[Figure]) -> Result<Samples> {
    let output = Command::new(program)
        .args(["sim", "run"])
        .arg(file)
        .args(["--nodes", &nodes.to_string(), "--seeds", &SEEDS.to_string(), "--json"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    let says = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    let runs = text.lines().count();
    if runs != SEEDS {
        bail!("the simulator told of {runs} runs of {SEEDS}: {}", says.trim());
    }
    if !output.status.success() {
        // Not what is asked here, but whoever asks will want to know.
        eprintln!("chaos: {}: {}", file.display(), says.trim());
    }
    read(&text, figures)
}

/// Reads one run a line.
fn read(text: &str, figures: &[Figure]) -> Result<Samples> {
    let mut samples = Samples::new();
    for line in text.lines() {
        let run: Value = serde_json::from_str(line).context("what the simulator says of a run")?;
        for figure in figures {
            let value = run["metrics"][figure.metric()].as_f64().unwrap_or(f64::INFINITY);
            samples.entry(*figure).or_default().push(value);
        }
    }
    for (figure, values) in &samples {
        if values.iter().all(|value| value.is_infinite()) {
            bail!("the simulator says nothing of {:?} in any run", figure.metric());
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_value_of_each_figure() {
        let text = "{\"seed\":1,\"metrics\":{\"first_down_mean_s\":3.5,\"detection_p50_s\":4}}\n\
                    {\"seed\":2,\"metrics\":{\"detection_p50_s\":5.5}}\n";
        let samples = read(text, &[Figure::FirstDown, Figure::MedianDown]).expect("is read");
        assert_eq!(samples[&Figure::FirstDown], [3.5, f64::INFINITY]);
        assert_eq!(samples[&Figure::MedianDown], [4.0, 5.5]);
        let why = read(text, &[Figure::Alone]).expect_err("nobody was alone").to_string();
        assert!(why.contains("\"alone_after_cut_mean_s\""), "{why}");
    }
}
