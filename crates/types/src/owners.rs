//! Who serves which key of a service, as whoever answers questions needs to know it: a map without its maker.

use core::fmt;

use crate::ids::NodeId;

/// A map that an agent follows. Whoever asks leaves out members that are Down.
pub trait KeyOwners: fmt::Debug + Send + Sync {
    /// Where `key`, any bytes, lies in the space that the map cuts up.
    ///
    /// # Errors
    /// Says what is wrong with the key: it is empty, or too long.
    fn position(&self, key: &[u8]) -> Result<u64, String>;

    /// Names the members that serve what lies at `at`, the first to be asked first, until `each` wants no more.
    fn visit(&self, at: u64, each: &mut dyn FnMut(NodeId) -> Visit) -> Sharing;

    /// Who serves what lies at `at` if nobody that [`KeyOwners::visit`] names is there: one that `is_live` approves of, the
    /// same for everybody who sees the same members.
    fn last_resort(&self, at: u64, is_live: &dyn Fn(NodeId) -> bool) -> Option<NodeId>;
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// The next one.
    Next,
    /// That is enough.
    Enough,
}

/// How those that serve a key stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The first that is there serves all of it, the others stand by.
    InOrder,
    /// All share it: any will do.
    Equal,
}
