//! Owns what a turn of a loop answers: whether to turn it again.

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Something was done.
    Worked,
    /// There was nothing to do.
    Idle,
    /// There never will be again.
    Ended,
}
