//! Scenarios: what stands where, what happens when, and what must come of it, read from TOML.
//!
//! A [`Scenario`] is plain data, checked as a whole: every host that it names exists, every time has a unit, nothing
//! happens or is expected after its end. How it is played is not decided here.

mod entry;
mod error;
mod expect;
mod links;
mod nodes;
mod read;
mod reader;
mod stage;
mod steps;
mod values;
mod who;

use core::time::Duration;

pub use error::{Mistake, Mistakes};
pub use nodes::with_nodes;
pub use read::parse;
pub use who::{Scene, Term, Who};

/// A scenario file, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// One line for lists.
    pub title: String,
    /// What it stands for in a VoIP platform, and which report or measurement it comes from.
    pub about: String,
    /// How many seeds it is played with unless told otherwise: 1 to this.
    pub seeds: u32,
    /// Virtual time from its begin to its end.
    pub duration: Duration,
    /// Who is there.
    pub topology: Topology,
    /// How messages travel.
    pub links: LinkPlan,
    /// What happens, by time.
    pub timeline: Vec<Step>,
    /// What must come of it.
    pub expect: Vec<Expectation>,
}

/// Who is there when a scenario begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Hosts, named `node-0`, `node-1` and so on.
    pub nodes: usize,
    /// Their zones, in turn: `node-0` stands in the first, `node-1` in the second.
    pub zones: Vec<String>,
    /// How many hosts everybody is told of as seeds: `node-0` and those after it.
    pub seeds: usize,
    /// What the hosts know at the begin.
    pub start: Start,
    /// Which hosts run at the begin.
    pub running: Who,
    /// How long others wait for a member that restarts in good order.
    pub hold: Duration,
    /// What runs on them.
    pub services: Vec<ServicePlan>,
}

/// What hosts know when a scenario begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// Nothing but the seeds; they start within this time, each at a random moment.
    Cold {
        /// From the first start to the last.
        within: Duration,
    },
    /// Everything about each other, each in a random phase of its probe period.
    Converged,
}

/// Instances of one service on some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePlan {
    /// The service's name.
    pub name: String,
    /// The hosts that have it.
    pub on: Who,
    /// How many instances each of them has.
    pub instances: usize,
    /// Time between two checks of an endpoint; nothing if they are not checked.
    pub check_every: Option<Duration>,
    /// Whether all hosts declare a map of its keys.
    pub has_map: bool,
}

/// How messages travel between any two hosts, and between some zones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LinkPlan {
    /// Between any two hosts.
    pub default: LinkSpec,
    /// Between two zones, both ways; the last that fits counts. What is `None` in it is as in the default.
    pub between: Vec<(String, String, LinkSpec)>,
}

/// How a link behaves; what is `None` is as everywhere else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LinkSpec {
    /// One way, at least.
    pub latency: Option<Duration>,
    /// Added at most, uniformly.
    pub jitter: Option<Duration>,
    /// Share of packets that get lost, 0 to 1.
    pub loss: Option<f64>,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplication: Option<f64>,
    /// Share of datagrams that are held back by up to ten times the latency, 0 to 1.
    pub reordering: Option<f64>,
    /// Bits per second that one host can send to another.
    pub bandwidth: Option<u64>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When, from the begin.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// What later steps and expectations call the hosts it was done to: `@label`.
    pub label: Option<String>,
    /// The line of the file that says so.
    pub line: usize,
}

/// Which way a loss is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What a host receives.
    In,
    /// What it sends.
    Out,
    /// Both.
    Both,
}

/// What a liar does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It accuses every other member once a second, in its own name.
    Accuse,
    /// It accuses them in other members' names.
    Forge,
    /// It says that they left, in their names.
    ForgeLeave,
    /// Says two things of itself under one version, each to half of the others.
    Contradict,
    /// It hands on old documents of others as if they were news.
    Replay,
}

/// What can happen. `length` is nothing if it lasts to the end, or until `heal`.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the sentence above each variant names its fields")]
pub enum Fault {
    /// Hosts die between two instructions.
    Crash { who: Who },
    /// Hosts that do not run start, from what their disks hold.
    Start { who: Who },
    /// Hosts die and start again after `down`.
    Restart { who: Who, down: Duration },
    /// Hosts restart in good order, one every `every`, each announcing a hold and staying away for `down`.
    Roll { who: Who, down: Duration, every: Duration },
    /// Hosts stop in good order: they announce a hold.
    Stop { who: Who },
    /// Hosts leave for good.
    Leave { who: Who },
    /// The disks of hosts that do not run lose everything.
    Wipe { who: Who },
    /// Hosts freeze: nothing comes in or out and no timer fires, then everything at once (SIGSTOP).
    Pause { who: Who, length: Duration },
    /// Inbox and outbox are held for `hold`, then free for `free`, again and again; timers fire (Lifeguard's anomaly).
    Slow { who: Who, hold: Duration, free: Duration, length: Option<Duration> },
    /// The wall clocks jump, forwards or, if `back`, backwards.
    Clock { who: Who, by: Duration, back: bool },
    /// Disks refuse every write.
    DiskFull { who: Who, length: Option<Duration> },
    /// `who`, which must be one host, restarts under the name of `with`.
    Clash { who: Who, with: Who },
    /// Hosts lie.
    Lie { who: Who, about: Option<Who>, lie: Lie, length: Option<Duration> },
    /// Nothing passes between `who` and all others, both ways.
    Split { who: Who, length: Option<Duration> },
    /// Nothing passes from `from` to `to`.
    OneWay { from: Who, to: Who, length: Option<Duration> },
    /// Packets of `who` get lost.
    Loss { who: Who, share: f64, direction: Direction, length: Option<Duration> },
    /// Every link behaves so from now on.
    Links { spec: LinkSpec, length: Option<Duration> },
    /// Endpoints of `service` on `who` stop answering.
    ServiceDown { service: String, who: Who, length: Option<Duration> },
    /// They answer for `up`, then do not for `down`, again and again.
    Flap { service: String, who: Who, up: Duration, down: Duration, length: Option<Duration> },
    /// They answer, but only after `latency`.
    ServiceSlow { service: String, who: Who, latency: Duration, length: Option<Duration> },
    /// Endpoints of `service` change between answering and not, somewhere, this many times a second.
    Churn { service: String, per_second: f64, length: Option<Duration> },
    /// Nodes are drained.
    Drain { who: Who, length: Option<Duration> },
    /// New instances of `service` are registered on `who`, this many a second.
    Register { service: String, who: Who, per_second: f64, length: Duration },
    /// An operator at one of those that run says that these are to be forgotten.
    Forget {
        /// Whom.
        who: Who,
    },
    /// Hosts publish a topic and fields that no other version knows.
    Newer { who: Who },
    /// Every cut, loss and slowness ends.
    Heal,
}

impl Fault {
    /// How long it lasts, if it ends by itself; a roll ends when its last host is back, which depends on how many there are.
    pub fn length(&self) -> Option<Duration> {
        match self {
            Self::Pause { length, .. } | Self::Register { length, .. } => Some(*length),
            Self::Restart { down, .. } => Some(*down),
            Self::Slow { length, .. }
            | Self::DiskFull { length, .. }
            | Self::Lie { length, .. }
            | Self::Split { length, .. }
            | Self::OneWay { length, .. }
            | Self::Loss { length, .. }
            | Self::Links { length, .. }
            | Self::ServiceDown { length, .. }
            | Self::Flap { length, .. }
            | Self::ServiceSlow { length, .. }
            | Self::Churn { length, .. }
            | Self::Drain { length, .. } => *length,
            Self::Crash { .. }
            | Self::Start { .. }
            | Self::Roll { .. }
            | Self::Stop { .. }
            | Self::Leave { .. }
            | Self::Wipe { .. }
            | Self::Clock { .. }
            | Self::Clash { .. }
            | Self::Forget { .. }
            | Self::Newer { .. }
            | Self::Heal => None,
        }
    }
}

/// What must come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// What.
    pub that: That,
    /// The line of the file that says so.
    pub line: usize,
}

/// Where in an answer somebody is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among those that are to be asked first.
    First,
    /// Anywhere, also for when the first do not answer.
    Any,
}

/// What can be expected. Times count from the begin; "every observer" is every host that runs, is honest and is not ill.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the sentence above each variant names its fields")]
pub enum That {
    /// At `by` every observer sees exactly the running hosts as serving members.
    Converged { by: Duration },
    /// At `by` all documents of live owners are the same everywhere.
    Delivered { by: Duration },
    /// Between `from` and `until` no observer among `asked` answers with `who` (its instances, or itself) in such a place.
    NotServed { who: Who, asked: Who, from: Duration, until: Option<Duration>, place: Place },
    /// Between `from` and `until` every observer counts `who` among the serving members.
    Served { who: Who, from: Duration, until: Option<Duration> },
    /// Every observer holds `who` in this state at `at`.
    Seen { who: Who, state: String, at: Duration },
    /// No observer ever declares one of `who` Down.
    NeverRemoved { who: Who },
    /// No observer's answer for `service` is ever empty, from `from` on.
    NeverEmpty { service: String, from: Duration },
    /// Every death is known to every observer within this time.
    Detected { within: Duration },
    /// Every change of an endpoint's health is known to every observer within this time of its owner knowing.
    Disseminated { within: Duration },
    /// No observer gives wrong answers for longer than this in all.
    WrongSeconds { at_most: Duration },
    /// Of all look-ups at most this share, 0 to 1, is answered wrongly.
    WrongShare { at_most: f64 },
    /// So many times at most a healthy, reachable member is declared Down.
    FalsePositives { at_most: u64 },
    /// No observer sees the state of members change more often than this.
    Changes { at_most: u64 },
    /// No follower of the members is told of changes more often than this, at any observer.
    ViewEvents { at_most: u64 },
    /// A host sends at most so much, in the mean over hosts and time.
    Traffic { bytes_per_s: Option<f64>, messages_per_s: Option<f64> },
    /// From `from` on no observer serves a member that does not run.
    NoGhost { from: Duration },
}
