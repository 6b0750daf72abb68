//! Numbers that whoever does not see our packets cannot know beforehand.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

/// One that differs from the last: no secret, but what an answer to a question of ours must repeat.
/// It is `SipHash` of nothing under a key that the kernel's chance gave the thread and that changes
/// with every call.
pub(super) fn nonce() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_alike() {
        let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| super::nonce()).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
