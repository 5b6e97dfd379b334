//! What is recorded, and that a kernel with a broken rule goes on no further.

use super::*;

#[test]
fn a_broken_rule_is_found_by_whoever_meets_it_or_by_the_patrol() {
    let halts = |spoil: &dyn Fn(&mut Kernel<ScriptedExecutor>)| {
        let mut books = Books::new();
        settle(&mut books);
        spoil(&mut books.kernel);
        let mut steps = 0;
        while books.kernel.step(&mut |event| panic!("{event:?}")).is_ok() {
            steps += 1;
            assert!(steps < 4 * 64, "nobody notices");
        }
        // It stays so, and takes nothing more.
        let at = books.at();
        books.kernel.command(Command::Kill { at }, &mut |event| panic!("{event:?}")).unwrap();
        assert_eq!(books.kernel.step(&mut |event| panic!("{event:?}")).ok(), None);
        let mut dump = String::new();
        books.kernel.dump(&mut dump);
        let words = books.kernel.halted().unwrap();
        assert!(dump.starts_with(&alloc::format!("halt: {words}\n")), "{dump}");
        String::from(words.as_str())
    };
    let timer = halts(&|kernel| kernel.table.get_mut(0).unwrap().timer_ns = Some(5));
    assert_eq!(timer, "row 0 has a timer that is not armed");
    let open = halts(&|kernel| kernel.open.push_back(0));
    assert_eq!(open, "row 0: open false, not true");
    let zombie = halts(&|kernel| {
        kernel.table.get_mut(0).unwrap().take_phase();
        kernel.scheduler.ready(0, Instant::ZERO).unwrap();
    });
    assert_eq!(zombie, "row 0 was picked and cannot run");
}

#[test]
fn the_last_entries_are_dumped_the_newest_first() {
    let mut books = Books::new();
    settle(&mut books);
    books.kernel.executor().script.push_back(Act::Trap);
    books.send();
    books.step();
    let mut dump = String::new();
    books.kernel.dump(&mut dump);
    let lines: Vec<_> = dump.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let texts: Vec<_> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    // The books' manager has started the next incarnation by now.
    let expected = ["7.2 start", "7.2 channel", "7.2 create", "7.1 ended: Trap", "7.1 run failed"];
    assert_eq!(texts[..5], expected);
    assert!(dump.len() > 100 && texts.contains(&"7.1 init returned"), "{dump}");
}
