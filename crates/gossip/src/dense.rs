//! Sorted arrays in place of maps, where a mesh keeps something for each pair of members.
//!
//! A tree of small entries is a third empty, and an array that doubles can be half empty. Most insertions are at the end,
//! for joiners are told of members in order of their ids; a member that comes later moves some hundred kilobytes in a
//! mesh of ten thousand.

/// Inserts at `index` into an array that grows by an eighth.
pub fn insert<T>(items: &mut Vec<T>, index: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / 8).max(4));
    }
    items.insert(index, item);
}
