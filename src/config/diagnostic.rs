//! What is wrong with a configuration, and where, in the manner of rustc.
//!
//! A [`Problem`] states the rule that was broken; its label says what was found at the place, its
//! help what to do. Problems are collected, never returned early, so that one run shows them all.

use std::{fmt, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use tracing::{error, warn};

use crate::spelling;

/// Most problems that are written out; the rest is counted. Nobody reads more.
const MAX_SHOWN: usize = 100;

/// Longest line that is quoted, in bytes: a minified file is one line of megabytes.
const MAX_QUOTED_LINE: usize = 4096;

/// A file that was read, by the name the user gave it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// A file's name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// The name the user gave the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is in it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    /// The bytes `span` of a file; a span that does not fit the text is cut to it.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        let end = floor(&source.text, span.end);
        let start = floor(&source.text, span.start.min(end));
        Self { source: Arc::clone(source), span: start..end }
    }

    /// The file.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The bytes of the file.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Line and column, both from 1, the column in characters.
    pub fn position(&self) -> (usize, usize) {
        let before = &self.source.text[..self.span.start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The line the place starts in, and the place cut to that line: an underlined block of forty
    /// lines says less than its first line.
    fn first_line(&self) -> (&str, Range<usize>) {
        let text = &self.source.text;
        let start = text[..self.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[start..end].trim_end_matches('\r');
        let from = (self.span.start - start).min(line.len());
        let to = (self.span.end - start).clamp(from, line.len());
        (line, from..to.max(from))
    }
}

/// The nearest character border at or before `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and somebody should look.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The rule that was broken.
    pub message: String,
    /// Where, if it is in a file.
    pub place: Option<Place>,
    /// What is at the place.
    pub label: String,
    /// Another place that has to do with it, and how.
    pub related: Option<(Place, String)>,
    /// What to do.
    pub help: Vec<String>,
}

impl Problem {
    /// A rule broken in a way that makes the configuration unusable.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    /// Something that somebody should look at.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self {
            severity,
            message,
            place: None,
            label: String::new(),
            related: None,
            help: Vec::new(),
        }
    }

    /// Says where it is and what is there.
    #[must_use]
    pub fn at(mut self, place: Place, label: impl Into<String>) -> Self {
        self.place = Some(place);
        self.label = label.into();
        self
    }

    /// Names another place that has to do with it.
    #[must_use]
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related = Some((place, label.into()));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    fn key(&self) -> (&str, usize, Severity, &str) {
        let place = self.place.as_ref();
        (
            place.map_or("", |place| place.source.name()),
            place.map_or(0, |place| place.span.start),
            self.severity,
            &self.message,
        )
    }

    fn groups(&self) -> Vec<Group<'_>> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        if let Some(place) = &self.place {
            group = quote(group, place, &self.label);
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let mut groups = vec![group];
        if let Some((place, label)) = &self.related {
            let title =
                Level::NOTE.secondary_title(annotate_snippets::normalize_untrusted_str(label));
            groups.push(quote(Group::with_title(title), place, ""));
        }
        groups
    }
}

/// Adds the line of a place to a group, or only its address if the line is too long to be quoted.
fn quote<'a>(group: Group<'a>, place: &'a Place, label: &'a str) -> Group<'a> {
    let (line, column) = place.position();
    let (text, span) = place.first_line();
    if text.len() > MAX_QUOTED_LINE {
        let origin = Origin::path(place.source.name()).line(line).char_column(column);
        let group = group.element(origin);
        return match label {
            "" => group,
            label => group.element(Level::NOTE.message(label)),
        };
    }
    let label = (!label.is_empty()).then_some(label);
    let annotation = AnnotationKind::Primary.span(span).label(label);
    let snippet = Snippet::source(text).line_start(line).path(place.source.name());
    group.element(snippet.annotation(annotation))
}

/// Whether text may hold colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Paint {
    /// Text alone.
    #[default]
    Plain,
    /// With the colours of a terminal.
    Colour,
}

/// Problems in the order of files and places, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// Orders problems and drops those said twice (an alias is looked at wherever it is used).
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.key().cmp(&b.key()));
        problems.dedup();
        Self { problems }
    }

    /// The problems, in order.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Writes every problem to the log, one event each.
    pub fn log(&self) {
        for Problem { severity, message, place, label, help, .. } in &self.problems {
            let at = place.as_ref().map(|place| {
                let (line, column) = place.position();
                format!("{}:{line}:{column}", place.source().name())
            });
            let help = (!help.is_empty()).then(|| help.join("; "));
            match severity {
                Severity::Error => error!(at, problem = message, label, help, "Configuration"),
                Severity::Warning => warn!(at, problem = message, label, help, "Configuration"),
            }
        }
    }

    /// The report for people, as rustc would write it; empty if there is no problem.
    pub fn render(&self, paint: Paint) -> String {
        let renderer = match paint {
            Paint::Plain => Renderer::plain(),
            Paint::Colour => Renderer::styled(),
        };
        let mut out = String::new();
        for problem in self.problems.iter().take(MAX_SHOWN) {
            out.push_str(&renderer.render(&problem.groups()));
            out.push_str("\n\n");
        }
        if !self.is_empty() {
            let summary = self.summary();
            out.push_str(&renderer.render(&[Group::with_title(summary)]));
            out.push('\n');
        }
        out
    }

    fn summary(&self) -> annotate_snippets::Title<'static> {
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let mut text = format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"));
        if self.problems.len() > MAX_SHOWN {
            text = format!("{text}; the first {MAX_SHOWN} are shown");
        }
        let level = if errors > 0 { Level::ERROR } else { Level::WARNING };
        level.primary_title(text)
    }
}

/// Plain text.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Paint::Plain))
    }
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The candidate that `word` is most likely a slip of the pen for.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    // A third of the letters may differ: more is another word, less misses swapped letters.
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (spelling::distance(&word, candidate), candidate))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}
