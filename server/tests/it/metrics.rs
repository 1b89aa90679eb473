//! The numbers for monitoring, over real HTTP, read by the rules of the OpenMetrics text format.

mod evolves;
mod openmetrics;
pub(crate) mod scrape;
mod watched;
