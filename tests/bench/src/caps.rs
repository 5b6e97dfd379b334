//! Checking and revoking capabilities, and the record of it.

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use duende_core::caps::{
    AuditLog, AuditSlot, Delegation, Event, Grant, Handle, Head, Holder, Label, LabelSlot, Lineage,
    Object, Rights, Scope, Slot, Table,
};
use duende_core::time::Instant;
use duende_report::{Rank, Report};

use super::Result;
use super::rounds::{Contender, allocations, measure};

type BoxedTable = Table<Box<[Slot]>, Box<[LabelSlot]>>;

/// How many capabilities descend from one that is revoked.
const DESCENDANTS: u32 = 10_000;

/// How many are revoked in one batch.
const ROOTS: u32 = 8;

/// Batches of revocations. Each has to build its trees first.
const REVOKE_ROUNDS: u32 = 60;

pub(crate) fn measure_in(report: &mut Report) -> Result<()> {
    check(report)?;
    revoke(report)?;
    audit(report)
}

fn table(slots: u32) -> Result<BoxedTable> {
    let slots = vec![Slot::EMPTY; usize::try_from(slots)?].into_boxed_slice();
    Ok(Table::new(1, slots, vec![LabelSlot::EMPTY; 4].into_boxed_slice()))
}

fn grant(table: &mut BoxedTable, holder: Lineage<'_>) -> Result<Handle> {
    Ok(table.grant(Grant {
        object: Object(7),
        rights: Rights::READ | Rights::DUPLICATE,
        holder,
        expires_at: Instant::MAX,
        scope: Scope::Everywhere,
        label: Label(0),
    })?)
}

fn to(holder: Lineage<'_>) -> Delegation<'_> {
    let rights = Rights::READ | Rights::DUPLICATE;
    Delegation { to: holder, rights, expires_at: None, below: None }
}

fn check(report: &mut Report) -> Result<()> {
    const SHALLOW: &str = "depth 1";
    const DEEP: &str = "depth 8";
    let path = [Holder(1)];
    let holder = Lineage::new(&path)?;
    let mut table = table(64)?;
    let granted = grant(&mut table, holder)?;
    let mut deepest = granted;
    for _ in 1..8 {
        deepest = table.delegate(Instant::ZERO, holder, deepest, to(holder))?;
    }
    let contender = |name: &str, handle: Handle| {
        let mut table = table.clone();
        let mut now_ns = 0;
        Contender::new(name, move || {
            now_ns += 1;
            let now = Instant::from_ns(now_ns);
            table.check(now, holder, black_box(handle), Rights::READ) == Ok(Object(7))
        })
    };
    report.add(
        measure(
            "capability check",
            "may this process read this object",
            [contender(SHALLOW, granted), contender(DEEP, deepest)],
        )
        .at_most_ns(SHALLOW, Rank::P50, 5.0)
        .at_most_ns(DEEP, Rank::P50, 20.0)
        .without_allocations(SHALLOW)
        .without_allocations(DEEP),
    );
    Ok(())
}

fn revoke(report: &mut Report) -> Result<()> {
    const MANY: &str = "10,000 descendants";
    const COLD: &str = "10,000 descendants, cold";
    const NONE: &str = "no descendants";
    let contender = |name: &str, descendants: u32, warm: bool| -> Result<Contender<'static>> {
        let mut table = table(ROOTS * (descendants + 1))?;
        let roots = grow(&mut table, descendants)?;
        let allocations = allocations(|| {
            revoke_all(&mut table, &roots);
        });
        Ok(Contender::prepared(name, REVOKE_ROUNDS, ROOTS, allocations, move || {
            table.reclaim(u32::MAX);
            let roots = grow(&mut table, descendants).unwrap_or_default();
            if warm {
                for root in &roots {
                    let _ = black_box(table.view(*root));
                }
            }
            revoke_all(&mut table, &roots)
        }))
    };
    report.add(
        measure(
            "revoke",
            "a capability and all that descends from it; one that was just looked at, or not in the caches",
            [
                contender(MANY, DESCENDANTS, true)?,
                contender(COLD, DESCENDANTS, false)?,
                contender(NONE, 0, true)?,
            ],
        )
        .at_most_ns(MANY, Rank::P50, 100.0)
        .without_allocations(MANY),
    );
    Ok(())
}

/// Grants [`ROOTS`] capabilities; under each, `descendants` in chains as deep as they may be.
fn grow(table: &mut BoxedTable, descendants: u32) -> Result<Vec<Handle>> {
    let path = [Holder(1)];
    let holder = Lineage::new(&path)?;
    let mut roots = Vec::new();
    for _ in 0..ROOTS {
        let root = grant(table, holder)?;
        roots.push(root);
        let mut origin = root;
        for number in 0..descendants {
            if number % 7 == 0 {
                origin = root;
            }
            origin = table.delegate(Instant::ZERO, holder, origin, to(holder))?;
        }
    }
    Ok(roots)
}

fn revoke_all(table: &mut BoxedTable, roots: &[Handle]) -> Duration {
    let began = Clock::now();
    for root in roots {
        let revoked = table.revoke(black_box(*root));
        debug_assert!(revoked.is_ok());
        let _ = black_box(revoked);
    }
    began.elapsed()
}

fn audit(report: &mut Report) -> Result<()> {
    const APPEND: &str = "duende";
    let mut log = AuditLog::new(vec![AuditSlot::EMPTY; 1_024].into_boxed_slice(), Head::GENESIS)?;
    let handle = Handle::from_parts(1, 2, 3);
    let mut now_ns = 0;
    let append = Contender::new(APPEND, move || {
        now_ns += 1_000;
        let event = Event::Revoked { handle: black_box(handle) };
        log.append(Instant::from_ns(now_ns), Holder(1), event).is_ok()
    });
    report.add(
        measure(
            "audit",
            "one record appended, its part of the sealing (SHA-256) included",
            [append],
        )
        .without_allocations(APPEND),
    );
    Ok(())
}
