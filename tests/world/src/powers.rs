//! What each process may do: the capability table, and the log of who was given and refused what.

use core::time::Duration;

use duende_core::caps::{
    AuditLog, AuditSlot, Delegation, Event, Grant, Handle, Head, Holder, Label, LabelSlot, Lineage,
    Object, Refusal, Rights, Scope, Slot, Table,
};
use duende_core::epitaph::Epitaph;
use duende_core::time::Instant;

use crate::input::{HANDLES, Process};
use crate::seen::{Out, Seen};

const SLOTS: usize = 16;
const LABELS: usize = 3;
const RECORDS: usize = 8;
const TABLE: u32 = 5;
/// What capabilities are for: the channel.
const CHANNEL: Object = Object(3);
/// The first process, from which all descend, and the kernel, which acts for nobody.
const FIRST: Holder = Holder(1);

/// Where a process stands: below the first one, in a pair with its neighbour.
pub(crate) fn path(of: Process) -> [Holder; 3] {
    let slot = u64::from(of.slot);
    [FIRST, Holder(2 + slot / 2), Holder((slot + 16) << 32 | u64::from(of.incarnation))]
}

/// The lineage of a path. It is not empty.
fn lineage(path: &[Holder; 3]) -> Option<Lineage<'_>> {
    Lineage::new(path).ok()
}

/// The rights that have these bits.
fn rights(bits: u8) -> Rights {
    Rights::try_from(u32::from(bits)).unwrap_or(Rights::NONE)
}

/// Capabilities and their log.
#[derive(Debug)]
pub(crate) struct Powers {
    table: Table<[Slot; SLOTS], [LabelSlot; LABELS]>,
    handles: [Option<Handle>; HANDLES],
    audit: AuditLog<[AuditSlot; RECORDS]>,
    /// The head that was kept at the last check.
    kept: Head,
}

impl Powers {
    pub(crate) fn new() -> Result<Self, Epitaph> {
        let audit = AuditLog::new([AuditSlot::EMPTY; RECORDS], Head::GENESIS);
        Ok(Self {
            table: Table::new(
                TABLE,
                [const { Slot::EMPTY }; SLOTS],
                [const { LabelSlot::EMPTY }; LABELS],
            ),
            handles: [None; HANDLES],
            audit: audit.map_err(|error| Epitaph::new(format_args!("{error}")))?,
            kept: Head::GENESIS,
        })
    }

    /// Gives a process that became Running the capability to send, and to hand that on.
    pub(crate) fn welcome(
        &mut self,
        now: Instant,
        of: Process,
        out: &mut Out<'_>,
    ) -> Option<Handle> {
        let label = Label(u16::from(of.slot) % 2);
        let rights = Rights::SEND | Rights::DUPLICATE;
        self.place(now, of, Scope::Everywhere, (rights, label, Instant::MAX), out)
    }

    /// Takes away all that a process holds, because it ended.
    pub(crate) fn part(&mut self, now: Instant, of: Process, out: &mut Out<'_>) {
        let [.., holder] = path(of);
        out.tell(&Seen::HolderRevoked(self.table.revoke_holder(holder)));
        self.note(now, holder, Event::LabelRevoked { label: Label(u16::MAX) }, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input")]
    pub(crate) fn grant(
        &mut self,
        now: Instant,
        of: Process,
        into: u8,
        bits: u8,
        label: u8,
        valid_us: u32,
        scoped: bool,
        out: &mut Out<'_>,
    ) {
        let path = path(of);
        let scope = match Lineage::new(path.get(..2).unwrap_or_default()) {
            Ok(parent) if scoped => Scope::below(parent),
            _ => Scope::Everywhere,
        };
        let expires_at = match valid_us {
            0 => Instant::MAX,
            us => now.saturating_add(Duration::from_micros(u64::from(us))),
        };
        let terms = (rights(bits), Label(u16::from(label)), expires_at);
        if let Some(handle) = self.place(now, of, scope, terms, out) {
            self.put(into, handle);
        }
    }

    pub(crate) fn delegate(
        &mut self,
        now: Instant,
        (from, handle): (Process, Option<Handle>),
        (to, into): (Process, u8),
        (bits, scoped): (u8, bool),
        out: &mut Out<'_>,
    ) {
        let (giver, taker) = (path(from), path(to));
        let (Some(handle), Some(caller), Some(to)) = (handle, lineage(&giver), lineage(&taker))
        else {
            return out.tell(&Seen::Nothing);
        };
        let rights = rights(bits);
        let below = scoped.then_some(to);
        let terms = Delegation { to, rights, expires_at: None, below };
        let delegated = self.table.delegate(now, caller, handle, terms);
        out.tell(&Seen::Delegated(delegated));
        if let Ok(new) = delegated {
            let holder = to.holder();
            let event = Event::Delegated { from: handle, handle: new, rights, holder };
            self.note(now, caller.holder(), event, out);
            self.put(into, new);
        }
    }

    /// Whether a process may do all of this.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        of: Process,
        handle: Handle,
        needed: Rights,
        out: &mut Out<'_>,
    ) -> Result<Object, Refusal> {
        let path = path(of);
        let Some(caller) = lineage(&path) else { return Err(Refusal::NotHolder) };
        let checked = self.table.check(now, caller, handle, needed);
        if let Err(refusal) = checked {
            let event = Event::Denied { handle, needed, refusal };
            self.note(now, caller.holder(), event, out);
        }
        checked
    }

    pub(crate) fn use_up(
        &mut self,
        now: Instant,
        of: Process,
        handle: Option<Handle>,
        bits: u8,
        out: &mut Out<'_>,
    ) {
        let Some(handle) = handle else { return out.tell(&Seen::Nothing) };
        let used = self.check(now, of, handle, rights(bits), out);
        out.tell(&Seen::Used(used));
    }

    /// Revokes in the owner's name, or in a process's.
    pub(crate) fn revoke(
        &mut self,
        now: Instant,
        by: Option<Process>,
        handle: Option<Handle>,
        out: &mut Out<'_>,
    ) {
        let Some(handle) = handle else { return out.tell(&Seen::Nothing) };
        let (actor, revoked) = match by {
            None => (FIRST, self.table.revoke(handle)),
            Some(process) => {
                let [.., holder] = path(process);
                (holder, self.table.revoke_by(holder, handle))
            }
        };
        out.tell(&Seen::Revoked(handle, revoked));
        if revoked.is_ok() {
            self.note(now, actor, Event::Revoked { handle }, out);
        }
    }

    pub(crate) fn revoke_label(&mut self, now: Instant, label: u8, out: &mut Out<'_>) {
        let label = Label(u16::from(label));
        let revoked = self.table.revoke_label(label);
        out.tell(&Seen::LabelRevoked(revoked));
        if revoked.is_ok() {
            self.note(now, FIRST, Event::LabelRevoked { label }, out);
        }
    }

    pub(crate) fn reclaim(&mut self, budget: u8, out: &mut Out<'_>) {
        out.tell(&Seen::Reclaimed(self.table.reclaim(u32::from(budget))));
    }

    /// Seals the log, and checks it against the head that was kept before and the new one.
    pub(crate) fn audit(&mut self, out: &mut Out<'_>) {
        let head = self.audit.seal();
        let oldest = self.audit.oldest();
        let reaches = self.kept.records >= oldest;
        let before = if reaches { self.audit.verify(self.kept) } else { Ok(()) };
        out.tell(&Seen::Sealed(head, before.and_then(|()| self.audit.verify(head))));
        self.kept = head;
    }

    /// The capability in a pocket.
    pub(crate) fn handle(&self, pocket: u8) -> Option<Handle> {
        self.handles.get(usize::from(pocket)).copied().flatten()
    }

    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.table.check_invariants()?;
        self.audit.check_invariants()
    }

    fn place(
        &mut self,
        now: Instant,
        of: Process,
        scope: Scope,
        (rights, label, expires_at): (Rights, Label, Instant),
        out: &mut Out<'_>,
    ) -> Option<Handle> {
        let path = path(of);
        let holder = lineage(&path)?;
        let object = CHANNEL;
        let grant = Grant { object, rights, holder, expires_at, scope, label };
        let granted = self.table.grant(grant);
        out.tell(&Seen::Granted(granted));
        let handle = granted.ok()?;
        let holder = holder.holder();
        self.note(now, FIRST, Event::Granted { handle, object, rights, holder, label }, out);
        Some(handle)
    }

    fn put(&mut self, into: u8, handle: Handle) {
        if let Some(pocket) = self.handles.get_mut(usize::from(into)) {
            *pocket = Some(handle);
        }
    }

    fn note(&mut self, now: Instant, actor: Holder, event: Event, out: &mut Out<'_>) {
        out.tell(&Seen::Audited(self.audit.append(now, actor, event)));
    }
}
