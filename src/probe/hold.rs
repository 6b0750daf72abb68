//! An idle connection, held to hear at once when the target's end of it goes.
//!
//! A bare TCP connection: no TLS, no request, no keep-alive packets, so the line carries nothing
//! between its opening and its end, and a target pays one socket for it. What a target says of its
//! own accord (a banner) is read and dropped. A target whose probes keep an HTTP connection needs no
//! other, for that one is watched while it is idle; nor does one that is listened to over a stream in
//! which it tells of changes.

use std::{io, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Network, Target, grpc, http,
    resolve::{self, Acknowledge, Close, Options},
};

/// A target that says more than this unasked is not idle.
const MAX_SAID: usize = 16 * 1024;

/// How the holding of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The target closed or reset it after so long, or did not let it be made.
    Cut(Duration),
    /// The target has told by itself that it has changed (`watch` of gRPC checks).
    Told,
    /// It lived as long as it was to.
    Expired,
    /// It was of no use: nothing is to be learnt from holding another.
    Useless,
}

impl Target {
    /// Whether an idle connection to it can be held.
    pub fn can_be_held(&self) -> bool {
        self.probe.protocol().waits_for_tcp() && self.destination().is_some()
    }

    /// Whether it tells by itself when it changes, over a stream that its probes keep open. Not, as
    /// long as it has no such stream to offer.
    pub fn is_listened_to(&self) -> bool {
        self.grpc().is_some_and(grpc::Kept::tells)
    }
}

impl Network {
    /// Waits until the target ends the connection that is held to it, or `life` is over. If none is
    /// kept anyway, connects within `within`.
    pub(super) async fn keep_watch(
        &self,
        target: &Target,
        within: Duration,
        life: Duration,
    ) -> Held {
        let kept = target.kept();
        let end = async {
            if target.is_listened_to() {
                listen(target).await
            } else if let Some(kept) = kept.filter(|kept| kept.is_there()) {
                kept.until_its_end().await
            } else {
                tokio::select! {
                    end = self.keep_bare(target, within) => end,
                    // From now on that one tells.
                    () = until_there(kept) => Held::Expired,
                    () = until_it_tells(target, true) => Held::Expired,
                }
            }
        };
        tokio::select! {
            end = end => end,
            () = sleep(life) => Held::Expired,
        }
    }

    async fn keep_bare(&self, target: &Target, within: Duration) -> Held {
        let Some(destination) = target.destination() else { return Held::Useless };
        let mut trace = self.trace(target, within);
        let deadline = trace.deadline();
        // Closed with a reset, so that nothing stays behind in the kernel.
        let options = Options { close: Close::Reset, acknowledge: Acknowledge::Late };
        let opening = resolve::connect(destination, options, &mut trace);
        let Ok(Ok(stream)) = timeout_at(deadline, opening).await else {
            return Held::Cut(Duration::ZERO);
        };
        let opened = Instant::now();
        match until_its_end(&stream).await {
            Ok(()) => Held::Cut(opened.elapsed()),
            Err(Talkative) => Held::Useless,
        }
    }
}

/// Waits until the target tells of a change.
async fn listen(target: &Target) -> Held {
    tokio::select! {
        () = target.woken() => Held::Told,
        // To be held anew, otherwise.
        () = until_it_tells(target, false) => Held::Expired,
    }
}

/// Waits until there is a kept connection, if one is to be kept at all.
async fn until_there(kept: Option<&http::Kept>) {
    match kept {
        Some(kept) => kept.until_it_is_there().await,
        None => std::future::pending().await,
    }
}

/// Waits until the target tells of changes by itself, or no longer does.
async fn until_it_tells(target: &Target, tells: bool) {
    match target.grpc() {
        Some(kept) => kept.until_it_tells(tells).await,
        None => std::future::pending().await,
    }
}

/// The target says too much.
struct Talkative;

/// Waits until the other side closes or resets.
async fn until_its_end(stream: &TcpStream) -> Result<(), Talkative> {
    let (mut said, mut buffer) = (0, [0; 1024]);
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => said += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(()),
        }
        if said > MAX_SAID {
            return Err(Talkative);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::probe::{
        Endpoint, Spec, tcp,
        testing::{PATIENCE, Server, target},
    };

    const SHORT: Duration = Duration::from_millis(50);

    async fn hold(endpoint: Endpoint, life: Duration) -> Held {
        let target = target(&Spec::Tcp(tcp::Spec::default()), endpoint);
        assert!(target.can_be_held());
        Network::default().keep_watch(&target, PATIENCE, life).await
    }

    #[tokio::test]
    async fn the_end_of_the_other_side_is_heard() {
        let closing = Server::start(|stream| async move {
            sleep(SHORT).await;
            drop(stream);
        });
        let Held::Cut(lived) = hold(closing.await.endpoint(), PATIENCE).await else {
            panic!("not cut")
        };
        assert!(lived + Duration::from_millis(5) >= SHORT && lived < PATIENCE, "{lived:?}");
    }

    #[tokio::test]
    async fn a_banner_is_no_end_and_a_flood_is_of_no_use() {
        let greeting = Server::start(|mut stream| async move {
            stream.write_all(b"220 ready\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(hold(greeting.await.endpoint(), SHORT).await, Held::Expired);
        let flooding = Server::start(|mut stream| async move {
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        });
        assert_eq!(hold(flooding.await.endpoint(), PATIENCE).await, Held::Useless);
    }

    #[tokio::test]
    async fn where_nobody_listens_it_is_cut_at_once() {
        let server = Server::start(|stream| async move { drop(stream) }).await;
        let endpoint = server.endpoint();
        drop(server);
        // The listener goes with its task, a moment later.
        let mut held = Held::Expired;
        for _ in 0..100 {
            held = hold(endpoint.clone(), SHORT).await;
            if held == Held::Cut(Duration::ZERO) {
                break;
            }
        }
        assert_eq!(held, Held::Cut(Duration::ZERO));
    }
}
