//! From a tree with places to the structs of the sections, reporting all that is wrong at once.
//!
//! serde stops at the first error. So [`Reader::read`] reads, notes the error with the place of
//! the innermost value that it arose at, takes that value out of the tree, and reads again, until
//! nothing is wrong or what is left lacks something it needs. The structs stay the only
//! description of what may be written; the JSON Schema is derived from the same ones.
//!
//! Two dialects are read. Ours is strict: unknown keys are errors, and a key without a value is
//! not the same as no key. Consul's takes any case of a key, with or without underscores, passes
//! over keys it does not know, and takes `null` for absent.
//!
//! `flatten` and untagged enums make serde buffer values and lose their places; the structs of the
//! configuration avoid the first, and an error within the second is reported for the whole value.

mod de;
mod fault;

use std::sync::Arc;

use serde::Deserialize;

use self::{de::De, fault::Kind};
use super::{
    diagnostic::{Place, Problem, Source},
    tree::{Entry, Node, Span, Value},
};
use crate::{
    consul::same_key,
    probe::{egress::Policy, exec},
};

/// Most problems of one value that are looked for: each costs one more reading of the value.
const MAX_FAULTS: usize = 100;

/// How a file spells things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Our own: every key is known and means something.
    Strict,
    /// Consul's service definitions.
    Consul,
}

/// What came out of a tree.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// The value, with defaults in place of what was wrong.
    pub value: T,
    /// Whether defaults stand in place of what was wrong.
    pub fidelity: Fidelity,
}

/// Whether a value is what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fidelity {
    /// It is.
    Whole,
    /// Keys that are not known have been left out; one of them may be a known one misspelt.
    Trimmed,
    /// Something was wrong and has been left out.
    Lossy,
}

/// What checks may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct May<'a> {
    /// Where probes may go.
    pub egress: &'a Policy,
    /// From where checks that run a program may come.
    pub exec: exec::Allowed,
}

/// Reads the trees of one file and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// The file.
    pub source: &'a Arc<Source>,
    /// How it spells things.
    pub dialect: Dialect,
    /// What checks may do.
    pub may: May<'a>,
    /// What is wrong so far, over all files.
    pub problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// A place in the file.
    pub(super) fn place(&self, span: &Span) -> Place {
        Place::new(self.source, span.clone())
    }

    /// Notes a problem.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reads a value; none if it cannot even be read with defaults in place of what is wrong.
    pub(super) fn read<T: for<'de> Deserialize<'de>>(
        &mut self,
        mut node: Node,
    ) -> Option<Reading<T>> {
        let whole = node.span.clone();
        let mut removed: Vec<Span> = Vec::new();
        let mut fidelity = Fidelity::Whole;
        while removed.len() < MAX_FAULTS {
            let fault = match T::deserialize(De { node: &node, dialect: self.dialect }) {
                Ok(value) => return Some(Reading { value, fidelity }),
                Err(fault) => *fault.0,
            };
            let span = fault.span.clone().unwrap_or_else(|| node.span.clone());
            // What lacks a key because that key was wrong has been reported already.
            let follows = fault.kind == Kind::Missing
                && removed.iter().any(|gone| span.start <= gone.start && gone.end <= span.end);
            fidelity = fidelity.max(match fault.kind {
                Kind::Unknown => Fidelity::Trimmed,
                Kind::Missing | Kind::Other => Fidelity::Lossy,
            });
            let path = fault.path.clone();
            if !follows {
                self.report(fault.into_problem(self.place(&span)));
            }
            removed.push(remove(&mut node, &path)?);
        }
        let problem = Problem::error("too much is wrong with this part of the file")
            .at(self.place(&whole), format!("given up after {MAX_FAULTS} problems"));
        self.report(problem);
        None
    }

    /// Finds a key of a mapping in the spelling of the dialect; in Consul's, `null` is no value.
    pub(super) fn find<'n>(&self, node: &'n Node, key: &str) -> Option<&'n Entry> {
        match self.dialect {
            Dialect::Strict => node.entry(key),
            Dialect::Consul => node
                .entries()
                .iter()
                .find(|entry| same_key(key, &entry.key) && entry.value.value != Value::Null),
        }
    }

    /// Takes a key out of a mapping, as [`Self::find`] finds it.
    pub(super) fn take(&self, node: &mut Node, key: &str) -> Option<Entry> {
        let found = self.find(node, key)?.key.clone();
        node.take(&found)
    }

    /// Takes a list out of a mapping so that its items can be read one by one. An empty value is
    /// an empty list.
    pub(super) fn take_list(&mut self, node: &mut Node, key: &str) -> Vec<Node> {
        let Some(entry) = node.take(key) else { return Vec::new() };
        match entry.value.value {
            Value::Seq(items) => items,
            Value::Null => Vec::new(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Map(_) => {
                let found = format!("found {}", fault::describe(&entry.value));
                let place = self.place(&entry.value.span);
                self.report(Problem::error("expected a list").at(place, found));
                Vec::new()
            }
        }
    }
}

/// Takes the node at a path out of its tree, with its key. None for the root.
fn remove(root: &mut Node, path: &[usize]) -> Option<Span> {
    let (&last, above) = path.split_last()?;
    let mut node = root;
    for &step in above {
        node = match &mut node.value {
            Value::Seq(items) => items.get_mut(step)?,
            Value::Map(entries) => &mut entries.get_mut(step)?.value,
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => {
                return None;
            }
        };
    }
    match &mut node.value {
        Value::Seq(items) if last < items.len() => Some(items.remove(last).span),
        Value::Map(entries) if last < entries.len() => Some(entries.remove(last).key_span),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Seq(_)
        | Value::Map(_) => None,
    }
}
