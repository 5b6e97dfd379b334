//! The chain against one that is computed from scratch, and against whoever writes into the ring.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

type TestLog = AuditLog<Vec<AuditSlot>>;

fn log(capacity: usize) -> TestLog {
    AuditLog::new(vec![AuditSlot::EMPTY; capacity], Head::GENESIS).unwrap()
}

fn event(seed: u32) -> Event {
    let handle = Handle::from_parts(seed, u32::MAX - seed, seed ^ 0x5555_5555);
    let rights = Rights::try_from(seed & 0xff).unwrap();
    let holder = Holder(u64::MAX - u64::from(seed));
    match seed % 5 {
        0 => {
            let (object, label) = (Object(u64::MAX), Label(u16::MAX));
            Event::Granted { handle, object, rights, holder, label }
        }
        1 => Event::Delegated { from: handle, handle, rights, holder },
        2 => Event::Revoked { handle },
        3 => Event::LabelRevoked { label: Label(u16::MAX) },
        _ => {
            let refusal = Refusal::ForeignTable { table: u32::MAX, this: u32::MAX };
            Event::Denied { handle, needed: Rights::ALL, refusal }
        }
    }
}

fn sealed(capacity: usize, records: u32) -> TestLog {
    let mut log = log(capacity);
    for number in 0..records {
        log.append(Instant::from_ns(u64::from(number)), Holder(1), event(number)).unwrap();
    }
    log.seal();
    log
}

proptest! {
    #[test]
    fn keeps_the_end_of_one_long_chain(
        capacity in prop_oneof![1..5_usize, 60..70_usize, 125..131_usize],
        history in proptest::collection::vec((any::<u32>(), 0..30_u64, 0..20_u8), 0..300),
    ) {
        let mut log = log(capacity);
        let mut records: Vec<Record> = Vec::new();
        let mut heads = vec![Head::GENESIS];
        let mut sealed = 0;
        let mut now_ns = 0;
        for (seed, at_ns, chance) in history {
            let number = log.append(Instant::from_ns(at_ns), Holder(7), event(seed)).unwrap();
            prop_assert_eq!(number, records.len() as u64);
            // Full batches, and batches as large as the ring, are sealed before the next record.
            if records.len() - sealed == capacity.min(BATCH_MAX) {
                sealed = records.len();
            }
            now_ns = at_ns.max(now_ns);
            records.push(Record { number, at_ns: now_ns, actor: Holder(7), event: event(seed) });
            let bytes = records[records.len() - 1].to_bytes().unwrap();
            heads.push(heads[heads.len() - 1].followed_by(&bytes));
            if chance == 0 {
                log.seal();
                sealed = records.len();
            }
            prop_assert_eq!(log.check_invariants(), Ok(()));
            prop_assert_eq!(log.head(), heads[sealed]);
        }
        let next = records.len() as u64;
        let oldest = records.len().saturating_sub(capacity);
        prop_assert_eq!((log.oldest(), log.next()), (oldest as u64, next));
        for (place, record) in records.iter().enumerate() {
            let number = place as u64;
            let gone = ReadError::NotKept { number, oldest: oldest as u64, next };
            let expected = if place < oldest { Err(gone) } else { Ok(*record) };
            prop_assert_eq!(log.read(number), expected);
        }
        let number = next;
        let absent = ReadError::NotKept { number, oldest: oldest as u64, next };
        prop_assert_eq!(log.read(number), Err(absent));
        // Verifying hashes the whole ring: what lies at the edges will do.
        let edges = [oldest.wrapping_sub(1), oldest, (oldest + sealed) / 2, sealed, sealed + 1];
        for (place, head) in edges.into_iter().filter_map(|at| Some((at, heads.get(at)?))) {
            let reached = (oldest..=sealed).contains(&place);
            let expected =
                if reached { Ok(()) } else { Err(Tampered::OutOfReach { records: head.records }) };
            prop_assert_eq!(log.verify(*head), expected);
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in proptest::array::uniform32(any::<u8>())) {
        let mut record = [0; RECORD_BYTES];
        for (place, byte) in record.iter_mut().zip(bytes) {
            *place = byte;
        }
        if let Ok(read) = Record::from_bytes(&record) {
            prop_assert_eq!(Record::from_bytes(&read.to_bytes().unwrap()), Ok(read));
        }
    }
}

#[test]
fn each_bit_of_a_sealed_record_counts() {
    // A ring that has turned, so that the first link is not the genesis.
    let log = sealed(5, 8);
    assert_eq!(log.verify(log.head()), Ok(()));
    for number in log.oldest()..log.next() {
        let place = log.place(usize::try_from(number - log.oldest()).unwrap());
        let found = Err(Tampered::Record { number });
        for bit in 0..RECORD_BYTES * 8 {
            let mut log = log.clone();
            log.slots[place].bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(log.verify(log.head()), found, "bit {bit} of record {number}");
        }
        for bit in 0..32 * 8 {
            let mut log = log.clone();
            log.slots[place].link[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(log.verify(log.head()), found, "bit {bit} of the link of {number}");
        }
    }
    for bit in 0..32 * 8 {
        let mut base = log.clone();
        base.base.link[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(base.verify(base.head()), Err(Tampered::Record { number: 3 }));
        let mut head = log.clone();
        head.sealed.link[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(head.verify(log.head()), Err(Tampered::Head { records: 8 }));
    }
}

#[test]
fn records_can_be_neither_swapped_nor_taken_out() {
    let log = sealed(8, 8);
    for first in 0..8 {
        for second in first + 1..8 {
            let mut swapped = log.clone();
            swapped.slots.swap(first, second);
            let found = Err(Tampered::Record { number: first as u64 });
            assert_eq!(swapped.verify(log.head()), found);
        }
    }
    let mut shorter = sealed(8, 7);
    shorter.append(Instant::from_ns(7), Holder(1), event(9)).unwrap();
    shorter.seal();
    // All its links fit, but not the head that was kept.
    assert_eq!(shorter.verify(shorter.head()), Ok(()));
    assert_eq!(shorter.verify(log.head()), Err(Tampered::Head { records: 8 }));
    let out_of_reach = Err(Tampered::OutOfReach { records: 8 });
    assert_eq!(sealed(8, 7).verify(log.head()), out_of_reach);
    assert_eq!(sealed(4, 20).verify(log.head()), out_of_reach);
}

#[test]
fn a_chain_goes_on_in_another_log() {
    let whole = sealed(16, 10);
    let first = sealed(16, 6);
    let mut second = AuditLog::new([AuditSlot::EMPTY; 16], first.head()).unwrap();
    for number in 6..10 {
        second.append(Instant::from_ns(u64::from(number)), Holder(1), event(number)).unwrap();
    }
    assert_eq!(second.seal(), whole.head());
    assert_eq!((second.oldest(), second.verify(first.head())), (6, Ok(())));
    // Whoever stored the records can follow the chain with nothing else.
    let stored = (0..10).map(|number| whole.bytes(number).unwrap());
    assert_eq!(stored.fold(Head::GENESIS, Head::followed_by), whole.head());
}

#[test]
fn every_event_fits_at_its_largest() {
    for seed in (0..50).chain(u32::MAX - 50..=u32::MAX) {
        let (number, actor) = (u64::MAX, Holder(u64::MAX));
        let record = Record { number, at_ns: u64::MAX, actor, event: event(seed) };
        assert_eq!(Record::from_bytes(&record.to_bytes().unwrap()), Ok(record));
    }
}

#[test]
fn a_log_without_slots_and_a_chain_without_numbers_are_refused() {
    assert!(matches!(AuditLog::new([], Head::GENESIS), Err(NoSlots)));
    let end = Head { records: u64::MAX - 1, ..Head::GENESIS };
    let mut log = AuditLog::new([AuditSlot::EMPTY], end).unwrap();
    assert_eq!(log.append(Instant::MAX, Holder(1), event(2)), Ok(u64::MAX - 1));
    assert_eq!(log.append(Instant::MAX, Holder(1), event(2)), Err(AppendError::ChainFull));
    let head = log.seal();
    assert_eq!(
        (head.records, log.verify(head), log.check_invariants()),
        (u64::MAX, Ok(()), Ok(()))
    );
}

#[test]
fn a_record_with_an_unknown_right_is_none() {
    let handle = Handle::from_parts(0, 0, 1);
    let refusal = Refusal::MissingRights { missing: Rights::READ };
    let event = Event::Denied { handle, needed: Rights::READ, refusal };
    let record = Record { number: 0, at_ns: 0, actor: Holder(0), event };
    let mut bytes = record.to_bytes().unwrap();
    // The last byte that is not zero is the bitmap of what was missing.
    let last = bytes.iter_mut().rev().find(|byte| **byte != 0).unwrap();
    assert_eq!(*last, 1);
    *last = 0x80;
    // As a varint: the low seven bits, then 2, together 0x100.
    let place = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[place + 1] = 2;
    assert_eq!(Record::from_bytes(&bytes), Err(EncodingError));
}
