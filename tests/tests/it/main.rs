//! Store and engine as a whole, one program for all of it: a test program costs more to link than to run. Apart are
//! `tidy`, which looks at the sources, and `fuzz`, which measures the memory of its own process.

mod crash_matrix;
mod harm_matrix;
mod looking;
mod model;
mod promises;
mod races;
mod ready;
mod scripts;
mod turning;
