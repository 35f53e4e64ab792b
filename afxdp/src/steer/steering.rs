//! One port's share of the program: its rules and its queues.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use linerate_common::{ErrorKind, RuleId, SetupError};

use crate::bpf::Map;

use super::attach::{Attach, Attached, lock, map_error, plan_def};
use super::layout::{All, Shape, plan_bytes, queue_word};
use super::table::Table;
use super::{Rule, RuleHits, RuleStatus};

/// One port's share of the program. Its rules go when it drops, and the program with the last.
#[derive(Debug)]
pub(crate) struct Steering {
    port: u8,
    /// `None` only while dropping.
    attached: Option<Arc<Attached>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Table,
    plan: Vec<Shape>,
    /// Where the program reads it; none before the first rule.
    plan_map: Option<Map>,
    queues: Vec<u32>,
}

impl Steering {
    /// Joins this process's program on the interface, or attaches it. Also returns what was not
    /// had as asked.
    pub(crate) fn open(ask: &Attach<'_>) -> Result<(Self, Vec<String>), SetupError> {
        let (attached, notices) = Attached::get(ask)?;
        Ok((Self::join(attached)?, notices))
    }

    fn join(attached: Arc<Attached>) -> Result<Self, SetupError> {
        let port = attached.join()?;
        let inner =
            Inner { table: Table::new(port), plan: Vec::new(), plan_map: None, queues: Vec::new() };
        Ok(Self { port, attached: Some(attached), inner: Mutex::new(inner) })
    }

    /// # Panics
    ///
    /// Never: only `drop` takes it out.
    fn attached(&self) -> &Attached {
        match &self.attached {
            Some(attached) => attached,
            None => unreachable!("taken out by drop alone"),
        }
    }

    /// Does the program run in generic mode?
    pub(crate) fn is_generic(&self) -> bool {
        self.attached().generic
    }

    /// What precedes a delivered frame, 0 for nothing.
    pub(crate) fn meta_cookie(&self) -> u64 {
        self.attached().meta_cookie
    }

    /// Does the program read the card's receive time?
    pub(crate) fn has_hw_ts(&self) -> bool {
        self.attached().program.hw_ts
    }

    /// Frames of `queue` are ours from now on, as far as the rules say so.
    pub(crate) fn take_queue(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SetupError> {
        let program = &self.attached().program;
        let mut inner = lock(&self.inner);
        program.map("xsks")?.update_fd(queue, socket).map_err(map_error)?;
        self.set_queue(queue, inner.table.all())?;
        inner.queues.push(queue);
        Ok(())
    }

    fn set_queue(&self, queue: u32, all: Option<All>) -> Result<(), SetupError> {
        let map = self.attached().program.map("queue_port")?;
        map.update(&queue.to_ne_bytes(), &queue_word(self.port, all)).map_err(map_error)
    }

    /// Frames of `queue` go to the kernel again. When this returns, no program on any CPU has a
    /// frame for its socket in hand.
    pub(crate) fn leave_queue(&self, queue: u32) {
        let mut inner = lock(&self.inner);
        let Some(place) = inner.queues.iter().position(|q| *q == queue) else { return };
        inner.queues.swap_remove(place);
        self.attached().forget_queue(queue);
        if let Some(plan) = &inner.plan_map {
            // The kernel lets nobody return from this before all programs under way have ended.
            let _ = self.replace_plan(plan);
        }
    }

    /// Adds rules. They are in force, all of them, when this returns.
    ///
    /// # Errors
    ///
    /// One of them cannot be had; then none is in force.
    pub(crate) fn add(&self, rules: &[Rule]) -> Result<Vec<RuleId>, SetupError> {
        let mut inner = lock(&self.inner);
        let mut ids = Vec::with_capacity(rules.len());
        let added = rules.iter().try_for_each(|rule| {
            ids.push(self.insert(&mut inner, rule)?);
            Ok(())
        });
        // The rules before the plan: a shape is never looked up in vain for long.
        if let Err(e) = added.and_then(|()| self.publish(&mut inner)) {
            for id in ids {
                // The first error counts.
                let _ = self.take_out(&mut inner, id);
            }
            return Err(e);
        }
        Ok(ids)
    }

    fn insert(&self, inner: &mut Inner, rule: &Rule) -> Result<RuleId, SetupError> {
        let attached = self.attached();
        let (id, slot) = attached.new_rule()?;
        let inserted = attached.program.map("hits").and_then(|hits| {
            hits.clear(slot).map_err(map_error)?;
            let change = inner.table.add(rule, id, slot)?;
            attached.apply(&change).inspect_err(|_| {
                inner.table.remove(id);
            })
        });
        if inserted.is_err() {
            attached.free_slot(slot);
        }
        inserted.map(|()| RuleId(id))
    }

    pub(crate) fn remove(&self, id: RuleId) -> Result<(), SetupError> {
        let mut inner = lock(&self.inner);
        if inner.table.find(id.0).is_none() {
            let what = format!("this port has no rule {}", id.0);
            return Err(SetupError::new(ErrorKind::BadArgument, "remove", what));
        }
        self.take_out(&mut inner, id)
    }

    fn take_out(&self, inner: &mut Inner, id: RuleId) -> Result<(), SetupError> {
        let Some((entry, change)) = inner.table.remove(id.0) else { return Ok(()) };
        let done = self.attached().apply(&change).and_then(|()| self.publish(inner));
        self.attached().free_slot(entry.slot);
        done
    }

    /// Puts a new plan in the old one's place, if it changed. When this returns, no program on
    /// any CPU works by the old plan any more (the kernel waits for that).
    ///
    /// While the plan changes, all queues go by it: a first rule for every frame stands in for it
    /// only before and after.
    fn publish(&self, inner: &mut Inner) -> Result<(), SetupError> {
        let shapes = inner.table.shapes();
        if shapes == inner.plan {
            return Ok(());
        }
        let map = Map::create("plan", plan_def(), None)
            .map_err(|errno| crate::error::bpf("bpf(BPF_MAP_CREATE)", errno))?;
        map.update(&0u32.to_ne_bytes(), &plan_bytes(&shapes)).map_err(map_error)?;
        for queue in &inner.queues {
            self.set_queue(*queue, None)?;
        }
        self.replace_plan(&map)?;
        (inner.plan, inner.plan_map) = (shapes, Some(map));
        if let Some(all) = inner.table.all() {
            for queue in &inner.queues {
                self.set_queue(*queue, Some(all))?;
            }
        }
        Ok(())
    }

    fn replace_plan(&self, map: &Map) -> Result<(), SetupError> {
        let plans = self.attached().program.map("plans")?;
        plans.update_fd(u32::from(self.port), map.as_fd()).map_err(map_error)
    }

    /// The rules in place, first to match first, with their counts.
    pub(crate) fn rules(&self) -> Result<Vec<RuleStatus>, SetupError> {
        let inner = lock(&self.inner);
        let hits = self.attached().program.map("hits")?;
        let status = |e: &super::table::Entry| {
            let per_cpu = hits.lookup(&e.slot.to_ne_bytes()).map_err(map_error)?;
            let mut sum = RuleHits::default();
            for cpu in per_cpu.chunks_exact(16) {
                let count = |at: usize| {
                    cpu[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
                };
                sum.frames += count(0);
                sum.bytes += count(8);
            }
            Ok(RuleStatus { id: RuleId(e.id), flow: e.flow, action: e.action, hits: sum })
        };
        inner.table.entries().iter().map(status).collect()
    }

    /// For tests: the program alone, on no interface.
    #[cfg(test)]
    pub(super) fn unattached() -> Result<Self, SetupError> {
        Self::join(Attached::nowhere()?)
    }

    /// For tests: lets queue 0 be this port's without a socket, and runs the program.
    #[cfg(test)]
    pub(super) fn run(&self, frame: &[u8]) -> Result<u32, i32> {
        let program = &self.attached().program;
        let word = queue_word(self.port, lock(&self.inner).table.all());
        program.map("queue_port").map_err(|_| 0)?.update(&[0; 4], &word)?;
        crate::bpf::test_run(program.as_fd(), frame)
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(attached) = self.attached.take() else { return };
        let port = self.port;
        attached.leave(port, |attached| {
            for queue in &inner.queues {
                attached.forget_queue(*queue);
            }
            let mut slots = Vec::new();
            while let Some(id) = inner.table.entries().first().map(|e| e.id) {
                let Some((entry, change)) = inner.table.remove(id) else { break };
                let _ = attached.apply(&change);
                slots.push(entry.slot);
            }
            if let Ok(plans) = attached.program.map("plans") {
                let _ = plans.delete(&u32::from(port).to_ne_bytes());
            }
            slots
        });
    }
}
