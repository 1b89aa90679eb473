//! What is known of ZODB's records, held against ZODB itself: Python runs beside these tests.

mod merge;
mod python;
mod scan;
mod trees;
