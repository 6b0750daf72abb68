//! The store's promises.

mod counts;
mod durable;
mod kv;
mod session;
mod texts;
