//! `zeolite evolve` as its users meet it: jobs planned, run by programs in another language, killed, resumed, undone.

mod bad_input;
mod example;
mod jobs;
#[path = "../serve/program.rs"]
mod program;
mod scene;
#[path = "../serve/served.rs"]
mod served;
mod stopped;
