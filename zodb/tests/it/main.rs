//! What is known of ZODB's records, held against ZODB itself: Python runs beside these tests.

mod python;
mod scan;
