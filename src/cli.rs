//! The subcommands.

pub mod schema;
pub mod validate;
