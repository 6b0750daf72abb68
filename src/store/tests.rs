//! The store's promises.

mod kv;
mod session;
