//! Shows that no command waits for ever: a server that is stopped still accepts connections, and says nothing.

use crate::program::{program, text};
use std::net::TcpListener;
use std::process::Output;

fn run(address: &str, args: &[&str]) -> Output {
    program().args(["--server", address, "--timeout", "1"]).args(args).output().expect("the binary starts")
}

#[test]
fn a_server_that_says_nothing_counts_as_not_there() {
    // The kernel accepts for it, as it does for a stopped process.
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("has an address").to_string();
    let commands: [&[&str]; 14] = [
        &["status"],
        &["get", "0"],
        &["scan", "0"],
        &["history", "0"],
        &["log"],
        &["log", "-f"],
        &["undo", "0000000000000001"],
        &["mode"],
        &["mode", "read-only"],
        &["pack"],
        &["verify"],
        &["top", "--once"],
        &["evolve", "list"],
        &["evolve", "pause", "x"],
    ];
    let address = address.as_str();
    std::thread::scope(|scope| {
        for args in commands {
            scope.spawn(move || {
                let output = run(address, args);
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(3), "{args:?}: {said}");
                assert!(said.contains("within"), "{args:?}: {said}");
            });
        }
        let check = run(address, &["check"]);
        assert_eq!(check.status.code(), Some(2), "{}", text(&check.stdout));
        assert!(text(&check.stdout).contains("within 1"), "{}", text(&check.stdout));
    });
}
