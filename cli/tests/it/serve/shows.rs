//! The commands that show what is stored.

use crate::served::{Served, fill, text};
use serde_json::Value;
use zeolite_client::Db;
use zeolite_client::collections::{Counter, Map};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_one_is_cut_and_comes_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    assert!(served.json(&["sessions", "list"]).is_empty(), "an operator takes none");
    let options = zeolite_client::Options::new().name("the shop");
    let db = Db::connect_with(&*served.address, options).await.expect("connects");
    let told = served.json(&["sessions", "list"]).remove(0);
    assert_eq!((&told["client"], &told["role"], &told["in_flight"]), (&"the shop".into(), &"admin".into(), &0.into()));
    assert!(told["principal"].is_null() && told["address"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")));
    let first = told["id"].as_u64().expect("a number");
    assert!(text(&served.run(&["sessions", "list"]).stdout).contains("the shop"));
    served.json(&["sessions", "cut", &first.to_string()]);
    let again = loop {
        // It comes again by itself, under another number.
        db.newest().await.expect("answers");
        match served.json(&["sessions", "list"]).iter().find_map(|session| session["id"].as_u64()) {
            Some(id) if id != first => break id,
            _ => {}
        }
    };
    assert!(again > first);
    assert_eq!(served.code(&["sessions", "cut", &first.to_string()]), Some(4), "there is none any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_shows_what_is_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (map, object) = fill(&served.address).await;
    let (map, object) = (map.to_string(), object.to_string());

    let status = &served.json(&["status"])[0];
    assert!(status["commits"].as_u64().is_some_and(|commits| commits >= 2), "{status}");
    assert_eq!(status["poisoned"], Value::Null);
    assert_eq!((&status["mode"]["mode"], &status["pack"]), (&Value::from("normal"), &Value::Null));
    assert!(status["visible"].as_str().is_some_and(|tid| tid.len() == 16), "{status}");
    assert!(
        status["kinds"].as_array().expect("kinds").iter().any(|kind| kind["class"] == "Thing" && kind["version"] == 2)
    );
    assert_eq!(served.code(&["status", "--all"]), Some(0));

    let got = &served.json(&["get", &object])[0];
    assert_eq!(
        (&got["record"]["version"], &got["record"]["data_hex"]),
        (&Value::from(2), &Value::from("7365636f6e64"))
    );
    assert_eq!(text(&served.run(&["get", &object, "--raw"]).stdout), "second");
    assert_eq!(served.code(&["get", "deadbeef"]), Some(4), "not found is a fault");

    let keys = |args: &[&str]| -> Vec<String> {
        let entries = served.json(&[&["scan", &map], args].concat());
        entries.iter().map(|entry| entry["key"].as_str().expect("a key").to_owned()).collect()
    };
    assert_eq!(keys(&[]), ["a", "b\\n", "c"]);
    assert_eq!(keys(&["--reverse", "-n", "2"]), ["c", "b\\n"]);
    assert_eq!(keys(&["--prefix", "b\\n", "--keys-only"]), ["b\\n"]);
    assert_eq!(keys(&["--from", "b"]), ["b\\n", "c"]);
    assert_eq!(served.code(&["get", &format!("{map}/b\\n")]), Some(0), "a key can be given back as it was printed");

    let history = served.json(&["history", &object]);
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["note"]["description"], "second");
    let log = served.json(&["log"]);
    let writes = |tid: &Value| {
        let transaction = log.iter().find(|transaction| transaction["tid"] == *tid).expect("the log has it");
        transaction["writes"].as_array().expect("writes").len()
    };
    assert_eq!((writes(&history[0]["tid"]), writes(&history[1]["tid"])), (1, 7));

    let first = history[1]["tid"].as_str().expect("a tid");
    let then = &served.json(&["get", &object, "--at", first])[0];
    assert_eq!(then["record"]["version"], 1);
    assert_eq!(served.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_values_are_read_and_objects_found_by_their_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (map, _) = fill(&served.address).await;
    let db = zeolite_client::Db::connect(&served.address).await.expect("connects");
    let tx = db.begin().await.expect("begins");
    let hits: Counter = tx.root_or_create("hits").await.expect("makes");
    hits.add(&tx, 180).expect("adds");
    let cafe: Map<String, String> = tx.root_or_create("cafe").await.expect("makes");
    cafe.insert(&tx, "Ünï", &"x".to_owned()).expect("inserts");
    tx.root_or_create::<Map<String, String>>("a/b").await.expect("makes");
    tx.commit().await.expect("commits");

    let people = |args: &[&str]| text(&served.run(args).stdout);
    let shown = people(&["get", "hits"]);
    assert!(shown.lines().any(|line| line.starts_with("value") && line.ends_with("  180")), "{shown}");
    let names = people(&["scan", "0"]);
    assert!(names.lines().any(|line| line.starts_with("hits") && line.ends_with("  zeolite.Counter")), "{names}");
    assert!(people(&["get", "things/b\\n"]).contains(&format!("{map}/b")), "the first that it refers to");
    assert!(people(&["history", "hits", "--records"]).contains("180"));
    let none = served.run(&["get", "no-such"]);
    assert!(text(&none.stderr).contains("nothing has that name in the root"), "{}", text(&none.stderr));
    assert_eq!(none.status.code(), Some(4));
    assert!(text(&served.run(&["scan", "deadbeef"]).stderr).contains("no entries in"));
    // What looks like an oid is a name where no such object is.
    assert_eq!(people(&["scan", "cafe", "--keys-only"]), "Ünï\n");
    assert!(people(&["get", "cafe/Ünï"]).contains("zeolite.Entry"));
    assert_eq!(served.code(&["get", "0xcafe"]), Some(4));
    assert!(people(&["get", r"a\x2fb"]).contains("zeolite.Map"));
    assert!(text(&served.run(&["scan", "cafe/Ünï"]).stderr).contains("--prefix"));
    let normal = served.run(&["mode", "normal", "--for", "5m"]);
    assert!(normal.status.code() == Some(2) && text(&normal.stderr).contains("does not end"));
    let help = people(&["undo", "--help"]);
    let (own, global) = help.split_once("Global options:").expect("a heading of their own");
    assert!(own.contains("--message") && !own.contains("--server") && global.contains("--server"), "{help}");
}

/// What other languages write is shown to people and told to programs by its value.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_in_cbor_is_json_for_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let db = zeolite_client::Db::connect(&served.address).await.expect("connects");
    let oid = db.new_oid().await.expect("an oid");
    // {"at": 2.0, "mark": h'00ff', "when": 1(10), "tags": ["a"]}
    let data = b"\xd9\xd9\xf7\xa4\x62at\xf9\x40\x00\x64mark\x42\x00\xff\x64when\xc1\x0a\x64tags\x81\x61a";
    let record = zeolite_client::Record::new("wiki.Page", 1, data.to_vec());
    db.run(async |tx| tx.put(zeolite_client::Cell::object(oid), &record)).await.expect("commits");
    let told = &served.json(&["get", &oid.to_string()])[0]["record"]["value"];
    let wanted = serde_json::json!({
        "at": 2.0,
        "mark": { "$bytes": "AP8=" },
        "when": { "$tag": 1, "value": 10 },
        "tags": ["a"],
    });
    assert_eq!(told, &wanted);
    let shown = text(&served.run(&["get", &oid.to_string()]).stdout);
    assert!(shown.contains(r#"{"at": 2.0, "mark": h'00 ff', "when": 1(10), "tags": ["a"]}"#), "{shown}");
    assert_eq!(served.stop(), Some(0));
}

/// The fields of a JSON object, in the order of the alphabet.
fn fields(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_read_has_the_same_fields_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (map, object) = fill(&served.address).await;
    let (map, object) = (map.to_string(), object.to_string());
    let first = |args: &[&str]| served.json(args).into_iter().next().expect("a line");

    let got = first(&["get", &object]);
    assert_eq!(fields(&got), ["cell", "deleted", "end", "record", "tid", "time"]);
    assert_eq!(fields(&got["record"]), ["class", "data_hex", "refs", "version"]);
    assert_eq!(fields(&first(&["scan", &map])), ["key", "record", "tid"]);
    assert_eq!(fields(&first(&["scan", &map, "--keys-only"])), ["key", "tid"]);
    let history = first(&["history", &object]);
    assert_eq!(fields(&history), ["cell", "deleted", "end", "note", "record", "tid", "time"]);
    assert_eq!(fields(&history["note"]), ["description", "user"]);
    let log = served.json(&["log", "--oldest-first"]);
    assert_eq!(fields(&log[0]), ["note", "tid", "time", "writes"]);
    assert_eq!(fields(&log[0]["writes"][0]), ["cell", "deleted", "merged", "record_bytes"]);
    let undone = first(&["undo", history["tid"].as_str().expect("a tid")]);
    assert_eq!(fields(&undone), ["merged", "tid", "undone"]);
    let verified = first(&["verify"]);
    assert_eq!(
        fields(&verified),
        [
            "blobs",
            "dangling",
            "dangling_total",
            "good",
            "objects",
            "problems",
            "problems_total",
            "remarks",
            "revisions",
            "transactions"
        ]
    );
    assert_eq!(
        fields(&first(&["pack"])),
        [
            "blob_bytes_removed",
            "blobs_removed",
            "bytes_after",
            "bytes_before",
            "dry_run",
            "held_back",
            "objects_removed",
            "packed_to",
            "revisions_removed"
        ]
    );
    let refused = served.run(&["--json", "get", "deadbeef"]);
    let error: Value = serde_json::from_slice(&refused.stderr).expect("one json value");
    assert_eq!((fields(&error), &error["exit_code"]), (vec!["error", "exit_code"], &Value::from(4)));
    assert!(refused.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_listed_from_and_to_and_cut_at_its_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let (_, object) = fill(&served.address).await;
    let tids = |args: &[&str]| -> Vec<String> {
        let log = served.json(&[&["log"], args].concat());
        log.iter().map(|transaction| transaction["tid"].as_str().expect("a tid").to_owned()).collect()
    };
    let all = tids(&["--oldest-first"]);
    assert!(all.len() >= 3 && all.is_sorted(), "{all:?}");
    assert_eq!(tids(&["--oldest-first", "--from", &all[1]]), all[1..]);
    assert_eq!(tids(&["--oldest-first", "--to", &all[1]]), all[..2]);
    assert_eq!(tids(&["--oldest-first", "-n", "2"]), all[..2]);
    let newest: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(tids(&[]), newest, "what was committed just now is what one asks for");
    assert_eq!(tids(&["-n", "2"]), newest[..2]);
    assert_eq!(tids(&["--from", &all[1]]), newest[..newest.len() - 1]);
    let history = served.json(&["history", &object.to_string(), "--before", all.last().expect("some")]);
    assert_eq!(history.len(), 1);
    assert_eq!(served.code(&["history", "deadbeef"]), Some(4), "what never existed is a fault");
    let people = text(&served.run(&["log", "--cells"]).stdout);
    assert!(people.contains("amy: second") && people.contains(&object.to_string()), "{people}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_to_a_terminal_are_tame_for_people_and_whole_for_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path());
    let banner = "back\u{202e} at\u{9b}2J \u{7f}five\x1b[31m\nzeolite: all is well";
    assert_eq!(served.code(&["mode", "read-only", "--banner", banner]), Some(0));
    assert_eq!(served.json(&["mode"])[0]["banner"], banner);
    let shown = text(&served.run(&["mode"]).stdout);
    assert!(shown.contains("\\u{202e} at\\u{9b}2J \\u{7f}five\\u{1b}[31m\\nzeolite"), "{shown:?}");
    assert!(!shown.trim_end().chars().any(|letter| letter.is_control() || letter == '\u{202e}'), "{shown:?}");
}
