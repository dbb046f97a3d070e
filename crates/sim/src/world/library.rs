//! One copy of each document for all hosts. Every host checks and reads what it is sent, and then keeps the copy that is
//! there already: a mesh of a thousand would hold a thousand copies of everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use ringmesh_types::sealed::Verified;
use ringmesh_types::stored::Stored;

/// Documents that somebody keeps, by digest.
#[derive(Debug, Default)]
pub(super) struct Library {
    copies: BTreeMap<u64, Verified<Weak<Stored>>>,
    /// How many there may be before those that nobody keeps any more are looked for.
    most: usize,
}

impl Library {
    /// The copy that is kept of this document; this one from now on if there is none.
    pub(super) fn share(&mut self, document: Verified<Arc<Stored>>) -> Verified<Arc<Stored>> {
        let digest = document.get().digest();
        if let Some(known) = self.copies.get(&digest).and_then(Verified::upgrade)
            && known == document
        {
            return known;
        }
        if self.copies.len() > self.most {
            self.copies.retain(|_, copy| copy.get().strong_count() > 0);
            self.most = self.copies.len() * 2 + 1_024;
        }
        self.copies.insert(digest, document.downgrade());
        document
    }
}
