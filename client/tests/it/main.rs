//! The client against real servers, one program for all of it: a test program costs more to link than to run.

mod blocking;
mod derive;
mod diagnostics;
mod evolve;
mod evolve_scripts;
mod examples;
mod guide;
mod indexes;
mod live;
mod secure;
mod site;
mod spawnable;
mod support;
mod vectors;
