//! Our own log: where it goes, in which form, how much of it.
//!
//! Lines go to standard error, through a bounded queue and a thread of their own: whoever logs never
//! waits for whoever reads the log, and when the queue is full lines are dropped. The filter can be
//! changed while the daemon runs. Panics are lines like any other. What is logged can be listened to as
//! well ([`Streams`]).

use std::{io, io::IsTerminal as _, panic};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::error;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::ParseError,
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    reload,
    util::{SubscriberInitExt as _, TryInitError},
};

mod stream;

#[cfg(test)]
pub(crate) use stream::ALONE;
pub use stream::{Form, Listener, Streams};

/// The daemon's own log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The form of the lines: `auto` writes text to a terminal and JSON anywhere else.
    pub format: Format,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or a list of
    /// `module=level` as tracing's `EnvFilter` reads it.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, filter: "info".to_owned() }
    }
}

/// The form of log lines.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON anywhere else.
    #[default]
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be understood.
    #[error("cannot understand the log filter {filter:?}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Another log has been set up in this process.
    #[error("the log has been set up already")]
    Twice(#[from] TryInitError),
    /// The log is gone.
    #[error("the log filter cannot be changed any more")]
    Gone(#[from] reload::Error),
}

/// Lines that may wait to be written; further ones are dropped.
const QUEUE: usize = 10_000;

/// Changes the log while it runs.
#[derive(Debug, Clone)]
pub struct Handle {
    filter: reload::Handle<EnvFilter, Registry>,
    streams: Streams,
}

/// Writes what waits to be written when it is dropped, if that takes no longer than a second.
#[derive(Debug)]
pub struct Flush {
    _worker: WorkerGuard,
}

/// Checks a filter without setting anything up.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })
}

/// Sets up the log of this process. Lines are written as long as the second result is held.
pub fn init(config: &Config) -> Result<(Handle, Flush), Error> {
    let (filter, handle) = reload::Layer::new(parse_filter(&config.filter)?);
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(io::stderr());
    let streams = Streams::default();
    let layers = vec![
        written(config.format, writer).with_filter(filter).boxed(),
        streams.layer(Form::Text),
        streams.layer(Form::Json),
    ];
    tracing_subscriber::registry().with(layers).try_init()?;
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied());
        error!(place, said, "Panic");
    }));
    Ok((Handle { filter: handle, streams }, Flush { _worker: worker }))
}

impl Handle {
    /// Changes what is logged.
    pub fn set_filter(&self, filter: &str) -> Result<(), Error> {
        Ok(self.filter.reload(parse_filter(filter)?)?)
    }

    /// Where it may be listened to.
    pub fn streams(&self) -> Streams {
        self.streams.clone()
    }
}

/// What goes to standard error.
fn written<W>(format: Format, writer: W) -> Lines
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let terminal = io::stderr().is_terminal();
    let text = match format {
        Format::Auto => terminal,
        Format::Text => true,
        Format::Json => false,
    };
    if !text {
        return json(writer);
    }
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(terminal)
        .with_target(false)
        .boxed()
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Events as lines of JSON.
fn json<W>(writer: W) -> Lines
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_understood_is_told() {
        assert!(parse_filter("info,rollcall::probe=debug").is_ok());
        let error = parse_filter("rollcall=loud").unwrap_err();
        assert_eq!(error.to_string(), "cannot understand the log filter \"rollcall=loud\"");
    }
}
