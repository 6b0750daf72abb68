//! From a name to its addresses, and what to do when nobody can say.
//!
//! A name that does not exist, or has no address, is the target's affair: whoever runs it has
//! forgotten it or taken it away. A resolver that is down, slow or at a loss (SERVFAIL) says
//! nothing of the target, and it fails for many targets at once. Then the addresses it gave last
//! serve for up to ten minutes more, and after that probes are inconclusive.
//!
//! Names are asked of the system's resolver ([`super::system`]), those of a check that names its own
//! resolver of that ([`super::stub`]).
//!
//! Two names are never looked up (RFC 6761): `localhost` is 127.0.0.1, then `::1`, also where there
//! is no `/etc/hosts`, and no name in `invalid` exists.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{stub, system::System};
use crate::{
    model::Reason,
    probe::{
        dial::{self, Addresses, Family},
        fault::Fault,
    },
};

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
    extent: Extent,
}

/// How much must be known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Extent {
    /// Addresses, and all the better if they are all there are.
    Some,
    /// All addresses, of either family.
    All,
}

/// The addresses that a name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ips: Vec<IpAddr>,
    /// Whether there are no others: nobody could say it of one family, otherwise.
    pub(super) is_whole: bool,
}

impl Question {
    /// What is to be looked up for a check.
    fn of(name: &Arc<str>, dial: &dial::Spec) -> Self {
        let (name, resolver) = (Arc::clone(name), dial.resolver);
        let family = if resolver.is_some() { dial.usable() } else { Family::Any };
        let extent = match dial.addresses {
            Addresses::First => Extent::Some,
            Addresses::Each => Extent::All,
        };
        Self { name, resolver, family, extent }
    }
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
#[derive(Debug, Default)]
pub(in crate::probe) struct Names {
    system: System,
    good: Arc<Mutex<Good>>,
}

/// The last good addresses of names.
#[derive(Debug, Default)]
struct Good {
    kept: HashMap<Question, (Vec<IpAddr>, Instant)>,
    swept: Option<Instant>,
}

impl Names {
    /// The same for checks of the API: with what was good last in common, and look-ups of its own.
    pub(in crate::probe) fn for_api(&self) -> Self {
        Self { system: self.system.for_api(), good: Arc::clone(&self.good) }
    }

    /// The addresses of a name that a check may use, in the order to try them. By the middle of the
    /// time left, what was good last serves, so that there is time to use it.
    pub(super) async fn find(
        &self,
        name: &Arc<str>,
        dial: &dial::Spec,
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, Fault> {
        let question = Question::of(name, dial);
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
                Ok(found.ips)
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
        Question { name, resolver, family, extent }: &Question,
    ) -> Result<Found, Miss> {
        match resolver {
            Some(at) => stub::ask(*at, name, *family, *extent).await,
            None => self.system.find(name).await.map(|ips| Found { ips, is_whole: true }),
        }
    }

    fn remember(&self, question: &Question, found: &Found) {
        // Of two answers the one that has it all is the better, for as long as it serves.
        if !found.is_whole && self.recall(question).is_some() {
            return;
        }
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
        let found: Vec<_> = found.ips.iter().filter(has_room).copied().collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Question {
        Question::of(&name.into(), &dial::Spec::default())
    }

    fn whole(ips: &[IpAddr]) -> Found {
        Found { ips: ips.to_vec(), is_whole: true }
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

    #[tokio::test(start_paused = true)]
    async fn what_was_good_last_serves_for_ten_minutes() {
        let names = Names::default();
        let (shop, ip) = (question("shop"), IpAddr::from(Ipv4Addr::LOCALHOST));
        names.remember(&shop, &whole(&[ip]));
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!(names.recall(&shop), Some(vec![ip]));
        assert_eq!(names.recall(&question("other")), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(names.recall(&shop), None);
        names.remember(&shop, &whole(&[ip]));
        assert_eq!(names.recall(&shop), Some(vec![ip]));
    }

    #[tokio::test(start_paused = true)]
    async fn names_beyond_the_bound_are_kept_once_others_are_too_old() {
        let names = Names::default();
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        for n in 0..=MAX_KEPT {
            names.remember(&question(&n.to_string()), &whole(&vec![ip; 1000]));
        }
        assert_eq!(names.good().kept.len(), MAX_KEPT);
        assert_eq!(names.recall(&question(&MAX_KEPT.to_string())), None);
        assert_eq!(names.recall(&question("0")).unwrap().len(), dial::MAX_ASKED + 1);
        tokio::time::advance(GOOD_FOR + SWEEP).await;
        names.remember(&question("new"), &whole(&[ip]));
        assert_eq!(names.good().kept.len(), 1);
        assert_eq!(names.recall(&question("new")), Some(vec![ip]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_the_addresses_does_not_take_the_place_of_all() {
        let names = Names::default();
        let (shop, ips) = (question("shop"), [1, 2].map(|n| IpAddr::from([10, 0, 0, n])));
        let part = Found { ips: vec![ips[0]], is_whole: false };
        names.remember(&shop, &whole(&ips));
        names.remember(&shop, &part);
        assert_eq!(names.recall(&shop), Some(ips.to_vec()));
        tokio::time::advance(GOOD_FOR + Duration::from_secs(1)).await;
        names.remember(&shop, &part);
        assert_eq!(names.recall(&shop), Some(part.ips));
    }
}
