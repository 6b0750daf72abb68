//! A firewall chain that swallows packets to a network of targets; taken away when dropped. One
//! that a killed run has left is taken away by the next.

use std::process::Command;

use crate::Failure;

const CHAIN: &str = "ROLLCALL-LOAD";

/// Where packets are swallowed.
pub(crate) struct Wall(&'static str);

impl Wall {
    /// `None` where there is no iptables, or no right to use it.
    pub(crate) fn raise() -> Option<Self> {
        tear_down();
        iptables(&["-N", CHAIN]).ok()?;
        let wall = Self(CHAIN);
        iptables(&["-I", "OUTPUT", "-d", "127.64.0.0/10", "-j", CHAIN]).ok()?;
        Some(wall)
    }

    /// Drops all packets to `127.NETWORK.0.0/16` from now on.
    pub(crate) fn swallow(&self, network: u8) -> Result<(), Failure> {
        iptables(&["-A", self.0, "-d", &format!("127.{network}.0.0/16"), "-j", "DROP"])
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        tear_down();
    }
}

/// Each step may find nothing to do.
fn tear_down() {
    drop(iptables(&["-D", "OUTPUT", "-d", "127.64.0.0/10", "-j", CHAIN]));
    drop(iptables(&["-F", CHAIN]));
    drop(iptables(&["-X", CHAIN]));
}

fn iptables(arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("iptables").arg("-w").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}
