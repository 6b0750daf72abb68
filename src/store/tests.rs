//! The store's promises.

mod kv;
mod session;
mod taken_back;
mod texts;
