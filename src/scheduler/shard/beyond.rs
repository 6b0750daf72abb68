//! What an answer leads to beyond its judgement: probes beyond the grid, and tripwires.

use std::cmp::Reverse;

use tracing::debug;

use super::Shard;
use crate::{
    clock,
    model::{Extra, Observation, Status},
    probe::Prober,
    scheduler::{
        plan::Micros,
        rhythm::Ended,
        tripwire::{End, Then, is_wanted},
    },
};

impl<P: Prober> Shard<P> {
    /// Lets a row be asked beyond the grid, unless it is about to be anyway.
    pub(super) fn add(&mut self, index: u32, extra: (Micros, Extra)) {
        let row = &mut self.rows[index as usize];
        if row.extra.is_some_and(|(due, _)| due <= extra.0) {
            return;
        }
        row.extra = Some(extra);
        self.extras.push(Reverse((extra.0, index)));
        let check = row.check.clone();
        if let Some(check) = check {
            check.slot.plan(Some(self.wall(extra.0)), extra.1.into());
        }
    }

    /// Starts the probes beyond the grid that are due.
    pub(super) fn fire_extras(&mut self, now: Micros) {
        while let Some(Reverse((due, index))) = self.extras.peek().copied()
            && due <= now
        {
            self.extras.pop();
            let row = &mut self.rows[index as usize];
            let Some((_, why)) = row.extra.filter(|(at, _)| *at == due) else { continue };
            let is_flying = row.flight.is_some();
            if is_flying && is_news(why) {
                // It waits for the one under way, which began before the news and may not know.
                continue;
            }
            row.extra = None;
            // Else that one will tell what this one was to find out.
            if let Some(check) = row.check.clone().filter(|_| !is_flying) {
                self.start(index, check, due, Some(why));
            }
        }
    }

    /// Lets a probe start that has waited for the end of another, which has come.
    pub(super) fn wake_extra(&mut self, index: u32) {
        let now = self.now();
        let waits = |(due, why): &&mut (Micros, Extra)| *due <= now && is_news(*why);
        if let Some((due, _)) = self.rows[index as usize].extra.as_mut().filter(waits) {
            // It is due only now: to have waited is not to be late.
            *due = now;
            self.extras.push(Reverse((now, index)));
        }
    }

    /// Has an answer judged, and asks again beyond the grid if it calls for that.
    pub(super) fn judge(&mut self, index: u32, started: Micros, observation: Observation) {
        let now = self.now();
        let row = &mut self.rows[index as usize];
        let Some(check) = row.check.clone() else { return };
        let (outcome, took) = (observation.outcome, observation.duration);
        let ask_again = observation.ask_again;
        self.partners.monitor.observe(&check, &mut row.machine, observation);
        let (next, machine) = (row.due, &row.machine);
        let ended = Ended { started, now, next, outcome, took, ask_again, machine };
        let rules = (&check.definition.schedule, &check.definition.thresholds);
        let status = row.machine.status();
        let extra = row.rhythm.after(&ended, rules);
        // What began before a connection was cut says nothing of the cut.
        let is_older = row.extra.is_some_and(|(due, why)| due <= now && why == Extra::Tripwire);
        if !is_older && self.wires.judged(index, &check, (outcome, status), now) {
            self.wires.arm(index, &check, &self.partners.prober);
        }
        let row = &self.rows[index as usize];
        if let Some(extra) = extra {
            self.add(index, extra);
        } else {
            let (next, turn) = row.next(&check);
            check.slot.plan(Some(self.wall(next)), turn);
        }
    }

    /// A target has ended an idle connection, or one has lived long enough.
    pub(super) fn hear(&mut self, end: &End) {
        let now = self.now();
        match self.wires.ended(end) {
            Some(Then::Ask(index)) => {
                let row = &mut self.rows[index as usize];
                let Some(check) = &row.check else { return };
                debug!(check = %check.key, "The target has closed an idle connection");
                check.slot.hinted(clock::now());
                if let Some(extra) = row.rhythm.tripped(now, &check.definition.schedule) {
                    self.add(index, extra);
                }
            }
            Some(Then::Renew(index)) => {
                let row = &self.rows[index as usize];
                if let Some(check) = row.check.clone()
                    && row.machine.status() == Status::Passing
                    && is_wanted(&check)
                {
                    self.wires.arm(index, &check, &self.partners.prober);
                }
            }
            None => {}
        }
    }
}

/// Whether it is asked for what has happened just now.
const fn is_news(why: Extra) -> bool {
    match why {
        Extra::Tripwire | Extra::Operator => true,
        Extra::Confirm | Extra::Asked => false,
    }
}
