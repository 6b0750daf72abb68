//! The registry against lists that change.
