//! A server with two databases, from the command line; one that only lets read.

use crate::served::{Served, text};
use zeolite_client::{Cell, Db, Options, Record};

async fn write(address: &str, database: &str, data: &'static str) {
    let options = Options::new().database(database);
    let db = Db::connect_with(address, options).await.expect("connects");
    let oid = db.new_oid().await.expect("an oid");
    let tx = db.begin().await.expect("begins");
    tx.put(Cell::object(oid), &Record::new("Thing", 1, data)).expect("encodes");
    tx.commit().await.expect("commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_names_its_database() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = format!("databases.shop.data_dir={}", dir.path().join("of-shop").display());
    let served = Served::start_with(&dir.path().join("data"), &[&shop]);
    write(&served.address, "shop", "in the shop").await;
    write(&served.address, "shop", "in the shop, too").await;
    write(&served.address, "main", "elsewhere").await;
    let objects = |args: &[&str]| served.json(&[args, &["status"]].concat())[0]["objects"].as_u64();
    assert_eq!((objects(&["-d", "shop"]), objects(&[]), objects(&["--database", "main"])), (Some(2), Some(1), Some(1)));
    assert_eq!(served.code(&["-d", "shop", "mode", "read-only"]), Some(0));
    assert_eq!(served.json(&["-d", "shop", "status"])[0]["mode"]["mode"], "read-only");
    assert_eq!(served.json(&["status"])[0]["mode"]["mode"], "normal");
    let unknown = served.run(&["-d", "shp", "status"]);
    assert_eq!(unknown.status.code(), Some(4));
    assert!(text(&unknown.stderr).contains("this server has main, shop"), "{}", text(&unknown.stderr));
    assert!(served.code(&["-d", "shp", "check"]).is_some_and(|code| code != 0));
    assert_eq!(served.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_let_everybody_only_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start_with(dir.path(), &["auth.anonymous_role=read"]);
    assert_eq!(served.code(&["status"]), Some(0));
    let refused = served.run(&["mode", "read-only"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("the role read may not switch the mode"), "{}", text(&refused.stderr));
    assert_eq!(served.code(&["pack"]), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_directory_is_not_to_be_had_is_down_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a-file"), "in its place").expect("writes");
    let shop = format!("databases.shop.data_dir={}", dir.path().join("a-file").display());
    let served = Served::start_with(&dir.path().join("data"), &[&shop]);
    write(&served.address, "main", "goes on").await;
    let down = served.run(&["-d", "shop", "status"]);
    assert_eq!(down.status.code(), Some(4));
    assert!(text(&down.stderr).contains("the database shop could not be opened"), "{}", text(&down.stderr));
}
