//! An idle connection, held to hear at once when the target's end of it goes.
//!
//! A bare TCP connection: no TLS, no request, no keep-alive packets, so the line carries nothing
//! between its opening and its end, and a target pays one socket for it. What a target says of its
//! own accord (a banner) is read and dropped. A target whose probes keep a stream open over which it
//! tells of changes needs no other connection: there it is the stream that is listened to.

use std::{io, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Network, Target,
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

    /// Whether it tells by itself when it changes, over a stream that its probes keep open.
    pub fn is_listened_to(&self) -> bool {
        self.grpc.as_ref().is_some_and(|kept| kept.is_watching())
    }
}

impl Network {
    /// Connects within `within`, and waits until the target ends the connection or `life` is over.
    pub(super) async fn keep_watch(
        &self,
        target: &Target,
        within: Duration,
        life: Duration,
    ) -> Held {
        if target.is_listened_to() {
            return tokio::select! {
                () = target.woken() => Held::Told,
                () = sleep(life) => Held::Expired,
            };
        }
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
        tokio::select! {
            ended = until_its_end(&stream) => match ended {
                Ok(()) => Held::Cut(opened.elapsed()),
                Err(Talkative) => Held::Useless,
            },
            () = sleep(life) => Held::Expired,
        }
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
