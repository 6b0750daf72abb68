//! How much is left of what every probe takes. No I/O.

/// How much of something is in use, and how much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// What is in use.
    pub used: u64,
    /// All that there is; 0 if that is not known.
    pub most: u64,
}

/// What every probe takes one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Open files of this process.
    pub descriptors: Taken,
    /// TCP sockets of this network name space, and the ports that the kernel may choose for those
    /// that connect. A bound from above: sockets with other destinations may share a port, and those
    /// that listen or were accepted take none of these.
    pub ports: Taken,
}

impl Taken {
    /// Whether less than a twentieth is left.
    pub(super) fn is_scarce(self) -> bool {
        self.most > 0 && self.used.saturating_mul(20) > self.most.saturating_mul(19)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_scarce_below_a_twentieth() {
        let is_scarce = |used, most| Taken { used, most }.is_scarce();
        assert!(!is_scarce(950, 1000));
        assert!(is_scarce(951, 1000));
        assert!(is_scarce(2000, 1000));
        assert!(!is_scarce(2000, 0), "not known");
        assert!(!is_scarce(u64::MAX / 2, u64::MAX), "no limit");
    }
}
