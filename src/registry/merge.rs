//! How a list of registrations is brought together with what is there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    Assigned, Check, Class, Definition, Difference, Instance, Listed, Order, Registration, Start,
    endpoint_of,
    snapshot::{Maintained, Snapshot},
};
use crate::{
    judge::Machine,
    metrics::{ClassSlot, Slot, text},
    model::{CheckId, CheckKey, InstanceId, ServiceName},
    probe::{Protocol, Target},
};

/// All that is registered.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) instances: BTreeMap<InstanceId, Listed>,
    /// The instances of each service, in order.
    pub(super) services: BTreeMap<ServiceName, Vec<InstanceId>>,
    pub(super) maintenance: Maintained,
    classes: HashMap<(ServiceName, CheckId, Protocol), Arc<Class>>,
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
        let mut before = std::mem::take(&mut self.instances);
        self.services.clear();
        let mut merge = Merge { remembered, orders: Vec::new() };
        let mut difference = Difference::default();
        for registration in registrations {
            let old = before.remove(&registration.instance.id);
            let held = old.as_ref().map(|listed| Arc::clone(&listed.instance));
            let ordered = merge.orders.len();
            let listed = self.list(registration, old, &mut merge);
            match held {
                None => difference.registered += 1,
                Some(held) => {
                    let same = Arc::ptr_eq(&held, &listed.instance);
                    difference.changed += usize::from(!same || merge.orders.len() > ordered);
                }
            }
            let service = self.services.entry(listed.instance.service.clone()).or_default();
            service.push(listed.instance.id.clone());
            self.instances.insert(listed.instance.id.clone(), listed);
        }
        difference.deregistered = before.len();
        let gone = before.into_values().flat_map(|listed| listed.checks);
        merge.orders.extend(gone.map(|check| Order::Stop(check.key.clone())));
        for instances in self.services.values_mut() {
            instances.sort_unstable();
        }
        self.drop_empty_classes();
        (difference, merge.orders)
    }

    /// Brings one registration together with what was there of it.
    fn list(
        &mut self,
        registration: Registration,
        old: Option<Listed>,
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
                held => checks.push(self.run(&instance, assigned, held.as_deref(), merge)),
            }
        }
        merge.orders.extend(before.into_iter().map(|gone| Order::Stop(gone.key.clone())));
        checks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Listed { instance, checks, maintenance: None }
    }

    /// Makes a check, from what is held or remembered of it, and orders it to run.
    fn run(
        &mut self,
        instance: &Arc<Instance>,
        assigned: Assigned,
        held: Option<&Check>,
        merge: &mut Merge<'_>,
    ) -> Arc<Check> {
        let key = CheckKey { instance: instance.id.clone(), check: assigned.definition.id.clone() };
        let endpoint = endpoint_of(instance, &assigned).clone();
        let check = Check {
            class: self.class(instance, &assigned.definition),
            target: Target::new(Arc::clone(&assigned.definition.probe), endpoint),
            key,
            instance: Arc::clone(instance),
            definition: assigned.definition,
            consul_id: assigned.consul_id,
            slot: Slot::default(),
        };
        let maintenance = self.maintenance.of(&instance.id);
        let start = match held {
            Some(held) if held.same_target_as(&check) => {
                check.slot.overwrite(&held.slot.read());
                Start::InPlace
            }
            Some(_) => Start::Afresh(Machine::new(maintenance)),
            None => Start::Afresh(merge.remembered.recall(&check, maintenance)),
        };
        let check = Arc::new(check);
        merge.orders.push(Order::Run(Arc::clone(&check), start));
        check
    }

    fn class(&mut self, instance: &Instance, definition: &Definition) -> Arc<Class> {
        let protocol = definition.probe.protocol();
        let key = (instance.service.clone(), definition.id.clone(), protocol);
        let class = self.classes.entry(key).or_insert_with(|| {
            let mut labels = String::new();
            text::push_label(&mut labels, "check", definition.id.as_str());
            text::push_label(&mut labels, "service_name", instance.service.as_str());
            text::push_label(&mut labels, "protocol", protocol.as_str());
            Arc::new(Class { labels: labels.into(), slot: ClassSlot::default() })
        });
        Arc::clone(class)
    }

    fn drop_empty_classes(&mut self) {
        let checks = self.instances.values().flat_map(|listed| &listed.checks);
        let live: HashSet<_> = checks.map(|check| Arc::as_ptr(&check.class)).collect();
        self.classes.retain(|_, class| live.contains(&Arc::as_ptr(class)));
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
