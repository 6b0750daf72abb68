//! DNS probes: against a server that answers as its script says.

use std::{net::Ipv4Addr, time::Duration};

use hickory_proto::rr::{
    RData, Record,
    rdata::{A, CNAME, MX, TXT},
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

use super::*;
use crate::{
    model::Observation,
    probe::{
        Network, Prober, Spec as AnySpec, Target, egress, parse_url,
        testing::{self, PATIENCE, ask, ask_within, spawn, target, verdict},
    },
};

const SHORT: Duration = Duration::from_millis(200);

/// What a server says to a question: as many messages as there are.
type Script = fn(&Message) -> Vec<Vec<u8>>;

/// A server on one port, by UDP and TCP; ends with the test.
struct Server {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Server {
    async fn start(by_udp: Script, by_tcp: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        let udp = spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                for answer in by_udp(&Message::from_vec(&buffer[..length]).unwrap()) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let tcp = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn(serve_tcp(stream, by_tcp));
            }
        });
        Self { address, tasks: [udp, tcp] }
    }

    /// One that is the same by UDP and TCP.
    async fn saying(script: Script) -> Self {
        Self::start(script, script).await
    }

    fn target(&self, spec: Value) -> Target {
        target(&AnySpec::Dns(testing::spec(spec)), testing::endpoint(self.address))
    }
}

async fn serve_tcp(mut stream: TcpStream, script: Script) {
    let length = stream.read_u16().await.unwrap();
    let mut query = vec![0; usize::from(length)];
    stream.read_exact(&mut query).await.unwrap();
    let mut said = Vec::new();
    for answer in script(&Message::from_vec(&query).unwrap()) {
        said.extend_from_slice(&u16::try_from(answer.len()).unwrap().to_be_bytes());
        said.extend_from_slice(&answer);
    }
    testing::say_and_close(&mut stream, &said).await;
}

fn response(query: &Message) -> Message {
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.add_queries(query.queries.clone());
    answer
}

fn address(query: &Message, last: u8) -> Record {
    let name = query.queries[0].name().clone();
    Record::from_rdata(name, 300, RData::A(A(Ipv4Addr::new(10, 0, 0, last))))
}

/// Two addresses, behind an alias.
fn found(query: &Message) -> Message {
    let mut answer = response(query);
    let name = query.queries[0].name().clone();
    let alias = Name::from_ascii("alias.example.org.").unwrap();
    answer.add_answer(Record::from_rdata(name, 300, RData::CNAME(CNAME(alias))));
    answer.add_answers([address(query, 1), address(query, 2)]);
    answer
}

fn well(query: &Message) -> Vec<Vec<u8>> {
    vec![found(query).to_vec().unwrap()]
}

fn with_code(query: &Message, code: ResponseCode) -> Vec<Vec<u8>> {
    let mut answer = response(query);
    answer.metadata.response_code = code;
    vec![answer.to_vec().unwrap()]
}

fn cut(query: &Message) -> Vec<Vec<u8>> {
    let mut answer = response(query);
    answer.metadata.truncation = true;
    vec![answer.to_vec().unwrap()]
}

fn silent(_: &Message) -> Vec<Vec<u8>> {
    Vec::new()
}

/// What is asked of a server that follows a script, and the verdict.
async fn asked(script: Script, spec: Value) -> Observation {
    let server = Server::saying(script).await;
    ask(&server.target(spec)).await
}

#[track_caller]
fn check(observation: &Observation, expected: &str, end: &str) {
    assert_eq!(verdict(observation), expected, "{observation:?}");
    let detail = observation.detail.as_deref().unwrap_or_default();
    assert!(detail.ends_with(end), "{detail}");
}

#[tokio::test]
async fn an_answer_with_records_is_a_success_by_either_transport() {
    for transport in ["udp", "tcp"] {
        let found = asked(well, json!({ "name": "example.org", "transport": transport })).await;
        assert_eq!(verdict(&found), "success");
        assert!(!found.phases.get(Phase::Exchange).is_zero());
        let connected = !found.phases.get(Phase::Connect).is_zero();
        assert_eq!(connected, transport == "tcp");
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_asked_for_again_by_tcp() {
    let server = Server::start(cut, well).await;
    let spec = json!({ "name": "example.org", "min_answers": 2 });
    let found = ask(&server.target(spec.clone())).await;
    assert_eq!(verdict(&found), "success");
    assert!(!found.phases.get(Phase::Connect).is_zero());
    assert_eq!(found.peer, Some(server.address));
    let server = Server::saying(cut).await;
    let found = ask(&server.target(spec)).await;
    check(&found, "failure protocol", "the answer by TCP says that it was cut off");
}

#[tokio::test]
async fn the_code_decides_first() {
    let name = json!({ "name": "example.org" });
    let refused: Script = |query| with_code(query, ResponseCode::Refused);
    check(&asked(refused, name).await, "failure status", ": REFUSED; expected NOERROR");
    let missing: Script = |query| with_code(query, ResponseCode::NXDomain);
    let spec = json!({ "name": "no.example.org", "expected_rcodes": ["NXDOMAIN"] });
    assert_eq!(verdict(&asked(missing, spec.clone()).await), "success");
    check(&asked(well, spec).await, "failure status", ": NOERROR; expected NXDOMAIN");
    // Without the question, as servers answer that cannot read it.
    let bare: Script = |query| {
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.response_code = ResponseCode::FormErr;
        vec![answer.to_vec().unwrap()]
    };
    let found = asked(bare, json!({ "name": "example.org" })).await;
    check(&found, "failure status", ": FORMERR; expected NOERROR");
}

#[tokio::test]
async fn records_of_the_type_are_counted_and_compared() {
    let with = |key: &str, value: Value| json!({ "name": "example.org", key: value });
    for (spec, expected, end) in [
        (with("min_answers", json!(2)), "success", ""),
        (
            with("min_answers", json!(3)),
            "failure body",
            "2 records of type A, expected 3; there is 10.0.0.1, 10.0.0.2",
        ),
        (with("expected_answers", json!(["10.0.0.2", "10.0.0.1"])), "success", ""),
        (
            with("expected_answers", json!(["10.0.0.1"])),
            "failure body",
            "the records are not as expected (10.0.0.1); there is 10.0.0.1, 10.0.0.2",
        ),
        (with("answer_matches", json!("^10\\.0\\.0\\.2$")), "success", ""),
        (
            with("answer_matches", json!("alias")),
            "failure body",
            "no record matches \"alias\"; there is 10.0.0.1, 10.0.0.2",
        ),
    ] {
        check(&asked(well, spec).await, expected, end);
    }
    let none: Script = |query| with_code(query, ResponseCode::NoError);
    let found = asked(none, json!({ "name": "example.org" })).await;
    check(&found, "failure body", "0 records of type A, expected 1; there is none");
    assert_eq!(verdict(&asked(none, with("min_answers", json!(0))).await), "success");
    let mail: Script = |query| {
        let mut answer = response(query);
        let data = RData::MX(MX::new(10, Name::from_ascii("Mail.example.org.").unwrap()));
        answer.add_answer(Record::from_rdata(query.queries[0].name().clone(), 300, data));
        vec![answer.to_vec().unwrap()]
    };
    let spec =
        json!({ "name": "example.org", "type": "MX", "expected_answers": ["10 mail.example.org"] });
    assert_eq!(verdict(&asked(mail, spec).await), "success");
}

#[tokio::test]
async fn texts_are_written_as_in_a_zone_file_or_without_quotes() {
    let texts: Script = |query| {
        let mut answer = response(query);
        let name = query.queries[0].name();
        let long = TXT::new(vec!["v=DKIM1; p=MI".to_owned(), "GfMA".to_owned()]);
        let odd = TXT::from_bytes(vec![b"a \"b\" \\ \xff"]);
        for data in [TXT::new(vec!["v=spf1 -all".to_owned()]), long, odd] {
            answer.add_answer(Record::from_rdata(name.clone(), 300, RData::TXT(data)));
        }
        vec![answer.to_vec().unwrap()]
    };
    let with = |key: &str, value: Value| json!({ "name": "x.org", "type": "TXT", key: value });
    let odd = r#""a \"b\" \\ \255""#;
    let quoted = [r#""v=spf1 -all""#, odd, r#""v=DKIM1; p=MI" "GfMA""#];
    let bare = ["v=DKIM1; p=MIGfMA", "v=spf1 -all", odd];
    for expected in [quoted, bare] {
        let found = asked(texts, with("expected_answers", json!(expected))).await;
        assert_eq!(verdict(&found), "success", "{found:?}");
    }
    for other in [r#""v=DKIM1; p=MIGfMA""#, "v=DKIM1; p=MI GfMA", "v=spf1 -all"] {
        let expected = json!([other, "v=spf1 -all", odd]);
        let found = asked(texts, with("expected_answers", expected)).await;
        assert_eq!(verdict(&found), "failure body", "{other}");
    }
    for pattern in ["^v=spf1", "^\"v=spf1", "MIGfMA$", "MI\" \"Gf"] {
        let found = asked(texts, with("answer_matches", json!(pattern))).await;
        assert_eq!(verdict(&found), "success", "{pattern}: {found:?}");
    }
    let found = asked(texts, with("answer_matches", json!("no such"))).await;
    check(
        &found,
        "failure body",
        r#"there is "v=spf1 -all", "v=DKIM1; p=MI" "GfMA", "a \"b\" \\ \255""#,
    );
}

#[tokio::test]
async fn flags_are_looked_at_if_they_are_required() {
    let flagged: Script = |query| {
        let mut answer = found(query);
        answer.metadata.authoritative = true;
        // Only to one who said that it would like to know.
        answer.metadata.authentic_data = query.metadata.authentic_data;
        vec![answer.to_vec().unwrap()]
    };
    for (key, end) in [
        ("require_authoritative", "NOERROR, but not authoritative (AA)"),
        ("require_authentic", "NOERROR, but not verified by DNSSEC (AD)"),
    ] {
        let spec = json!({ "name": "example.org", key: true });
        assert_eq!(verdict(&asked(flagged, spec.clone()).await), "success");
        check(&asked(well, spec).await, "failure header", end);
    }
}

#[tokio::test]
async fn recursion_is_desired_unless_it_is_not() {
    let only_without: Script = |query| {
        let code = if query.metadata.recursion_desired {
            ResponseCode::Refused
        } else {
            ResponseCode::NoError
        };
        with_code(query, code)
    };
    let spec = json!({ "name": "example.org", "min_answers": 0 });
    assert_eq!(verdict(&asked(only_without, spec).await), "failure status");
    let spec = json!({ "name": "example.org", "min_answers": 0, "recursion_desired": false });
    assert_eq!(verdict(&asked(only_without, spec).await), "success");
}

#[tokio::test]
async fn an_answer_with_another_number_is_passed_over() {
    fn other(query: &Message, by: u16) -> Vec<u8> {
        let mut answer = found(query);
        answer.metadata.id = query.metadata.id.wrapping_add(by);
        answer.metadata.response_code = ResponseCode::ServFail;
        answer.to_vec().unwrap()
    }
    let strays: Script = |query| [vec![other(query, 1), other(query, 2)], well(query)].concat();
    assert_eq!(verdict(&asked(strays, json!({ "name": "example.org" })).await), "success");
}

#[tokio::test]
async fn what_is_no_answer_to_the_question_breaks_the_protocol() {
    let name = json!({ "name": "example.org" });
    let another: Script = |query| {
        let mut answer = found(query);
        answer.queries[0].set_name(Name::from_ascii("example.com.").unwrap());
        vec![answer.to_vec().unwrap()]
    };
    let echo: Script = |query| vec![query.to_vec().unwrap()];
    // Two bytes of number, flags of an answer, and 65535 records of each kind.
    let giant: Script = |query| {
        let mut bytes = query.to_vec().unwrap();
        bytes[2] = 0x80;
        bytes[6..12].fill(0xff);
        vec![bytes]
    };
    let broken: Script = |query| {
        let mut bytes = found(query).to_vec().unwrap();
        bytes.truncate(bytes.len() - 3);
        vec![bytes]
    };
    let short: Script = |query| vec![query.metadata.id.to_be_bytes().to_vec()];
    for (script, end) in [
        (another, "the answer is to another question"),
        (echo, "the answer is marked as a question"),
        (giant, "the answer is shorter than what it announces"),
        (broken, ""),
        (short, "the answer is too short to be one"),
    ] {
        check(&asked(script, name.clone()).await, "failure protocol", end);
    }
}

#[tokio::test]
async fn a_server_that_is_silent_or_not_there_is_a_failure() {
    let server = Server::saying(silent).await;
    let found = ask_within(&server.target(json!({ "name": "example.org" })), SHORT).await;
    check(&found, "failure timeout_response", ": no answer within 200ms");
    let found = ask(&server.target(json!({ "name": "example.org", "transport": "tcp" }))).await;
    let end = ": the server closed the connection without an answer";
    check(&found, "failure connection_reset", end);
    for transport in ["udp", "tcp"] {
        let spec = testing::spec(json!({ "name": ".", "transport": transport }));
        let target = target(&AnySpec::Dns(spec), testing::endpoint(testing::closed_port()));
        let found = ask_within(&target, PATIENCE).await;
        assert_eq!(verdict(&found), "failure connection_refused");
    }
}

#[tokio::test]
async fn a_server_that_may_not_be_probed_is_not_asked() {
    let server = Server::saying(well).await;
    let deny =
        egress::Config { deny: vec!["127.0.0.1".parse().unwrap()], ..egress::Config::default() };
    let network = Network::new(egress::Policy::new(&deny));
    for transport in ["udp", "tcp"] {
        let target = server.target(json!({ "name": "example.org", "transport": transport }));
        let found = network.probe(&target, PATIENCE).await;
        assert_eq!(verdict(&found), "failure denied");
    }
}

#[test]
fn a_url_says_what_is_asked() {
    let spec = |url: &str| match parse_url(url) {
        Ok((AnySpec::Dns(spec), endpoint)) => Ok((spec, endpoint.to_string())),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    let (found, server) = spec("dns://10.0.0.53/example.org?type=MX&transport=tcp").unwrap();
    assert_eq!(server, "10.0.0.53:53");
    assert_eq!((found.kind, found.transport), (QueryType::Mx, Transport::Tcp));
    assert_eq!(found.name.0.to_string(), "example.org.");
    for (url, said) in [
        ("dns://10.0.0.53/", "`` is not a name to ask for"),
        ("dns://10.0.0.53/a..b", "`a..b` is not a name to ask for"),
        ("dns://10.0.0.53/a?type=mx", "`type`: unknown variant `mx`"),
        ("dns://10.0.0.53/a?x=y", "`x` is not known"),
        ("dns://10.0.0.53:0/a", "the URL needs a port"),
    ] {
        let error = spec(url).unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
}
