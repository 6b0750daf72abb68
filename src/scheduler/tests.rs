//! The scheduler on paused time.
