//! What went wrong, in a form people and metrics can use, and the one place where an operating
//! system's error becomes a [`Reason`].

use std::{error::Error, io};

use rustix::io::Errno;

use super::tls;
use crate::model::{Outcome, Reason};

/// Longest `detail` of an observation, in bytes.
pub(super) const DETAIL_LEN: usize = 256;

/// Why a probe is not a plain success.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failure(reason), detail: detail.into() }
    }

    /// A fault of our own, which says nothing of the target.
    pub(super) fn ours(detail: impl Into<String>) -> Self {
        Self::inconclusive(Reason::Internal, detail)
    }

    /// One after which nothing is known of the target.
    pub(super) fn inconclusive(reason: Reason, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Inconclusive(reason), detail: detail.into() }
    }

    pub(super) fn warning(reason: Reason, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warning(reason), detail: detail.into() }
    }

    /// An error of making a socket or of giving it its own address: whatever it is, no target has had
    /// a part in it.
    pub(super) fn local(error: &io::Error) -> Self {
        Self::ours(error.to_string())
    }

    /// An error that the call to connect returned at once, before anything could come back.
    ///
    /// The kernel answers so when its own routing table has no way to the address (on Linux,
    /// `ENETUNREACH` of `ip_route_connect`: the default route is gone, or there is no IPv6 here), and
    /// that says nothing of the target. What a router says comes later, as an error of the socket. A
    /// route that somebody has marked unreachable (`EHOSTUNREACH`) says that the network is gone,
    /// and is held against the target.
    pub(super) fn at_once(error: &io::Error) -> Self {
        let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        if is(Errno::NETUNREACH) || is(Errno::NETDOWN) {
            let detail = format!("this host has no route to the address: {error}");
            return Self::inconclusive(Reason::Unreachable, detail);
        }
        Self::io(error, Reason::TimeoutConnect)
    }

    /// An I/O error met before the connection was there.
    pub(super) fn connect(error: &io::Error) -> Self {
        Self::told(error, Reason::TimeoutConnect)
    }

    /// An I/O error met on a connection.
    pub(super) fn exchange(error: &io::Error) -> Self {
        Self::told(error, Reason::TimeoutResponse)
    }

    /// An error of a socket that has asked already. Some that would be our own when a socket is made
    /// were then sent back by the network, as ICMP.
    fn told(error: &io::Error, timeout: Reason) -> Self {
        if is_told_by_icmp(error) {
            return Self::new(Reason::Unreachable, error.to_string());
        }
        Self::io(error, timeout)
    }

    fn io(error: &io::Error, timeout: Reason) -> Self {
        match tls::alert(error) {
            Some(fault) => fault,
            None => match blame(error) {
                Blame::Target(reason) => Self::new(reason, error.to_string()),
                Blame::Nobody => Self::new(timeout, error.to_string()),
                Blame::Us => Self::ours(error.to_string()),
            },
        }
    }
}

/// Whose doing an I/O error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// The target's or the network's, for this reason.
    Target(Reason),
    /// The kernel's own time-out: the reason depends on what was being done.
    Nobody,
    /// Ours.
    Us,
}

/// Whose doing an I/O error is. Whatever is not known to be the target's or the network's is ours:
/// running out of descriptors, ports or rights here must not be held against a target.
fn blame(error: &io::Error) -> Blame {
    const REASONS: &[(Errno, Reason)] = &[
        (Errno::CONNREFUSED, Reason::ConnectionRefused),
        (Errno::CONNRESET, Reason::ConnectionReset),
        (Errno::CONNABORTED, Reason::ConnectionReset),
        (Errno::PIPE, Reason::ConnectionReset),
        (Errno::HOSTUNREACH, Reason::Unreachable),
        (Errno::NETUNREACH, Reason::Unreachable),
        (Errno::HOSTDOWN, Reason::Unreachable),
        (Errno::NETDOWN, Reason::Unreachable),
    ];
    const KINDS: &[(io::ErrorKind, Reason)] = &[
        (io::ErrorKind::ConnectionRefused, Reason::ConnectionRefused),
        (io::ErrorKind::ConnectionReset, Reason::ConnectionReset),
        (io::ErrorKind::ConnectionAborted, Reason::ConnectionReset),
        (io::ErrorKind::BrokenPipe, Reason::ConnectionReset),
        (io::ErrorKind::UnexpectedEof, Reason::ConnectionReset),
        (io::ErrorKind::HostUnreachable, Reason::Unreachable),
        (io::ErrorKind::NetworkUnreachable, Reason::Unreachable),
    ];
    if error.kind() == io::ErrorKind::TimedOut {
        return Blame::Nobody;
    }
    let by_number = error.raw_os_error().and_then(|number| {
        REASONS.iter().find(|(errno, _)| errno.raw_os_error() == number).map(|(_, reason)| *reason)
    });
    let by_kind =
        || KINDS.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, reason)| *reason);
    by_number.or_else(by_kind).map_or(Blame::Us, Blame::Target)
}

/// Whether an error of a socket that has asked is what Linux makes of an ICMP message: communication
/// administratively prohibited (IPv6), protocol unreachable, parameter problem, source route failed,
/// host isolated.
fn is_told_by_icmp(error: &io::Error) -> bool {
    const TOLD: &[Errno] = &[
        Errno::ACCESS,
        Errno::NOPROTOOPT,
        Errno::PROTO,
        Errno::OPNOTSUPP,
        #[cfg(target_os = "linux")]
        Errno::NONET,
    ];
    TOLD.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether an error of the resolver is our own shortage.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The first error of type `T` in a chain of causes.
pub(super) fn find_cause<'a, T: Error + 'static>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// At most `limit` bytes of printable ASCII that stand for `bytes`, which a target may have chosen:
/// line breaks become blanks, and everything a terminal would obey or a reader could mistake
/// becomes `?`. A cut is shown by three dots.
pub(super) fn printable(bytes: &[u8], limit: usize) -> String {
    // A character has at most four bytes, so this is enough to fill the limit and to see a cut.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * (limit + 1))]);
    let mut shown = String::with_capacity(limit.min(text.len()));
    for character in text.chars() {
        if shown.len() == limit {
            shown.truncate(limit.saturating_sub(3));
            shown.push_str("...");
            break;
        }
        shown.push(match character {
            '\n' | '\r' | '\t' => ' ',
            ' '..='~' => character,
            '\0'..='\u{1f}' | '\u{7f}'..=char::MAX => '?',
        });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_has_one_reason() {
        let blamed = |errno: Errno| blame(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert_eq!(blamed(Errno::CONNREFUSED), Blame::Target(Reason::ConnectionRefused));
        assert_eq!(blamed(Errno::PIPE), Blame::Target(Reason::ConnectionReset));
        assert_eq!(blamed(Errno::HOSTUNREACH), Blame::Target(Reason::Unreachable));
        assert_eq!(blamed(Errno::MFILE), Blame::Us);
        assert_eq!(blamed(Errno::ADDRNOTAVAIL), Blame::Us);
        assert_eq!(blamed(Errno::TIMEDOUT), Blame::Nobody);
        assert_eq!(
            Fault::connect(&io::Error::from_raw_os_error(Errno::TIMEDOUT.raw_os_error())).outcome,
            Outcome::Failure(Reason::TimeoutConnect)
        );
    }

    #[test]
    fn what_is_short_or_forbidden_here_is_not_held_against_the_target() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        let ours = Outcome::Inconclusive(Reason::Internal);
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::ADDRNOTAVAIL,
            Errno::ADDRINUSE,
            Errno::ACCESS,
            Errno::PERM,
            Errno::AFNOSUPPORT,
            Errno::INVAL,
        ] {
            assert_eq!(Fault::local(&of(errno)).outcome, ours, "{errno:?}");
            assert_eq!(Fault::at_once(&of(errno)).outcome, ours, "{errno:?}");
        }
        // Whatever it is called: nobody has been asked when a socket is made.
        assert_eq!(Fault::local(&of(Errno::CONNREFUSED)).outcome, ours);
    }

    #[test]
    fn no_route_here_is_told_from_no_route_there() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        let (here, there) =
            (Outcome::Inconclusive(Reason::Unreachable), Outcome::Failure(Reason::Unreachable));
        for errno in [Errno::NETUNREACH, Errno::NETDOWN] {
            assert_eq!(Fault::at_once(&of(errno)).outcome, here, "{errno:?}");
            assert_eq!(Fault::connect(&of(errno)).outcome, there, "{errno:?}");
        }
        assert_eq!(Fault::at_once(&of(Errno::HOSTUNREACH)).outcome, there);
        let refused = Outcome::Failure(Reason::ConnectionRefused);
        assert_eq!(Fault::at_once(&of(Errno::CONNREFUSED)).outcome, refused);
    }

    #[test]
    fn what_a_firewall_on_the_way_says_is_not_ours() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        let ours = Outcome::Inconclusive(Reason::Internal);
        let there = Outcome::Failure(Reason::Unreachable);
        for errno in [Errno::ACCESS, Errno::NOPROTOOPT, Errno::PROTO, Errno::OPNOTSUPP] {
            assert_eq!(Fault::connect(&of(errno)).outcome, there, "{errno:?}");
            assert_eq!(Fault::exchange(&of(errno)).outcome, there, "{errno:?}");
            // Nobody has been asked by then.
            assert_eq!(Fault::at_once(&of(errno)).outcome, ours, "{errno:?}");
            assert_eq!(Fault::local(&of(errno)).outcome, ours, "{errno:?}");
        }
        // A rule of our own firewall.
        assert_eq!(Fault::exchange(&of(Errno::PERM)).outcome, ours);
    }

    #[test]
    fn text_of_a_target_is_made_harmless_and_short() {
        assert_eq!(printable(b"db down\r\n\x1b[31m", 99), "db down  ?[31m");
        assert_eq!(printable("a\u{202e}b\u{fc}\0".as_bytes(), 99), "a?b??");
        assert_eq!(printable(b"0123456789", 10), "0123456789");
        assert_eq!(printable(b"0123456789a", 10), "0123456...");
        assert_eq!(printable(&[0xff; 4000], 10), "???????...");
    }
}
