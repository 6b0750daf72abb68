//! Spawning, supervising and shutting down.
