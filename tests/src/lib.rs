//! What the end-to-end tests share.
//!
//! ```text
//!   checker   records what named clients did and saw, and judges it: snapshot isolation, serializability, exact sums
//! ```

pub mod checker;
