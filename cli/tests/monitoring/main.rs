//! Monitoring through the binary: `check`, `top`, `serve --metrics`, the forms of the log.

mod check;
mod served;
mod serving;
mod top;
