//! Owns a network of the test's own, in name spaces that nobody else sees: packets vanish on it, and no connection is told, which nothing on
//! loopback can do.
//!
//! ```text
//!   here (10.77.1.1) ── router ── there (10.77.2.2)
//!                   │    └ it forgets to forward: silence both ways
//!                   └ the cable is pulled: no carrier here, `unreachable` for who sends from there
//! ```
//! A test of it runs itself once more, as the first process of name spaces in which the network is empty. When it ends, or the test that
//! started it is killed, all processes in there end with it, whosever children they are, and then there is no network any more. That takes
//! root, or a kernel that lets anybody make name spaces.

#![expect(clippy::print_stdout, reason = "what the inner one says is said")]

use super::left_out;
use crate::program::{FILE, ended_with_its_thread, text};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Says to the test's program that its network is its own, and which is the one that is not.
const VARIABLE: &str = "WIRE_OF_THE_TEST";
pub(super) const HERE: &str = "10.77.1.1";
pub(super) const THERE: &str = "10.77.2.2";

/// How packets vanish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    Silence,
    Cable,
}

/// A network of a process that does nothing.
struct Room(Child);

impl Room {
    fn new() -> Room {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("has an output")).read_line(&mut line).expect("reads");
        assert_eq!(line, "ready\n", "is ip (iproute2) there?");
        Room(child)
    }

    /// A command in it.
    fn command(&self, program: &str) -> Command {
        let mut command = ended_with_its_thread("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg(program);
        command
    }

    fn sh(&self, script: &str) {
        must(self.command("sh").args(["-ec", script]));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Nothing is asked of it any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn must(command: &mut Command) {
    let done = command.output().expect("runs");
    assert!(done.status.success(), "{command:?}: {}", text(&done.stderr));
}

pub(super) struct Wire {
    router: Room,
    there: Room,
}

impl Wire {
    fn lay() -> Wire {
        let (router, there) = (Room::new(), Room::new());
        must(Command::new("sh").args([
            "-ec",
            &format!(
                "ip link set lo up
             ip link add here type veth peer name near netns {}
             ip addr add {HERE}/24 dev here
             ip link set here up
             ip route add default via 10.77.1.254",
                router.0.id()
            ),
        ]));
        router.sh(&format!(
            "ip link add far type veth peer name there netns {}
             ip addr add 10.77.1.254/24 dev near
             ip addr add 10.77.2.254/24 dev far
             ip link set near up
             ip link set far up",
            there.0.id()
        ));
        there.sh(&format!(
            "ip addr add {THERE}/24 dev there
             ip link set there up
             ip route add default via 10.77.2.254"
        ));
        let wire = Wire { router, there };
        wire.mend();
        wire
    }

    /// A command at the other end.
    pub(super) fn there(&self, program: &Command) -> Command {
        let mut command = self.there.command(FILE);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    pub(super) fn cut(&self, how: Cut) {
        match how {
            Cut::Silence => self.router.sh("echo 0 > /proc/sys/net/ipv4/ip_forward"),
            Cut::Cable => self.router.sh("ip link set near down"),
        }
    }

    pub(super) fn mend(&self) {
        self.router.sh("ip link set near up; echo 1 > /proc/sys/net/ipv4/ip_forward");
    }
}

/// Runs the test of this name (as `cargo test` shows it), alone, on a wire of its own.
pub(super) fn alone(name: &str, test: impl AsyncFnOnce(Wire)) {
    if let Ok(outer) = std::env::var(VARIABLE) {
        let own = network();
        assert!(outer.starts_with("net:[") && outer != own, "{VARIABLE} is {outer}: no wire is laid in {own}");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(test(Wire::lay()));
    }
    // All that a wire is made of.
    let can = inside("sh").args(["-ec", PROBE]).output().expect("setpriv (util-linux) runs");
    if !can.status.success() {
        let why = text(&can.stderr);
        return left_out(&format!("no network of its own here, which takes ip (iproute2), and root: {}", why.trim()));
    }
    let done = inside(&std::env::current_exe().expect("this program").to_string_lossy())
        .args(["--exact", name, "--nocapture"])
        .env(VARIABLE, network())
        .output()
        .expect("runs");
    let told = format!("{}{}", text(&done.stdout), text(&done.stderr));
    assert!(done.status.success() && told.contains("1 passed"), "{told}");
    print!("{told}");
}

const PROBE: &str = "ip link set lo up
     ip link add here type veth peer name near
     echo 1 > /proc/sys/net/ipv4/ip_forward
     unshare --net ip link set lo up
     nsenter --net=/proc/self/ns/net true";

fn network() -> String {
    std::fs::read_link("/proc/self/ns/net").expect("a system with name spaces").display().to_string()
}

/// A command that has its network, its processes and what belongs to them for itself; it ends with the thread that starts it.
fn inside(program: &str) -> Command {
    // Root of this machine, or of name spaces that anybody may make.
    let as_root: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let mut command = ended_with_its_thread("unshare");
    command.args(as_root);
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // Process 1 is none of the test's: a server that it had started would say that it cannot be followed.
    command.args(["sh", "-c", "\"$@\"; exit $?", "sh", program]);
    command
}
