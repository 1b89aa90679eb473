//! Backups and packs that a server does by itself: also of several databases, over a restart, and where that fails.

use super::s3::CREDENTIALS;
use super::scene::{Scene, files, log};
use crate::served::{Served, program, text};
use serde_json::Value;
use zeolite_client::{Cell, Db, Oid, Options, Record};

/// Asks until the schedule of a work is as wanted.
fn until(served: &Served, database: &str, work: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let status = served.json(&["-d", database, "status"]).remove(0);
        let schedules = status["schedules"].as_array().expect("a list").clone();
        let found = schedules.into_iter().find(|schedule| schedule["work"] == work);
        if let Some(found) = found.filter(|schedule| wanted(schedule)) {
            return found;
        }
    }
}

fn is_done(schedule: &Value) -> bool {
    schedule["done_unix_ms"].as_u64().is_some_and(|done| done > 0) && schedule["running"] == false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_backs_up_and_packs_every_database_by_itself_and_knows_it_after_a_restart() {
    let scene = Scene::start().await;
    scene.root().await;
    let thing = scene.object("thing", 5, 100).await;
    let before = log(&scene.db, None).await;
    let (data, to) = (scene.dir.path().join("data"), format!("backup.to={}", scene.path("backup")));
    let Scene { dir, served, .. } = scene;
    assert_eq!(served.stop(), Some(0));
    std::fs::create_dir(dir.path().join("backup")).expect("made");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let shop = format!("databases.shop.data_dir={}", path("shop"));
    // Everybody but the server itself is nobody here.
    let users = dir.path().join("users.toml");
    let made = program().args(["user", "--file"]).arg(&users).args(["add", "looker", "--role", "read"]).output();
    assert!(made.expect("starts").status.success());
    let users = format!("auth.users_file={}", users.display());
    let settings = [
        to.as_str(),
        "backup.every_s=1h",
        "pack.every_s=1h",
        "pack.keep_s=0",
        &shop,
        &users,
        "auth.anonymous_role=write",
    ];
    let served = Served::start_with(&data, &settings);
    for database in ["main", "shop"] {
        for work in ["backup", "pack"] {
            let done = until(&served, database, work, is_done);
            assert!(done["error"] == "" && done["next_unix_ms"].as_u64() > done["done_unix_ms"].as_u64(), "{done}");
        }
    }
    assert_eq!(served.json(&["history", &thing.to_string()]).len(), 1, "it is packed");
    let checked = served.run(&["check"]);
    assert!(
        text(&checked.stdout).contains("backup_intervals=0") && text(&checked.stdout).contains("pack_failed=0"),
        "{}",
        text(&checked.stdout)
    );
    let first = until(&served, "main", "backup", is_done);
    assert_eq!(served.stop(), Some(0));

    let served = Served::start_with(&data, &settings);
    let again = until(&served, "main", "backup", |_| true);
    assert_eq!(
        again["next_unix_ms"].as_u64().map(|next| next / 10_000),
        first["next_unix_ms"].as_u64().map(|next| next / 10_000),
        "it is not due again"
    );
    let from = path("backup");
    let listed = program().args(["--json", "backup", "list", &from]).output().expect("starts");
    assert_eq!(text(&listed.stdout).lines().count(), 2, "{}", text(&listed.stdout));
    let into = path("restored");
    let restored = program().args(["restore", &from, "--into", &into]).output().expect("starts");
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let copy = Served::start(std::path::Path::new(&into));
    let copy = Db::connect(&copy.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, before, "what it was before the pack");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_is_told_and_warned_of() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("file"), "no directory").expect("writes");
    let to = format!("backup.to={}", dir.path().join("file").join("below").display());
    let served = Served::start_with(&dir.path().join("data"), &[&to]);
    let failed =
        until(&served, "main", "backup", |schedule| schedule["failed_unix_ms"].as_u64().is_some_and(|at| at > 0));
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("below")), "{failed}");
    let checked = served.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked.stdout));
    assert!(text(&checked.stdout).contains("backup_failed"), "{}", text(&checked.stdout));
    let db = Db::connect(&served.address).await.expect("connects");
    db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("Thing", 1, "works"))).await.expect("commits");
    let wrong = Served::code(&served, &["backup", &dir.path().join("file").join("below").display().to_string()]);
    assert_eq!(wrong, Some(5));
    let bad = program().args(["config", "check", "--set", "backup.keep=sometimes"]).output().expect("starts");
    assert!(bad.status.code() == Some(1) && text(&bad.stdout).contains("backup.keep"), "{}", text(&bad.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_no_directory_where_a_disk_is_not_mounted() {
    let dir = tempfile::tempdir().expect("a directory");
    let to = dir.path().join("disk");
    let served = Served::start_with(&dir.path().join("data"), &[&format!("backup.to={}", to.display())]);
    let failed = until(&served, "main", "backup", |schedule| {
        assert_eq!(schedule["done_unix_ms"], 0, "{schedule}");
        schedule["failed_unix_ms"].as_u64().is_some_and(|at| at > 0)
    });
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("mount its disk")), "{failed}");
    assert!(!to.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_done_where_old_ones_cannot_be_removed() {
    let scene = Scene::start().await;
    scene.root().await;
    let first = scene.backup(&[]);
    scene.backup(&["--full"]);
    // What a cut run has left there cannot be told from what is needed without the list of the first backup.
    let name = first["backup"].as_str().and_then(|name| name.split_once('/')).expect("a name").0;
    let chain = scene.dir.path().join("backup/main").join(name);
    let list = files(&chain).into_iter().find(|file| file.ends_with("objects-000001")).expect("a list");
    std::fs::write(list, "words").expect("writes");
    std::fs::create_dir(chain.join("0001-cafecafe")).expect("made");
    std::fs::write(chain.join("0001-cafecafe/000001.log"), "words").expect("writes");
    assert_eq!(scene.served.code(&["backup", &scene.path("backup")]), Some(1), "it cannot be tidied");

    let settings = [format!("backup.to={}", scene.path("backup")), "backup.every_s=1".to_owned()];
    let Scene { dir, served, .. } = scene;
    assert_eq!(served.stop(), Some(0));
    let before = files(&dir.path().join("backup")).len();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let served = Served::start_with(&dir.path().join("data"), &settings);
    let is_made = |_: &Value| files(&dir.path().join("backup")).len() > before;
    let done = until(&served, "main", "backup", |schedule| is_made(schedule) && is_done(schedule));
    assert!(done["failed_unix_ms"] == 0 && done["error"] == "", "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_databases_are_backed_up_by_one_command() {
    let scene = Scene::start().await;
    let data = scene.dir.path().join("data");
    let Scene { dir, served, .. } = scene;
    assert_eq!(served.stop(), Some(0));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let shop = format!("databases.shop.data_dir={}", path("shop"));
    let served = Served::start_with(&data, &[&shop]);
    for database in ["main", "shop"] {
        let options = Options::new().database(database);
        let db = Db::connect_with(served.address.clone(), options).await.expect("connects");
        db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &Record::new("Thing", 1, database))).await.expect("commits");
    }
    let to = path("backup");
    assert_eq!(served.json(&["backup", &to, "--all"]).len(), 2);
    let into = path("restored");
    let output = program().args(["-d", "shop", "restore", &to, "--into", &into]).output().expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let copy = Served::start(std::path::Path::new(&into));
    let got = copy.json(&["get", "0"]).remove(0);
    assert!(got.to_string().contains("shop") || got["record"]["class"] == "Thing", "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_whose_place_says_nothing_is_seen_at_once_and_ends_with_its_server() {
    let dir = tempfile::tempdir().expect("a directory");
    // Who connects waits.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let endpoint = format!("backup.endpoint=http://{}", silent.local_addr().expect("an address"));
    let mut command = program();
    command.envs(CREDENTIALS);
    let settings = ["backup.to=s3://bucket/site", &endpoint, "backup.every_s=1h"];
    let served = Served::start_by(command, dir.path(), "127.0.0.1:0", &settings);
    let told = served.json(&["status"]).remove(0)["schedules"].clone();
    assert_eq!((&told[0]["work"], &told[0]["running"]), (&"backup".into(), &true.into()), "{told}");
    // It is asked.
    drop(silent.accept().expect("the server connects"));
    let begun = std::time::Instant::now();
    assert_eq!(served.stop(), Some(0));
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}
