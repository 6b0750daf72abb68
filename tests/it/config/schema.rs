//! `rollcall schema`, as a person meets it.

use std::{io, process::Command};

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .arg("schema")
        .stdout(writer)
        .output()
        .expect("the program starts");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
