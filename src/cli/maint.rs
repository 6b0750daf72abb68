//! `rollcall maint`: takes an instance or the node out of service, and puts it back.

use std::io::Write;

use anyhow::Context as _;
use url::form_urlencoded;

use super::{
    Exit,
    client::{Client, escape},
    register::put,
};

/// Arguments of `rollcall maint`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Take an instance, or the whole node, out of service.
    On {
        #[command(flatten)]
        target: Target,
        /// Why; shown to whoever asks for its health.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Put it back into service.
    Off {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Args)]
struct Target {
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The id of an instance, not the name of its service.
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// The whole node.
    #[arg(long)]
    node: bool,
}

/// Asks for it, and says what is so now.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let (target, state) = match &args.command {
        Command::On { target, .. } => (target, "in maintenance"),
        Command::Off { target } => (target, "in service"),
    };
    let name = target.what.id.as_deref().unwrap_or("the node");
    put(&target.client, &args.path())
        .await
        .with_context(|| format!("cannot change the maintenance of {name}"))?;
    writeln!(out, "{name} is {state}")?;
    Ok(Exit::Ok)
}

impl Args {
    fn path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let target = match &self.command {
            Command::On { target, reason } => {
                query.append_pair("enable", "true");
                reason.as_ref().map(|reason| query.append_pair("reason", reason));
                target
            }
            Command::Off { target } => {
                query.append_pair("enable", "false");
                target
            }
        };
        let path = match &target.what.id {
            Some(id) => format!("/v1/agent/service/maintenance/{}", escape(id)),
            None => "/v1/agent/maintenance".to_owned(),
        };
        format!("{path}?{}", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[track_caller]
    fn asks(arguments: &[&str], path: &str) {
        let cli = Cli::try_parse_from([&["maint"], arguments].concat()).unwrap();
        assert_eq!(cli.args.path(), path);
    }

    #[test]
    fn an_instance_or_the_node_is_named_in_the_path() {
        asks(
            &["on", "web/1 a", "--reason", "disk & fan"],
            "/v1/agent/service/maintenance/web%2F1%20a?enable=true&reason=disk+%26+fan",
        );
        asks(&["off", "web-1"], "/v1/agent/service/maintenance/web-1?enable=false");
        asks(&["on", "--node"], "/v1/agent/maintenance?enable=true");
    }

    #[test]
    fn one_of_both_must_be_said() {
        for wrong in [&["maint", "on"][..], &["maint", "off", "web-1", "--node"]] {
            Cli::try_parse_from(wrong).unwrap_err();
        }
    }
}
