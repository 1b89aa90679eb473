//! `serve` as it is monitored: the address of its numbers, and its log as JSON.

use super::served::{Served, program};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn metrics_are_where_serve_says() {
    let served = Served::start(&["--metrics", "127.0.0.1:0"]);
    let address = served.metrics.clone().expect("an address");
    let mut stream = TcpStream::connect(&address).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\nzeolite_commits_total ") && answer.ends_with("# EOF\n"), "{answer}");
    served.stop();
    let off = Served::start(&[]);
    assert_eq!(off.metrics, None);
    off.stop();
}

#[test]
fn a_log_in_json_has_one_value_per_line() {
    let served = Served::start(&["--log-format", "json"]);
    let log = served.stop();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let serving = lines.iter().find(|line| line["fields"]["message"] == "serving").expect("it tells that it serves");
    assert_eq!(serving["level"], "INFO");
    assert!(serving["fields"]["address"].is_string() && serving["timestamp"].is_string(), "{serving}");
    let bad = program().args(["serve", "--log-format", "xml"]).output().expect("runs");
    assert_eq!(bad.status.code(), Some(2));
}
