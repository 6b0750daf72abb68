//! `rollcall recheck`: has the daemon ask a target now, and counts what it finds.

use std::io::Write;

use super::{
    Exit,
    client::{Call, Client, escape},
};

/// Arguments of `rollcall recheck`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    client: Client,
    /// Ids of checks (`INSTANCE:CHECK`), or of instances for all their checks.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Has one after the other asked; one that is unknown does not keep back the others.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let mut exit = Exit::Ok;
    for id in &args.ids {
        match recheck(&args.client, id).await {
            Ok(names) => writeln!(out, "asking {}", names.join(", "))?,
            Err(error) => {
                eprintln!("rollcall: cannot have {id:?} asked: {error:#}");
                exit = Exit::Failure;
            }
        }
    }
    Ok(exit)
}

async fn recheck(client: &Client, id: &str) -> anyhow::Result<Vec<String>> {
    let path = format!("/v1/rollcall/recheck/{}", escape(id));
    let answer = client.call(&Call::put(&path, "")).await?;
    answer.json()
}

#[cfg(test)]
mod tests {
    use crate::cli::{Exit, testing::run};

    #[tokio::test]
    async fn each_is_asked_about_and_the_unknown_are_named() {
        let answers = [(404, "unknown check \"x\""), (200, r#"["web-1:http","web-1:tcp"]"#)];
        let (exit, out, asked) = run(&["recheck", "x", "web-1"], &answers).await;
        assert_eq!(exit, Ok(Exit::Failure));
        assert_eq!(out, "asking web-1:http, web-1:tcp\n");
        assert_eq!(asked, ["PUT /v1/rollcall/recheck/x", "PUT /v1/rollcall/recheck/web-1"]);
    }
}
