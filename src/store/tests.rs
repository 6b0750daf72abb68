//! The store's promises.

mod counts;
mod kv;
mod session;
