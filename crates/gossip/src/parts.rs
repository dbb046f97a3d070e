//! What failure detection has beyond SWIM. Everything is on; only experiments turn parts off, to ask what each is worth.

/// The parts that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Delays grow with our own trouble, relays send nacks (Lifeguard's LHA-Probe).
    pub local_health: bool,
    /// Answers are waited for as long as they take on the path; without it, for the configured time-out.
    pub measured_waits: bool,
    /// A suspicion ends sooner with each further accuser (Lifeguard's LHA-Suspicion).
    pub shrinking_suspicion: bool,
    /// A suspect is told so with each probe (Lifeguard's buddy system).
    pub buddy: bool,
    /// The first accusation makes others look at once, over a stream.
    pub witnesses: bool,
    /// Who is sick accuses nobody, who hears nobody judges nobody, and whose accusations keep being refuted is not believed.
    pub self_doubt: bool,
}

impl Parts {
    /// All of them.
    pub const ALL: Self = Self {
        local_health: true,
        measured_waits: true,
        shrinking_suspicion: true,
        buddy: true,
        witnesses: true,
        self_doubt: true,
    };
    /// None of them.
    pub const NONE: Self = Self {
        local_health: false,
        measured_waits: false,
        shrinking_suspicion: false,
        buddy: false,
        witnesses: false,
        self_doubt: false,
    };
}

impl Default for Parts {
    fn default() -> Self {
        Self::ALL
    }
}
