//! From a name to its addresses, and what to do when nobody can say.
//!
//! A name that does not exist, or has no address, is the target's affair: whoever runs it has
//! forgotten it or taken it away. A resolver that is down, slow or at a loss (SERVFAIL) says
//! nothing of the target, and it fails for many targets at once. Then the addresses it gave last
//! serve for up to ten minutes more, and after that probes are inconclusive.
//!
//! The system's resolver is `getaddrinfo`, as every other program of the host uses it, with
//! `/etc/hosts`, search domains and `nsswitch.conf`. It blocks a thread for as long as it likes, so
//! that only so many look-ups are under way at once; a probe that finds none free waits within its
//! own timeout. A check that names its own resolver is answered by [`super::stub`].
//!
//! Two names are never looked up (RFC 6761): `localhost` is 127.0.0.1, then `::1`, also where there
//! is no `/etc/hosts`, and no name in `invalid` exists.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task,
    time::{Instant, timeout_at},
};

use super::stub;
use crate::{
    model::Reason,
    probe::{
        dial::{self, Family},
        fault::{self, Fault},
    },
};

/// Look-ups of the system's resolver that are under way at once, over all probes. Fewer than a
/// prober thread has threads that may block, so that a dead resolver leaves some to other work.
const MAX_RUNNING: usize = 64;

/// How long the last good addresses of a name serve while nobody can say what they are now. Long
/// enough for most outages of a resolver; short beside the time for which an address that somebody
/// has given up stays unused.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// Names of which the last good addresses are kept: about 3 MB where they have a few each. Those
/// beyond go without.
const MAX_KEPT: usize = 16 * 1024;

/// How often room is made for new names by dropping those that are too old to serve.
const SWEEP: Duration = Duration::from_secs(60);

/// What is looked up: a name, by whom, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    name: Arc<str>,
    resolver: Option<SocketAddr>,
    family: Family,
}

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// It does not exist, or it has no address: known for certain.
    Absent(String),
    /// Nobody could say.
    Unknown(String),
}

/// Finds the addresses of names, and remembers them for the time that nobody can say.
#[derive(Debug)]
pub(in crate::probe) struct Names {
    running: Arc<Semaphore>,
    good: Mutex<Good>,
}

/// The last good addresses of names.
#[derive(Debug, Default)]
struct Good {
    kept: HashMap<Question, (Vec<IpAddr>, Instant)>,
    swept: Option<Instant>,
}

impl Default for Names {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(MAX_RUNNING)), good: Mutex::default() }
    }
}

impl Names {
    /// The addresses of a name that a check may use, in the order to try them. By the middle of the
    /// time left, what was good last serves, so that there is time to use it.
    pub(super) async fn find(
        &self,
        name: &Arc<str>,
        dial: &dial::Spec,
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, Fault> {
        let family = if dial.resolver.is_some() { dial.family } else { Family::Any };
        let question = Question { name: Arc::clone(name), resolver: dial.resolver, family };
        let found = match known(name) {
            Some(found) => found,
            None => self.ask(&question, deadline).await,
        };
        let found = found.map_err(|miss| match miss {
            Miss::Absent(said) => Fault::new(Reason::Dns, said),
            Miss::Unknown(said) => Fault::inconclusive(Reason::Dns, said),
        })?;
        let arranged = dial.arrange(found);
        if arranged.is_empty() {
            let detail = format!("`{name}` has no address of the family asked for");
            return Err(Fault::new(Reason::Dns, detail));
        }
        Ok(arranged)
    }

    /// What the resolver says, or said last if it cannot say.
    async fn ask(&self, question: &Question, deadline: Instant) -> Result<Vec<IpAddr>, Miss> {
        let mut lookup = pin!(self.look_up(question));
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        let found = match timeout_at(half, &mut lookup).await {
            Ok(found) => found,
            Err(_elapsed) => match self.recall(question) {
                Some(good) => return Ok(good),
                None => lookup.await,
            },
        };
        match found {
            Ok(found) => {
                self.remember(question, &found);
                Ok(found)
            }
            Err(Miss::Unknown(said)) => self.recall(question).ok_or(Miss::Unknown(said)),
            Err(Miss::Absent(said)) => {
                self.good().kept.remove(question);
                Err(Miss::Absent(said))
            }
        }
    }

    async fn look_up(
        &self,
        Question { name, resolver, family }: &Question,
    ) -> Result<Vec<IpAddr>, Miss> {
        match resolver {
            Some(at) => stub::ask(*at, name, *family).await,
            None => self.ask_system(Arc::clone(name)).await,
        }
    }

    async fn ask_system(&self, name: Arc<str>) -> Result<Vec<IpAddr>, Miss> {
        let failed = |said: &str| Miss::Unknown(format!("cannot resolve `{name}`: {said}"));
        let Ok(place) = Arc::clone(&self.running).acquire_owned().await else {
            return Err(failed("the resolver is closed"));
        };
        let asked = Arc::clone(&name);
        // The look-up goes on when nobody waits for it any more, and keeps its place until it ends.
        let running = task::spawn_blocking(move || {
            let found = (&*asked, 0).to_socket_addrs();
            drop(place);
            found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
        });
        match running.await {
            Ok(Ok(found)) if found.is_empty() => {
                Err(Miss::Absent(format!("`{name}` has no address")))
            }
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(judge(&name, &error)),
            Err(error) => Err(failed(&error.to_string())),
        }
    }

    fn remember(&self, question: &Question, found: &[IpAddr]) {
        let now = Instant::now();
        // No more of a family than can be used, and one that says that there are more: a name may have
        // a thousand.
        let mut room = [dial::MAX_ASKED + 1; 2];
        let has_room = |ip: &&IpAddr| {
            let left = &mut room[usize::from(ip.is_ipv4())];
            let has_room = *left > 0;
            *left = left.saturating_sub(1);
            has_room
        };
        let found: Vec<_> = found.iter().filter(has_room).copied().collect();
        let good = &mut *self.good();
        if let Some(kept) = good.kept.get_mut(question) {
            kept.0 = found;
            kept.1 = now;
            return;
        }
        if good.kept.len() >= MAX_KEPT && good.swept.is_none_or(|last| now - last >= SWEEP) {
            good.swept = Some(now);
            good.kept.retain(|_, (_, since)| now - *since <= GOOD_FOR);
        }
        if good.kept.len() < MAX_KEPT {
            good.kept.insert(question.clone(), (found, now));
        }
    }

    fn recall(&self, question: &Question) -> Option<Vec<IpAddr>> {
        let good = self.good();
        let (found, since) = good.kept.get(question)?;
        (since.elapsed() <= GOOD_FOR).then(|| found.clone())
    }

    fn good(&self) -> std::sync::MutexGuard<'_, Good> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known without asking anybody.
fn known(name: &str) -> Option<Result<Vec<IpAddr>, Miss>> {
    let bare = name.trim_end_matches('.');
    let top = bare.rsplit('.').next().unwrap_or(bare);
    if bare.eq_ignore_ascii_case("localhost") {
        return Some(Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
    }
    let is_invalid = top.eq_ignore_ascii_case("invalid");
    is_invalid.then(|| Err(Miss::Absent(format!("`{name}` does not exist, by definition"))))
}

/// Whether an error of `getaddrinfo` says that a name has no address, or nothing. The standard
/// library keeps only the text of its number: those of `EAI_NONAME` and `EAI_NODATA` in glibc and
/// musl. Anything else, unknown texts too, is not held against the target.
fn judge(name: &str, error: &io::Error) -> Miss {
    const ABSENT: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    let text = error.to_string();
    let said = format!("cannot resolve `{name}`: {text}");
    if !fault::is_shortage(error) && ABSENT.iter().any(|absent| text.contains(absent)) {
        return Miss::Absent(said);
    }
    Miss::Unknown(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Question {
        Question { name: name.into(), resolver: None, family: Family::Any }
    }

    #[test]
    fn names_of_the_standard_are_not_looked_up() {
        let both = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        for name in ["localhost", "LocalHost."] {
            assert_eq!(known(name).unwrap().unwrap(), both, "{name}");
        }
        for name in ["shop.invalid", "INVALID", "a.b.invalid."] {
            assert!(matches!(known(name), Some(Err(Miss::Absent(_)))), "{name}");
        }
        for name in ["invalid.example", "localhost.example", "localhost6", "shop"] {
            assert_eq!(known(name), None, "{name}");
        }
    }

    #[test]
    fn only_a_name_that_is_not_there_counts_against_the_target() {
        let said =
            |text: &str| judge("shop", &io::Error::other(format!("failed to look up: {text}")));
        for text in [
            "Name or service not known",
            "No address associated with hostname",
            "Name does not resolve",
            "Name has no usable address",
        ] {
            assert!(matches!(said(text), Miss::Absent(_)), "{text}");
        }
        for text in [
            "Temporary failure in name resolution",
            "Non-recoverable failure in name resolution",
            "Try again",
            "System error",
            "what nobody has seen yet",
        ] {
            assert!(matches!(said(text), Miss::Unknown(_)), "{text}");
        }
        let files = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        assert!(matches!(judge("shop", &files), Miss::Unknown(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_good_last_serves_for_ten_minutes() {
        let names = Names::default();
        let (shop, ip) = (question("shop"), IpAddr::from(Ipv4Addr::LOCALHOST));
        names.remember(&shop, &[ip]);
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!(names.recall(&shop), Some(vec![ip]));
        assert_eq!(names.recall(&question("other")), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(names.recall(&shop), None);
        names.remember(&shop, &[ip]);
        assert_eq!(names.recall(&shop), Some(vec![ip]));
    }

    #[tokio::test(start_paused = true)]
    async fn names_beyond_the_bound_are_kept_once_others_are_too_old() {
        let names = Names::default();
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        for n in 0..=MAX_KEPT {
            names.remember(&question(&n.to_string()), &vec![ip; 1000]);
        }
        assert_eq!(names.good().kept.len(), MAX_KEPT);
        assert_eq!(names.recall(&question(&MAX_KEPT.to_string())), None);
        assert_eq!(names.recall(&question("0")).unwrap().len(), dial::MAX_ASKED + 1);
        tokio::time::advance(GOOD_FOR + SWEEP).await;
        names.remember(&question("new"), &[ip]);
        assert_eq!(names.good().kept.len(), 1);
        assert_eq!(names.recall(&question("new")), Some(vec![ip]));
    }

    #[tokio::test]
    async fn look_ups_wait_for_one_another_when_too_many_are_under_way() {
        let names = Names::default();
        let held = Arc::clone(&names.running).acquire_many_owned(64).await.unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(timeout_at(soon, names.ask_system("a".repeat(64).into())).await.is_err());
        drop(held);
        // No resolver need be asked: no label is this long.
        let missed = names.ask_system("a".repeat(64).into()).await;
        assert!(missed.is_err(), "{missed:?}");
        assert_eq!(names.running.available_permits(), MAX_RUNNING);
    }
}
