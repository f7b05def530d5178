//! Regions offered by honest, broken and hostile owners.
//!
//! Every test holds one lock: they count the descriptors and the mappings of the
//! whole process.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as loudly as the test"
)]

use std::ffi::c_void;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memenpsf::error::{Field, Step};
use memenpsf::layout::{
    BLOCK_LEN, CONSUMER_OFFSET, HEADER_LEN, Header, PRODUCER_OFFSET, RegionLayout, RingKind, Shape,
    WAITING_OFFSET,
};
use memenpsf::region::{OwnRegion, PeerRegion, SEALS};
use memenpsf::{Mismatch, Name, RegionError};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mprotect, munmap};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::ftruncate;

/// Holds the lock, and in the end finds as many descriptors and mappings of memfds
/// as in the beginning.
struct Baseline {
    descriptors: usize,
    mappings: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Baseline {
    fn take() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            descriptors: count_descriptors(),
            mappings: count_mappings(),
            _alone: alone,
        }
    }

    fn check(&self) {
        assert_eq!(count_descriptors(), self.descriptors, "descriptors leak");
        assert_eq!(count_mappings(), self.mappings, "mappings leak");
    }
}

fn count_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn count_mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("/memfd:")).count()
}

/// A header of an index ring of 1024 `u64`: three pages.
fn header() -> Header {
    Header {
        shape: Shape::of::<u64>(RingKind::Index, 1024, ""),
        layout: RegionLayout::new(128 + 1024 * 8, 1 << 20).unwrap(),
        nonce: 0x1234_5678_9abc_def0,
    }
}

const LEN: i64 = 3 * 4096;

fn create() -> (OwnRegion, OwnedFd) {
    OwnRegion::create(&Name::new("test").unwrap(), &header()).unwrap()
}

/// A memfd that any seal may be set on.
fn memfd(flags: MFdFlags) -> nix::Result<OwnedFd> {
    memfd_create(
        "region-test",
        flags | MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )
}

fn seal(fd: &OwnedFd, seals: SealFlag) {
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
}

fn write_at(fd: &OwnedFd, bytes: &[u8], offset: u64) {
    File::from(fd.try_clone().unwrap())
        .write_all_at(bytes, offset)
        .unwrap();
}

/// A region as an owner of another program would make it.
fn forge(header_bytes: &[u8; HEADER_LEN]) -> OwnedFd {
    let fd = memfd(MFdFlags::empty()).unwrap();
    ftruncate(&fd, LEN).unwrap();
    fallocate(&fd, FallocateFlags::empty(), 0, LEN).unwrap();
    write_at(&fd, header_bytes, 0);
    seal(&fd, SEALS);
    fd
}

fn open(fd: OwnedFd) -> Result<PeerRegion, RegionError> {
    PeerRegion::open(fd, &header())
}

fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn write_word(at: *mut u8, value: u64) {
    // SAFETY: the caller gives the start of a block of a region that lives.
    unsafe { at.cast::<u64>().write_volatile(value) };
}

fn read_word(at: *const u8) -> u64 {
    // SAFETY: the caller gives the start of a block of a region that lives.
    unsafe { at.cast::<u64>().read_volatile() }
}

#[test]
fn peer_sees_what_the_owner_writes() {
    let baseline = Baseline::take();
    {
        let (own, fd) = create();
        let peer = open(fd).unwrap();
        assert_eq!(peer.layout(), own.layout());
        let offset = |of: *const u8| of as usize - peer.consumer_block() as usize;
        assert_eq!(offset(peer.waiting()), WAITING_OFFSET - CONSUMER_OFFSET);
        assert_eq!(
            offset(peer.producer_block()),
            PRODUCER_OFFSET - CONSUMER_OFFSET
        );
        assert_eq!(peer.producer_block() as usize % BLOCK_LEN, 0);

        let pairs = [
            (own.consumer_block(), peer.consumer_block()),
            (own.waiting(), peer.waiting()),
            (own.producer_block(), peer.producer_block()),
        ];
        for (value, (ours, theirs)) in (1..).zip(pairs) {
            assert_eq!(read_word(theirs), 0, "a new region is all zero");
            write_word(ours.as_ptr(), value);
            assert_eq!(read_word(theirs), value);
        }
        let last = own.layout().producer_len() - 8;
        write_word(own.producer_block().as_ptr().wrapping_add(last), 99);
        assert_eq!(read_word(peer.producer_block().wrapping_add(last)), 99);
    }
    baseline.check();
}

#[test]
fn peer_outlives_the_owner() {
    let baseline = Baseline::take();
    {
        let (own, fd) = create();
        write_word(own.producer_block().as_ptr(), 42);
        let peer = open(fd).unwrap();
        drop(own);
        assert_eq!(read_word(peer.producer_block()), 42);
    }
    baseline.check();
}

#[test]
fn every_step_of_creation_leaves_its_mark() {
    let baseline = Baseline::take();
    {
        let (own, fd) = create();
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).unwrap();
        assert_eq!(seals & SEALS.bits(), SEALS.bits());
        assert_eq!(fcntl(&fd, FcntlArg::F_GETFD), Ok(1), "FD_CLOEXEC");
        let stat = nix::sys::stat::fstat(&fd).unwrap();
        assert_eq!((stat.st_size, stat.st_blocks * 512), (LEN, LEN));
        assert_eq!(own.layout().len(), usize::try_from(LEN).unwrap());
        let mut bytes = [0; HEADER_LEN];
        File::from(fd).read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, header().encode());
    }
    baseline.check();
}

/// The flags of the mapping that begins where `block`'s region does.
fn mapping_flags(block: *const u8) -> String {
    let begin = format!("{:x}-", block as usize - CONSUMER_OFFSET);
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let ours = smaps.split_once(&begin).unwrap().1;
    let flags = ours
        .lines()
        .find(|line| line.starts_with("VmFlags:"))
        .unwrap();
    flags.to_owned()
}

#[test]
fn mappings_are_not_forked_and_peers_cannot_become_writable() {
    let baseline = Baseline::take();
    {
        let (own, fd) = create();
        let peer = open(fd).unwrap();
        let has = |flags: &str, flag| flags.split_whitespace().any(|word| word == flag);
        let ours = mapping_flags(own.consumer_block().as_ptr());
        let theirs = mapping_flags(peer.consumer_block());
        assert!(has(&ours, "dc"), "dontcopy: {ours}");
        assert!(has(&theirs, "dc"), "dontcopy: {theirs}");
        assert!(has(&ours, "wr"), "{ours}");
        assert!(!has(&theirs, "wr") && !has(&theirs, "mw"), "{theirs}");
    }
    baseline.check();
}

#[test]
fn all_pages_are_present_before_the_first_access() {
    let baseline = Baseline::take();
    {
        let (own, fd) = create();
        let peer = open(fd).unwrap();
        for block in [
            own.consumer_block().as_ptr().cast_const(),
            peer.consumer_block(),
        ] {
            let begin = format!("{:x}-", block as usize - CONSUMER_OFFSET);
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let ours = smaps.split_once(&begin).unwrap().1;
            let rss = ours.lines().find(|line| line.starts_with("Rss:")).unwrap();
            assert_eq!(rss.split_whitespace().nth(1), Some("12"), "{rss}");
        }
    }
    baseline.check();
}

#[test]
fn region_beyond_one_allocation_step_is_allocated_to_its_end() {
    let baseline = Baseline::take();
    {
        // Above two steps of 4 MiB, and no multiple.
        let layout = RegionLayout::new((9 << 20) + 5, 1 << 30).unwrap();
        let shape = Shape::of::<u8>(RingKind::Bytes, 9 << 20, "");
        let header = Header {
            shape,
            layout,
            nonce: 1,
        };
        let (own, fd) = OwnRegion::create(&Name::new("").unwrap(), &header).unwrap();
        let stat = nix::sys::stat::fstat(&fd).unwrap();
        assert!(stat.st_blocks * 512 >= stat.st_size);
        let peer = PeerRegion::open(fd, &header).unwrap();
        write_word(own.producer_block().as_ptr().wrapping_add(9 << 20), 7);
        assert_eq!(read_word(peer.producer_block().wrapping_add(9 << 20)), 7);
    }
    baseline.check();
}

#[test]
fn system_without_descriptors_is_an_error_that_names_the_step() {
    let baseline = Baseline::take();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    let answer = OwnRegion::create(&Name::new("").unwrap(), &header());
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    match answer {
        Err(RegionError::System { step, source }) => {
            assert_eq!(step, Step::Create);
            assert_eq!(source.raw_os_error(), Some(Errno::EMFILE as i32));
        }
        other => panic!("{other:?}"),
    }
    baseline.check();
}

fn map(fd: &OwnedFd, prot: ProtFlags) -> nix::Result<std::ptr::NonNull<c_void>> {
    let len = NonZero::new(usize::try_from(LEN).unwrap()).unwrap();
    // SAFETY: a new mapping, at no fixed address, touches no memory of ours.
    unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, fd, 0) }
}

/// Each of the ten attacks of a process that holds the descriptor of a region.
#[test]
fn ten_attacks_on_a_sealed_region_are_refused() {
    let baseline = Baseline::take();
    {
        let (own, fd) = create();
        write_word(own.producer_block().as_ptr(), 42);
        let len = usize::try_from(LEN).unwrap();
        let read_write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;

        // 1: a new writable mapping.
        assert_eq!(map(&fd, read_write), Err(Errno::EPERM));
        // 2: a read-only one made writable.
        let read_only = map(&fd, ProtFlags::PROT_READ).unwrap();
        // SAFETY: the mapping is this test's own and no reference points into it.
        let writable = unsafe { mprotect(read_only, len, read_write) };
        assert_eq!(writable, Err(Errno::EACCES));
        // SAFETY: as above.
        unsafe { munmap(read_only, len) }.unwrap();
        // 3: pwrite.
        let file = File::from(fd.try_clone().unwrap());
        let errno = file.write_at(b"x", 0).unwrap_err().raw_os_error();
        assert_eq!(errno, Some(Errno::EPERM as i32));
        // 4: shrink.
        assert_eq!(ftruncate(&fd, LEN - 4096), Err(Errno::EPERM));
        // 5: grow.
        assert_eq!(ftruncate(&fd, LEN + 4096), Err(Errno::EPERM));
        assert_eq!(
            fallocate(&fd, FallocateFlags::empty(), LEN, 4096),
            Err(Errno::EPERM)
        );
        // 6: punch a hole.
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert_eq!(fallocate(&fd, punch, 0, 4096), Err(Errno::EPERM));
        // 7: the creator's own MADV_REMOVE.
        let begin = own.consumer_block().as_ptr().wrapping_sub(CONSUMER_OFFSET);
        let begin = std::ptr::NonNull::new(begin.cast::<c_void>()).unwrap();
        // SAFETY: if it succeeded, the region would read as zero: no reference to it
        // exists.
        let removed = unsafe { madvise(begin, len, MmapAdvise::MADV_REMOVE) };
        assert_eq!(removed, Err(Errno::EPERM));
        // 8: reopen through /proc and map writable.
        let mut writable = OpenOptions::new();
        writable.read(true).write(true);
        if let Ok(reopened) = writable.open(proc_path(&fd)) {
            let reopened = OwnedFd::from(reopened);
            assert_eq!(map(&reopened, read_write), Err(Errno::EPERM));
            let errno = File::from(reopened).write(b"x").unwrap_err().raw_os_error();
            assert_eq!(errno, Some(Errno::EPERM as i32));
        }
        // 9: open with O_TRUNC.
        let truncated = writable.truncate(true).open(proc_path(&fd));
        let errno = truncated.unwrap_err().raw_os_error();
        assert_eq!(errno, Some(Errno::EPERM as i32));
        // 10: add a seal.
        assert_eq!(
            fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)),
            Err(Errno::EPERM)
        );

        // Nothing has changed, and the owner still writes.
        assert_eq!(read_word(own.producer_block().as_ptr()), 42);
        let peer = open(fd).unwrap();
        write_word(own.producer_block().as_ptr(), 43);
        assert_eq!(read_word(peer.producer_block()), 43);
    }
    baseline.check();
}

#[test]
fn attacks_succeed_without_the_seals() {
    // Shows that the test above can fail.
    let baseline = Baseline::take();
    {
        let fd = memfd(MFdFlags::empty()).unwrap();
        ftruncate(&fd, LEN).unwrap();
        let writable = map(&fd, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).unwrap();
        // SAFETY: the mapping is this test's own and no reference points into it.
        unsafe { munmap(writable, usize::try_from(LEN).unwrap()) }.unwrap();
        write_at(&fd, b"x", 0);
        ftruncate(&fd, LEN + 4096).unwrap();
        ftruncate(&fd, LEN - 4096).unwrap();
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&fd, punch, 0, 4096).unwrap();
        seal(&fd, SealFlag::F_SEAL_WRITE);
    }
    baseline.check();
}

/// Which pages of a forged file have memory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pages {
    All,
    AllButFirst,
    AllButLast,
    None,
}

/// Seal subsets x lengths x holes x headers: all that pass is what an owner makes,
/// with or without a seal beyond it.
#[test]
fn only_the_legal_shape_of_a_memfd_opens() {
    let baseline = Baseline::take();
    let singles = [
        SealFlag::F_SEAL_SEAL,
        SealFlag::F_SEAL_SHRINK,
        SealFlag::F_SEAL_GROW,
        SealFlag::F_SEAL_FUTURE_WRITE,
        SealFlag::F_SEAL_WRITE,
    ];
    let lengths = [
        0,
        1,
        128,
        LEN - 4096,
        LEN - 1,
        LEN,
        LEN + 1,
        LEN + 4096,
        2 * LEN,
    ];
    let pages = [
        Pages::All,
        Pages::AllButFirst,
        Pages::AllButLast,
        Pages::None,
    ];
    let mut other = header().encode();
    other[56] ^= 1;
    let headers = [header().encode(), other];

    let (mut tried, mut opened) = (0, Vec::new());
    for subset in 0_u32..32 {
        let seals = singles
            .iter()
            .enumerate()
            .fold(SealFlag::empty(), |seals, (bit, &one)| {
                if subset & 1 << bit == 0 {
                    seals
                } else {
                    seals | one
                }
            });
        for length in lengths {
            for pages in pages {
                for (good, bytes) in [true, false].into_iter().zip(headers) {
                    tried += 1;
                    let fd = memfd(MFdFlags::empty()).unwrap();
                    ftruncate(&fd, length).unwrap();
                    let (from, to) = match pages {
                        Pages::All => (0, length),
                        Pages::AllButFirst => (4096, length),
                        Pages::AllButLast => (0, length - 4096),
                        Pages::None => (0, 0),
                    };
                    if to > from {
                        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
                        fallocate(&fd, keep, from, to - from).unwrap();
                    }
                    // Written only where there is memory, so that it stays a hole.
                    if from == 0 && to >= 128 {
                        write_at(&fd, &bytes, 0);
                    }
                    seal(&fd, seals);

                    let case = (seals, length, pages, good);
                    match open(fd) {
                        Ok(_) => opened.push(case),
                        Err(RegionError::SealsMissing { have, need }) => {
                            assert!(!seals.contains(SEALS), "{case:?}");
                            assert_eq!((have, need), (seals.bits(), SEALS.bits()), "{case:?}");
                        }
                        Err(RegionError::Length { found, expected }) => {
                            assert!(seals.contains(SEALS) && length != LEN, "{case:?}");
                            assert_eq!((found, expected), (length, 3 * 4096), "{case:?}");
                        }
                        Err(RegionError::Sparse {
                            allocated,
                            length: 12288,
                        }) => {
                            assert!(seals.contains(SEALS) && length == LEN, "{case:?}");
                            assert!(pages != Pages::All && allocated < 12288, "{case:?}");
                        }
                        Err(RegionError::Header(mismatch)) => {
                            assert!(seals.contains(SEALS) && length == LEN, "{case:?}");
                            assert!(pages == Pages::All && !good, "{case:?}");
                            assert_eq!(mismatch.field, Field::Nonce, "{case:?}");
                        }
                        Err(error) => panic!("{case:?}: {error:?}"),
                    }
                }
            }
        }
    }
    assert_eq!(tried, 32 * 9 * 4 * 2);
    let legal = |seals| (seals, LEN, Pages::All, true);
    assert_eq!(
        opened,
        [legal(SEALS), legal(SEALS | SealFlag::F_SEAL_WRITE)]
    );
    baseline.check();
}

/// As many blocks as the file needs, but some beyond its end: st_blocks does not
/// show the hole.
#[test]
fn hole_that_the_block_count_hides_is_filled_before_the_first_access() {
    let baseline = Baseline::take();
    {
        let fd = memfd(MFdFlags::empty()).unwrap();
        ftruncate(&fd, LEN).unwrap();
        write_at(&fd, &header().encode(), 0);
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&fd, keep, LEN, LEN - 4096).unwrap();
        let stat = nix::sys::stat::fstat(&fd).unwrap();
        assert_eq!((stat.st_size, stat.st_blocks * 512), (LEN, LEN));
        seal(&fd, SEALS);

        let peer = open(fd.try_clone().unwrap()).unwrap();
        let stat = nix::sys::stat::fstat(&fd).unwrap();
        assert_eq!(stat.st_blocks * 512, LEN + LEN - 4096, "the hole is gone");
        let last = peer.layout().producer_len() - 8;
        assert_eq!(read_word(peer.producer_block().wrapping_add(last)), 0);
    }
    baseline.check();
}

#[test]
fn every_byte_of_the_header_is_compared() {
    let baseline = Baseline::take();
    let field_at = |offset| match offset {
        0..8 => Field::Magic,
        8..12 => Field::Version,
        12..16 => Field::Endian,
        16..20 => Field::ElementSize,
        20..24 => Field::ElementAlign,
        24..32 => Field::LayoutHash,
        32..40 => Field::Capacity,
        40..44 => Field::RingKind,
        44..48 => Field::Flags,
        48..56 => Field::RegionLength,
        56..64 => Field::Nonce,
        64..72 => Field::Longest,
        _ => Field::Reserved,
    };
    assert!(open(forge(&header().encode())).is_ok());
    for offset in 0..HEADER_LEN {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = header().encode();
            bytes[offset] ^= flip;
            match open(forge(&bytes)) {
                Err(RegionError::Header(Mismatch {
                    field,
                    found,
                    expected,
                })) => {
                    assert_eq!(field, field_at(offset), "offset {offset}");
                    assert_ne!(found, expected, "offset {offset}");
                }
                other => panic!("offset {offset}: {other:?}"),
            }
        }
    }
    baseline.check();
}

#[test]
fn header_of_another_hello_is_refused_with_both_values() {
    let baseline = Baseline::take();
    {
        let (_own, fd) = create();
        let expected = Header {
            nonce: 1,
            ..header()
        };
        match PeerRegion::open(fd, &expected) {
            Err(RegionError::Header(mismatch)) => assert_eq!(
                mismatch,
                Mismatch {
                    field: Field::Nonce,
                    found: header().nonce,
                    expected: 1
                }
            ),
            other => panic!("{other:?}"),
        }
    }
    baseline.check();
}

#[test]
fn other_kinds_of_descriptors_are_refused() {
    let baseline = Baseline::take();
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut regular = OpenOptions::new();
        regular.read(true).write(true).create(true).truncate(false);
        let regular = regular.open(&path).unwrap();
        regular.set_len(LEN as u64).unwrap();
        let read = |path: &str| OwnedFd::from(File::open(path).unwrap());
        let (reader, writer) = io::pipe().unwrap();
        let (socket, _other) = UnixStream::pair().unwrap();
        let others = [
            ("directory", OwnedFd::from(File::open(&directory).unwrap())),
            ("/dev/null", read("/dev/null")),
            ("/dev/zero", read("/dev/zero")),
            ("/proc/self/maps", read("/proc/self/maps")),
            ("pipe", reader.into()),
            ("socket", socket.into()),
            ("eventfd", nix::sys::eventfd::EventFd::new().unwrap().into()),
        ];
        for (kind, fd) in others {
            let answer = open(fd);
            assert!(
                matches!(answer, Err(RegionError::NotSealable)),
                "{kind}: {answer:?}"
            );
        }
        // Unless /tmp is a tmpfs, whose files have seals, but never these.
        let answer = open(regular.into());
        assert!(
            matches!(
                answer,
                Err(RegionError::NotSealable | RegionError::SealsMissing { .. })
            ),
            "{answer:?}"
        );
        let answer = open(writer.into());
        assert!(
            matches!(answer, Err(RegionError::NotReadable { .. })),
            "{answer:?}"
        );
        // A memfd that was made without seals in mind has one: none may be added.
        let plain = memfd_create("plain", MFdFlags::MFD_CLOEXEC).unwrap();
        let answer = open(plain);
        assert!(
            matches!(answer, Err(RegionError::SealsMissing { have: 1, .. })),
            "{answer:?}"
        );
    }
    baseline.check();
}

#[test]
fn access_mode_decides_over_a_legal_region() {
    let baseline = Baseline::take();
    {
        let (_own, fd) = create();
        let reopen = |flags: OFlag| {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(flags.bits());
            options.open(proc_path(&fd)).unwrap()
        };
        let write_only = OpenOptions::new().write(true).open(proc_path(&fd)).unwrap();
        match open(write_only.into()) {
            Err(RegionError::NotReadable { flags }) => assert_eq!(flags & 3, 1),
            other => panic!("{other:?}"),
        }
        let path_only = reopen(OFlag::O_PATH);
        let answer = open(path_only.into());
        assert!(matches!(answer, Err(RegionError::PathOnly)), "{answer:?}");
        // The fourth access mode: neither reading nor writing. std masks it.
        let flags = OFlag::O_ACCMODE | OFlag::O_CLOEXEC;
        let neither = nix::fcntl::open(proc_path(&fd).as_str(), flags, Mode::empty()).unwrap();
        match open(neither) {
            Err(RegionError::NotReadable { flags }) => assert_eq!(flags & 3, 3),
            other => panic!("{other:?}"),
        }

        assert!(open(reopen(OFlag::empty()).into()).is_ok(), "read-only");
        assert!(open(fd.try_clone().unwrap()).is_ok(), "read-write");
    }
    baseline.check();
}

#[test]
fn huge_pages_are_refused_without_an_access() {
    let baseline = Baseline::take();
    // A kernel may be built without them.
    if let Ok(fd) = memfd(MFdFlags::MFD_HUGETLB) {
        let len = 2 << 20;
        ftruncate(&fd, len).unwrap();
        seal(&fd, SEALS);
        let layout = RegionLayout::new(len as u64 - 384, 1 << 30).unwrap();
        let answer = PeerRegion::open(fd, &Header { layout, ..header() });
        match answer {
            Err(RegionError::FileSystem { found, expected }) => {
                assert_eq!((found, expected), (0x9584_58f6, 0x0102_1994));
            }
            other => panic!("{other:?}"),
        }
    }
    baseline.check();
}

#[test]
fn regular_file_of_tmpfs_lacks_the_seals() {
    let baseline = Baseline::take();
    if fs::metadata("/dev/shm").is_ok_and(|shm| shm.is_dir()) {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(LEN as u64).unwrap();
        assert_eq!(fcntl(file.as_fd(), FcntlArg::F_GET_SEALS), Ok(1));
        let answer = open(file.into());
        assert!(
            matches!(answer, Err(RegionError::SealsMissing { have: 1, .. })),
            "{answer:?}"
        );
    }
    baseline.check();
}
