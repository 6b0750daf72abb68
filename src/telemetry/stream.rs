//! The log as a stream, for whoever asks for it through the API, in as much detail as he asks for.
//!
//! It costs nothing while nobody listens: the levels that are then wanted are none, and what is
//! neither streamed nor written is not even made. A listener who is too slow misses lines, and is
//! told how many.

use std::{
    fmt, io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{Event, Level, Metadata, Subscriber, warn};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        layer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
    reload,
};

/// Lines that a listener may be behind.
const DEPTH: usize = 1024;

/// Most listeners of a form: each line is made once for all, and sent to each.
const MOST: usize = 16;

/// Of libraries no more is told than this: at finer levels sending a line would make others.
const OF_LIBRARIES: Level = Level::INFO;

/// The form of streamed lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line of text an event, as Consul's log has it: `TIME [LEVEL] MODULE: TEXT KEY=VALUE…`.
    Text,
    /// A JSON object an event.
    Json,
}

type Line = (Level, Bytes);

/// Where the log may be listened to. Cloning gives another handle on the same log; by default it is
/// one that nothing is written to.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    text: Arc<Channel>,
    json: Arc<Channel>,
}

#[derive(Debug)]
struct Channel {
    lines: broadcast::Sender<Line>,
    /// What each listener wants.
    levels: Mutex<Vec<Level>>,
    filter: OnceLock<reload::Handle<Targets, Registry>>,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            lines: broadcast::Sender::new(DEPTH),
            levels: Mutex::default(),
            filter: OnceLock::new(),
        }
    }
}

impl Channel {
    /// Changes who listens, and with it what is made.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Level>) -> T) -> T {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut levels);
        let filtered = self.filter.get().map(|filter| filter.reload(wanted(&levels)));
        drop(levels);
        if let Some(Err(error)) = filtered {
            warn!(%error, "The streamed log cannot be changed any more");
        }
        changed
    }
}

/// What is to be made for listeners who want these levels.
fn wanted(levels: &[Level]) -> Targets {
    match levels.iter().max() {
        None => Targets::new(),
        Some(&most) => {
            Targets::new().with_default(most.min(OF_LIBRARIES)).with_target("rollcall", most)
        }
    }
}

impl Streams {
    fn channel(&self, form: Form) -> &Arc<Channel> {
        match form {
            Form::Text => &self.text,
            Form::Json => &self.json,
        }
    }

    /// The layer of a subscriber that fills the stream of a form. To be called once for each.
    pub fn layer(&self, form: Form) -> Box<dyn Layer<Registry> + Send + Sync> {
        let channel = self.channel(form);
        let (filter, handle) = reload::Layer::new(Targets::new());
        let sink = Sink(channel.lines.clone());
        let lines = match form {
            Form::Text => {
                layer().with_ansi(false).with_writer(sink).event_format(Bracketed).boxed()
            }
            Form::Json => super::json(sink),
        };
        // Another layer than the first would be one that nobody turns on.
        channel.filter.get_or_init(|| handle);
        lines.with_filter(filter).boxed()
    }

    /// Listens from now on to what is of a level or graver; nothing if too many do already.
    pub fn listen(&self, level: Level, form: Form) -> Option<Listener> {
        let channel = Arc::clone(self.channel(form));
        let receiver = channel.lines.subscribe();
        let is_in = channel.change(|levels| {
            let fits = levels.len() < MOST;
            levels.extend(fits.then_some(level));
            fits
        });
        // One that is made is counted out again when it goes.
        is_in.then(|| Listener { channel, level, form, receiver })
    }
}

/// Who listens to the log.
#[derive(Debug)]
pub struct Listener {
    channel: Arc<Channel>,
    level: Level,
    form: Form,
    receiver: broadcast::Receiver<Line>,
}

impl Listener {
    /// Waits for the next line, which ends with a newline.
    pub async fn next(&mut self) -> Bytes {
        loop {
            match self.receiver.recv().await {
                Ok((level, line)) if level <= self.level => return line,
                Ok(_) => {}
                Err(RecvError::Lagged(lines)) => return missed(lines, self.form),
                // The sender is as old as we are.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.channel.change(|levels| {
            let place = levels.iter().position(|level| *level == self.level);
            place.map(|place| levels.swap_remove(place))
        });
    }
}

/// The line in the place of those that a listener was too slow for.
fn missed(lines: u64, form: Form) -> Bytes {
    match form {
        Form::Text => format!("[WARN] Too slow for the log lines={lines}\n"),
        Form::Json => {
            let line = serde_json::json!({
                "level": "WARN", "message": "Too slow for the log", "lines": lines,
            });
            format!("{line}\n")
        }
    }
    .into()
}

/// Consul's form of a line.
struct Bracketed;

impl<S, N> FormatEvent<S, N> for Bracketed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        SystemTime.format_time(&mut line)?;
        write!(line, " {:7} {}: ", format!("[{}]", about.level()), about.target())?;
        context.field_format().format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// Where the lines of a form go.
#[derive(Debug)]
struct Sink(broadcast::Sender<Line>);

/// The way of one line.
#[derive(Debug)]
struct Way<'a>(&'a broadcast::Sender<Line>, Level);

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Way<'a>;

    fn make_writer(&'a self) -> Way<'a> {
        Way(&self.0, Level::ERROR)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Way<'a> {
        Way(&self.0, *event.level())
    }
}

impl io::Write for Way<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Nobody may listen any more.
        drop(self.0.send((self.1, Bytes::copy_from_slice(line))));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// To be held by tests that listen: how much is made is decided for the whole process, and two that
/// change it at once may undo each other's change.
#[cfg(test)]
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tracing::{debug, info, subscriber::with_default};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn next(listener: &mut Listener) -> Option<String> {
        let line = listener.next().now_or_never()?;
        Some(String::from_utf8(line.to_vec()).unwrap())
    }

    /// Logs with a subscriber that has nothing but streams.
    fn streamed(work: impl FnOnce(&Streams)) {
        let _alone = ALONE.blocking_lock();
        let streams = Streams::default();
        let layers = vec![streams.layer(Form::Text), streams.layer(Form::Json)];
        with_default(tracing_subscriber::registry().with(layers), || work(&streams));
    }

    #[test]
    fn each_hears_what_he_wants_in_the_form_he_wants() {
        streamed(|streams| {
            let mut coarse = streams.listen(Level::WARN, Form::Text).unwrap();
            let mut fine = streams.listen(Level::DEBUG, Form::Text).unwrap();
            let mut json = streams.listen(Level::INFO, Form::Json).unwrap();
            debug!(n = 1, "first");
            warn!(n = 2, "second");
            info!(target: "hyper", "third");
            debug!(target: "hyper", "never");
            let line = next(&mut coarse).unwrap();
            let form = r"^\d{4}-\d\d-\d\dT[\d:.]+Z \[WARN\]  rollcall::[a-z:]+: second n=2\n$";
            assert!(regex::Regex::new(form).unwrap().is_match(&line), "{line}");
            assert_eq!(next(&mut coarse), None);
            let lines: Vec<_> = std::iter::from_fn(|| next(&mut fine)).collect();
            let ends = [": first n=1\n", ": second n=2\n", " [INFO]  hyper: third\n"];
            assert_eq!(lines.len(), ends.len(), "{lines:?}");
            assert!(lines.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{lines:?}");
            let line: serde_json::Value = serde_json::from_str(&next(&mut json).unwrap()).unwrap();
            assert_eq!((&line["level"], &line["n"]), (&"WARN".into(), &2.into()));
        });
    }

    #[test]
    fn what_nobody_listens_to_is_not_made() {
        assert!(!wanted(&[]).would_enable("rollcall::api", &Level::ERROR));
        let some = wanted(&[Level::WARN, Level::DEBUG, Level::ERROR]);
        assert!(some.would_enable("rollcall::api", &Level::DEBUG));
        assert!(!some.would_enable("rollcall::api", &Level::TRACE));
        assert!(some.would_enable("h2", &Level::INFO) && !some.would_enable("h2", &Level::DEBUG));
        assert!(!wanted(&[Level::ERROR]).would_enable("h2", &Level::WARN));
    }

    #[test]
    fn who_is_too_slow_is_told_how_many_lines_he_missed() {
        streamed(|streams| {
            for form in [Form::Text, Form::Json] {
                let mut listener = streams.listen(Level::INFO, form).unwrap();
                for n in 0..DEPTH + 5 {
                    info!(n, "line");
                }
                let line = next(&mut listener).unwrap();
                assert!(line.contains("Too slow") && line.contains('5'), "{line}");
                assert!(next(&mut listener).unwrap().contains("line"));
            }
        });
    }

    #[test]
    fn listeners_are_bounded_and_make_room_when_they_go() {
        let streams = Streams::default();
        let listen = || streams.listen(Level::INFO, Form::Text);
        let mut all: Vec<_> = (0..MOST).map(|_| listen().unwrap()).collect();
        assert!(listen().is_none() && streams.listen(Level::INFO, Form::Json).is_some());
        all.pop();
        assert!(listen().is_some());
    }
}
