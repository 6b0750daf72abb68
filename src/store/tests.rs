//! The store's promises.

mod durable;
mod kv;
mod session;
mod texts;
