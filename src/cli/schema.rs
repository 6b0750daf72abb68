//! `rollcall schema`: the JSON Schema of the configuration file, for editors.

use std::io::{self, Write};

use crate::config;

/// Writes the schema (draft 2020-12) as indented JSON.
pub fn run(out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &config::schema::schema())?;
    writeln!(out)
}
