//! Whom the arms ask: answers, counts and checks requests on a thread that never sleeps.

use std::{
    fs,
    net::SocketAddr,
    ops::Sub,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{HandshakeKind, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Failure,
    arm::{ADDRESSES, address},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ONCE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What was counted so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) connections: u64,
    pub(crate) resumed: u64,
    pub(crate) requests: u64,
    pub(crate) malformed: u64,
}

impl Sub for Counted {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            connections: self.connections - before.connections,
            resumed: self.resumed - before.resumed,
            requests: self.requests - before.requests,
            malformed: self.malformed - before.malformed,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    resumed: AtomicU64,
    requests: AtomicU64,
    malformed: AtomicU64,
}

/// What is spoken.
#[derive(Clone)]
enum Speech {
    Grpc,
    Https(TlsAcceptor),
    Http,
}

/// One for a group of arms; ends with the program.
pub(crate) struct Responder {
    pub(crate) port: u16,
    counters: Arc<Counters>,
}

impl Responder {
    pub(crate) fn start(group: &str, folder: &Path) -> Result<Self, Failure> {
        let speech = match group {
            "grpc" => Speech::Grpc,
            "https" => Speech::Https(acceptor(folder)?),
            _ => Speech::Http,
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let counters = Arc::new(Counters::default());
        let inside = runtime.enter();
        let first = listen(SocketAddr::from((address(0), 0)))?;
        let port = first.local_addr()?.port();
        let mut listeners = vec![first];
        for n in 1..u32::from(ADDRESSES) {
            listeners.push(listen(SocketAddr::from((address(n), port)))?);
        }
        drop(inside);
        let shared = Arc::clone(&counters);
        thread::spawn(move || runtime.block_on(serve(listeners, speech, shared)));
        Ok(Self { port, counters })
    }

    pub(crate) fn counted(&self) -> Counted {
        let Counters { connections, resumed, requests, malformed } = &*self.counters;
        Counted {
            connections: connections.load(Relaxed),
            resumed: resumed.load(Relaxed),
            requests: requests.load(Relaxed),
            malformed: malformed.load(Relaxed),
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// An authority, whose certificate is left in the folder, and one of its servers.
fn acceptor(folder: &Path) -> Result<TlsAcceptor, Failure> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    let names: Vec<_> = (0..u32::from(ADDRESSES)).map(|n| address(n).to_string()).collect();
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der())?,
        )?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listeners: Vec<TcpListener>, speech: Speech, counters: Arc<Counters>) {
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let (speech, counters) = (speech.clone(), Arc::clone(&counters));
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counters.connections.fetch_add(1, Relaxed);
                // An arm that is killed leaves broken connections behind; they are not counted.
                let (speech, counters) = (speech.clone(), Arc::clone(&counters));
                open.spawn(async move { drop(answer(stream, speech, &counters).await) });
                while open.try_join_next().is_some() {}
            }
        });
    }
    loop {
        tokio::task::yield_now().await;
    }
}

async fn answer(stream: TcpStream, speech: Speech, counters: &Counters) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match speech {
        Speech::Grpc => answer_grpc(stream, counters).await,
        Speech::Http => answer_http(stream, KEPT, counters).await,
        Speech::Https(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                counters.resumed.fetch_add(1, Relaxed);
            }
            answer_http(stream, ONCE, counters).await
        }
    }
}

fn count(counters: &Counters, is_as_asked: bool) {
    let counter = if is_as_asked { &counters.requests } else { &counters.malformed };
    counter.fetch_add(1, Relaxed);
}

async fn answer_http<S>(mut stream: S, text: &[u8], counters: &Counters) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = [0; 512];
    loop {
        let read = stream.read(&mut request).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(text).await?;
        stream.flush().await?;
        let request = &request[..read];
        let is_whole = request.ends_with(b"\r\n\r\n");
        count(counters, is_whole && request.starts_with(b"GET /health HTTP/1.1\r\n"));
    }
}

/// Answers each call with what a server sends, and the first frames as servers do.
async fn answer_grpc(mut stream: TcpStream, counters: &Counters) -> std::io::Result<()> {
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    let mut is_open = false;
    let mut has_headers = false;
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if !is_open && bytes.len() >= PREFACE.len() {
            if !bytes.starts_with(PREFACE) {
                count(counters, false);
                return Ok(());
            }
            bytes.drain(..PREFACE.len());
            is_open = true;
            // SETTINGS, and the acknowledgement of those that come next.
            out.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0");
        }
        while is_open && let Some([a, b, c, kind, flags, stream @ ..]) = bytes.first_chunk::<9>() {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let (kind, flags, stream) = (*kind, *flags, *stream);
            let Some(payload) = bytes.get(9..9 + length) else { break };
            // POST comes first.
            has_headers |= kind == 1 && flags & 4 != 0 && payload.contains(&0x83);
            // The end of a call may come after its data, in a frame of its own.
            let is_last = kind == 0 && flags & 1 != 0;
            let is_message = kind == 0 && (payload == [0; 5] || (is_last && payload.is_empty()));
            if kind == 6 && flags & 1 == 0 {
                out.extend_from_slice(b"\0\0\x08\x06\x01\0\0\0\0");
                out.extend_from_slice(payload);
            }
            bytes.drain(..9 + length);
            if kind == 0 && !(is_message && has_headers) {
                count(counters, false);
            }
            if is_last {
                count(counters, true);
                has_headers = false;
                // `:status: 200`, `content-type: application/grpc`; SERVING; `grpc-status: 0`.
                for frame in [
                    (&[0, 0, 20, 1, 4][..], &b"\x88\x0f\x10\x10application/grpc"[..]),
                    (&[0, 0, 7, 0, 0], &[0, 0, 0, 0, 2, 8, 1][..]),
                    (&[0, 0, 15, 1, 5], &b"\0\x0bgrpc-status\x010"[..]),
                ] {
                    out.extend_from_slice(frame.0);
                    out.extend_from_slice(&stream);
                    out.extend_from_slice(frame.1);
                }
            }
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}
