//! What is asked for each command line, and what is made of the answers.

use super::{super::testing::run, *};

const PAIR: &str = r#"[{"LockIndex":2,"Key":"a/b","Flags":18446744073709551615,"Value":"aGFsbG8K",
    "Session":"s-1","CreateIndex":10,"ModifyIndex":17}]"#;

#[track_caller]
fn is(got: &(Result<Exit, String>, String, Vec<String>), said: &str, asked: &str) {
    assert_eq!(got, &(Ok(Exit::Ok), said.to_owned(), vec![asked.to_owned()]));
}

#[tokio::test]
async fn a_value_is_read_in_four_forms() {
    let get =
        async |form: &[&str]| run(&[&["kv", "get", "a/b"], form].concat(), &[(200, PAIR)]).await;
    let asked = "GET /v1/kv/a%2Fb";
    is(&get(&[]).await, "hallo\n\n", asked);
    is(&get(&["--raw"]).await, "hallo\n", asked);
    is(
        &get(&["--detailed"]).await,
        "Key          a/b\nValue        hallo\n\nFlags        18446744073709551615\n\
         Session      s-1\nLockIndex    2\nCreateIndex  10\nModifyIndex  17\n",
        asked,
    );
    let (_, json, _) = get(&["--json"]).await;
    let pair: Pair = serde_json::from_str(&json).unwrap();
    assert_eq!((pair.flags, pair.value.as_deref()), (u64::MAX, Some("aGFsbG8K")));
}

#[tokio::test]
async fn an_empty_value_is_null_and_a_missing_key_is_named() {
    let empty = PAIR.replace("\"aGFsbG8K\"", "null");
    is(&run(&["kv", "get", "k", "--raw"], &[(200, &empty)]).await, "", "GET /v1/kv/k");
    let (exit, ..) = run(&["kv", "get", "k"], &[(404, "")]).await;
    assert_eq!(exit.unwrap_err(), "rollcall at ADDRESS has no key \"k\"");
    let (exit, ..) = run(&["kv", "get", "k"], &[(404, "404 page not found")]).await;
    assert_eq!(
        exit.unwrap_err(),
        "cannot read \"k\": rollcall at ADDRESS answered 404 Not Found: 404 page not found"
    );
}

#[tokio::test]
async fn a_value_is_written_from_wherever_it_is() {
    let put = async |value: &[&str]| {
        run(&[&["kv", "put", "a b"], value].concat(), &[(200, "true")]).await
    };
    is(&put(&["-5", "--flags", "7"]).await, "a b is written\n", "PUT /v1/kv/a%20b?flags=7 -5");
    is(&put(&["--cas", "0"]).await, "a b is written\n", "PUT /v1/kv/a%20b?flags=0&cas=0");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "from a file").unwrap();
    let at = format!("@{}", file.path().display());
    is(&put(&[&at]).await, "a b is written\n", "PUT /v1/kv/a%20b?flags=0 from a file");
}

#[tokio::test]
async fn a_refusal_says_why() {
    let refused = async |line: &[&str]| run(line, &[(200, "false")]).await.0.unwrap_err();
    assert_eq!(
        refused(&["kv", "put", "k", "v", "--cas", "0"]).await,
        "\"k\" is not written: there is such a key already"
    );
    assert_eq!(
        refused(&["kv", "rm", "k", "--cas", "9"]).await,
        "\"k\" is not deleted: its ModifyIndex is not 9 any more; read it again"
    );
    let (exit, ..) = run(&["kv", "put", "k"], &[(413, "Value exceeds 524288 byte limit")]).await;
    assert_eq!(
        exit.unwrap_err(),
        "cannot write \"k\": rollcall at ADDRESS answered 413 Payload Too Large: Value exceeds 524288 byte limit"
    );
}

#[tokio::test]
async fn keys_are_listed() {
    let ls =
        async |rest: &[&str]| run(&[&["kv", "ls"], rest].concat(), &[(200, r#"["a","b/"]"#)]).await;
    is(&ls(&[]).await, "a\nb/\n", "GET /v1/kv/?keys=");
    is(&ls(&["b", "--separator", "/"]).await, "a\nb/\n", "GET /v1/kv/b?keys=&separator=%2F");
    is(&ls(&["--json"]).await, "[\n  \"a\",\n  \"b/\"\n]\n", "GET /v1/kv/?keys=");
    is(&run(&["kv", "ls", "none"], &[(404, "")]).await, "", "GET /v1/kv/none?keys=");
}

#[tokio::test]
async fn keys_are_deleted() {
    let rm = async |rest: &[&str]| run(&[&["kv", "rm"], rest].concat(), &[(200, "true")]).await;
    is(&rm(&["k"]).await, "k is deleted\n", "DELETE /v1/kv/k");
    is(
        &rm(&["a/", "--recurse"]).await,
        "all that begins with a/ is deleted\n",
        "DELETE /v1/kv/a%2F?recurse=",
    );
    let (exit, _, asked) = rm(&[""]).await;
    assert_eq!((exit, asked.len()), (Ok(Exit::Usage), 0));
}
