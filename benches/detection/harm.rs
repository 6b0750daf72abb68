//! Targets that mean harm: each listens on a loopback address and answers every connection in its
//! own bad way. One thread serves them all.

use std::{io, net::SocketAddr, thread, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    task::JoinSet,
    time::sleep,
};

use crate::Failure;

/// From one byte to the next of those that drip.
const DRIP: Duration = Duration::from_millis(50);

/// What a target does once it has been asked.
#[derive(Debug, Clone)]
pub(crate) struct Harm {
    pub(crate) name: &'static str,
    /// How it is asked.
    pub(crate) check: &'static str,
    once: Vec<u8>,
    again: Again,
}

/// What it does then.
#[derive(Debug, Clone)]
enum Again {
    /// Nothing, until the other side has had enough.
    Hold,
    /// Resets the connection.
    Reset,
    /// Closes it.
    Close,
    /// Says this as fast as it can, for ever.
    Flood(&'static [u8]),
    /// Says this byte by byte, for ever.
    Drip(&'static [u8]),
}

const HTTP: &str = "http: {}";
const HTTP2: &str = "http: { version: 2 }";
const TLS: &str = "http: { https: true }";
const GRPC: &str = "grpc: {}";

/// All kinds there are.
pub(crate) fn all() -> Vec<Harm> {
    let kind = |name, check, once: &[u8], again| Harm { name, check, once: once.to_vec(), again };
    let head = b"HTTP/1.1 200 OK\r\n".as_slice();
    let settings = b"\0\0\0\x04\0\0\0\0\0".as_slice();
    vec![
        kind("silent", HTTP, b"", Again::Hold),
        kind("garbage", HTTP, b"\xff\xfe\xfd garbage", Again::Flood(b"\0\xff\r\n")),
        kind("drip-head", HTTP, head, Again::Drip(b"a: b\r\n")),
        kind("drip-body", HTTP, b"HTTP/1.1 200 OK\r\n\r\n", Again::Drip(b"x")),
        kind("endless-head", HTTP, head, Again::Flood(b"a: b\r\n")),
        kind("huge-header", HTTP, &[head, b"a: ", &[b'x'; 1 << 20]].concat(), Again::Hold),
        kind("endless-body", HTTP, b"HTTP/1.1 200 OK\r\n\r\n", Again::Flood(b"xxxxxxxxxxxxxxxx")),
        kind("bomb", HTTP, &bomb(), Again::Close),
        kind("interim", HTTP, b"", Again::Flood(b"HTTP/1.1 103 x\r\n\r\n")),
        kind("chunks", HTTP, CHUNKED, Again::Flood(b"1;eeee\r\nx\r\n")),
        kind("too-short", HTTP, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx", Again::Close),
        kind("too-long", HTTP, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxxxxxx", Again::Hold),
        kind("two-lengths", HTTP, TWO_LENGTHS, Again::Hold),
        kind("reset-at-once", HTTP, b"", Again::Reset),
        kind("reset-in-head", HTTP, head, Again::Reset),
        kind("reset-in-body", HTTP, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", Again::Reset),
        kind("h2-garbage", HTTP2, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", Again::Hold),
        kind("h2-pings", HTTP2, settings, Again::Flood(b"\0\0\x08\x06\0\0\0\0\x0012345678")),
        kind("h2-settings", HTTP2, b"", Again::Flood(settings)),
        kind("grpc-garbage", GRPC, b"HTTP/1.1 400 x\r\n\r\n", Again::Flood(b"\xff\0\xff\0")),
        kind("grpc-pings", GRPC, settings, Again::Flood(b"\0\0\x08\x06\0\0\0\0\x0012345678")),
        kind("tls-garbage", TLS, b"HTTP/1.1 400 no TLS here\r\n\r\n", Again::Flood(b"\0\xff")),
        kind("tls-drip", TLS, b"\x16\x03\x03\x40\0\x02\0\x3f\xfc", Again::Drip(b"\0")),
        kind("tls-reset", TLS, b"\x16\x03\x03", Again::Reset),
        kind("certificate", TLS, &false_certificate(), Again::Hold),
    ]
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

const TWO_LENGTHS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx";

/// 256 KiB that would be 40 MB if anybody unpacked them: a zero, then matches of 258 bytes at a
/// distance of one, by the fixed codes of RFC 1951, in the frame of RFC 1952.
fn bomb() -> Vec<u8> {
    const LENGTH: usize = 256 * 1024;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        LENGTH + 10
    );
    let mut bits = vec![true, true, false];
    // The literal zero is 00110000; length 258 is 11000101, and distance 1 is 00000.
    bits.extend([false, false, true, true, false, false, false, false]);
    while bits.len() < LENGTH * 8 {
        let length = [true, true, false, false, false, true, false, true];
        bits.extend(length.into_iter().chain([false; 5]));
    }
    let byte = |bits: &[bool]| {
        bits.iter().enumerate().fold(0_u8, |byte, (at, bit)| byte | u8::from(*bit) << at)
    };
    let packed = bits.chunks(8).take(LENGTH).map(byte);
    let frame = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    head.into_bytes().into_iter().chain(frame).chain(packed).collect()
}

/// A handshake of TLS 1.2 as far as the certificate, which is none.
fn false_certificate() -> Vec<u8> {
    fn sized(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("it is short").to_be_bytes();
        [&length[1..], bytes].concat()
    }
    let hello = [&[3, 3][..], &[7; 32], &[0, 0xc0, 0x2f, 0]].concat();
    let chain = sized(&sized(&[0x30; 3000]));
    let handshake = [&[2][..], &sized(&hello), &[11], &sized(&chain), &[14, 0, 0, 0]].concat();
    let length = u16::try_from(handshake.len()).expect("it is short").to_be_bytes();
    [&[0x16, 3, 3][..], &length, &handshake].concat()
}

/// Starts `each` targets of every kind. They last as long as the process.
pub(crate) fn start(kinds: &[Harm], each: usize) -> Result<Vec<Vec<SocketAddr>>, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut targets = Vec::new();
    for kind in kinds {
        for _ in 0..each {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            targets.push((TcpListener::from_std(listener)?, kind.clone()));
        }
    }
    drop(inside);
    let addresses: Vec<_> =
        targets.iter().map(|(listener, _)| listener.local_addr()).collect::<io::Result<_>>()?;
    thread::spawn(move || {
        runtime.block_on(async {
            let mut serving = JoinSet::new();
            for (listener, kind) in targets {
                serving.spawn(serve(listener, kind));
            }
            while serving.join_next().await.is_some() {}
        });
    });
    Ok(addresses.chunks(each).map(<[_]>::to_vec).collect())
}

async fn serve(listener: TcpListener, kind: Harm) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let kind = kind.clone();
        open.spawn(async move { harm(stream, &kind).await });
        while open.try_join_next().is_some() {}
    }
}

async fn harm(mut stream: TcpStream, kind: &Harm) -> io::Result<()> {
    let mut request = [0; 2048];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    stream.write_all(&kind.once).await?;
    match &kind.again {
        Again::Hold => while stream.read(&mut request).await? > 0 {},
        Again::Reset => stream.set_zero_linger()?,
        Again::Close => stream.shutdown().await?,
        Again::Flood(bytes) => {
            let flood = bytes.repeat(256);
            loop {
                stream.write_all(&flood).await?;
            }
        }
        Again::Drip(bytes) => {
            for byte in bytes.iter().cycle() {
                stream.write_all(&[*byte]).await?;
                sleep(DRIP).await;
            }
        }
    }
    Ok(())
}
