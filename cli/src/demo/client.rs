//! A client of a demo.

use std::process::ExitCode;

use memenpsf_benches::placement::pin;

use super::child::{self, Part};
use super::link;
use super::orders::{self, Answer, Order};

/// Runs client `index` until the demo has no more orders.
pub(crate) fn take_part(index: usize) -> ExitCode {
    child::run(|setup, orders| {
        if let Some([_, core]) = setup.cores {
            pin(core)?;
        }
        let mut links = link::connect(setup, index)?;
        child::answer(&Answer::Ready)?;
        while let Some(order) = orders::read::<Order>(orders)? {
            let done = child::carry_out(&order, Part::Client, &mut links)?;
            child::answer(&Answer::Done(done))?;
        }
        Ok(())
    })
}
