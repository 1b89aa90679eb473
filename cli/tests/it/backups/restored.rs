//! What was backed up comes back: the whole log, files, a moment in the middle; also encrypted, behind a pack, and in another life.

use super::scene::{Scene, files, log, noise};
use crate::served::text;
use zeolite_client::{Cell, Db, Oid, Tid};

#[tokio::test(flavor = "multi_thread")]
async fn full_and_incremental_come_back_as_they_were_at_any_moment() {
    let scene = Scene::start().await;
    scene.root().await;
    let thing = scene.object("thing", 5, 1000).await;
    let blob = scene.file("film", 300_000).await;
    let first = scene.backup(&["--object-bytes", "65536"]);
    assert_eq!((&first["full"], &first["blobs"]), (&true.into(), &1.into()), "{first}");
    let middle = scene.put(Cell::object(thing), zeolite_client::Record::new("Thing", 1, "in the middle")).await;
    scene.object("other", 3, 200_000).await;
    scene.db.run(async |tx| tx.delete(Cell::entry(Oid::ROOT, "other"))).await.expect("deletes");
    // Named once more: it is not brought again.
    scene.served.json(&["undo", &middle.to_string()]);
    let second = scene.backup(&["--object-bytes", "65536"]);
    assert_eq!((&second["full"], &second["blobs"]), (&false.into(), &0.into()), "{second}");
    let third = scene.backup(&[]);
    assert_eq!((&third["full"], &third["transactions"]), (&false.into(), &0.into()), "nothing is new: {third}");

    let restored = scene.restored("whole", &[]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);
    assert_eq!(copy.blob(blob).bytes(0..u64::MAX).await.expect("reads"), noise(300_000, 7));
    let status = |db: &Db| {
        let admin = db.admin();
        async move { admin.status().await.expect("told") }
    };
    assert_ne!(status(&copy).await.timeline, status(&scene.db).await.timeline, "another life");

    let then = scene.restored("middle", &["--to", &middle.to_string()]);
    let then = Db::connect(&then.address).await.expect("connects");
    assert_eq!(log(&then, None).await, log(&scene.db, Some(middle)).await);
    // The same moment as a time.
    let time = jiff::Timestamp::from_nanosecond(middle.unix_nanos() + 1000).expect("a time").to_string();
    let at = scene.restored("time", &["--to", &time]);
    let newest = Db::connect(&at.address).await.expect("connects").newest().await.expect("told");
    assert_eq!(newest, middle, "{time}");
    let listed = scene.alone(&["backup", "list", &scene.path("backup")]);
    assert_eq!(text(&listed.stdout).lines().count(), 3);
    let early = scene.alone(&[
        "restore",
        &scene.path("backup"),
        "--into",
        &scene.path("early"),
        "--to",
        &Tid(u64::MAX >> 2).to_string(),
    ]);
    assert_eq!(early.status.code(), Some(4), "{}", text(&early.stderr));
    let drill = scene.alone(&["backup", "drill", &scene.path("backup")]);
    assert_eq!(drill.status.code(), Some(0), "{}", text(&drill.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_takes_what_no_backup_has_begins_a_new_chain_and_another_does_not() {
    let scene = Scene::start().await;
    scene.root().await;
    let thing = scene.object("thing", 4, 100).await;
    scene.backup(&[]);
    scene.served.json(&["pack"]);
    scene.object("other", 2, 100).await;
    let behind = scene.backup(&[]);
    assert_eq!(behind["full"], false, "the chain has what was packed: {behind}");
    let before = log(&scene.db, None).await;
    let restored = scene.restored("chain", &[]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    let history = |served: &crate::served::Served| served.json(&["history", &thing.to_string()]).len();
    assert_eq!((history(&restored), history(&scene.served)), (4, 1), "the copy has the history that was packed");
    assert!(log(&copy, None).await.ends_with(&before[before.len() - 2..]));

    scene.put(Cell::object(thing), zeolite_client::Record::new("Thing", 1, "late")).await;
    scene.put(Cell::object(thing), zeolite_client::Record::new("Thing", 1, "later")).await;
    scene.served.json(&["pack"]);
    let full = scene.backup(&[]);
    assert!(full["full"] == true && full["why"].as_str().is_some_and(|why| why.contains("packed up to")), "{full}");
    let restored = scene.restored("packed", &[]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);
    let (of_copy, of_scene) =
        (copy.admin().status().await.expect("told"), scene.db.admin().status().await.expect("told"));
    assert_eq!((of_copy.packed_to, of_copy.objects), (of_scene.packed_to, of_scene.objects));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_bookkeeping_can_be_the_newest_and_so_can_what_is_packed() {
    let scene = Scene::start().await;
    scene.root().await;
    let newest = scene.db.newest().await.expect("told");
    scene.db.new_oid().await.expect("an oid");
    assert!(scene.db.admin().status().await.expect("told").visible > newest, "it is a transaction");
    assert_eq!(scene.backup(&[])["full"], true);
    scene.db.run(async |tx| tx.delete(Cell::object(Oid::ROOT))).await.expect("deletes");
    scene.served.json(&["pack"]);
    assert_eq!(scene.backup(&["--full"])["full"], true);
    assert_eq!(scene.backup(&[])["full"], false);
    let drill = scene.alone(&["backup", "drill", &scene.path("backup")]);
    assert_eq!(drill.status.code(), Some(0), "{}{}", text(&drill.stdout), text(&drill.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_says_from_which_life_when_several_have_the_moment() {
    let scene = Scene::start().await;
    scene.root().await;
    scene.object("thing", 3, 100).await;
    let first = scene.backup(&[]);
    let (from, moment) = (scene.path("backup"), scene.db.newest().await.expect("told").to_string());
    let lost = log(&scene.db, None).await;
    let other = scene.restored("other", &[]);
    let copy = Db::connect(&other.address).await.expect("connects");
    copy.run(async |tx| tx.delete(Cell::object(Oid::ROOT))).await.expect("deletes");
    other.json(&["backup", &from]);
    let told = scene.alone(&["restore", &from, "--into", &scene.path("newer"), "--to", &moment]);
    let chain = first["backup"].as_str().and_then(|name| name.split_once('/')).expect("a name").0;
    assert!(text(&told.stderr).contains(chain) && text(&told.stderr).contains("--chain"), "{}", text(&told.stderr));
    let old = scene.restored("old", &["--chain", chain]);
    let old = Db::connect(&old.address).await.expect("connects");
    assert_eq!(log(&old, None).await, lost);
    let unknown = scene.alone(&["restore", &from, "--into", &scene.path("none"), "--chain", "000009"]);
    assert!(unknown.status.code() == Some(4) && text(&unknown.stderr).contains(chain), "{}", text(&unknown.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_backup_opens_with_its_key_alone_and_shows_nothing() {
    let scene = Scene::start().await;
    scene.root().await;
    scene.put(Cell::object(Oid::ROOT), zeolite_client::Record::new("Secret", 1, "the words nobody may read")).await;
    let (key, other) = (scene.path("key"), scene.path("other"));
    for file in [&key, &other] {
        assert_eq!(scene.alone(&["backup", "key", file]).status.code(), Some(0));
    }
    assert_eq!(scene.alone(&["backup", "key", &key]).status.code(), Some(2), "a key is not written over");
    scene.backup(&["--key-file", &key]);
    scene.file("film", 20_000).await;
    scene.backup(&["--key-file", &key]);
    let secret = std::fs::read_to_string(&key).expect("reads");
    for file in files(&scene.dir.path().join("backup")) {
        let bytes = std::fs::read(&file).expect("reads");
        for word in [&b"nobody may read"[..], b"Secret", b"film", b"main", &secret.as_bytes()[4..40]] {
            assert!(!bytes.windows(word.len()).any(|window| window == word), "{file:?} shows {}", text(word));
        }
    }
    let from = scene.path("backup");
    for (args, says) in [(vec![], "is encrypted; name its key"), (vec!["--key-file", &other], "with another key")] {
        for command in [vec!["backup", "verify", &from], vec!["restore", &from, "--into-server"]] {
            let refused = scene.alone(&[command, args.clone()].concat());
            assert!(
                refused.status.code() == Some(2) && text(&refused.stderr).contains(says),
                "{}",
                text(&refused.stderr)
            );
        }
    }
    assert_eq!(scene.alone(&["backup", "verify", &from, "--key-file", &key]).status.code(), Some(0));
    let restored = scene.restored("whole", &["--key-file", &key]);
    let copy = Db::connect(&restored.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_empty_is_left_alone_and_a_cut_restore_is_gone_on_with() {
    let scene = Scene::start().await;
    scene.root().await;
    scene.object("thing", 5, 1000).await;
    let middle = scene.db.newest().await.expect("told").to_string();
    scene.object("other", 5, 1000).await;
    scene.backup(&["--object-bytes", "4096"]);
    let (from, before) = (scene.path("backup"), log(&scene.db, None).await);
    let refused = scene.served.run(&["restore", &from, "--into-server"]);
    assert!(
        refused.status.code() == Some(4) && text(&refused.stderr).contains("not empty"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(log(&scene.db, None).await, before, "nothing has changed");

    assert_eq!(scene.restored("part", &["--to", &middle]).stop(), Some(0));
    let into = scene.path("part");
    let again = scene.alone(&["restore", &from, "--into", &into]);
    assert!(again.status.code() == Some(2) && text(&again.stderr).contains("--resume"), "{}", text(&again.stderr));
    let whole = scene.restored("part", &["--resume"]);
    let copy = Db::connect(&whole.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, before);

    let strange = Scene::start().await;
    strange.root().await;
    let refused = strange.served.run(&["restore", &from, "--into-server", "--resume"]);
    assert!(
        refused.status.code() == Some(4) && text(&refused.stderr).contains("not what this backup has"),
        "{}",
        text(&refused.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changes_anywhere_is_found_without_restoring() {
    let scene = Scene::start().await;
    scene.root().await;
    scene.object("thing", 4, 300).await;
    scene.file("film", 9000).await;
    scene.backup(&["--object-bytes", "4096"]);
    scene.object("other", 2, 300).await;
    scene.backup(&["--object-bytes", "4096"]);
    let from = scene.path("backup");
    assert_eq!(scene.alone(&["backup", "verify", &from]).status.code(), Some(0));
    let all = files(&scene.dir.path().join("backup"));
    assert!(all.len() >= 9, "{all:?}");
    for file in all {
        let good = std::fs::read(&file).expect("reads");
        for at in [0, 5, 20, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&file, bad).expect("writes");
            let found = scene.alone(&["backup", "verify", &from]);
            assert_ne!(found.status.code(), Some(0), "byte {at} of {file:?}: {}", text(&found.stdout));
        }
        std::fs::write(&file, &good).expect("is put back");
        if file.ends_with("0002.manifest") {
            // Without its manifest the newest one never was.
            continue;
        }
        std::fs::remove_file(&file).expect("goes");
        let found = scene.alone(&["backup", "verify", &from]);
        assert_eq!(found.status.code(), Some(1), "{file:?} is gone: {}", text(&found.stdout));
        std::fs::write(&file, good).expect("is put back");
    }
    assert_eq!(scene.alone(&["backup", "verify", &from]).status.code(), Some(0));
}
