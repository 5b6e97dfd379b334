//! How much of the memory the image uses, by its own measure.

use core::ptr;

use cortex_m_rt::STACK_PAINT_VALUE;
use duende_firmware::Board;

// Symbols of the linker's script: they have an address and no value.
unsafe extern "C" {
    static __vector_table: u32;
    static __sidata: u32;
    static __sdata: u32;
    static __edata: u32;
    static __ebss: u32;
    static _stack_start: u32;
    static _stack_end: u32;
}

/// Prints the bytes used of flash and RAM; of the stack, the most that was ever used. Whether that was
/// less than there is.
pub(crate) fn is_enough(board: &mut dyn Board) -> bool {
    let bytes = |from: *const u32, to: *const u32| to.addr().saturating_sub(from.addr());
    let (start, end) = (&raw const __sdata, &raw const __edata);
    let flash = bytes(&raw const __vector_table, &raw const __sidata) + bytes(start, end);
    let statics = bytes(start, &raw const __ebss);
    let untouched = untouched_end();
    let stack = bytes(untouched, &raw const _stack_start);
    let ram = statics + stack;
    board.print(format_args!("memory    flash {flash} bytes"));
    board.print(format_args!("memory    RAM {ram} bytes: statics {statics}, stack {stack}"));
    !ptr::addr_eq(untouched, &raw const _stack_end)
}

/// Where the paint on the stack ends: nothing below was ever used.
fn untouched_end() -> *const u32 {
    let (mut at, top) = (&raw const _stack_end, &raw const _stack_start);
    // SAFETY: from `_stack_end` up to `_stack_start` lies the stack's region, which is RAM, aligned and
    // was painted before `main`. A volatile read of a word that is in use gives whatever it holds.
    while !ptr::addr_eq(at, top) && unsafe { at.read_volatile() } == STACK_PAINT_VALUE {
        at = at.wrapping_add(1);
    }
    at
}
