//! One round of each client, in its own language.

use std::process::Command;

use super::Clients;

pub(super) fn python(clients: &Clients) {
    let mut command = Command::new(&clients.python);
    round(clients, "python", command.arg(Clients::source("pyconsul/round.py")), str::to_owned);
}

pub(super) fn node(clients: &Clients) {
    let mut command = Command::new("node");
    // Beside the client that it loads.
    round(clients, "node", command.arg(clients.installed.join("node/round.js")), str::to_owned);
}

pub(super) fn go(clients: &Clients) {
    let mut command = Command::new(clients.installed.join("go/client"));
    round(clients, "go", &mut command, |port| format!("127.0.0.1:{port}"));
}

/// Has a program go its round with a fresh daemon, and tells how many steps that took.
#[track_caller]
fn round(
    clients: &Clients,
    name: &str,
    command: &mut Command,
    address: impl FnOnce(&str) -> String,
) {
    let daemon = clients.fresh_daemon(&format!("{name}-round-daemon"));
    let address = address(&daemon.http.to_string());
    let said = clients.run(&format!("{name}-round"), command.arg(address));
    let steps = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(steps > 0, "{name} went no step");
    println!("     {name}: {steps} steps");
}
