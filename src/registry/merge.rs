//! How a list of registrations is brought together with what is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Weak},
};

use super::{
    Assigned, Check, Class, Definition, Difference, Instance, Listed, Order, Registration, Source,
    Start, endpoint_of,
    snapshot::{Maintained, Snapshot},
};
use crate::{
    judge::{Machine, Streak},
    metrics::{ClassSlot, Slot, text},
    model::{CheckId, CheckKey, InstanceId, ServiceName},
    probe::{Protocol, Target},
};

/// All that is registered.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) instances: BTreeMap<InstanceId, Listed>,
    /// The instances of each service, in order.
    pub(super) services: BTreeMap<ServiceName, BTreeSet<InstanceId>>,
    pub(super) maintenance: Maintained,
    classes: HashMap<(ServiceName, CheckId, Protocol), Kin>,
}

/// What the checks of a class have in common.
#[derive(Debug)]
struct Kin {
    class: Arc<Class>,
    /// What the latest of them asks: the next one most often asks the same, and shares it.
    definition: Weak<Definition>,
}

/// What a merge reads and writes beside the state.
struct Merge<'a> {
    remembered: &'a mut Snapshot,
    orders: Vec<Order>,
}

impl State {
    /// A state of nothing but what operators have taken out.
    pub(super) fn new(maintenance: Maintained) -> Self {
        Self { maintenance, ..Self::default() }
    }

    /// An instance as it is now.
    pub(super) fn listed(&self, id: &InstanceId) -> Option<Listed> {
        let listed = self.instances.get(id)?.clone();
        let maintenance = self.maintenance.get(id).or_else(|| self.maintenance.node.clone());
        Some(Listed { maintenance, ..listed })
    }

    /// Becomes exactly this list. Says what is to be done, and how much that is.
    pub(super) fn replace(
        &mut self,
        registrations: Vec<Registration>,
        remembered: &mut Snapshot,
    ) -> (Difference, Vec<Order>) {
        let held = std::mem::take(&mut self.instances);
        let (mut before, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            held.into_iter().partition(|(_, listed)| listed.source == Source::Config);
        self.instances = others;
        self.services.clear();
        let mut merge = Merge { remembered, orders: Vec::new() };
        let mut difference = Difference::default();
        for registration in registrations {
            let id = &registration.instance.id;
            let old = before.remove(id).or_else(|| self.instances.remove(id));
            let held = old.as_ref().map(|listed| Arc::clone(&listed.instance));
            let ordered = merge.orders.len();
            let listed = self.list(registration, (Source::Config, old), &mut merge);
            match held {
                None => difference.registered += 1,
                Some(held) => {
                    let same = Arc::ptr_eq(&held, &listed.instance);
                    difference.changed += usize::from(!same || merge.orders.len() > ordered);
                }
            }
            self.instances.insert(listed.instance.id.clone(), listed);
        }
        difference.deregistered = before.len();
        let gone = before.into_values().flat_map(|listed| listed.checks);
        merge.orders.extend(gone.map(|check| Order::Stop(check.key.clone())));
        for (id, listed) in &self.instances {
            self.services.entry(listed.instance.service.clone()).or_default().insert(id.clone());
        }
        self.drop_empty_classes();
        (difference, merge.orders)
    }

    /// Takes in one registration, in place of the one with the same id. Says what is to be done.
    pub(super) fn put(
        &mut self,
        registration: Registration,
        source: Source,
        remembered: &mut Snapshot,
    ) -> Vec<Order> {
        let mut merge = Merge { remembered, orders: Vec::new() };
        let id = registration.instance.id.clone();
        let old = self.instances.remove(&id);
        if let Some(old) = &old {
            self.leave(old);
        }
        let before = old.as_ref().map(|old| old.checks.clone()).unwrap_or_default();
        let listed = self.list(registration, (source, old), &mut merge);
        self.services.entry(listed.instance.service.clone()).or_default().insert(id.clone());
        let kept: Vec<_> = listed.checks.iter().map(|check| Arc::clone(&check.class)).collect();
        self.instances.insert(id, listed);
        let is_kept = |check: &&Arc<Check>| kept.iter().any(|c| Arc::ptr_eq(c, &check.class));
        before.iter().filter(|check| !is_kept(check)).for_each(|check| self.let_class_go(check));
        merge.orders
    }

    /// Lets an instance go. Says what is to be done.
    pub(super) fn remove(&mut self, id: &InstanceId) -> Vec<Order> {
        let Some(listed) = self.instances.remove(id) else { return Vec::new() };
        self.leave(&listed);
        self.maintenance.set(id, None);
        let stops = listed.checks.iter().map(|check| Order::Stop(check.key.clone())).collect();
        listed.checks.iter().for_each(|check| self.let_class_go(check));
        stops
    }

    /// Takes an instance from the list of its service.
    fn leave(&mut self, listed: &Listed) {
        let service = &listed.instance.service;
        if let Some(instances) = self.services.get_mut(service) {
            instances.remove(&listed.instance.id);
            if instances.is_empty() {
                self.services.remove(service);
            }
        }
    }

    /// Forgets the class of a check that has gone if it was the last of it.
    fn let_class_go(&mut self, gone: &Check) {
        let service = &gone.instance.service;
        let mut others = self.services.get(service).into_iter().flatten();
        let is_kept = others.any(|id| {
            let listed =
                self.instances.get(id).filter(|listed| listed.instance.id != gone.instance.id);
            listed.is_some_and(|l| l.checks.iter().any(|c| Arc::ptr_eq(&c.class, &gone.class)))
        });
        if !is_kept {
            let protocol = gone.definition.probe.protocol();
            self.classes.remove(&(service.clone(), gone.key.check.clone(), protocol));
        }
    }

    /// Brings one registration together with what was there of it.
    fn list(
        &mut self,
        registration: Registration,
        (source, old): (Source, Option<Listed>),
        merge: &mut Merge<'_>,
    ) -> Listed {
        let (instance, mut before) = match old {
            Some(old) if *old.instance == registration.instance => (old.instance, old.checks),
            Some(old) => (Arc::new(registration.instance), old.checks),
            None => (Arc::new(registration.instance), Vec::new()),
        };
        let mut checks = Vec::with_capacity(registration.checks.len());
        for assigned in registration.checks {
            let held = before.iter().position(|check| check.key.check == assigned.definition.id);
            match held.map(|index| before.swap_remove(index)) {
                Some(check) if check.same_as(&instance, &assigned) => checks.push(check),
                held => {
                    // Under another id it is another check, of which nothing is known.
                    let held = held.filter(|held| held.consul_id == assigned.consul_id);
                    checks.push(self.run(&instance, assigned, held.as_deref(), merge));
                }
            }
        }
        merge.orders.extend(before.into_iter().map(|gone| Order::Stop(gone.key.clone())));
        checks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Listed { source, instance, checks, maintenance: None }
    }

    /// Makes a check, from what is held or remembered of it, and orders it to run.
    fn run(
        &mut self,
        instance: &Arc<Instance>,
        assigned: Assigned,
        held: Option<&Check>,
        merge: &mut Merge<'_>,
    ) -> Arc<Check> {
        let endpoint = endpoint_of(instance, &assigned).clone();
        let (class, definition) = self.kin(instance, assigned.definition);
        let check = Check {
            key: CheckKey { instance: instance.id.clone(), check: definition.id.clone() },
            instance: Arc::clone(instance),
            class,
            target: Target::new(Arc::clone(&definition.probe), endpoint),
            definition,
            consul_id: assigned.consul_id,
            initial: assigned.initial,
            slot: Slot::default(),
        };
        let maintenance = self.maintenance.of(&instance.id);
        let start = match held {
            Some(held) if held.same_target_as(&check) => {
                check.slot.inherit(&held.slot);
                Start::InPlace
            }
            // Another target, but the same id: its status stays until there are results.
            Some(held) => {
                let is_pushed = |check: &Check| check.definition.probe.pushed().is_some();
                if is_pushed(held) != is_pushed(&check) {
                    merge.orders.push(Order::Stop(check.key.clone()));
                }
                let verdict = held.slot.read_numbers().verdict;
                let machine = Machine::restore(verdict, Streak::None, maintenance);
                check.slot.judged(&machine);
                Start::Afresh(machine)
            }
            None => Start::Afresh(merge.remembered.recall(&check, maintenance)),
        };
        let check = Arc::new(check);
        merge.orders.push(Order::Run(Arc::clone(&check), start));
        check
    }

    /// The class of a check, and its definition as others of the class have it already.
    fn kin(
        &mut self,
        instance: &Instance,
        definition: Arc<Definition>,
    ) -> (Arc<Class>, Arc<Definition>) {
        let protocol = definition.probe.protocol();
        let key = (instance.service.clone(), definition.id.clone(), protocol);
        let kin = self.classes.entry(key).or_insert_with(|| {
            let mut labels = String::new();
            text::push_label(&mut labels, "check", definition.id.as_str());
            text::push_label(&mut labels, "service_name", instance.service.as_str());
            text::push_label(&mut labels, "protocol", protocol.as_str());
            let class = Arc::new(Class { labels: labels.into(), slot: ClassSlot::default() });
            Kin { class, definition: Weak::new() }
        });
        let shared = kin.definition.upgrade().filter(|held| held.is_same_as(&definition));
        let definition = shared.unwrap_or(definition);
        kin.definition = Arc::downgrade(&definition);
        (Arc::clone(&kin.class), definition)
    }

    fn drop_empty_classes(&mut self) {
        let checks = self.instances.values().flat_map(|listed| &listed.checks);
        let live: HashSet<_> = checks.map(|check| Arc::as_ptr(&check.class)).collect();
        self.classes.retain(|_, kin| live.contains(&Arc::as_ptr(&kin.class)));
    }

    /// Tells the scheduler how these instances stand now.
    pub(super) fn maintenance_orders<'a>(
        &self,
        instances: impl IntoIterator<Item = &'a Listed>,
        reason: Option<Arc<str>>,
    ) -> Vec<Order> {
        let reason = reason.unwrap_or_else(|| "maintenance ended".into());
        let checks = instances.into_iter().flat_map(|listed| &listed.checks);
        checks
            .map(|check| Order::Maintain {
                key: check.key.clone(),
                maintenance: self.maintenance.of(&check.key.instance),
                reason: Arc::clone(&reason),
            })
            .collect()
    }
}
