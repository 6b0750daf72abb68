//! What is registered, stored and published.
