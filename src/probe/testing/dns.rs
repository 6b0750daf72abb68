//! A DNS server that says what a test wants it to say.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

use super::spawn;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) enum Way {
    Udp,
    Tcp,
}

/// A server on a port of its own, by UDP and TCP; ends with the test.
pub(in crate::probe) struct Resolver {
    pub(in crate::probe) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Resolver {
    /// Answers each question with the datagrams that `script` makes of it; by TCP, with the first.
    /// The number counts the questions from zero.
    pub(in crate::probe) async fn start<S>(script: S) -> Self
    where
        S: Fn(&Message, Way, usize) -> Vec<Vec<u8>> + Send + Sync + 'static,
    {
        let (script, asked) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let (udp, tcp) = bind().await;
        let address = udp.local_addr().unwrap();
        let counted = |way: Way| {
            let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
            move |bytes: &[u8]| {
                let question = Message::from_vec(bytes).unwrap();
                script(&question, way, asked.fetch_add(1, Relaxed))
            }
        };
        let (by_udp, by_tcp) = (counted(Way::Udp), counted(Way::Tcp));
        let udp = spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((read, from)) = udp.recv_from(&mut buffer).await {
                for answer in by_udp(&buffer[..read]) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let tcp = spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                serve(stream, &by_tcp).await;
            }
        });
        Self { address, asked, tasks: [udp, tcp] }
    }

    /// Knows these addresses of every name.
    pub(in crate::probe) async fn knowing(ips: &[&str]) -> Self {
        let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
        Self::start(move |question, _, _| {
            vec![addresses(question, ips.iter().map(String::as_str)).to_vec().unwrap()]
        })
        .await
    }

    /// How many questions have come.
    pub(in crate::probe) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

async fn bind() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // Somebody else may have the port by the other protocol.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve(mut stream: TcpStream, answer: &impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let length = usize::from(stream.read_u16().await.unwrap());
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await.unwrap();
    for answer in answer(&question) {
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

/// An answer with a code and nothing else.
pub(in crate::probe) fn code(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.response_code = code;
    answer.metadata.recursion_available = true;
    answer.add_queries(question.queries.iter().cloned());
    answer
}

/// An answer of those of these addresses that are of the kind asked for.
pub(in crate::probe) fn addresses<'a>(
    question: &Message,
    ips: impl Iterator<Item = &'a str>,
) -> Message {
    let name = question.queries[0].name().clone();
    with(question, ips.map(|ip| (name.clone(), data(ip))))
}

/// An answer of those of these records that are of the kind asked for, and of aliases.
pub(in crate::probe) fn with(
    question: &Message,
    records: impl Iterator<Item = (Name, RData)>,
) -> Message {
    let mut answer = code(question, ResponseCode::NoError);
    let kind = question.queries[0].query_type();
    let wanted =
        records.filter(|(_, data)| [kind, RecordType::CNAME].contains(&data.record_type()));
    answer.answers.extend(wanted.map(|(name, data)| Record::from_rdata(name, 0, data)));
    answer
}

/// An address as a record.
pub(in crate::probe) fn data(ip: &str) -> RData {
    match ip.parse().unwrap() {
        std::net::IpAddr::V4(ip) => RData::A(A(ip)),
        std::net::IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// An alias as a record.
pub(in crate::probe) fn alias(name: &str) -> RData {
    RData::CNAME(CNAME(self::name(name)))
}

pub(in crate::probe) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}
