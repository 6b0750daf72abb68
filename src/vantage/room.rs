//! Reads how much is in use of what every probe takes.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::AsRawFd as _,
};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};

use crate::{
    doubt::{Room, Taken},
    probe::ephemeral_ports,
};

/// Where the kernel tells how many sockets there are, for each version of IP.
const SOCKETS: [&str; 2] = ["/proc/self/net/sockstat", "/proc/self/net/sockstat6"];

/// What is in use now; what the kernel does not tell is not known.
///
/// A descriptor's number is the lowest that is free, so that the number of one just opened says how
/// many are in use, at least: exactly, where they are about to run out. To count them all takes
/// milliseconds where there are many.
pub(super) fn look() -> Room {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let mut descriptors = Taken { used: 0, most: limit };
    let mut text = String::new();
    for path in SOCKETS {
        match read(path, &mut text) {
            Ok(descriptor) => descriptors.used = descriptor,
            Err(error) if has_none_left(&error) => descriptors.used = limit,
            Err(_) => {}
        }
    }
    let most = ephemeral_ports().map_or(0, |ports| u64::try_from(ports.count()).unwrap_or(0));
    Room { descriptors, ports: Taken { used: sockets(&text), most } }
}

/// Adds what the file says, and tells its descriptor's number.
fn read(path: &str, text: &mut String) -> io::Result<u64> {
    let mut file = File::open(path)?;
    file.read_to_string(text)?;
    Ok(u64::try_from(file.as_raw_fd()).unwrap_or(0))
}

fn has_none_left(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

/// TCP sockets in use, and those that wait for stray packets (`tw`), of lines such as
/// `TCP: inuse 5 orphan 0 tw 2 alloc 6 mem 1`.
fn sockets(text: &str) -> u64 {
    let tcp = text.lines().filter(|line| line.starts_with("TCP: ") || line.starts_with("TCP6: "));
    let counts = tcp.flat_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        std::iter::from_fn(move || Some((words.next()?, words.next()?)))
    });
    let used = counts.filter(|(name, _)| ["inuse", "tw"].contains(name));
    used.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_of_both_versions_are_counted_and_those_that_wait() {
        let text = "sockets: used 8\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 353\nUDP: inuse 9 mem 256\n\
                    TCP6: inuse 30\nUDP6: inuse 9\n";
        assert_eq!(sockets(text), 37);
        assert_eq!(sockets("what is this"), 0);
    }

    #[test]
    fn what_is_opened_is_in_use() {
        let before = look();
        assert!(before.descriptors.used > 0 && before.descriptors.most > before.descriptors.used);
        assert!(before.ports.most > 0, "{before:?}");
        let many: Vec<_> = (0..50).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let after = look();
        // Other tests open and close theirs meanwhile; what is held here stays.
        assert!(after.descriptors.used >= 50, "{after:?}");
        assert!(after.ports.used >= 50, "{after:?}");
        drop(many);
    }
}
