//! The daemon as a DNS server.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};

use crate::support::{Rollcall, Web, wait_for, write_config};

const PATIENCE: Duration = Duration::from_secs(10);

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn udp(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query(name, kind), server).unwrap();
    let mut buffer = [0; 4096];
    let (size, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, server);
    Message::from_vec(&buffer[..size]).unwrap()
}

fn tcp(stream: &mut TcpStream, name: &str, kind: RecordType) -> Message {
    let query = query(name, kind);
    let size = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&size[..], &query].concat()).unwrap();
    let mut size = [0; 2];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(size))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn data(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn services_are_found_by_udp_and_tcp_while_they_are_well() {
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start();
    let targets = [("web-1", web.address), ("web-2", web.address)];
    let config = write_config(folder.path(), &targets, "dns: { service_ttl: { w*: 7s } }\n");
    let daemon = Rollcall::start(folder.path(), Some(&config));
    let ask = |kind| udp(daemon.dns, "Web.service.consul.", kind);
    wait_for("both are passing", || ask(RecordType::SRV).answers.len() == 1);

    let answer = ask(RecordType::A);
    assert_eq!(data(&answer), ["127.0.0.1"], "one address, though two instances");
    assert_eq!(answer.answers[0].ttl, 7);
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
    let srv = data(&ask(RecordType::SRV));
    assert_eq!(srv, [format!("1 1 {} 7f000001.addr.dc1.consul.", web.address.port())]);

    let mut stream = TcpStream::connect(daemon.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..2 {
        let answer = tcp(&mut stream, "_web._tcp.service.dc1.consul.", RecordType::SRV);
        assert_eq!(data(&answer), srv);
    }
    let answer = tcp(&mut stream, "example.com.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);

    let counted = |kind: &str, code: &str, transport: &str| {
        let labels = format!("query_type=\"{kind}\",rcode=\"{code}\",transport=\"{transport}\"");
        daemon.metric(&format!("rollcall_dns_requests_total{{{labels}}}"))
    };
    assert_eq!(counted("SRV", "NOERROR", "tcp"), Some(2.0));
    assert_eq!(counted("A", "REFUSED", "tcp"), Some(1.0));
    assert_eq!(counted("A", "NOERROR", "udp"), Some(1.0));

    web.answers(500);
    let gone = || ask(RecordType::A).metadata.response_code == ResponseCode::NXDomain;
    wait_for("none is left", gone);
}
