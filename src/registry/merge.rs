//! How a list of registrations is brought together with what is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
    ops::Bound,
    sync::{Arc, Weak},
};

use super::{
    Assigned, Check, Class, Definition, Difference, Instance, Listed, Order, Registration, Source,
    Start, endpoint_of,
    snapshot::{Maintained, Snapshot},
};
use crate::{
    compact::{ByKey, Few},
    judge::{Machine, Streak},
    metrics::{ClassSlot, Slot, text},
    model::{CheckId, CheckKey, InstanceId, ServiceName},
    probe::{Protocol, Target},
};

/// All that is registered.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) instances: HashMap<ByKey<Instance>, Held, foldhash::fast::RandomState>,
    /// The instances of each service, in order.
    pub(super) services: BTreeMap<ServiceName, BTreeSet<ByKey<Instance>>>,
    pub(super) maintenance: Maintained,
    classes: HashMap<(ServiceName, CheckId, Protocol), Kin, foldhash::fast::RandomState>,
}

/// What is held of an instance.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) source: Source,
    /// By id.
    pub(super) checks: Few<Arc<Check>>,
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
    pub(super) fn listed(&self, id: &str) -> Option<Listed> {
        let (ByKey(instance), held) = self.instances.get_key_value(id)?;
        let own = self.maintenance.get(&instance.id);
        Some(Listed {
            source: held.source,
            instance: Arc::clone(instance),
            checks: held.checks.to_vec(),
            maintenance: own.or_else(|| self.maintenance.node.clone()),
        })
    }

    /// All instances after one, or all there are, by service name and id.
    pub(super) fn instances_after(
        &self,
        last: Option<&ByKey<Instance>>,
    ) -> impl Iterator<Item = &ByKey<Instance>> {
        let rest = last.and_then(|last| {
            let service = self.services.get(&last.0.service)?;
            Some(service.range::<ByKey<Instance>, _>((Bound::Excluded(last), Bound::Unbounded)))
        });
        let after = last.map_or(Bound::Unbounded, |last| Bound::Excluded(&last.0.service));
        let others = self.services.range::<ServiceName, _>((after, Bound::Unbounded));
        rest.into_iter().flatten().chain(others.flat_map(|(_, instances)| instances))
    }

    /// Becomes exactly this list. Says what is to be done, and how much that is.
    pub(super) fn replace(
        &mut self,
        registrations: Vec<Registration>,
        remembered: &mut Snapshot,
    ) -> (Difference, Vec<Order>) {
        let are_configured = self.instances.values().any(|held| held.source == Source::Config);
        if registrations.is_empty() && !are_configured {
            return (Difference::default(), Vec::new());
        }
        let mut before = mem::take(&mut self.instances);
        self.instances.reserve(registrations.len());
        let mut merge = Merge { remembered, orders: Vec::with_capacity(registrations.len()) };
        let mut difference = Difference::default();
        for registration in registrations {
            let old = before.remove_entry(registration.instance.id.as_str());
            let held = old.as_ref().map(|(instance, _)| instance.clone());
            let ordered = merge.orders.len();
            let (instance, listed) = self.list(registration, (Source::Config, old), &mut merge);
            match held {
                None => difference.registered += 1,
                Some(held) => {
                    let same = Arc::ptr_eq(&held.0, &instance.0);
                    difference.changed += usize::from(!same || merge.orders.len() > ordered);
                }
            }
            self.instances.insert(instance, listed);
        }
        let (mut gone, others): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|(_, held)| held.source == Source::Config);
        self.instances.extend(others);
        difference.deregistered = gone.len();
        gone.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (instance, _) in &gone {
            self.maintenance.set(&instance.0.id, None);
        }
        let gone = gone.iter().flat_map(|(_, held)| &held.checks);
        merge.orders.extend(gone.map(|check| Order::Stop(check.key.clone())));
        self.list_services();
        self.drop_empty_classes();
        (difference, merge.orders)
    }

    /// Lists the instances of all services anew.
    fn list_services(&mut self) {
        let mut services: HashMap<_, Vec<_>, foldhash::fast::RandomState> = HashMap::default();
        for instance in self.instances.keys() {
            services.entry(&instance.0.service).or_default().push(instance.clone());
        }
        let services = services.into_iter();
        self.services =
            services.map(|(name, all)| (name.clone(), all.into_iter().collect())).collect();
    }

    /// Takes in one registration, in place of the one with the same id. Says what is to be done.
    pub(super) fn put(
        &mut self,
        registration: Registration,
        source: Source,
        remembered: &mut Snapshot,
    ) -> Vec<Order> {
        let mut merge = Merge { remembered, orders: Vec::new() };
        let old = self.instances.remove_entry(registration.instance.id.as_str());
        if let Some((instance, _)) = &old {
            self.leave(&instance.0);
        }
        let before = old.as_ref().map(|(_, held)| held.checks.clone()).unwrap_or_default();
        let (instance, listed) = self.list(registration, (source, old), &mut merge);
        let service = self.services.entry(instance.0.service.clone()).or_default();
        service.insert(instance.clone());
        let kept = listed.checks.clone();
        self.instances.insert(instance, listed);
        let is_kept =
            |check: &&Arc<Check>| kept.iter().any(|kept| Arc::ptr_eq(&kept.class, &check.class));
        before.iter().filter(|check| !is_kept(check)).for_each(|check| self.let_class_go(check));
        merge.orders
    }

    /// Lets an instance go. Says what is to be done.
    pub(super) fn remove(&mut self, id: &InstanceId) -> Vec<Order> {
        let Some((instance, held)) = self.instances.remove_entry(id.as_str()) else {
            return Vec::new();
        };
        self.leave(&instance.0);
        self.maintenance.set(id, None);
        let stops = held.checks.iter().map(|check| Order::Stop(check.key.clone())).collect();
        held.checks.iter().for_each(|check| self.let_class_go(check));
        stops
    }

    /// Takes an instance from the list of its service.
    fn leave(&mut self, instance: &Instance) {
        if let Some(instances) = self.services.get_mut(&instance.service) {
            instances.remove(instance.id.as_str());
            if instances.is_empty() {
                self.services.remove(&instance.service);
            }
        }
    }

    /// Forgets the class of a check that has gone if it was the last of it.
    fn let_class_go(&mut self, gone: &Check) {
        let service = &gone.instance.service;
        let mut others = self.services.get(service).into_iter().flatten();
        let is_kept = others.any(|other| {
            let held = self.instances.get(other).filter(|_| other.0.id != gone.instance.id);
            held.is_some_and(|h| h.checks.iter().any(|c| Arc::ptr_eq(&c.class, &gone.class)))
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
        (source, old): (Source, Option<(ByKey<Instance>, Held)>),
        merge: &mut Merge<'_>,
    ) -> (ByKey<Instance>, Held) {
        let (instance, mut before) = match old {
            Some((ByKey(instance), held)) if *instance == registration.instance => {
                (instance, held.checks.to_vec())
            }
            Some((_, held)) => (Arc::new(registration.instance), held.checks.to_vec()),
            None => (Arc::new(registration.instance), Vec::new()),
        };
        let mut checks = Vec::with_capacity(registration.checks.len());
        for assigned in registration.checks {
            let held = before.iter().position(|check| check.key.check == assigned.definition.id);
            match held.map(|index| before.swap_remove(index)) {
                Some(check) if check.same_as(&instance, &assigned) => checks.push(check),
                held => {
                    // Under another id it is another check, of which nothing is known.
                    let (same, other) = match held {
                        Some(held) if held.consul_id == assigned.consul_id => (Some(held), None),
                        other => (None, other),
                    };
                    merge.orders.extend(other.map(|other| Order::Stop(other.key.clone())));
                    checks.push(self.run(&instance, assigned, same.as_deref(), merge));
                }
            }
        }
        merge.orders.extend(before.into_iter().map(|gone| Order::Stop(gone.key.clone())));
        checks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        (ByKey(instance), Held { source, checks: checks.into() })
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
        let checks = self.instances.values().flat_map(|held| &held.checks);
        let live = checks.map(|check| Arc::as_ptr(&check.class));
        let live: HashSet<_, foldhash::fast::RandomState> = live.collect();
        self.classes.retain(|_, kin| live.contains(&Arc::as_ptr(&kin.class)));
    }

    /// Tells the scheduler how these instances stand now.
    pub(super) fn maintenance_orders<'a>(
        &self,
        instances: impl IntoIterator<Item = &'a Held>,
        reason: Option<Arc<str>>,
    ) -> Vec<Order> {
        let reason = reason.unwrap_or_else(|| "maintenance ended".into());
        let checks = instances.into_iter().flat_map(|held| &held.checks);
        checks
            .map(|check| Order::Maintain {
                key: check.key.clone(),
                maintenance: self.maintenance.of(&check.key.instance),
                reason: Arc::clone(&reason),
            })
            .collect()
    }
}
