//! What can go wrong with a region.

use std::fmt;
use std::io;

use thiserror::Error;

use super::Mismatch;

/// Which step of creating or opening a region the system refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// `memfd_create`
    Create,
    /// `ftruncate`
    Resize,
    /// `fallocate`
    Allocate,
    /// `mmap`
    Map,
    /// `madvise(MADV_DONTFORK)`
    DontFork,
    /// `madvise(MADV_POPULATE_READ)` or `MADV_POPULATE_WRITE`
    Populate,
    /// `fcntl(F_ADD_SEALS)`
    Seal,
    /// `fcntl(F_GET_SEALS)`
    ReadSeals,
    /// `fcntl(F_GETFL)`
    ReadFlags,
    /// `fstatfs`
    FileSystem,
    /// `fstat`
    Stat,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create the memfd",
            Self::Resize => "set the length",
            Self::Allocate => "allocate the memory",
            Self::Map => "map the region",
            Self::DontFork => "keep the mapping out of forks",
            Self::Populate => "fault the pages in",
            Self::Seal => "seal the region",
            Self::ReadSeals => "read the seals",
            Self::ReadFlags => "read the access mode",
            Self::FileSystem => "ask for the file system",
            Self::Stat => "ask for the length",
        })
    }
}

/// Why a region was not created or not opened.
///
/// ```
/// use memenpsf::{RegionError, layout::RegionLayout};
///
/// let error = RegionLayout::new(5000, 4096).unwrap_err();
/// assert_eq!(error.to_string(), "the region needs 8192 bytes, the limit is 4096");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The region is longer than the caller's limit.
    #[error("the region needs {needed} bytes, the limit is {limit}")]
    TooLarge {
        /// Length that the region would have.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The region is longer than this process may make a file. The kernel would end
    /// the process for it (`SIGXFSZ`).
    #[error(
        "the region needs {needed} bytes, the limit of file sizes is {limit}: raise RLIMIT_FSIZE (ulimit -f) or choose a smaller capacity"
    )]
    FileSize {
        /// Length that the region would have.
        needed: u64,
        /// The soft limit of the process.
        limit: u64,
    },
    /// The region fits into no address space.
    #[error("a producer block of {producer_len} bytes does not fit into the address space")]
    Overflow {
        /// Length of the producer block.
        producer_len: u64,
    },
    /// The system refused a step.
    #[error("cannot {step}")]
    System {
        /// Which step.
        step: Step,
        /// The system's answer.
        source: io::Error,
    },
    /// The descriptor names a path and opens nothing (`O_PATH`).
    #[error("the descriptor is a mere path (O_PATH)")]
    PathOnly,
    /// The descriptor cannot be read from.
    #[error("the descriptor is not open for reading (flags {flags:#x})")]
    NotReadable {
        /// The flags of the open file.
        flags: i32,
    },
    /// The descriptor is of a kind that has no seals: no memfd.
    #[error("the descriptor is no memfd: it has no seals")]
    NotSealable,
    /// A seal is missing.
    #[error("the seals are {have:#x}, needed are {need:#x}")]
    SealsMissing {
        /// The seals that are set.
        have: i32,
        /// The seals that have to be set.
        need: i32,
    },
    /// The file lies in a file system other than tmpfs, such as hugetlbfs.
    #[error("the file system is {found:#x}, expected tmpfs, {expected:#x}")]
    FileSystem {
        /// Magic number of the file system.
        found: i64,
        /// Magic number of tmpfs.
        expected: i64,
    },
    /// The file is not a regular one.
    #[error("the file is not a regular one (mode {mode:#o})")]
    FileKind {
        /// Its mode.
        mode: u32,
    },
    /// The file is not as long as the hello says.
    #[error("the file has {found} bytes, expected {expected}")]
    Length {
        /// Length of the file.
        found: i64,
        /// Length of the region.
        expected: u64,
    },
    /// Parts of the file have no memory behind them.
    #[error("only {allocated} of {length} bytes are allocated")]
    Sparse {
        /// How many bytes are allocated.
        allocated: u64,
        /// How many the file has.
        length: u64,
    },
    /// The header says something else than the hello.
    #[error("the region's header does not match")]
    Header(#[source] Mismatch),
}
