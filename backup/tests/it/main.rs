//! Backups through the library: the stored format, held by a fixture.

mod fixture;
