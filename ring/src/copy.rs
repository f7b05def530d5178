//! Copies out of memory that another process may be writing.
//!
//! A plain `memcpy` out of the peer's region is a data race as soon as the peer
//! misbehaves, and a data race is undefined behaviour for the side that did
//! nothing wrong: the compiler may fetch a byte twice and believe that both
//! fetches agree. A loop of relaxed atomic loads is free of that, but the compiler
//! must not merge them, so beyond a line it takes two to three times as long as
//! `memcpy`. [`copy_out`] is as fast as `memcpy` and has no race:
//!
//! | where | how a byte is fetched |
//! |---|---|
//! | x86-64, up to 128 bytes | loads of 16, 8, 4, 2 and 1 bytes in inline assembly |
//! | x86-64 with AVX, above | loads of 32 bytes in inline assembly, and from 128 KiB on `rep movsb` where the processor announces that it is fast |
//! | x86-64 without AVX, above | loads of 16 bytes in inline assembly |
//! | elsewhere, and under Miri | relaxed atomic loads of 8 bytes, and of 1 byte at unaligned ends |
//! | loom | relaxed atomic loads of 8 bytes, because there a word of memory is the name of an object of the model |
//!
//! # Invariants
//!
//! - I1: each of the `len` source bytes is fetched by one instruction, once, and
//!   no byte beside them is fetched at all. (Under loom whole words are.)
//! - I2: every byte that is fetched is stored to the destination and nowhere else;
//!   no branch and no address depends on it.
//!
//! # Why this is sound
//!
//! The compiler does not look into inline assembly. It must assume that the block
//! does what some piece of Rust could do that fits its operands and options, and it
//! may assume nothing about which. The piece of Rust that these blocks stand for
//! is: for each byte, `AtomicU8::load(Relaxed)` from the source and a plain store
//! of the result to the destination. A load of 16 or 32 bytes does that for all its
//! bytes, in no promised order, and relaxed loads of different locations promise
//! none. So in Rust's model a store by the peer that comes at the same time makes
//! the *value* of a byte uncertain, old or new, and nothing else. Relaxed loads are
//! also what the standard library permits on memory that is mapped read-only.
//!
//! What this does not claim: that a message is not torn when the peer breaks the
//! protocol (it may be, byte by byte), nor that Rust's model has a word on what
//! another process does with accesses of other sizes. It has none. On the
//! hardware, a load returns some bytes and has no other effect.
//!
//! The ring orders the copy: an acquire load or fence before, which the blocks
//! cannot be moved above because they read memory, and a Release store after,
//! which cannot be moved above them.
//!
//! # What tools see
//!
//! No sanitizer sees into assembly: ThreadSanitizer and AddressSanitizer would miss an
//! error of this copy, MemorySanitizer would take its result for uninitialised. So in
//! their builds, and in Miri's, the copy goes by words everywhere (build.rs).

#[cfg(not(copy_by_assembly))]
use words as imp;
#[cfg(copy_by_assembly)]
use x86_64 as imp;

/// Copies `len` bytes out of memory that the peer may change meanwhile, fetching
/// each byte once.
///
/// If the peer stores to the source during the copy, each byte that arrives is one
/// that was there at some moment of the copy.
///
/// # Safety
///
/// 1. `from` is valid for reads of `len` bytes, which no thread of this process
///    writes meanwhile, except by relaxed or stronger atomic stores.
/// 2. `to` is valid for writes of `len` bytes, which no other thread accesses
///    meanwhile and which do not overlap the source.
///
/// # Ordering
///
/// None: the caller's acquire load or fence comes before.
///
/// ```
/// use memenpsf_ring::memory::copy_out;
///
/// let shared = [7_u8; 100];
/// let mut private = [0_u8; 100];
/// // SAFETY: both arrays are that long.
/// unsafe { copy_out(shared.as_ptr(), private.as_mut_ptr(), 100) };
/// assert_eq!(private, shared);
/// ```
#[inline(always)]
pub unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's obligations.
    unsafe { imp::copy(from, to, len) };
}

/// The same, for elements that lie one behind another and that the caller is about
/// to look at: up to 1 KiB by 16 bytes and inlined.
///
/// # Safety
///
/// Those of [`copy_out`].
#[cfg(not(loom))]
#[inline(always)]
pub(crate) unsafe fn copy_run(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's obligations.
    unsafe { imp::copy_run(from, to, len) };
}

/// Inline assembly. Its stores that are written in Rust take values out of
/// registers, so the compiler may do with them as it likes.
#[cfg(copy_by_assembly)]
mod x86_64 {
    use core::arch::asm;
    use core::arch::x86_64::{__cpuid, __cpuid_count, __m128i};

    use crate::primitive::{AtomicU8, Ordering};

    /// From this length on a call of the wide copy pays. Below, the call and the
    /// look at the processor cost more than 32-byte loads save.
    const WIDE_FROM: usize = 129;
    /// The same for a run that comes from another core's cache and is looked at next.
    /// Measured with slices of 512 bytes: 32-byte loads take 1.0x to 1.4x as long.
    const WIDE_RUN_FROM: usize = 1025;
    /// From here on `rep movsb` is 5 to 10 % ahead of the loop of 32-byte loads on
    /// AMD Zen 4; at 64 KiB they are equal, below the loop is ahead.
    const REP_FROM: usize = 128 << 10;

    /// What the processor offers, once it has been asked.
    static LEVEL: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 0;
    const SSE2: u8 = 1;
    const AVX: u8 = 2;
    const AVX_AND_FAST_REP: u8 = 3;

    /// Defines a load of one width, whose bytes the compiler does not see fetched.
    macro_rules! load {
        ($name:ident, $value:ty, $class:ident, $instruction:literal) => {
            /// # Safety
            ///
            /// 1. `from` is valid for reads of so many bytes.
            #[inline(always)]
            unsafe fn $name(from: *const u8) -> $value {
                let value;
                // SAFETY: one load from memory that is valid for it, into a
                // register; no stack, no flags.
                unsafe {
                    asm!(
                        $instruction,
                        from = in(reg) from,
                        value = lateout($class) value,
                        options(nostack, preserves_flags, readonly),
                    );
                }
                value
            }
        };
    }

    load!(load_16, __m128i, xmm_reg, "movdqu {value}, [{from}]");
    load!(load_8, u64, reg, "mov {value}, [{from}]");
    load!(load_4, u32, reg, "mov {value:e}, [{from}]");
    load!(load_2, u16, reg, "movzx {value:e}, word ptr [{from}]");
    load!(load_1, u8, reg_byte, "mov {value}, [{from}]");

    /// Two loads in one block of assembly.
    ///
    /// # Safety
    ///
    /// 1. `from` is valid for reads of 32 bytes.
    #[inline(always)]
    unsafe fn load_32(from: *const u8) -> [__m128i; 2] {
        let (first, second);
        // SAFETY: loads from memory that is valid for them, into registers; no stack,
        // no flags.
        unsafe {
            asm!(
                "movdqu {first}, [{from}]",
                "movdqu {second}, [{from} + 16]",
                from = in(reg) from,
                first = out(xmm_reg) first,
                second = out(xmm_reg) second,
                options(nostack, preserves_flags, readonly),
            );
        }
        [first, second]
    }

    /// Four loads in one block of assembly.
    ///
    /// # Safety
    ///
    /// 1. `from` is valid for reads of 64 bytes.
    #[inline(always)]
    unsafe fn load_64(from: *const u8) -> [__m128i; 4] {
        let (first, second, third, fourth);
        // SAFETY: as above.
        unsafe {
            asm!(
                "movdqu {first}, [{from}]",
                "movdqu {second}, [{from} + 16]",
                "movdqu {third}, [{from} + 32]",
                "movdqu {fourth}, [{from} + 48]",
                from = in(reg) from,
                first = out(xmm_reg) first,
                second = out(xmm_reg) second,
                third = out(xmm_reg) third,
                fourth = out(xmm_reg) fourth,
                options(nostack, preserves_flags, readonly),
            );
        }
        [first, second, third, fourth]
    }

    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    #[inline(always)]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        if len < WIDE_FROM {
            // SAFETY: the caller's obligations.
            unsafe { copy_by_16(from, to, len) };
        } else {
            // SAFETY: as above.
            unsafe { copy_wide(from, to, len) };
        }
    }

    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    #[inline(always)]
    pub(super) unsafe fn copy_run(from: *const u8, to: *mut u8, len: usize) {
        if len < WIDE_RUN_FROM {
            // SAFETY: the caller's obligations.
            unsafe { copy_by_16(from, to, len) };
        } else {
            // SAFETY: as above.
            unsafe { copy_wide(from, to, len) };
        }
    }

    /// Copies by 64 bytes and then what is left by halves.
    ///
    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    #[inline(always)]
    pub(super) unsafe fn copy_by_16(from: *const u8, to: *mut u8, len: usize) {
        let mut done = 0;
        // `done + width <= len` holds at each use: in the loop by its condition,
        // and after it because `len - done` is below 64 and its bits name the widths.
        macro_rules! step {
            ($load:ident, $value:ty) => {{
                // SAFETY: within the source, as said above.
                let from = unsafe { from.add(done) };
                // SAFETY: as above.
                let to = unsafe { to.add(done) }.cast::<$value>();
                // PEER: fetched once, into a register.
                // SAFETY: so many bytes are left.
                let value: $value = unsafe { $load(from) };
                // SAFETY: so many bytes are left of the destination, too.
                unsafe { to.write_unaligned(value) };
                done += size_of::<$value>();
            }};
        }
        while len - done >= 64 {
            step!(load_64, [__m128i; 4]);
        }
        if len & 32 != 0 {
            step!(load_32, [__m128i; 2]);
        }
        if len & 16 != 0 {
            step!(load_16, __m128i);
        }
        if len & 8 != 0 {
            step!(load_8, u64);
        }
        if len & 7 != 0 {
            if len & 4 != 0 {
                step!(load_4, u32);
            }
            if len & 2 != 0 {
                step!(load_2, u16);
            }
            if len & 1 != 0 {
                step!(load_1, u8);
            }
        }
        debug_assert_eq!(done, len);
    }

    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    #[inline(never)]
    unsafe fn copy_wide(from: *const u8, to: *mut u8, len: usize) {
        // Relaxed: the level is asked for once more if this is too early, with the
        // same result.
        if LEVEL.load(Ordering::Relaxed) >= AVX && len < REP_FROM {
            // SAFETY: the caller's obligations, and the processor has AVX.
            unsafe { copy_by_32(from, to, len) };
        } else {
            // SAFETY: the caller's obligations.
            unsafe { copy_otherwise(from, to, len) };
        }
    }

    /// The rarer ways, apart, so that they cost the usual one no register.
    ///
    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    #[inline(never)]
    unsafe fn copy_otherwise(from: *const u8, to: *mut u8, len: usize) {
        // Relaxed: as above.
        let mut level = LEVEL.load(Ordering::Relaxed);
        if level == UNKNOWN {
            level = ask_processor();
            LEVEL.store(level, Ordering::Relaxed);
        }
        if level == AVX_AND_FAST_REP && len >= REP_FROM {
            // SAFETY: the caller's obligations.
            unsafe { copy_by_rep(from, to, len) };
        } else if level >= AVX {
            // SAFETY: as above, and the processor has AVX.
            unsafe { copy_by_32(from, to, len) };
        } else {
            // SAFETY: as above.
            unsafe { copy_by_16(from, to, len) };
        }
    }

    /// Asks whether the processor has AVX, the system saves its registers, and
    /// `rep movsb` is fast.
    #[cold]
    #[allow(
        unused_unsafe,
        reason = "`__cpuid` is safe in newer compilers than the oldest that is supported"
    )]
    pub(super) fn ask_processor() -> u8 {
        const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
        const XMM_AND_YMM: u32 = 1 << 1 | 1 << 2;
        const FAST_REP: u32 = 1 << 9;
        // SAFETY: every x86-64 processor has the instruction and this leaf.
        if unsafe { __cpuid(1) }.ecx & OSXSAVE_AND_AVX != OSXSAVE_AND_AVX {
            return SSE2;
        }
        let saved: u32;
        // SAFETY: OSXSAVE says that the instruction exists; it reads a register.
        unsafe {
            asm!(
                "xgetbv",
                in("ecx") 0,
                out("eax") saved,
                out("edx") _,
                options(nomem, nostack, preserves_flags),
            );
        }
        if saved & XMM_AND_YMM != XMM_AND_YMM {
            return SSE2;
        }
        // SAFETY: as above; a processor with AVX has leaf 7.
        if unsafe { __cpuid_count(7, 0) }.ebx & FAST_REP != 0 {
            AVX_AND_FAST_REP
        } else {
            AVX
        }
    }

    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    pub(super) unsafe fn copy_by_rep(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: it reads and writes `len` bytes from `from` and `to` on; the
        // direction flag is clear by the calling convention.
        unsafe {
            asm!(
                "rep movsb",
                inout("rsi") from => _,
                inout("rdi") to => _,
                inout("rcx") len => _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Copies by 128 bytes and then what is left by halves, none twice.
    ///
    /// # Safety
    ///
    /// 1. Those of [`super::copy_out`].
    /// 2. The processor has AVX.
    #[inline(always)]
    pub(super) unsafe fn copy_by_32(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: the pointers advance by what was copied and `len` shrinks by as
        // much or its bits name what is left, so every access is within the
        // obligations. All vector registers are given up, because `vzeroupper`
        // clears the upper halves of all; it spares processors that stall when
        // 16-byte instructions follow 32-byte ones.
        unsafe {
            asm!(
                "cmp {len}, 128",
                "jb 3f",
                ".p2align 4",
                "2:",
                "vmovdqu ymm0, [{from}]",
                "vmovdqu ymm1, [{from} + 32]",
                "vmovdqu ymm2, [{from} + 64]",
                "vmovdqu ymm3, [{from} + 96]",
                "vmovdqu [{to}], ymm0",
                "vmovdqu [{to} + 32], ymm1",
                "vmovdqu [{to} + 64], ymm2",
                "vmovdqu [{to} + 96], ymm3",
                "sub {from}, -128",
                "sub {to}, -128",
                "add {len}, -128",
                "cmp {len}, 128",
                "jae 2b",
                "3:",
                "test {len:l}, 64",
                "jz 4f",
                "vmovdqu ymm0, [{from}]",
                "vmovdqu ymm1, [{from} + 32]",
                "vmovdqu [{to}], ymm0",
                "vmovdqu [{to} + 32], ymm1",
                "add {from}, 64",
                "add {to}, 64",
                "4:",
                "test {len:l}, 32",
                "jz 5f",
                "vmovdqu ymm0, [{from}]",
                "vmovdqu [{to}], ymm0",
                "add {from}, 32",
                "add {to}, 32",
                "5:",
                "vzeroupper",
                "test {len:l}, 31",
                "jz 22f",
                "test {len:l}, 16",
                "jz 6f",
                "movdqu xmm0, [{from}]",
                "movdqu [{to}], xmm0",
                "add {from}, 16",
                "add {to}, 16",
                "6:",
                "test {len:l}, 8",
                "jz 7f",
                "mov {word}, [{from}]",
                "mov [{to}], {word}",
                "add {from}, 8",
                "add {to}, 8",
                "7:",
                "test {len:l}, 7",
                "jz 22f",
                "test {len:l}, 4",
                "jz 8f",
                "mov {word:e}, [{from}]",
                "mov [{to}], {word:e}",
                "add {from}, 4",
                "add {to}, 4",
                "8:",
                "test {len:l}, 2",
                "jz 9f",
                "movzx {word:e}, word ptr [{from}]",
                "mov [{to}], {word:x}",
                "add {from}, 2",
                "add {to}, 2",
                "9:",
                "test {len:l}, 1",
                "jz 22f",
                "movzx {word:e}, byte ptr [{from}]",
                "mov [{to}], {word:l}",
                "22:",
                from = inout(reg) from => _,
                to = inout(reg) to => _,
                len = inout(reg) len => _,
                word = out(reg) _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack),
            );
        }
    }

    /// Tells whether `level` has AVX, for the tests.
    #[cfg(test)]
    pub(super) fn has_avx(level: u8) -> bool {
        level >= AVX
    }
}

/// Relaxed atomic loads, for the processors without assembly above and for tools.
#[cfg(any(test, not(copy_by_assembly)))]
mod words {
    #[cfg(not(loom))]
    use crate::primitive::AtomicU8;
    use crate::primitive::{AtomicU64, Ordering};

    const WORD: usize = size_of::<u64>();

    #[cfg(not(any(loom, copy_by_assembly)))]
    pub(super) use copy as copy_run;

    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    #[cfg(not(loom))]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        let mut done = 0;
        macro_rules! step {
            ($atomic:ty, $value:ty) => {{
                // SAFETY: so many bytes are left (see the conditions below).
                let from = unsafe { from.add(done) }.cast::<$atomic>();
                // SAFETY: as above.
                let to = unsafe { to.add(done) }.cast::<$value>();
                // PEER: loaded once. Relaxed: the ring has ordered it.
                // SAFETY: valid by obligation 1, and aligned: words by the
                // condition below, bytes always.
                let value = unsafe { &*from }.load(Ordering::Relaxed);
                // SAFETY: valid by obligation 2.
                unsafe { to.write_unaligned(value) };
                done += size_of::<$value>();
            }};
        }
        let ahead = from.align_offset(WORD).min(len);
        while done < ahead {
            step!(AtomicU8, u8);
        }
        while len - done >= WORD {
            step!(AtomicU64, u64);
        }
        while done < len {
            step!(AtomicU8, u8);
        }
    }

    /// The source is a run of whole words of the model.
    ///
    /// # Safety
    ///
    /// Those of [`super::copy_out`].
    #[cfg(loom)]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        for done in (0..len).step_by(WORD) {
            // SAFETY: the word begins within the source.
            let word = unsafe { from.add(done) }.cast::<AtomicU64>();
            // Relaxed: the ring has ordered it.
            // SAFETY: a word of the model lies there.
            let bytes = unsafe { &*word }.load(Ordering::Relaxed).to_ne_bytes();
            // SAFETY: as above.
            let to = unsafe { to.add(done) };
            let count = WORD.min(len - done);
            // SAFETY: so many bytes are left of the destination.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), count) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    type Copy = unsafe fn(*const u8, *mut u8, usize);

    /// Every way to copy that this machine has.
    fn ways() -> Vec<(&'static str, Copy)> {
        let mut ways: Vec<(&'static str, Copy)> = vec![
            ("copy_out", |from, to, len| {
                // SAFETY: the caller's obligations.
                unsafe { super::copy_out(from, to, len) }
            }),
            ("copy_run", |from, to, len| {
                // SAFETY: the caller's obligations.
                unsafe { super::copy_run(from, to, len) }
            }),
            ("words", super::words::copy),
        ];
        #[cfg(copy_by_assembly)]
        {
            use super::x86_64::{ask_processor, copy_by_16, copy_by_32, copy_by_rep, has_avx};
            ways.push(("16", |from, to, len| {
                // SAFETY: the caller's obligations.
                unsafe { copy_by_16(from, to, len) }
            }));
            ways.push(("rep", copy_by_rep));
            if has_avx(ask_processor()) {
                ways.push(("32", |from, to, len| {
                    // SAFETY: the caller's obligations, and AVX is there.
                    unsafe { copy_by_32(from, to, len) }
                }));
            }
        }
        ways
    }

    /// Bytes that tell their place, roughly.
    fn bytes(factor: usize, len: usize) -> Vec<u8> {
        let byte = |i: usize| (i * factor / 8).to_le_bytes()[0];
        (1..=len).map(byte).collect()
    }

    /// Every length up to several of the widest steps, at every alignment of both
    /// ends, and beside the copied bytes nothing is touched.
    #[test]
    fn every_length_and_alignment_copies_exactly_its_bytes() {
        const MOST: usize = 300;
        let source: Vec<u8> = bytes(7, MOST + 64);
        for (name, copy) in ways() {
            for len in 0..=MOST {
                let shifts = if len < 80 { 9 } else { 3 };
                for from in 0..shifts {
                    let to = (len + from) % 17;
                    let mut target = vec![0xEE; MOST + 64];
                    // SAFETY: `from + len` and `to + len` are within both.
                    unsafe {
                        copy(
                            source.as_ptr().wrapping_add(from),
                            target.as_mut_ptr().wrapping_add(to),
                            len,
                        );
                    }
                    assert_eq!(target[to..to + len], source[from..from + len], "{name}");
                    let rest = target[..to].iter().chain(&target[to + len..]);
                    assert!(rest.into_iter().all(|&byte| byte == 0xEE), "{name} {len}");
                }
            }
        }
    }

    #[test]
    fn large_copies_arrive_whole() {
        for len in [4096, (128 << 10) - 1, 128 << 10, (256 << 10) + 13] {
            let source: Vec<u8> = bytes(31, len);
            for (name, copy) in ways() {
                let mut target = vec![0; len];
                // SAFETY: both are `len` long.
                unsafe { copy(source.as_ptr(), target.as_mut_ptr(), len) };
                assert!(target == source, "{name} {len}");
            }
        }
    }
}
