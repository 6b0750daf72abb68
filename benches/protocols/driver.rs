//! Those that ask beside rollcall: on ticks of 5 ms they start what is due, and do nothing else.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime,
    task::{JoinSet, LocalSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{Failure, arm::address};

const TICK: Duration = Duration::from_millis(5);
const TIMEOUT: Duration = Duration::from_millis(900);

/// Connections that nobody uses just now, by whom they lead to.
type Idle = Rc<RefCell<Vec<Option<TcpStream>>>>;

/// Makes `rate` exchanges a second for ever.
pub(crate) fn run(kind: &str, port: u16, rate: u32) -> Result<(), Failure> {
    let idle: Idle = Rc::new(RefCell::new((0..rate).map(|_| None).collect()));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let start = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut flights = JoinSet::new();
        let mut made = 0_u64;
        loop {
            ticks.tick().await;
            let due = start.elapsed().as_micros() * u128::from(rate) / 1_000_000;
            while u128::from(made) < due {
                let number = u32::try_from(made % u64::from(rate))?;
                made += 1;
                let target = SocketAddr::from((address(number), port));
                match kind {
                    "tonic" => flights.spawn_local(within(tonic_fresh(target))),
                    "h2" => flights.spawn_local(within(h2_fresh(target))),
                    "bare" => flights.spawn_local(within(bare(target, number, Rc::clone(&idle)))),
                    _ => return Err(format!("no such driver: {kind}").into()),
                };
            }
            while let Some(done) = flights.try_join_next() {
                done??;
            }
        }
    })
}

async fn within(exchange: impl Future<Output = Result<(), Failure>>) -> Result<(), String> {
    match timeout(TIMEOUT, exchange).await {
        Ok(result) => result.map_err(|failure| failure.to_string()),
        Err(elapsed) => Err(elapsed.to_string()),
    }
}

/// What most programs do that use tonic: a channel, a call.
async fn tonic_fresh(target: SocketAddr) -> Result<(), Failure> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{target}"))?;
    let channel = endpoint.connect().await?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await?;
    if answer.into_inner().status == 1 { Ok(()) } else { Err("not serving".into()) }
}

/// The library below it, driven by whoever waits, on a socket as rollcall makes it.
async fn h2_fresh(target: SocketAddr) -> Result<(), Failure> {
    let socket = TcpSocket::new_v4()?;
    socket2::SockRef::from(&socket).set_tcp_quickack(false)?;
    socket.set_zero_linger()?;
    let stream = socket.connect(target).await?;
    let (sender, connection) = h2::client::Builder::new().handshake(stream).await?;
    let talk = async {
        let mut sender = sender.ready().await?;
        let request = http::Request::post(format!("http://{target}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(Bytes::from_static(&[0; 5]), true)?;
        let mut body = response.await?.into_body();
        let mut message = Vec::new();
        while let Some(part) = body.data().await {
            message.extend_from_slice(&part?);
        }
        let trailers = body.trailers().await?.ok_or("no trailers")?;
        let is_well = message.ends_with(&[8, 1]) && trailers.get("grpc-status").is_some();
        if is_well { Ok(()) } else { Err::<(), Failure>("not serving".into()) }
    };
    tokio::select! {
        result = talk => result,
        ended = connection => ended.map_err(Into::into).and(Err("the connection ended".into())),
    }
}

/// One write, one read on a connection that is kept.
async fn bare(target: SocketAddr, number: u32, idle: Idle) -> Result<(), Failure> {
    let held = idle.borrow_mut().get_mut(number as usize).and_then(Option::take);
    let mut stream = match held {
        Some(stream) => stream,
        None => TcpStream::connect(target).await?,
    };
    let request = format!("GET /health HTTP/1.1\r\nHost: {target}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut answer, mut read) = ([0; 512], 0);
    while !answer[..read].ends_with(b"\r\n\r\nok") {
        match stream.read(&mut answer[read..]).await? {
            0 => return Err("the connection ended".into()),
            more => read += more,
        }
    }
    if let Some(place) = idle.borrow_mut().get_mut(number as usize) {
        *place = Some(stream);
    }
    Ok(())
}
