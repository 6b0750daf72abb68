//! `rollcall watch`: changes of status as they happen.

use std::{io::Write, time::Duration};

use tokio::time::{sleep, timeout};

use crate::api::native::{self, Event, Missed};

use super::{
    Exit,
    client::{Client, Lines},
    ls::paint,
};

/// The daemon shows every 15 seconds that the stream lives; two such signs may be late.
const SILENCE: Duration = Duration::from_secs(45);

/// The waits between two attempts to connect again.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

/// Arguments of `rollcall watch`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    client: Client,
    /// Show this service only.
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Show what the daemon remembers first.
    #[arg(long)]
    past: bool,
    /// Print a JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Follows the daemon until interrupted. Fails if it cannot be reached at the start; after that it
/// connects again whenever the connection is lost, and goes on where it was.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let mut path = native::EVENTS.to_owned();
    if args.past {
        path.push_str("?after=0");
    }
    let mut follower = Follower { seen: None, colour: super::colour(&std::io::stdout()), args };
    let mut lines = follower.args.client.events(&path, None).await?;
    loop {
        let lost = follower.follow(&mut lines, out).await?;
        eprintln!("rollcall: {lost}; connecting again");
        lines = follower.reconnect(&path).await;
    }
}

struct Follower {
    args: Args,
    /// The id of the last event.
    seen: Option<String>,
    colour: bool,
}

/// What the stream says of one event, put together line by line.
#[derive(Debug, Default)]
struct Message {
    event: String,
    data: String,
}

impl Follower {
    /// Prints what comes until the stream ends, and says why it did. Fails if we cannot print.
    async fn follow(&mut self, lines: &mut Lines, out: &mut impl Write) -> anyhow::Result<String> {
        let mut message = Message::default();
        loop {
            let line = match timeout(SILENCE, lines.next()).await {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return Ok("the daemon has closed the stream".to_owned()),
                Ok(Err(error)) => return Ok(format!("the connection is lost: {error:#}")),
                Err(_) => return Ok("the daemon is silent".to_owned()),
            };
            if line.is_empty() {
                self.show(&std::mem::take(&mut message), out)?;
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.seen = Some(value.to_owned()),
                "event" => value.clone_into(&mut message.event),
                "data" => message.data.push_str(value),
                // A comment, or a field of a later version.
                _ => {}
            }
        }
    }

    async fn reconnect(&self, path: &str) -> Lines {
        let mut wait = FIRST_BACKOFF;
        loop {
            sleep(wait).await;
            match self.args.client.events(path, self.seen.as_deref()).await {
                Ok(lines) => return lines,
                Err(_) => wait = (wait * 2).min(LAST_BACKOFF),
            }
        }
    }

    fn show(&self, message: &Message, out: &mut impl Write) -> anyhow::Result<()> {
        match message.event.as_str() {
            "transition" => {
                let event: Event = serde_json::from_str(&message.data)?;
                if self.args.service.as_ref().is_some_and(|wanted| *wanted != event.service) {
                    return Ok(());
                }
                if self.args.json {
                    writeln!(out, "{}", message.data)?;
                } else {
                    writeln!(out, "{}", line(&event, self.colour))?;
                }
            }
            "missed" => {
                let Missed { missed } = serde_json::from_str(&message.data)?;
                eprintln!("rollcall: {missed} changes were missed");
            }
            _ => {}
        }
        // Whoever reads us through a pipe wants to see it now.
        Ok(out.flush()?)
    }
}

/// `2026-11-20T14:00:00.000Z web/web-1 http: passing -> critical (connection_refused): …`
fn line(event: &Event, colour: bool) -> String {
    let Event { at, service, instance, check, from, to, reason, .. } = event;
    let to = if colour { format!("{}{to}\u{1b}[0m", paint(to)) } else { to.clone() };
    let detail = event.detail.as_deref().map(|detail| format!(": {detail}").replace('\n', " "));
    let detail = detail.unwrap_or_default();
    format!("{at} {service}/{instance} {check}: {from} -> {to} ({reason}){detail}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::mpsc,
        task::JoinSet,
    };

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_change_is_one_line() {
        let event = Event {
            sequence: 1,
            at: "2026-11-20T14:00:00.000Z".into(),
            service: "web".into(),
            instance: "web-1".into(),
            check: "http".into(),
            from: "passing".into(),
            to: "critical".into(),
            reason: "connection_refused".into(),
            detail: Some("GET http://10.0.0.1/: connection\nrefused".into()),
            consecutive: Some(3),
            probe: None,
        };
        assert_eq!(
            line(&event, false),
            "2026-11-20T14:00:00.000Z web/web-1 http: passing -> critical (connection_refused): \
             GET http://10.0.0.1/: connection refused"
        );
        assert!(line(&event, true).contains("\u{1b}[31mcritical\u{1b}[0m"));
    }

    /// Serves these streams one after the other, and tells the heads of the requests.
    async fn scripted(streams: [&'static str; 2]) -> (String, mpsc::Receiver<String>, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, heads) = mpsc::channel(2);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for stream in streams {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let length = client.read(&mut head).await.unwrap();
                head.truncate(length);
                sender.send(String::from_utf8(head).unwrap()).await.unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{stream}");
                client.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (address, heads, tasks)
    }

    #[tokio::test]
    async fn a_lost_stream_is_taken_up_where_it_was() {
        let (address, mut heads, _tasks) = scripted([
            "id: 10-7\n\n: alive\n\nid: 10-8\nevent: transition\ndata: {\"sequence\":8,\"at\":\"T\",\"service\":\"web\",\"instance\":\"web-1\",\"check\":\"http\",\"from\":\"passing\",\"to\":\"critical\",\"reason\":\"dns\"}\n\n",
            "id: 10-8\n\nid: 10-9\nevent: transition\ndata: {\"sequence\":9,\"at\":\"T\",\"service\":\"db\",\"instance\":\"db-1\",\"check\":\"tcp\",\"from\":\"critical\",\"to\":\"passing\",\"reason\":\"ok\"}\n\n",
        ])
        .await;
        let command = Command::parse_from(["watch", "--http-addr", &address]);
        let mut out = Vec::new();
        // It never ends by itself: the third attempt to connect finds nobody.
        let watching = timeout(Duration::from_millis(1500), run(command.args, &mut out));
        assert!(watching.await.is_err());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "T web/web-1 http: passing -> critical (dns)\n\
             T db/db-1 tcp: critical -> passing (ok)\n"
        );
        assert!(!heads.recv().await.unwrap().contains("last-event-id"));
        assert!(heads.recv().await.unwrap().contains("last-event-id: 10-8\r\n"));
    }
}
