//! Targets: listeners on loopback addresses of their own, served by one thread. One that is killed
//! closes its listener and resets its connections, as the kernel does for a process that dies.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{Failure, dice::Dice};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// So many targets of one network.
pub(crate) struct Fleet {
    pub(crate) addresses: Vec<SocketAddr>,
    alive: Vec<CancellationToken>,
    manner: Arc<Manner>,
}

/// How targets answer.
#[derive(Default)]
struct Manner {
    /// So many of a thousand requests are answered with a reset.
    loss: AtomicU64,
    /// Milliseconds until the answer.
    delay: AtomicU64,
}

impl Fleet {
    /// Starts `targets` of them on `127.NETWORK.x.y`.
    pub(crate) fn start(network: u8, targets: usize) -> Result<Self, Failure> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (mut port, mut listeners) = (0, Vec::new());
        for n in 0..targets {
            let (high, low) = (u8::try_from(n / 250)?, u8::try_from(n % 250)? + 1);
            let address = SocketAddr::from((Ipv4Addr::new(127, network, high, low), port));
            let listener = listen(address)?;
            port = listener.local_addr()?.port();
            listeners.push(listener);
        }
        drop(inside);
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let alive: Vec<_> = (0..targets).map(|_| CancellationToken::new()).collect();
        let manner = Arc::new(Manner::default());
        let serving: Vec<_> = listeners.into_iter().zip(alive.clone()).collect();
        let theirs = Arc::clone(&manner);
        thread::spawn(move || runtime.block_on(serve_all(serving, &theirs)));
        Ok(Self { addresses, alive, manner })
    }

    /// The instance of that number, with its address.
    pub(crate) fn instance(&self, n: usize) -> (String, SocketAddr) {
        (format!("t{n}"), self.addresses[n])
    }

    /// From now on so many of a thousand requests are answered with a reset.
    pub(crate) fn lose(&self, per_mille: u64) {
        self.manner.loss.store(per_mille, Relaxed);
    }

    /// From now on each answer takes so long.
    pub(crate) fn delay(&self, time: Duration) {
        self.manner.delay.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Ends the target of that number for good.
    pub(crate) fn kill(&self, n: usize) {
        self.alive[n].cancel();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.alive.iter().for_each(CancellationToken::cancel);
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

async fn serve_all(targets: Vec<(TcpListener, CancellationToken)>, manner: &Arc<Manner>) {
    let mut serving = JoinSet::new();
    for (listener, alive) in targets {
        let manner = Arc::clone(manner);
        // What is dropped with the future: the listener and its connections.
        serving.spawn(async move { alive.run_until_cancelled(serve(listener, manner)).await });
    }
    while serving.join_next().await.is_some() {}
}

async fn serve(listener: TcpListener, manner: Arc<Manner>) {
    let mut open = JoinSet::new();
    let seed = match listener.local_addr().map(|at| at.ip()) {
        Ok(IpAddr::V4(address)) => address.to_bits(),
        Ok(IpAddr::V6(_)) | Err(_) => 0,
    };
    let mut dice = Dice::new(u64::from(seed));
    while let Ok((stream, _)) = listener.accept().await {
        let is_lost = dice.below(1000) < manner.loss.load(Relaxed);
        let delay = Duration::from_millis(manner.delay.load(Relaxed));
        open.spawn(answer(stream, is_lost, delay));
        while open.try_join_next().is_some() {}
    }
}

/// Answers one request, or none where the connection is only held.
async fn answer(mut stream: TcpStream, is_lost: bool, delay: Duration) -> io::Result<()> {
    // Closed with a reset, whenever that is.
    stream.set_zero_linger()?;
    let mut request = [0; 512];
    let read = stream.read(&mut request).await?;
    if read > 0 && !is_lost {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        stream.write_all(ANSWER).await?;
        // The client closes first, so that the reset takes nothing away.
        drop(stream.read_u8().await);
    }
    Ok(())
}
