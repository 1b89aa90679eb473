//! Owns the program: what it does is the library's.

fn main() -> std::process::ExitCode {
    zeolite::main()
}
