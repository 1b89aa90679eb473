//! What the tests of the whole house share; the tests themselves are in `tests/`.
//!
//! ```text
//!   support   a whole engine on a simulated disk, in one thread, turned by hand
//!   script    golden transcripts with named actors (`scripts/*.txt`)
//!   model     what the engine should answer, in the simplest words there are
//!   checker   records what named clients did and saw, and judges it: snapshot isolation, serializability, exact sums
//! ```

pub mod checker;
pub mod model;
pub mod script;
pub mod support;
