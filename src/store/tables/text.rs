//! What many rows have in common is held once: names of services, tags, kinds, intervals, and all of
//! these together.

use std::{
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use crate::store::row::{CheckShape, Map, Row, ServiceShape};

/// Longer texts are seldom the same.
const LONGEST: usize = 64;

/// What rows share.
#[derive(Debug, Default)]
pub(super) struct Texts {
    single: Recent<str>,
    maps: Recent<Map>,
    services: Recent<ServiceShape>,
    checks: Recent<CheckShape>,
}

/// What was shared lately: of what falls on one place the last. So what is the same for many is
/// found nearly always, what is never the same costs nothing, and nothing is to be swept out.
#[derive(Debug)]
struct Recent<T: ?Sized> {
    places: Vec<Option<Arc<T>>>,
    hasher: foldhash::fast::RandomState,
}

impl<T: ?Sized> Default for Recent<T> {
    fn default() -> Self {
        Self { places: Vec::new(), hasher: foldhash::fast::RandomState::default() }
    }
}

impl<T: ?Sized + Hash + Eq> Recent<T> {
    const PLACES: usize = 4096;

    /// Where what is the same as this is, or is to be.
    fn place(&mut self, wanted: &T) -> &mut Option<Arc<T>> {
        if self.places.is_empty() {
            self.places.resize_with(Self::PLACES, || None);
        }
        let hash = self.hasher.hash_one(wanted);
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
        &mut self.places[hash as usize % Self::PLACES]
    }

    /// What is the same, if it is there.
    fn held(&mut self, wanted: &T) -> Option<Arc<T>> {
        self.place(wanted).clone().filter(|held| **held == *wanted)
    }
}

impl Texts {
    /// The same row, which holds what other rows hold already.
    pub(super) fn share(&mut self, mut row: Row) -> Row {
        match &mut row {
            Row::Service(row) => {
                if let Some(row) = Arc::get_mut(row) {
                    self.service_shape(&mut row.shape);
                    self.map(&mut row.meta);
                }
            }
            Row::Check(row) => {
                if let Some(row) = Arc::get_mut(row) {
                    self.check_shape(&mut row.shape);
                    self.one(&mut row.output);
                    self.one(&mut row.definition);
                }
            }
            // Of these there are few.
            Row::Node(_)
            | Row::Pair(_)
            | Row::Session(_)
            | Row::Tombstone(_)
            | Row::Note(_)
            | Row::Coordinate(_) => {}
        }
        row
    }

    fn map(&mut self, map: &mut Arc<Map>) {
        if let Some(held) = self.maps.held(map) {
            *map = held;
            return;
        }
        Arc::make_mut(map).texts_mut().for_each(|text| self.one(text));
        *self.maps.place(map) = Some(Arc::clone(map));
    }

    fn service_shape(&mut self, shape: &mut Arc<ServiceShape>) {
        if let Some(held) = self.services.held(shape) {
            *shape = held;
            return;
        }
        let own = Arc::make_mut(shape);
        self.one(&mut own.node);
        self.one(&mut own.name);
        for tag in Arc::make_mut(&mut own.tags) {
            self.one(tag);
        }
        *self.services.place(shape) = Some(Arc::clone(shape));
    }

    fn check_shape(&mut self, shape: &mut Arc<CheckShape>) {
        if let Some(held) = self.checks.held(shape) {
            *shape = held;
            return;
        }
        let own = Arc::make_mut(shape);
        for text in [&mut own.node, &mut own.name, &mut own.run, &mut own.notes, &mut own.kind] {
            self.one(text);
        }
        self.one(&mut own.interval);
        self.one(&mut own.timeout);
        *self.checks.place(shape) = Some(Arc::clone(shape));
    }

    fn one(&mut self, text: &mut Arc<str>) {
        if text.len() > LONGEST {
            return;
        }
        let place = self.single.place(text);
        match place {
            Some(held) if **held == **text => *text = Arc::clone(held),
            Some(_) | None => *place = Some(Arc::clone(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::row::Service;

    fn row(zone: &str) -> Service {
        let meta = [("zone".into(), zone.into()), ("version".into(), "1.2.3".into())];
        Service { meta: Arc::new(meta.into_iter().collect()), ..Service::default() }
    }

    fn share(texts: &mut Texts, row: &Service) -> Service {
        let Row::Service(row) = texts.share(Row::Service(Arc::new(row.clone()))) else {
            panic!("it is the row of an instance");
        };
        Service::clone(&row)
    }

    #[test]
    fn what_is_the_same_is_held_once_also_while_its_maker_looks_at_it() {
        let mut texts = Texts::default();
        let rows = [row("a"), row("a"), row("b")];
        let shared: Vec<_> = rows.iter().map(|row| share(&mut texts, row)).collect();
        assert_eq!(shared, rows);
        assert!(Arc::ptr_eq(&shared[0].meta, &shared[1].meta));
        let version = |row: &Service| Arc::clone(row.meta.get("version").unwrap());
        assert!(Arc::ptr_eq(&version(&shared[0]), &version(&shared[2])));
    }
}
