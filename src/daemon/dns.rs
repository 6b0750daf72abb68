//! The DNS listeners of the daemon.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::{BindError, listen};
use crate::{
    agent::DATACENTER,
    api::Binding,
    config::Config,
    dns::{
        Zone,
        registry::Registered,
        serve::{self, Responder},
    },
    metrics,
    store::Store,
    tasks::Tasks,
};

/// How often a port is looked for that is free for UDP and TCP.
const ATTEMPTS: usize = 16;

/// Both sockets, on the same address and port.
#[derive(Debug)]
pub(super) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Opens both, if DNS is wanted.
    pub(super) async fn bind(binding: Binding) -> Result<Option<Self>, BindError> {
        let Some(address) = binding.address() else { return Ok(None) };
        let mut attempts = 1..=if address.port() == 0 { ATTEMPTS } else { 1 };
        loop {
            let tcp = listen("DNS over TCP", address).await?;
            attempts.next();
            // Port 0 has become the one that TCP was given.
            let bound = tcp.local_addr().unwrap_or(address);
            match UdpSocket::bind(bound).await {
                Ok(udp) => return Ok(Some(Self { udp, tcp })),
                Err(error) if attempts.is_empty() || error.kind() != io::ErrorKind::AddrInUse => {
                    let what = "DNS over UDP";
                    return Err(BindError::Listen { what, address: bound, source: error });
                }
                Err(_) => {}
            }
        }
    }

    /// Where they are.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Answers until `stop`, by TCP on at most this many connections at once.
    pub(super) fn start(
        self,
        responder: Responder,
        connections: usize,
        tasks: &mut Tasks,
        stop: &CancellationToken,
    ) {
        tasks.spawn("dns udp", serve::udp(self.udp, responder.clone(), stop.clone()));
        tasks.spawn("dns tcp", serve::tcp(self.tcp, responder, connections, stop.clone()));
    }
}

/// Who answers, from the store.
pub(super) fn responder(
    config: &Config,
    store: &Arc<Store>,
    metrics: &metrics::Daemon,
) -> Responder {
    let zone = Zone::new(config.dns.clone(), DATACENTER, config.node_name.as_str().into());
    Responder::new(zone, Arc::new(Registered(Arc::clone(store))), metrics.clone())
}
