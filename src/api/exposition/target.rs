//! What is shown of each target, read once and laid close together: a hundred bytes a target.

use std::sync::Arc;

use crate::{
    metrics::{Glance, PerTarget},
    registry::{Check, Class},
};

/// All targets, in the order in which they are shown.
#[derive(Debug)]
pub(super) struct Targets {
    checks: Vec<Arc<Check>>,
    seen: Vec<Seen>,
    /// The classes of those that follow each other, one after the other.
    classes: Vec<Arc<Class>>,
    /// The names of the instances, one after the other.
    names: String,
}

#[derive(Debug)]
struct Seen {
    glance: Glance,
    class: u32,
    /// Where the name ends; it begins where the one before ends.
    end: u32,
}

impl Targets {
    /// Looks at all of these, if anything is shown of them.
    pub(super) fn new(checks: Vec<Arc<Check>>, shown: PerTarget) -> Self {
        let looked_at: &[Arc<Check>] = if shown == PerTarget::Off { &[] } else { &checks[..] };
        let mut seen = Vec::with_capacity(looked_at.len());
        let mut classes: Vec<Arc<Class>> = Vec::new();
        let mut names = String::new();
        for check in looked_at {
            if classes.last().is_none_or(|last| !Arc::ptr_eq(last, &check.class)) {
                classes.push(Arc::clone(&check.class));
            }
            names.push_str(check.key.instance.as_str());
            seen.push(Seen {
                glance: check.slot.glance(),
                class: offset(classes.len() - 1),
                end: offset(names.len()),
            });
        }
        Self { checks, seen, classes, names }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn check(&self, index: usize) -> &Check {
        &self.checks[index]
    }

    /// Those from `first` on: what was seen, the class, and the name.
    pub(super) fn starting_at(
        &self,
        first: usize,
    ) -> impl Iterator<Item = (&Glance, &Arc<Class>, &str)> {
        let before = first.checked_sub(1).map_or(0, |before| self.seen[before].end);
        self.seen[first..].iter().scan(before, move |start, seen| {
            let name = &self.names[*start as usize..seen.end as usize];
            *start = seen.end;
            Some((&seen.glance, &self.classes[seen.class as usize], name))
        })
    }
}

fn offset(n: usize) -> u32 {
    u32::try_from(n).expect("names of 4 GiB do not fit in memory beside their checks")
}
