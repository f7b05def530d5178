//! What can go wrong, one type for each set of causes.
//!
//! | when | type |
//! |---|---|
//! | a connection is made | [`ConnectError`], with [`HandshakeError`], [`RegionError`], [`NameError`] |
//! | messages are exchanged | [`XmitError`], [`TransmitError`], [`ByteXmitError`], [`RecvError`], [`ControlError`] |
//! | clients are served | [`BindError`], [`AcceptError`] |

mod connect;
mod exchange;
mod mismatch;
mod refusal;
mod region;
mod serve;

pub use connect::{ConnectError, NameError};
pub(crate) use exchange::Ended;
pub use exchange::{
    ByteXmitError, ControlError, ControlViolation, Departure, RecvError, TransmitError, Violation,
    XmitError,
};
pub use mismatch::{Field, Mismatch};
pub use refusal::{HandshakeError, Reason, Refusal};
pub use region::{RegionError, Step};
pub use serve::{AcceptError, BindError};
