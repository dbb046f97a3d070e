//! Reports: how scenarios went, as one HTML page.
//!
//! The page holds everything that it shows: it is read without a network and without scripts, on a narrow
//! screen and on a wide one, in a light room and in a dark one. Charts over time are those of one seed, the first
//! that failed if one did; tables and distributions are over all. Nothing is judged here: what failed was found by whoever played the
//! scenario.
//!
//! Invariant: text of scenarios and outcomes is escaped where it enters the page, and no figure is drawn that
//! is not finite.

mod axis;
mod bounds;
mod chart;
mod contents;
mod distributions;
mod failures;
mod faults;
mod number;
mod over_time;
mod series;
mod tables;

use self::number::{counted, escape, seconds};
use crate::outcome::Outcome;
use crate::scenario::Scenario;

const STYLE: &str = include_str!("style.css");
/// From a scenario back to the list of all.
const WAY_UP: &str = " · <a href=\"#scenarios\">all scenarios</a>";

/// One page about these scenarios, each with its outcomes by seed, as HTML.
pub fn page(runs: &[(Scenario, Vec<Outcome>)]) -> String {
    let title = match runs {
        [(scenario, _)] => format!("{} – Ringmesh simulation", escape(&scenario.title)),
        _ => "Ringmesh simulations".to_owned(),
    };
    let (contents, way_up) =
        if runs.len() > 1 { (contents::contents(runs), WAY_UP) } else { (String::new(), "") };
    let sections: String = (1..)
        .zip(runs)
        .map(|(number, (scenario, outcomes))| section(number, scenario, outcomes, way_up))
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>Ringmesh simulation report</h1>\n{contents}</header>\n\
         <main>\n{sections}</main>\n</body>\n</html>\n"
    )
}

/// Everything about one scenario.
fn section(number: usize, scenario: &Scenario, outcomes: &[Outcome], way_up: &str) -> String {
    let shown = shown(outcomes);
    let body = match shown {
        None => "<p class=\"nothing\">It was not played.</p>\n".to_owned(),
        Some(shown) => [
            failures::failures(scenario, outcomes),
            bounds::bounds(scenario, outcomes),
            format!("<h3>Over time, seed {}{}</h3>\n", shown.seed, why(shown, outcomes)),
            over_time::over_time(scenario, shown),
            format!("<h3>How long it took, over {}</h3>\n", counted(outcomes.len(), "seed")),
            distributions::distributions(outcomes),
            tables::metrics(outcomes),
        ]
        .concat(),
    };
    format!(
        "<section id=\"scenario-{number}\" aria-labelledby=\"title-{number}\">\n\
         <h2 id=\"title-{number}\">{}</h2>\n{}{}{body}</section>\n",
        escape(&scenario.title),
        facts(scenario, outcomes, shown, way_up),
        about(&scenario.about)
    )
}

/// The outcome whose charts are drawn: the first that failed, otherwise the first.
fn shown(outcomes: &[Outcome]) -> Option<&Outcome> {
    // A run that did not come to its end has nothing to draw.
    let has_failed = |outcome: &&Outcome| !outcome.is_passed() && outcome.virtual_s > 0.0;
    outcomes.iter().find(has_failed).or(outcomes.first())
}

/// Why this seed, if it was chosen.
fn why(shown: &Outcome, outcomes: &[Outcome]) -> &'static str {
    if outcomes.len() > 1 && !shown.is_passed() { ", the first that failed" } else { "" }
}

/// The verdict, and what is needed to play the same again.
fn facts(scenario: &Scenario, outcomes: &[Outcome], shown: Option<&Outcome>, way_up: &str) -> String {
    let played = shown.map_or_else(String::new, |shown| {
        let hash = format!("<code>{:016x}</code>", shown.trace_hash);
        format!(" · {} · trace of seed {} {hash}", counted(outcomes.len(), "seed"), shown.seed)
    });
    format!(
        "<p class=\"facts\">{} · <code>{}</code> · {} · {}{played}{way_up}</p>\n",
        Verdict::of(outcomes).draw(),
        escape(&scenario.name),
        counted(scenario.topology.nodes, "host"),
        seconds(scenario.duration.as_secs_f64())
    )
}

/// The description, a paragraph for each block of lines.
fn about(text: &str) -> String {
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    blocks.map(|block| format!("<p class=\"about\">{}</p>\n", escape(block))).collect()
}

/// How all seeds of a scenario went together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    NotPlayed,
    Passed,
    Failed { failed: usize, played: usize },
}

impl Verdict {
    fn of(outcomes: &[Outcome]) -> Self {
        let failed = outcomes.iter().filter(|outcome| !outcome.is_passed()).count();
        match (outcomes.len(), failed) {
            (0, _) => Self::NotPlayed,
            (_, 0) => Self::Passed,
            (played, failed) => Self::Failed { failed, played },
        }
    }

    /// In a word and with a sign: nobody needs to tell colours apart.
    fn draw(self) -> String {
        let sign = self.sign();
        match self {
            Self::NotPlayed => format!("<span class=\"verdict\">{sign} not played</span>"),
            Self::Passed => format!("<span class=\"verdict passed\">{sign} passed</span>"),
            Self::Failed { failed, played } => {
                let seeds = counted(played, "seed");
                format!("<span class=\"verdict failed\">{sign} failed with {failed} of {seeds}</span>")
            }
        }
    }

    fn sign(self) -> char {
        match self {
            Self::NotPlayed => '–',
            Self::Passed => '✓',
            Self::Failed { .. } => '✗',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Band, Bound, Failure, FaultMark, Record, TrafficPoint};
    use crate::scenario::parse;

    /// Elements that have no end tag.
    const VOID: [&str; 3] = ["meta", "wbr", "!DOCTYPE"];

    #[test]
    fn a_page_is_well_formed() {
        let runs = [(scenario(), vec![full(1), full(2)]), (scenario(), vec![Outcome::default()])];
        check_tags(&page(&runs));
        check_tags(&page(&runs[..1]));
        check_tags(&page(&[]));
    }

    #[test]
    fn text_is_escaped_everywhere() {
        let evil = "<script>&\"'";
        let mut scenario = scenario();
        scenario.title = evil.to_owned();
        scenario.about = evil.to_owned();
        scenario.name = evil.to_owned();
        let mut outcome = full(1);
        outcome.failures[0].says = evil.to_owned();
        outcome.bounds[0].what = evil.to_owned();
        outcome.record.faults[0].what = evil.to_owned();
        let html = page(&[(scenario.clone(), vec![outcome.clone()]), (scenario, vec![outcome])]);
        assert!(!html.contains("<script>"));
        assert!(html.contains("&lt;script&gt;&amp;&quot;&#39;"));
        check_tags(&html);
    }

    #[test]
    fn an_outcome_without_anything_is_told_in_words() {
        let html = page(&[(scenario(), vec![Outcome::default()])]);
        assert!(html.contains("Nothing was measured"));
        assert!(html.contains("Nothing was done to the hosts"));
        assert!(!html.contains("<path"));
        assert!(page(&[(scenario(), Vec::new())]).contains("It was not played"));
    }

    #[test]
    fn every_coordinate_is_finite() {
        let mut wild = full(1);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e-300] {
            wild.record.members_seen.push(Band {
                at_s: value,
                min: value,
                median: value,
                max: value,
                truth: value,
            });
            wild.record.wrong_share.push((20.0, value));
            wild.record.detection_s.push(value);
            wild.record.traffic.push(TrafficPoint { at_s: 20.0, bytes_per_s: value, messages_per_s: value });
            wild.record.faults.push(FaultMark {
                from_s: value,
                until_s: Some(value),
                what: "wild".to_owned(),
            });
            wild.metrics.insert("wild_s", value);
            wild.virtual_s = value;
            check_coordinates(&page(&[(scenario(), vec![wild.clone()])]));
        }
    }

    #[test]
    fn contents_stand_above_several_scenarios_only() {
        assert!(!page(&[(scenario(), vec![full(1)])]).contains("<nav"));
        let html = page(&[(scenario(), vec![full(1)]), (scenario(), vec![Outcome::default()])]);
        assert!(html.contains("1 of 2\u{a0}scenarios passed"));
        assert!(html.contains("href=\"#scenario-2\"") && html.contains("id=\"scenario-2\""));
        let html = page(&[(scenario(), vec![Outcome::default()]), (scenario(), vec![full(1)])]);
        assert!(html.find("#scenario-2") < html.find("#scenario-1"), "what failed stands first");
    }

    #[test]
    fn charts_are_those_of_the_first_seed_that_failed() {
        let passed = Outcome { failures: Vec::new(), ..full(1) };
        let html = page(&[(scenario(), vec![passed.clone(), full(2), full(3)])]);
        assert!(html.contains("Over time, seed 2, the first that failed"));
        assert!(page(&[(scenario(), vec![passed])]).contains("Over time, seed 1<"));
    }

    #[test]
    fn every_chart_is_told_to_those_who_do_not_see_it() {
        let html = page(&[(scenario(), vec![full(1)])]);
        let charts = html.matches("<svg class=\"plot").count();
        assert_eq!(charts, 8, "four over time, the list of faults, three distributions");
        assert_eq!(html.matches("role=\"img\" aria-label=\"").count(), charts);
        assert_eq!(html.matches("<svg").count(), html.matches("aria-hidden").count() + charts);
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let html = page(&[(scenario(), vec![full(1)])]);
        for word in ["http:", "https:", "url(", "@import", " src="] {
            assert!(!html.contains(word), "{word}");
        }
    }

    /// Every tag that opens is closed, in order, and every attribute is quoted.
    fn check_tags(html: &str) {
        let mut open = Vec::new();
        for piece in html.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("every tag ends");
            assert!(!text.contains('>'), "{piece}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.split([' ', '/']).next().unwrap_or_default();
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "{tag}");
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    /// Every number in a path and in attributes of places is finite.
    fn check_coordinates(html: &str) {
        for name in [" d", " x", " y", " x1", " x2", " y1", " y2", " cx", " cy", " width", " height"] {
            for rest in html.split(&format!("{name}=\"")).skip(1) {
                let data = rest.split('"').next().unwrap_or_default();
                let numbers =
                    data.split(|c: char| "MLHVZh,% ".contains(c)).filter(|number| !number.is_empty());
                for number in numbers {
                    assert!(number.parse::<f64>().is_ok_and(f64::is_finite), "{name}: {number} in {data}");
                }
            }
        }
        assert!(!html.contains("NaN"));
    }

    fn scenario() -> Scenario {
        let text =
            "title = \"A crash\"\nabout = \"A host dies.\"\nduration = \"60s\"\n[topology]\nnodes = 50\n";
        parse("crash", text).expect("the scenario is complete")
    }

    /// An outcome with something of everything, which failed.
    fn full(seed: u64) -> Outcome {
        let at = |n: u32| f64::from(n) * 0.05;
        let band = |n| Band { at_s: at(n), min: 48.0, median: 49.0, max: 50.0, truth: 49.0 };
        let sent = |n| TrafficPoint { at_s: at(n), bytes_per_s: f64::from(n), messages_per_s: 3.5 };
        let bound = Bound {
            what: "known in time".to_owned(),
            measured: Some(4.0),
            allowed: 5.0,
            unit: "s",
            is_held: true,
        };
        Outcome {
            scenario: "crash".to_owned(),
            seed,
            trace_hash: 7,
            virtual_s: 60.0,
            failures: vec![Failure { line: Some(9), says: "node-1 is served".to_owned() }],
            bounds: vec![bound],
            metrics: [("detection_p99_s", 4.2), ("changes", 3.0)].into(),
            record: Record {
                members_seen: (0..1_200).map(band).collect(),
                wrong_share: (0..1_200).map(|n| (at(n), 0.001 * f64::from(n % 7))).collect(),
                detection_s: vec![0.9, 1.2, 4.2],
                first_accusation_s: vec![0.4],
                dissemination_s: vec![0.01, 0.2, 3.0],
                traffic: (0..1_200).map(sent).collect(),
                faults: vec![FaultMark { from_s: 10.0, until_s: None, what: "crash node-7".to_owned() }],
            },
            transcript: Vec::new(),
        }
    }
}
