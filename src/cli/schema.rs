//! `rollcall schema`: the JSON Schema of the configuration file, for editors.

use std::io::{self, Write};

use super::Exit;
use crate::config;

/// Writes the schema (draft 2020-12) as indented JSON.
pub(super) fn run(out: &mut impl Write) -> anyhow::Result<Exit> {
    // As an error of the stream, not of JSON: whoever reads may have seen enough.
    serde_json::to_writer_pretty(&mut *out, &config::schema::schema()).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(Exit::Ok)
}
