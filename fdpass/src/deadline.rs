//! The instant at which a waiting call gives up.

use std::time::{Duration, Instant};

/// Says until when a call may wait.
///
/// A deadline is a point in time and not a length of time, so one value bounds a
/// whole exchange of several calls, and an interrupted wait goes on with what is
/// left. What can be done at once is done even after the deadline: it bounds the
/// waiting only.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use memenpsf_fdpass::Deadline;
///
/// assert!(Deadline::at(Instant::now()).has_passed());
/// assert!(!Deadline::after(Duration::from_secs(60)).has_passed());
/// assert!(!Deadline::never().has_passed());
/// assert_eq!(Deadline::from(None), Deadline::never());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Waits for as long as it takes.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(memenpsf_fdpass::Deadline::never().instant(), None);
    /// ```
    #[must_use]
    pub const fn never() -> Self {
        Self(None)
    }

    /// Waits until `instant`. One in the past means: do what can be done at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    /// use memenpsf_fdpass::Deadline;
    ///
    /// let instant = Instant::now();
    /// assert_eq!(Deadline::at(instant).instant(), Some(instant));
    /// ```
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// Waits for `duration` from now. One beyond what the clock can express is
    /// the same as [`never`](Self::never).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use memenpsf_fdpass::Deadline;
    ///
    /// assert!(Deadline::after(Duration::ZERO).has_passed());
    /// assert_eq!(Deadline::after(Duration::MAX), Deadline::never());
    /// ```
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now().checked_add(duration))
    }

    /// Returns the instant, or `None` for a deadline that never comes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use memenpsf_fdpass::Deadline;
    ///
    /// assert!(Deadline::after(Duration::from_secs(1)).instant().is_some());
    /// ```
    #[must_use]
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Returns the time that is left: zero once the deadline has passed, `None`
    /// for a deadline that never comes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use memenpsf_fdpass::Deadline;
    ///
    /// assert_eq!(Deadline::at(Instant::now()).remaining(), Some(Duration::ZERO));
    /// assert_eq!(Deadline::never().remaining(), None);
    /// ```
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        self.0
            .map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Tells whether the deadline is now or in the past.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use memenpsf_fdpass::Deadline;
    ///
    /// assert!(!Deadline::after(Duration::from_secs(60)).has_passed());
    /// ```
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }
}

impl From<Option<Instant>> for Deadline {
    fn from(instant: Option<Instant>) -> Self {
        Self(instant)
    }
}
