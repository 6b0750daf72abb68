//! The events as a list and as a stream.

use futures_util::StreamExt as _;

use super::*;

fn sequences(answer: &Answered) -> Vec<u64> {
    let events: Vec<native::Event> = serde_json::from_str(&answer.body).unwrap();
    events.iter().map(|event| event.sequence).collect()
}

/// The place behind an event of a rig's process.
fn place(sequence: u64) -> String {
    format!("1795183200000-{sequence}")
}

/// A stream that is read as far as the test wants.
struct Streamed(axum::body::BodyDataStream);

impl Streamed {
    async fn open(rig: &Rig, uri: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(uri).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = rig.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response.into_body().into_data_stream())
    }

    /// The next message, with its data cut to what names the event.
    async fn next(&mut self) -> Option<String> {
        let chunk = String::from_utf8(self.0.next().await?.unwrap().to_vec()).unwrap();
        let lines = chunk.lines().map(|line| line.split(",\"at\"").next().unwrap());
        Some(lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("|"))
    }
}

fn flip(rig: &Rig, times: usize) {
    for n in 0..times {
        if n % 2 == 0 { rig.pass("web-1") } else { rig.fail("web-1") }
    }
}

#[tokio::test]
async fn the_list_is_oldest_first_and_can_be_paged() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    flip(&rig, 4);
    let of = async |query: &str| sequences(&rig.get(&format!("/v1/rollcall/events{query}")).await);
    assert_eq!(of("").await, [1, 2, 3, 4]);
    assert_eq!(of("?after=2").await, [3, 4]);
    assert_eq!(of("?after=1&limit=2").await, [2, 3]);
    assert_eq!(of("?limit=2").await, [3, 4], "the newest, if no place is named");
    assert_eq!(of("?after=99").await, [1, 2, 3, 4], "a place before a restart");
    assert_eq!(rig.get("/v1/rollcall/events?after=x").await.status, 400);
}

#[tokio::test]
async fn an_event_carries_its_evidence() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    rig.fail("web-1");
    let answer = rig.get("/v1/rollcall/events").await;
    let events: Vec<native::Event> = serde_json::from_str(&answer.body).unwrap();
    let event = &events[0];
    assert_eq!(
        (&*event.from, &*event.to, &*event.reason),
        ("unknown", "critical", "connection_refused")
    );
    assert_eq!(event.detail.as_deref(), Some("GET it: connection_refused"));
    assert_eq!(event.consecutive, Some(1));
    let probe = event.probe.as_ref().unwrap();
    assert_eq!(probe.peer.as_deref(), Some("10.0.0.1:80"));
    assert_eq!(probe.phases, BTreeMap::from([("connect".to_owned(), 0.002)]));
}

#[tokio::test]
async fn a_stream_starts_with_what_is_new_and_says_where_it_is() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    flip(&rig, 2);
    let mut stream = Streamed::open(&rig, "/v1/rollcall/events", None).await;
    assert_eq!(stream.next().await.unwrap(), "id: 1795183200000-2");
    rig.pass("web-1");
    let told = stream.next().await.unwrap();
    assert_eq!(told, "id: 1795183200000-3|event: transition|data: {\"sequence\":3");
}

#[tokio::test]
async fn a_stream_goes_on_where_the_client_was() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    flip(&rig, 3);
    let mut stream = Streamed::open(&rig, "/v1/rollcall/events?after=0", Some(&place(1))).await;
    stream.next().await.unwrap();
    for id in [2, 3] {
        assert!(stream.next().await.unwrap().starts_with(&format!("id: {}|", place(id))));
    }
}

#[tokio::test]
async fn a_client_of_another_process_is_told_all_that_this_one_remembers() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    flip(&rig, 4);
    let foreign = ["1795183199999-2", "1795183199999-77", "2", "-", "1795183200000-", "x-1", ""];
    for seen in foreign {
        let mut stream = Streamed::open(&rig, "/v1/rollcall/events", Some(seen)).await;
        assert_eq!(stream.next().await.unwrap(), format!("id: {}", place(0)), "{seen}");
        assert!(stream.next().await.unwrap().starts_with(&format!("id: {}|", place(1))));
    }
}

#[tokio::test]
async fn a_client_is_told_how_many_it_missed() {
    let rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    flip(&rig, 105);
    for (seen, missed) in [(place(2), 3), ("1795183199999-104".to_owned(), 5)] {
        let mut stream = Streamed::open(&rig, "/v1/rollcall/events", Some(&seen)).await;
        stream.next().await.unwrap();
        let told = stream.next().await.unwrap();
        assert_eq!(told, format!("event: missed|data: {{\"missed\":{missed}}}"));
        assert!(stream.next().await.unwrap().starts_with(&format!("id: {}|", place(6))));
    }
    let mut stream = Streamed::open(&rig, "/v1/rollcall/events", None).await;
    stream.next().await.unwrap();
    // The first changes nothing; a subscriber may be 1024 behind.
    flip(&rig, 1 + 1024 + 5);
    assert_eq!(stream.next().await.unwrap(), "event: missed|data: {\"missed\":5}");
    assert!(stream.next().await.unwrap().starts_with(&format!("id: {}|", place(111))));
}

#[tokio::test]
async fn a_client_is_told_what_it_missed_by_a_log_that_remembers_nothing() {
    let mut rig = Rig::new(&["web web-1 http http://10.0.0.1/"]).await;
    rig.view.events = event::Log::new(0);
    let (registry, metrics) = (Arc::clone(&rig.view.registry), rig.view.metrics.clone());
    rig.monitor = Monitor::new(registry, rig.view.events.clone(), metrics);
    flip(&rig, 4);
    let mut stream = Streamed::open(&rig, "/v1/rollcall/events", Some(&place(1))).await;
    stream.next().await.unwrap();
    assert_eq!(stream.next().await.unwrap(), "event: missed|data: {\"missed\":3}");
    flip(&rig, 1);
    assert!(stream.next().await.unwrap().starts_with(&format!("id: {}|", place(5))));
}

#[tokio::test]
async fn a_client_gets_the_stream_if_it_likes_it_as_much_as_the_list() {
    let rig = Rig::new(&[]).await;
    for (accept, expected) in [
        ("text/event-stream", "text/event-stream"),
        ("Text/Event-Stream;q=0.1", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("text/event-stream, */*;q=0.5", "text/event-stream"),
        ("application/json;q=0.9, text/event-stream; charset=utf-8; q=0.8", "application/json"),
        ("text/event-stream;q=0.5, */*", "application/json"),
        ("application/json;q=0.1, text/event-stream;q=0.2, */*", "text/event-stream"),
        ("text/event-stream;q=0", "application/json"),
        ("text/event-streams, x/text/event-stream", "application/json"),
        ("text/*", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ] {
        let request = Request::get("/v1/rollcall/events").header("accept", accept);
        let response = rig.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-type"], expected, "{accept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_shows_that_it_lives() {
    let rig = Rig::new(&[]).await;
    let mut stream = Streamed::open(&rig, "/v1/rollcall/events", None).await;
    stream.next().await.unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(stream.next().await.unwrap(), ": alive");
    assert_eq!(started.elapsed().as_secs(), 15);
}

#[tokio::test]
async fn a_stream_ends_when_the_daemon_stops() {
    let rig = Rig::new(&[]).await;
    let mut stream = Streamed::open(&rig, "/v1/rollcall/events", None).await;
    stream.next().await.unwrap();
    rig.stop.cancel();
    assert_eq!(stream.next().await, None);
}
