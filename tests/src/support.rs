//! What a test needs to run the real parts by hand.

pub mod harm;
pub mod house;
pub mod jitter;
pub mod recorder;
pub mod resolvers;
pub mod told;
pub mod work;

pub use house::{House, HouseSettings};
pub use told::Told;
pub use work::Work;
