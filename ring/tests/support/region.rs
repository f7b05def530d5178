//! Regions: each a memfd that is mapped twice, writable for its owner and read-only
//! for the peer. A store of the peer is a fault.

use std::fs::File;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// One memfd, mapped by its owner and by the peer.
pub(crate) struct Region {
    own: MmapRaw,
    peer: MmapRaw,
}

impl Region {
    pub(crate) fn new(size: usize) -> Self {
        let file = File::from(memfd_create(c"ring", MFdFlags::MFD_CLOEXEC).expect("memfd_create"));
        file.set_len(size as u64).expect("room for a small file");
        let own = MmapOptions::new().map_raw(&file).expect("mmap");
        let peer = MmapOptions::new().map_raw_read_only(&file).expect("mmap");
        Self { own, peer }
    }

    /// Returns where the owner sees it.
    pub(crate) fn own(&self) -> NonNull<u8> {
        NonNull::new(self.own.as_mut_ptr()).expect("a mapping is not null")
    }

    /// Returns where the peer sees it.
    pub(crate) fn peer(&self) -> NonNull<u8> {
        NonNull::new(self.peer.as_mut_ptr()).expect("a mapping is not null")
    }
}
