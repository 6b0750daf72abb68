//! The system's resolver: `getaddrinfo`, as every other program of the host uses it, with
//! `/etc/hosts`, search domains and `nsswitch.conf`.
//!
//! It blocks a thread for as long as it likes, so that only so many look-ups are under way at once; a
//! probe that finds none free waits within its own timeout. A look-up goes on when nobody waits for
//! it any more, and whoever asks for the same name meanwhile waits for it instead of beginning
//! another: names whose servers are slow take one place each, however often they are probed. Names
//! that come through the API have no more than half the places, so that whoever may register checks
//! cannot keep the configuration's from being resolved.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task,
};

use super::names::Miss;
use crate::probe::fault;

/// Look-ups that are under way at once, over all probes. Fewer than a prober thread has threads that
/// may block, so that a dead resolver leaves some to other work.
const MAX_RUNNING: usize = 64;

/// What comes of a look-up.
type Found = Result<Vec<IpAddr>, Miss>;

/// Look-ups under way, by name; what comes of them is told to all who wait.
type UnderWay = Mutex<HashMap<Arc<str>, watch::Receiver<Option<Found>>>>;

/// Finds the addresses of names by the system's resolver.
#[derive(Debug)]
pub(super) struct System {
    under_way: Arc<UnderWay>,
    places: Arc<Semaphore>,
    /// Places that must be had besides, if not all may be taken.
    share: Option<Arc<Semaphore>>,
    /// What blocks.
    asking: fn(&str) -> io::Result<Vec<IpAddr>>,
}

/// Who begins a look-up; ends it when it is dropped.
struct Leader {
    under_way: Arc<UnderWay>,
    name: Arc<str>,
    told: watch::Sender<Option<Found>>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.name);
    }
}

impl Default for System {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_RUNNING)),
            share: None,
            asking: getaddrinfo,
        }
    }
}

impl System {
    /// The same for the API, with half the places.
    pub(super) fn for_api(&self) -> Self {
        Self {
            under_way: Arc::default(),
            places: Arc::clone(&self.places),
            share: Some(Arc::new(Semaphore::new(MAX_RUNNING / 2))),
            asking: self.asking,
        }
    }

    /// The addresses of a name, as the system knows them.
    pub(super) async fn find(&self, name: &Arc<str>) -> Found {
        loop {
            let (leader, mut told) = self.join(name);
            let is_leader = leader.is_some();
            if let Some(leader) = leader {
                self.begin(leader).await?;
            }
            let told = told.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            match told {
                Some(found) => return found,
                None if is_leader => return Err(unknown(name, "the look-up was given up")),
                // Whoever was to begin it waits no longer.
                None => {}
            }
        }
    }

    /// Waits for the look-up of a name; is to begin it, if it is not under way.
    fn join(&self, name: &Arc<str>) -> (Option<Leader>, watch::Receiver<Option<Found>>) {
        let mut under_way = lock(&self.under_way);
        if let Some(told) = under_way.get(name) {
            return (None, told.clone());
        }
        let (told, waits) = watch::channel(None);
        under_way.insert(Arc::clone(name), waits.clone());
        let (under_way, name) = (Arc::clone(&self.under_way), Arc::clone(name));
        (Some(Leader { under_way, name, told }), waits)
    }

    /// Begins a look-up as soon as there is a place for it, which it keeps until it ends.
    async fn begin(&self, leader: Leader) -> Result<(), Miss> {
        let closed = |_| unknown(&leader.name, "the resolver is closed");
        let share = match &self.share {
            Some(share) => Some(place(share).await.map_err(closed)?),
            None => None,
        };
        let place = place(&self.places).await.map_err(closed)?;
        let asking = self.asking;
        drop(task::spawn_blocking(move || {
            let found = judge(&leader.name, asking(&leader.name));
            leader.told.send_replace(Some(found));
            drop((leader, place, share));
        }));
        Ok(())
    }
}

async fn place(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
    Arc::clone(of).acquire_owned().await
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashMap<Arc<str>, watch::Receiver<Option<Found>>>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

fn getaddrinfo(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

fn unknown(name: &str, said: &str) -> Miss {
    Miss::Unknown(format!("cannot resolve `{name}`: {said}"))
}

/// What an answer of `getaddrinfo` means: that a name has no address, or nothing. The standard
/// library keeps only the text of an error's number: those of `EAI_NONAME` and `EAI_NODATA` in glibc
/// and musl. Anything else, unknown texts too, is not held against the target.
fn judge(name: &str, answer: io::Result<Vec<IpAddr>>) -> Found {
    const ABSENT: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    let error = match answer {
        Ok(found) if found.is_empty() => {
            return Err(Miss::Absent(format!("`{name}` has no address")));
        }
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let text = error.to_string();
    if !fault::is_shortage(&error) && ABSENT.iter().any(|absent| text.contains(absent)) {
        return Err(Miss::Absent(format!("cannot resolve `{name}`: {text}")));
    }
    Err(unknown(name, &text))
}

#[cfg(test)]
mod tests;
