//! The bound on elements that live in a region.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Plain data: a type whose every bit pattern is a value, without padding,
/// references, pointers to anything, or interior mutability.
///
/// Elements in shared memory must be plain, because the other process decides
/// which bytes arrive (every pattern must be a value) and sees all that is sent
/// (no padding that would carry stale memory). It is implemented for every
/// type that derives [`zerocopy`]'s `FromBytes`, `IntoBytes` and `Immutable`, and
/// `Copy`: integers, floats, arrays of plain types, and such structs.
///
/// ```
/// use memenpsf_ring::Plain;
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Order {
///     id: u64,
///     price: u32,
///     volume: u32,
/// }
///
/// fn is_plain<T: Plain>() -> bool {
///     true
/// }
/// assert!(is_plain::<Order>() && is_plain::<[u8; 13]>());
/// ```
///
/// References, `bool`, `char`, enums and types with padding are refused:
///
/// ```compile_fail
/// fn is_plain<T: memenpsf_ring::Plain>() {}
/// is_plain::<&[u8]>();
/// ```
/// ```compile_fail
/// fn is_plain<T: memenpsf_ring::Plain>() {}
/// is_plain::<bool>();
/// ```
/// ```compile_fail
/// fn is_plain<T: memenpsf_ring::Plain>() {}
/// is_plain::<char>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in shared memory: it is not plain data",
    label = "not plain data",
    note = "for a struct: `#[repr(C)]`, fields of integers, floats or arrays without padding, and derive `Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable`",
    note = "for `bool`, `char` and enums: send an integer and convert it where it arrives",
    note = "for `&[u8]`, `Vec<u8>`, `String`: send a fixed-size array, or use a byte interface for messages of variable length"
)]
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy + Send + 'static {}

// Otherwise the compiler would not show the advice above but the first bound
// that fails, with zerocopy's: to derive `FromBytes` for `&[u8]`.
#[diagnostic::do_not_recommend]
impl<T: FromBytes + IntoBytes + Immutable + Copy + Send + 'static> Plain for T {}
