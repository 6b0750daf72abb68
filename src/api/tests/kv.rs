//! Keys and values as Consul's clients see them.

use serde_json::json;

use super::*;
use crate::store::row;

impl Rig {
    /// What a fresh daemon has in its store: its node with its own check.
    pub(super) async fn with_node() -> Self {
        let rig = Self::bare();
        let node = row::Node { name: "node-1".into(), ..row::Node::default() };
        let check = row::Check {
            id: "serfHealth".into(),
            status: row::Health::Passing,
            ..row::Check::default()
        };
        let check = check.on(&"node-1".into());
        rig.put_rows([row::Row::from(node), check.into()]).await;
        rig
    }

    pub(super) async fn put_rows<const N: usize>(&self, rows: [row::Row; N]) {
        let put = |tx: &mut crate::store::Tx<'_>| {
            for row in rows {
                tx.put(row);
            }
            Ok::<_, Unwritten>(())
        };
        self.view.store.write(put).await.unwrap();
    }

    pub(super) async fn send(&self, method: Method, uri: &str, body: impl Into<Body>) -> Answered {
        let request = Request::builder().method(method).uri(uri);
        answered(self.router(), request.body(body.into()).unwrap()).await
    }

    pub(super) async fn session(&self, wanted: Value) -> String {
        let made = self.put("/v1/session/create", wanted.to_string()).await.json();
        made["ID"].as_str().unwrap().to_owned()
    }
}

impl Answered {
    #[track_caller]
    pub(super) fn says(&self, status: u16, body: &str) {
        assert_eq!((self.status.as_u16(), &*self.body), (status, body));
    }
}

#[tokio::test]
async fn a_pair_has_all_of_consuls_fields() {
    let rig = Rig::bare();
    rig.put("/v1/kv/a?flags=3304740253564472344", "hi").await.says(200, "true");
    let answer = rig.get("/v1/kv/a").await;
    assert_eq!(answer.header("x-consul-index"), "1");
    let pair = json!([{
        "LockIndex": 0, "Key": "a", "Flags": 3_304_740_253_564_472_344_u64, "Value": "aGk=",
        "CreateIndex": 1, "ModifyIndex": 1,
    }]);
    assert_eq!(answer.json(), pair);
    rig.put("/v1/kv/a", "").await.says(200, "true");
    let answer = rig.get("/v1/kv/a").await.json();
    assert_eq!((&answer[0]["Value"], &answer[0]["Flags"]), (&Value::Null, &json!(0)));
}

#[tokio::test]
async fn a_key_that_is_not_there_is_404_with_an_index() {
    let rig = Rig::bare();
    for uri in ["/v1/kv/a", "/v1/kv/a?raw", "/v1/kv/a?recurse", "/v1/kv/a?keys", "/v1/kv/?recurse"]
    {
        let answer = rig.get(uri).await;
        answer.says(404, "");
        assert_eq!(answer.header("x-consul-index"), "1", "{uri}");
        assert_eq!(answer.header("x-consul-lastcontact"), "0", "{uri}");
    }
    rig.get("/v1/kv/?keys").await.says(200, "[]");
    rig.get("/v1/kv/").await.says(400, "Missing key name");
    rig.put("/v1/kv/", "x").await.says(400, "Missing key name");
    rig.ask(Method::DELETE, "/v1/kv/").await.says(400, "Missing key name");
    rig.ask(Method::DELETE, "/v1/kv/a").await.says(200, "true");
}

#[tokio::test]
async fn a_key_is_all_that_follows_decoded() {
    let rig = Rig::bare();
    for (path, key) in [
        ("a%2Fb", "a/b"),
        ("c//d", "c//d"),
        ("/e", "/e"),
        ("f/", "f/"),
        ("g%20h%23%3F", "g h#?"),
        ("%C3%BC:1", "ü:1"),
        ("a+b", "a+b"),
    ] {
        rig.put(&format!("/v1/kv/{path}"), "x").await.says(200, "true");
        assert!(rig.view.store.read().pair(key).is_some(), "{path}");
        assert_eq!(rig.get(&format!("/v1/kv/{path}")).await.json()[0]["Key"], key);
    }
    assert_eq!(rig.put("/v1/kv/%FF", "x").await.status, 400);
}

#[tokio::test]
async fn raw_is_the_value_that_no_browser_runs() {
    let rig = Rig::bare();
    rig.put("/v1/kv/page", "<script>").await.says(200, "true");
    let answer = rig.get("/v1/kv/page?raw").await;
    answer.says(200, "<script>");
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("content-security-policy"), "sandbox");
}

#[tokio::test]
async fn prefixes_list_pairs_and_keys() {
    let rig = Rig::bare();
    for key in ["a/1", "a/b/2", "a/b/3", "ab", "b"] {
        rig.put(&format!("/v1/kv/{key}"), key).await.says(200, "true");
    }
    let pairs = rig.get("/v1/kv/a?recurse=").await;
    let keys: Vec<_> = pairs.json().as_array().unwrap().iter().map(|p| p["Key"].clone()).collect();
    assert_eq!(keys, ["a/1", "a/b/2", "a/b/3", "ab"]);
    assert_eq!(pairs.header("x-consul-index"), "4");
    for (query, keys) in [
        ("a/?keys=True", r#"["a/1","a/b/2","a/b/3"]"#),
        ("a/?keys&separator=/", r#"["a/1","a/b/"]"#),
        ("a?keys&seperator=/", r#"["a/","ab"]"#),
        ("?keys&separator=/", r#"["a/","ab","b"]"#),
    ] {
        rig.get(&format!("/v1/kv/{query}")).await.says(200, keys);
    }
    rig.ask(Method::DELETE, "/v1/kv/a/?recurse").await.says(200, "true");
    rig.get("/v1/kv/?keys").await.says(200, r#"["ab","b"]"#);
}

#[tokio::test]
async fn compare_and_set_changes_nothing_unless_the_index_is_right() {
    let rig = Rig::bare();
    rig.put("/v1/kv/a?cas=5", "x").await.says(200, "false");
    rig.put("/v1/kv/a?cas=0", "x").await.says(200, "true");
    rig.put("/v1/kv/a?cas=0", "y").await.says(200, "false");
    rig.put("/v1/kv/a?cas=1", "y").await.says(200, "true");
    let index = rig.index();
    rig.put("/v1/kv/a?cas=1", "z").await.says(200, "false");
    rig.put("/v1/kv/a", "y").await.says(200, "true");
    rig.ask(Method::DELETE, "/v1/kv/a?cas=0").await.says(200, "false");
    rig.ask(Method::DELETE, "/v1/kv/b?cas=0").await.says(200, "true");
    assert_eq!(rig.index(), index);
    rig.ask(Method::DELETE, "/v1/kv/a?cas=2").await.says(200, "true");
    assert_eq!(rig.get("/v1/kv/a").await.header("x-consul-index"), "3");
}

#[tokio::test]
async fn a_lock_has_one_holder() {
    let rig = Rig::with_node().await;
    let mine = rig.session(json!({"LockDelay": "0s"})).await;
    let other = rig.session(json!({})).await;
    rig.put("/v1/kv/k?acquire=nobody", "x").await.says(500, "invalid session \"nobody\"");
    rig.put(&format!("/v1/kv/k?release={mine}"), "x").await.says(200, "false");
    rig.put(&format!("/v1/kv/k?acquire={mine}"), "1").await.says(200, "true");
    rig.put(&format!("/v1/kv/k?acquire={mine}"), "2").await.says(200, "true");
    rig.put(&format!("/v1/kv/k?acquire={other}"), "3").await.says(200, "false");
    rig.put(&format!("/v1/kv/k?release={other}"), "3").await.says(200, "false");
    rig.put("/v1/kv/k?release=nobody", "3").await.says(200, "false");
    let pair = rig.get("/v1/kv/k").await.json();
    assert_eq!((&pair[0]["Session"], &pair[0]["LockIndex"]), (&json!(mine), &json!(1)));
    assert_eq!(pair[0]["Value"], "Mg==");
    rig.put("/v1/kv/k", "4").await.says(200, "true");
    assert_eq!(rig.get("/v1/kv/k").await.json()[0]["Session"], mine);
    rig.put(&format!("/v1/kv/k?release={mine}&flags=7"), "5").await.says(200, "true");
    let pair = rig.get("/v1/kv/k").await.json();
    assert_eq!((&pair[0]["Session"], &pair[0]["LockIndex"]), (&Value::Null, &json!(1)));
    assert_eq!((&pair[0]["Value"], &pair[0]["Flags"]), (&json!("NQ=="), &json!(7)));
    rig.put(&format!("/v1/kv/k?acquire={other}"), "6").await.says(200, "true");
    assert_eq!(rig.get("/v1/kv/k").await.json()[0]["LockIndex"], 2);
}

#[tokio::test]
async fn a_hundred_acquire_and_one_holds() {
    let rig = Rig::with_node().await;
    let mut attempts = tokio::task::JoinSet::new();
    for n in 0..100 {
        let session = rig.session(json!({"Name": n.to_string()})).await;
        let router = rig.router();
        attempts.spawn(async move {
            let uri = format!("/v1/kv/lock?acquire={session}");
            let request = Request::put(uri).body(Body::from(session.clone())).unwrap();
            (answered(router, request).await.body, session)
        });
    }
    let done = attempts.join_all().await;
    let holders: Vec<_> = done.iter().filter(|(held, _)| held == "true").collect();
    assert_eq!(holders.len(), 1, "{done:?}");
    let pair = rig.get("/v1/kv/lock").await.json();
    assert_eq!((&pair[0]["Session"], &pair[0]["LockIndex"]), (&json!(holders[0].1), &json!(1)));
}

#[tokio::test]
async fn what_contradicts_itself_or_is_no_number_is_refused() {
    let rig = Rig::bare();
    let index = rig.index();
    let refused = rig.put("/v1/kv/a?cas=0&acquire=x", "").await;
    refused.says(400, "Conflicting flags: cas&acquire");
    for (query, status) in [
        ("cas", 500),
        ("cas=x", 500),
        ("flags=-1", 500),
        ("flags=", 500),
        ("acquire=", 400),
        ("release", 400),
        ("stale&consistent", 400),
    ] {
        assert_eq!(rig.put(&format!("/v1/kv/a?{query}"), "x").await.status, status, "{query}");
    }
    for (query, status) in [("recurse&cas=1", 400), ("cas=", 500)] {
        let answer = rig.ask(Method::DELETE, &format!("/v1/kv/a?{query}")).await;
        assert_eq!(answer.status, status, "{query}");
    }
    assert_eq!(rig.put("/v1/kv/a?dc=dc2", "x").await.status, 500);
    let answer = rig.ask(Method::POST, "/v1/kv/a").await;
    answer.says(405, "method POST not allowed");
    assert_eq!(answer.header("allow"), "OPTIONS,GET,PUT,DELETE");
    assert_eq!(rig.index(), index);
}

#[tokio::test]
async fn a_value_is_as_large_as_consul_lets_it_be() {
    let rig = Rig::bare();
    rig.put("/v1/kv/a", vec![b'x'; 512 * 1024]).await.says(200, "true");
    let index = rig.index();
    let request = |length: Option<&str>| {
        let request = Request::put("/v1/kv/a");
        let request = length.into_iter().fold(request, |r, n| r.header("content-length", n));
        request.body(Body::from(vec![b'y'; 512 * 1024 + 1])).unwrap()
    };
    for length in [None, Some("524289")] {
        assert_eq!(answered(rig.router(), request(length)).await.status, 413, "{length:?}");
    }
    let others = Request::put("/v1/session/create").header("content-length", "65537");
    assert_eq!(answered(rig.router(), others.body(Body::empty()).unwrap()).await.status, 413);
    assert_eq!(rig.index(), index);
}

#[tokio::test(start_paused = true)]
async fn a_held_read_wakes_when_its_own_key_changes() {
    let rig = Rig::bare();
    rig.put("/v1/kv/a", "1").await.says(200, "true");
    let started = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(rig.get("/v1/kv/a?index=1&wait=60s"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.put("/v1/kv/ab", "other").await.says(200, "true");
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.put("/v1/kv/a", "2").await.says(200, "true");
    });
    assert_eq!(started.elapsed().as_secs(), 2);
    assert_eq!(answer.json()[0]["Value"], "Mg==");
    assert_eq!(answer.header("x-consul-index"), "3");
}

#[tokio::test(start_paused = true)]
async fn a_held_read_of_a_prefix_sees_what_comes_and_what_goes() {
    let rig = Rig::bare();
    rig.put("/v1/kv/p/a", "1").await.says(200, "true");
    let (answer, ()) = tokio::join!(rig.get("/v1/kv/p/?keys&index=1&wait=60s"), async {
        rig.put("/v1/kv/q", "x").await.says(200, "true");
        rig.put("/v1/kv/p/b", "x").await.says(200, "true");
    });
    answer.says(200, r#"["p/a","p/b"]"#);
    let index = answer.header("x-consul-index").to_owned();
    let uri = format!("/v1/kv/p/?recurse&index={index}&wait=60s");
    let (answer, _) =
        tokio::join!(rig.get(&uri), rig.send(Method::DELETE, "/v1/kv/p/?recurse", Body::empty()));
    answer.says(404, "");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_key_is_not_woken_while_it_is_not_there() {
    let rig = Rig::bare();
    let started = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(rig.get("/v1/kv/a?index=1&wait=60s"), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.put("/v1/kv/b", "x").await.says(200, "true");
        rig.ask(Method::DELETE, "/v1/kv/a").await.says(200, "true");
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.put("/v1/kv/a", "x").await.says(200, "true");
    });
    assert_eq!((started.elapsed().as_secs(), answer.status.as_u16()), (10, 200));
}
