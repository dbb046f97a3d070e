//! Which hosts something is done to, or expected of: `zone a, node-7 but @dead`.
//!
//! A [`Who`] names hosts; a [`Scene`] says which those are at one moment. Whether a named host, zone or label exists is
//! for the scenario's reader to check: here, what does not exist is nobody.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, RngExt};

use super::values;

/// The words that stand alone.
const WORDS: [&str; 3] = ["all", "none", "seeds"];
/// All forms, for whoever wrote none of them.
const FORMS: &str = "all, none, seeds, node-3, node-3..node-7, zone a, random 10, random 5% or @label";
/// What is between a word and everything that it takes away.
const BUT: &str = "but";
/// Keeps a share such as 7 % of 100 hosts from being rounded up to 8 because of the last bit of a float.
const ROUNDING: f64 = 1e-9;
/// Keeps 7 % from being written as 7.000000000000001 %.
const DECIMALS: f64 = 1e9;

/// A part of a [`Who`].
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// Every host: `all`.
    All,
    /// Those that everybody is told of: `seeds`.
    Seeds,
    /// One host: `node-3`.
    Node(usize),
    /// From one host to another, both included: `node-3..node-7`.
    Range(usize, usize),
    /// Every host of a zone: `zone a`.
    Zone(String),
    /// So many hosts that run: `random 10`.
    Random(usize),
    /// This share of the hosts that run, more than 0, at most 1, rounded up: `random 5%`.
    Share(f64),
    /// Those that an earlier step was done to: `@dead`.
    Label(String),
}

impl Term {
    /// How many hosts are drawn if there are `all`; nothing if it names its hosts.
    fn drawn_of(&self, all: usize) -> Option<usize> {
        match self {
            Self::Random(count) => Some(*count),
            Self::Share(share) => Some(((share * all as f64 - ROUNDING).ceil() as usize).max(1)),
            Self::All | Self::Seeds | Self::Node(_) | Self::Range(..) | Self::Zone(_) | Self::Label(_) => {
                None
            }
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Seeds => f.write_str("seeds"),
            Self::Node(host) => write!(f, "node-{host}"),
            Self::Range(first, last) => write!(f, "node-{first}..node-{last}"),
            Self::Zone(zone) => write!(f, "zone {zone}"),
            Self::Random(count) => write!(f, "random {count}"),
            Self::Share(share) => write!(f, "random {}%", (share * 100.0 * DECIMALS).round() / DECIMALS),
            Self::Label(label) => write!(f, "@{label}"),
        }
    }
}

/// Some hosts: those of some terms without those of others. Nobody by default.
#[derive(Clone, PartialEq, Default)]
pub struct Who {
    added: Vec<Term>,
    subtracted: Vec<Term>,
}

/// What a [`Who`] is looked up in.
pub struct Scene<'a> {
    /// Hosts: `node-0` to the one before this.
    pub nodes: usize,
    /// Their zones, in turn.
    pub zones: &'a [String],
    /// How many hosts everybody is told of: `node-0` and those after it.
    pub seeds: usize,
    /// Whether a host runs.
    pub running: &'a dyn Fn(usize) -> bool,
    /// Whom earlier steps were done to.
    pub labels: &'a BTreeMap<String, Vec<usize>>,
}

impl Scene<'_> {
    /// The hosts of a term that names its hosts.
    fn named(&self, term: &Term) -> Vec<usize> {
        let all = 0..self.nodes;
        match term {
            Term::All => all.collect(),
            Term::Seeds => all.take(self.seeds).collect(),
            Term::Node(host) => all.filter(|one| one == host).collect(),
            Term::Range(first, last) => all.filter(|host| (*first..=*last).contains(host)).collect(),
            Term::Zone(zone) => all.filter(|host| self.zone(*host) == Some(zone)).collect(),
            Term::Label(label) => self.labels.get(label).cloned().unwrap_or_default(),
            Term::Random(_) | Term::Share(_) => Vec::new(),
        }
    }

    fn zone(&self, host: usize) -> Option<&String> {
        self.zones.get(host.checked_rem(self.zones.len())?)
    }
}

impl Who {
    /// Everybody.
    pub fn all() -> Self {
        Self { added: vec![Term::All], subtracted: Vec::new() }
    }

    /// Nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads terms between commas, and after one `but` those that are taken away.
    ///
    /// # Errors
    /// Says which part is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parts: Vec<String> = words.split(|word| *word == BUT).map(|part| part.join(" ")).collect();
        match parts.as_slice() {
            [added] => Ok(Self { added: read_terms(added)?, subtracted: Vec::new() }),
            [added, subtracted] => {
                Ok(Self { added: read_terms(added)?, subtracted: read_terms(subtracted)? })
            }
            _ => Err(format!("{text:?} says {BUT:?} more than once: one takes away everything after it")),
        }
    }

    /// Its terms in order, and whether they are taken away.
    pub fn terms(&self) -> impl Iterator<Item = (bool, &Term)> {
        let added = self.added.iter().map(|term| (false, term));
        added.chain(self.subtracted.iter().map(|term| (true, term)))
    }

    /// Whether a term of it is drawn.
    pub(super) fn is_random(&self) -> bool {
        self.terms().any(|(_, term)| matches!(term, Term::Random(_) | Term::Share(_)))
    }

    /// Whether it is one term that stands for one host, or a label that may.
    pub(super) fn is_one(&self) -> bool {
        let is_one = |term: &Term| match term {
            Term::Node(_) | Term::Random(1) | Term::Label(_) => true,
            Term::Range(first, last) => first == last,
            Term::All | Term::Seeds | Term::Zone(_) | Term::Random(_) | Term::Share(_) => false,
        };
        self.subtracted.is_empty() && matches!(self.added.as_slice(), [term] if is_one(term))
    }

    /// The hosts, sorted, each once.
    ///
    /// Random terms draw among hosts that run, that no term before them chose and that no term after `but` names. After
    /// `but` they draw among the chosen hosts that run.
    pub fn resolve(&self, scene: &Scene<'_>, rng: &mut impl Rng) -> Vec<usize> {
        let without: BTreeSet<usize> = self.subtracted.iter().flat_map(|term| scene.named(term)).collect();
        let mut chosen = self.choose(scene, &without, rng);
        for term in &self.subtracted {
            let running: Vec<usize> = chosen.iter().copied().filter(|host| (scene.running)(*host)).collect();
            let Some(count) = term.drawn_of(running.len()) else {
                continue;
            };
            for host in draw(running, count, rng) {
                chosen.remove(&host);
            }
        }
        chosen.into_iter().collect()
    }

    /// The hosts of the terms before `but`, as far as they are not in `without`.
    fn choose(&self, scene: &Scene<'_>, without: &BTreeSet<usize>, rng: &mut impl Rng) -> BTreeSet<usize> {
        let running: Vec<usize> = (0..scene.nodes).filter(|host| (scene.running)(*host)).collect();
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        for term in &self.added {
            let Some(count) = term.drawn_of(running.len()) else {
                chosen.extend(scene.named(term));
                continue;
            };
            let is_free = |host: &usize| !chosen.contains(host) && !without.contains(host);
            let free: Vec<usize> = running.iter().copied().filter(is_free).collect();
            chosen.extend(draw(free, count, rng));
        }
        chosen.retain(|host| !without.contains(host));
        chosen
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_terms(f, &self.added)?;
        if !self.subtracted.is_empty() {
            write!(f, " {BUT} ")?;
            write_terms(f, &self.subtracted)?;
        }
        Ok(())
    }
}

/// As in a scenario file.
impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Whether hosts can be called so: `@text`.
pub(super) fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn write_terms(f: &mut fmt::Formatter<'_>, terms: &[Term]) -> fmt::Result {
    if terms.is_empty() {
        return f.write_str("none");
    }
    for (index, term) in terms.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{term}")?;
    }
    Ok(())
}

fn read_terms(list: &str) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    for part in list.split(',').map(str::trim) {
        match part {
            "" => return Err(format!("names nobody in one place: write {FORMS}")),
            "none" => {}
            "all" => terms.push(Term::All),
            "seeds" => terms.push(Term::Seeds),
            _ => terms.push(read_term(part)?),
        }
    }
    Ok(terms)
}

fn read_term(text: &str) -> Result<Term, String> {
    if let Some(label) = text.strip_prefix('@') {
        return if is_label(label) { Ok(Term::Label(label.to_owned())) } else { Err(unknown(text)) };
    }
    if let Some((first, last)) = text.split_once("..") {
        return read_range(text, first.trim(), last.trim());
    }
    match text.split_once(' ') {
        Some(("zone", zone)) => Ok(Term::Zone(zone.to_ascii_lowercase())),
        Some(("random", count)) => read_random(count),
        _ => read_host(text).map(Term::Node).ok_or_else(|| unknown(text)),
    }
}

fn read_range(text: &str, first: &str, last: &str) -> Result<Term, String> {
    match (read_host(first), read_host(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Term::Range(first, last)),
        (Some(_), Some(_)) => Err(format!("{text:?} runs backwards: write \"{last}..{first}\"")),
        _ => Err(unknown(text)),
    }
}

fn read_random(count: &str) -> Result<Term, String> {
    let term = if count.ends_with('%') {
        Term::Share(values::share_of(count)?)
    } else {
        Term::Random(read_digits(count).ok_or_else(|| unknown(&format!("random {count}")))?)
    };
    if term == Term::Random(0) || term == Term::Share(0.0) {
        return Err(format!("\"random {count}\" is nobody: write \"none\", or more than 0"));
    }
    Ok(term)
}

fn read_host(name: &str) -> Option<usize> {
    read_digits(name.strip_prefix("node-")?)
}

/// A number in the one way to write it, because `node-07` would be another name than `node-7`.
fn read_digits(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number: &usize| number.to_string() == text)
}

fn unknown(text: &str) -> String {
    match values::slip(text, &WORDS) {
        Some(word) => format!("{text:?} names no hosts: did you mean {word:?}?"),
        None => format!("{text:?} names no hosts: write {FORMS}"),
    }
}

/// Draws `count` of `pool` without replacement, or all if there are not as many.
fn draw(mut pool: Vec<usize>, count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let count = count.min(pool.len());
    for index in 0..count {
        let other = rng.random_range(index..pool.len());
        pool.swap(index, other);
    }
    pool.truncate(count);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// The seeds that random terms are tried with.
    const SEEDS: core::ops::Range<u64> = 0..50;

    #[test]
    fn hosts_are_written_as_they_are_read() {
        let check = |text: &str, want: &str| {
            let who = Who::parse(text).expect(text);
            assert_eq!(who.to_string(), want);
            assert_eq!(Who::parse(want), Ok(who));
        };
        check("all", "all");
        check("none", "none");
        check("none, node-1", "node-1");
        check(" seeds ,node-3 ,  node-3..node-7", "seeds, node-3, node-3..node-7");
        check("zone A, random 10, random 7%, random 0.5%", "zone a, random 10, random 7%, random 0.5%");
        check("all but @dead, zone b", "all but @dead, zone b");
        assert_eq!(Who::all().to_string(), "all");
        assert_eq!(Who::none().to_string(), "none");
    }

    #[test]
    fn what_names_no_hosts_is_refused() {
        let check = |text: &str, want: &str| {
            let why = Who::parse(text).expect_err(text);
            assert!(why.contains(want), "{text:?}: {why}");
        };
        check("", "names nobody in one place: write all, none");
        check("all,", "names nobody in one place");
        check("but node-1", "names nobody in one place");
        check("all but", "names nobody in one place");
        check("all but node-1 but node-2", "more than once");
        check("seed", "did you mean \"seeds\"?");
        check("everybody", "write all, none, seeds, node-3,");
        check("node-07", "\"node-07\" names no hosts");
        check("node-1..7", "\"node-1..7\" names no hosts");
        check("node-7..node-3", "runs backwards: write \"node-3..node-7\"");
        check("zone", "\"zone\" names no hosts");
        check("random", "\"random\" names no hosts");
        check("random ten", "\"random ten\" names no hosts");
        check("random 0", "\"random 0\" is nobody");
        check("random 0%", "\"random 0%\" is nobody");
        check("random 101%", "\"101%\" is not allowed");
        check("@", "\"@\" names no hosts");
        check("@de.ad", "\"@de.ad\" names no hosts");
    }

    #[test]
    fn named_hosts_are_those_of_the_scene() {
        let check = |text: &str, want: &[usize]| assert_eq!(resolve(text, 1), want, "{text}");
        check("all", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        check("none", &[]);
        check("seeds", &[0, 1]);
        check("node-3, node-3", &[3]);
        check("node-8..node-12, node-60", &[8, 9]);
        check("zone b", &[1, 3, 5, 7, 9]);
        check("zone c", &[]);
        check("@dead", &[3, 4]);
        check("@unknown", &[]);
        check("all but @dead, zone a", &[1, 5, 7, 9]);
    }

    #[test]
    fn random_hosts_run_and_are_drawn_once() {
        for seed in SEEDS {
            let drawn = resolve("random 3", seed);
            assert_eq!(drawn.len(), 3, "{drawn:?}");
            assert!(!drawn.contains(&9), "{drawn:?}");
            assert_eq!(drawn, resolve("random 3", seed));
            assert_eq!(resolve("random 20", seed), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
            assert_eq!(resolve("node-0, random 8", seed), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
        let all: BTreeSet<usize> = SEEDS.flat_map(|seed| resolve("random 3", seed)).collect();
        assert_eq!(all.len(), 9, "every host that runs has its turn");
    }

    #[test]
    fn random_hosts_are_not_drawn_among_those_taken_away() {
        for seed in SEEDS {
            assert_eq!(resolve("random 8 but node-0", seed), [1, 2, 3, 4, 5, 6, 7, 8]);
        }
    }

    #[test]
    fn random_hosts_are_taken_away_from_the_chosen() {
        for seed in SEEDS {
            let left = resolve("zone b but random 2", seed);
            assert_eq!(left.len(), 3, "{left:?}");
            assert!(left.iter().all(|host| host % 2 == 1), "{left:?}");
            assert_eq!(resolve("all but random 100%", seed), [9]);
        }
    }

    #[test]
    fn a_share_is_rounded_up_and_never_nobody() {
        let check = |share: f64, all: usize, want: usize| {
            assert_eq!(Term::Share(share).drawn_of(all), Some(want), "{share} of {all}");
        };
        check(0.07, 100, 7);
        check(0.05, 50, 3);
        check(0.001, 50, 1);
        check(1.0, 50, 50);
    }

    /// Ten hosts in the zones a and b, of which the last does not run.
    fn resolve(text: &str, seed: u64) -> Vec<usize> {
        let who = Who::parse(text).expect(text);
        let zones = ["a".to_owned(), "b".to_owned()];
        let labels = BTreeMap::from([("dead".to_owned(), vec![3, 4])]);
        let running = |host: usize| host != 9;
        let scene = Scene { nodes: 10, zones: &zones, seeds: 2, running: &running, labels: &labels };
        who.resolve(&scene, &mut ChaCha8Rng::seed_from_u64(seed))
    }
}
