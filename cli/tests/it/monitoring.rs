//! Monitoring through the binary: `check`, `top`, `serve --metrics`, the forms of the log, evolves seen from there.

mod check;
mod evolves;
mod served;
mod serving;
mod top;
