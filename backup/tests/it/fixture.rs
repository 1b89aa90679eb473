//! Backups of format 1 as they were written once, plain and encrypted: they list, verify and restore as long as there is this format.
//!
//! `ZEOLITE_BLESS=1` makes them anew where they are missing.

use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use zeolite_backup::{How, Key, Place, Reach, Shelf, choose, restore, take, verify};
use zeolite_client::{Cell, Db, Oid, Record, Tid};
use zeolite_proto::Registry;
use zeolite_server::server::Server;
use zeolite_server::settings::Settings;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backup-1")
}

/// An empty database, and a client of it.
async fn database(dir: &Path) -> (Server, Db) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let settings = Settings { data_dir: dir.to_owned(), ..Settings::default() };
    let server = Server::start(settings, Registry::built_in(), listener).await.expect("starts");
    let db = Db::connect(server.address().to_string()).await.expect("connects");
    (server, db)
}

/// The file of the key, which nobody else may read: what comes out of a repository has other rights.
fn key(dir: &Path) -> Key {
    use std::os::unix::fs::PermissionsExt;
    let file = dir.join("key");
    std::fs::copy(fixtures().join("key"), &file).expect("the key is there");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its rights");
    Key::read(&file).expect("a key")
}

async fn put(db: &Db, record: Record) {
    db.run(async |tx| tx.put(Cell::object(Oid::ROOT), &record)).await.expect("commits");
}

async fn make(dir: &Path) {
    let (server, db) = database(&dir.join("data")).await;
    std::fs::create_dir_all(fixtures()).expect("a directory");
    Key::make(&fixtures().join("key")).expect("a key");
    let how = How {
        full: false,
        full_every: Duration::from_secs(86_400),
        live_ratio_max: 1.2,
        object_bytes: 4096,
        now_unix_ms: || 1_796_000_000_000,
    };
    let blob = db.put_blob(&[b'b'; 9000][..]).await.expect("goes up");
    for (number, text) in ["first", "second"].into_iter().enumerate() {
        put(&db, Record { blobs: vec![blob], ..Record::new("Fixture", 1, text) }).await;
        if number == 1 {
            put(&db, Record::new("Fixture", 2, "third")).await;
        }
        for (name, key) in [("plain", None), ("encrypted", Some(key(dir)))] {
            let at = fixtures().join(name);
            let place = Place::open(at.to_str().expect("plain"), Reach { key, ..Reach::default() }).expect("a place");
            take(&db, &place, "main", &how, &mut |_| {}).await.expect("is taken");
        }
    }
    server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_format_1_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    if std::env::var_os("ZEOLITE_BLESS").is_some() && !fixtures().exists() {
        make(dir.path()).await;
    }
    for (name, key) in [("plain", None), ("encrypted", Some(key(dir.path())))] {
        let at = fixtures().join(name);
        let place = Place::look(at.to_str().expect("plain"), Reach { key, ..Reach::default() }).expect("a place");
        let shelf = Shelf::look(&place, "main").await.expect("lists");
        let numbers: Vec<u32> = shelf.chains[0].backups.iter().map(|backup| backup.manifest.number).collect();
        assert_eq!((shelf.chains.len(), numbers), (1, vec![1, 2]), "{name}");
        let verified = verify(&place, &shelf, &mut |_| {}).await.expect("reads");
        assert_eq!((verified.problems, verified.backups, verified.blobs), (vec![], 2, 1), "{name}");

        let (server, db) = database(&dir.path().join(name)).await;
        let restored =
            restore(&place, &choose(&shelf, None).expect("there is one"), &db, false, Arc::new(|_| ())).await;
        let restored = restored.expect("restores");
        assert_eq!(restored.transactions, verified.transactions, "{name}");
        assert_eq!(db.newest().await.expect("told"), restored.newest);
        let view = db.now();
        let data = view.get(&Cell::object(Oid::ROOT)).await.expect("reads").map(|record| record.data);
        assert_eq!(data, Some(Bytes::from_static(b"third")), "{name}");
        let first = shelf.chains[0].backups[0].manifest.to;
        assert!(first > Tid::NONE && first < restored.newest);
        server.stop().await.expect("stops");
    }
}
