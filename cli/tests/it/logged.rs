//! `log` as it is followed.

use crate::served::{Served, program};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use zeolite_client::Db;
use zeolite_client::collections::Counter;

/// `log -f` tells the last transactions, then each as it is committed, in order and once, also over a restart of the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let served = Served::start(&data);
    let address = served.address.clone();
    let db = Db::connect(&served.address).await.expect("connects");
    let say = async |what: &str| {
        let work =
            db.transaction().note("ada", what).run(async |tx| tx.root_or_create::<Counter>("n").await?.add(&tx, 1));
        work.await.expect("commits");
    };
    for what in ["a", "b", "c"] {
        say(what).await;
    }
    let mut child = program()
        .args(["--json", "--server", &served.address, "log", "-f", "-n", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || {
        let line = lines.next().expect("goes on").expect("is text");
        let value: serde_json::Value = serde_json::from_str(&line).expect("is JSON");
        value["note"]["description"].as_str().expect("a note").to_owned()
    };
    assert_eq!([next(), next()], ["b", "c"]);
    for what in ["d", "e"] {
        say(what).await;
        assert_eq!(next(), what);
    }
    served.kill();
    let _served = Served::start_at(&data, &address);
    for what in ["f", "g"] {
        say(what).await;
        assert_eq!(next(), what);
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
}
