//! `zeolite top`: JSON lines, one table, and the screen in a terminal.

use super::served::{Served, text};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_each_interval_is_a_json_line_with_rates() {
    let served = Served::start(&[]);
    let traffic = served.traffic().await;
    let output = served.run(&["top", "--interval", "0.2", "--count", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let samples: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert_eq!(samples.len(), 3);
    for sample in &samples {
        let number = |name: &str| sample[name].as_f64().unwrap_or_else(|| panic!("no {name} in {sample}"));
        assert!(number("commits_per_s") > 0.0 && number("batch_size") >= 1.0, "{sample}");
        assert!(number("interval_ms") > 0.0 && number("fsync_p99_us") >= 0.0, "{sample}");
        assert_eq!((sample["mode"].as_str(), number("sessions")), (Some("normal"), 1.0), "{sample}");
    }
    traffic.abort();
    served.stop();
}

#[test]
fn once_is_one_table() {
    let served = Served::start(&[]);
    let output = served.run(&["top", "--once", "-i", "0.1"]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for part in ["zeolite ", "commits/s", "live p99", "cache hits", "mode normal", "no conflicts"] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
    let json = served.run(&["--json", "top", "--once", "-i", "0.1"]);
    let sample: Value = serde_json::from_slice(&json.stdout).expect("one json value");
    assert_eq!(sample["commits_per_s"].as_f64(), Some(0.0));
    served.stop();
}

#[test]
fn a_server_that_goes_ends_the_lines_with_its_exit_code() {
    let served = Served::start(&[]);
    let mut top =
        served.command(&["top", "-i", "0.05"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("runs");
    let mut first = [0];
    top.stdout.as_mut().expect("an output").read_exact(&mut first).expect("a line begins");
    served.stop();
    assert_eq!(top.wait().expect("ends").code(), Some(3));
}

#[test]
fn in_a_terminal_it_draws_until_q_and_leaves_everything_as_it_was() {
    let served = Served::start(&[]);
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
    grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("is usable");
    let name = ptsname(&controller, Vec::new()).expect("has a name").into_string().expect("utf-8");
    let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = || File::options().read(true).write(true).open(&name).expect("opens");
    tcsetwinsize(terminal(), size).expect("has a size");
    let mut top = {
        // Dropped with its ends of the terminal: so that reading ends when the program does.
        let mut command = served.command(&["top", "-i", "0.1"]);
        command.stdin(terminal()).stdout(terminal()).stderr(terminal()).spawn().expect("the binary starts")
    };
    let mut screen = File::from(controller);
    let mut seen = read_until(&mut screen, "commits/s");
    assert!(seen.contains("\x1b[?1049h"), "it has a screen of its own: {seen:?}");
    screen.write_all(b"q").expect("a key");
    seen += &read_until(&mut screen, "\x1b[?1049l");
    assert!(seen.contains("mode normal") && seen.contains("q quits"), "{seen:?}");
    assert_eq!(top.wait().expect("ends").code(), Some(0));
    served.stop();
}

/// What a terminal shows until these characters were shown.
fn read_until(screen: &mut File, end: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !text(&seen).contains(end) {
        let bytes = screen.read(&mut buffer).unwrap_or(0);
        assert!(bytes > 0, "the terminal ended before {end:?}: {:?}", text(&seen));
        seen.extend_from_slice(&buffer[..bytes]);
    }
    text(&seen)
}
