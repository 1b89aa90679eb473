//! Owns the tests of whole shelves: what damage does to one chain and not to others, and what is never removed.

use crate::errors::Error;
use crate::key::Key;
use crate::manifest::{Extent, FORMAT, Manifest, Sum};
use crate::place::{Place, Reach};
use crate::restoring::choose;
use crate::retention::Keep;
use crate::sealed::sum_of;
use crate::shelf::{Shelf, manifest_name};
use crate::tidying::tidy;
use std::path::Path;
use zeolite_client::Tid;

const DAY: u64 = 86_400_000;

fn place(dir: &Path, key: Option<u8>) -> Place {
    let key = key.map(|seed| Key::of([seed; 32]));
    Place::open(dir.to_str().expect("plain"), Reach { key, ..Reach::default() }).expect("a place")
}

/// The name of the chain of this number.
fn named(number: u32) -> String {
    format!("{number:06}-20261129T211500Z-{number:08x}")
}

fn manifest(number: u32, before: Option<Sum>, done_unix_ms: u64) -> Manifest {
    let extent = if before.is_none() { Extent::Full } else { Extent::Incremental };
    Manifest {
        format: FORMAT,
        version: String::new(),
        database: "main".to_owned(),
        store_id: 1,
        timeline: 1,
        number,
        extent,
        why: String::new(),
        before,
        from: Tid::NONE,
        to: Tid(done_unix_ms),
        covers: Tid(done_unix_ms),
        packed_to: Tid::NONE,
        begun_unix_ms: done_unix_ms,
        done_unix_ms,
        transactions: 0,
        revisions: 0,
        blobs: 0,
        blob_bytes: 0,
        stored_bytes: 0,
        objects: None,
    }
}

async fn put(place: &Place, database: &str, chain: u32, manifest: Manifest) -> Sum {
    let name = manifest_name(manifest.number);
    let bytes = manifest.sealed(place, &name).expect("seals");
    place.put(&format!("{database}/{}/{name}", named(chain)), bytes.clone()).await.expect("is put");
    Sum::of(&sum_of(&bytes))
}

/// Chains of two backups each, one a day.
async fn chains(place: &Place, count: u32) {
    for chain in 1..=count {
        let day = u64::from(chain) * DAY;
        let full = put(place, "main", chain, manifest(1, None, day)).await;
        put(place, "main", chain, manifest(2, Some(full), day + 1)).await;
    }
}

fn flip(file: &Path, at: usize, bit: u8) {
    let mut bytes = std::fs::read(file).expect("reads");
    bytes[at] ^= 1 << bit;
    std::fs::write(file, bytes).expect("writes");
}

#[tokio::test]
async fn a_flipped_bit_in_a_manifest_breaks_its_chain_and_no_other() {
    for key in [None, Some(7)] {
        let dir = tempfile::tempdir().expect("a directory");
        let place = place(dir.path(), key);
        chains(&place, 2).await;
        for chain in [1, 2] {
            let file = dir.path().join("main").join(named(chain)).join("0002.manifest");
            for at in [0, 4, 5, 6, 7, 8, 16, 23, 24, 60] {
                for bit in 0..8 {
                    flip(&file, at, bit);
                    let shelf = Shelf::look(&place, "main").await.expect("looks");
                    let backups: Vec<usize> = shelf.chains.iter().map(|chain| chain.backups.len()).collect();
                    assert_eq!(backups, if chain == 1 { [1, 2] } else { [2, 1] }, "byte {at} bit {bit}");
                    assert!(shelf.chains[chain as usize - 1].broken.is_some());
                    let damage = choose(&shelf, None).expect("there is one").damage;
                    assert_eq!(damage.len(), usize::from(chain == 2), "the newest alone is in doubt: {damage:?}");
                    flip(&file, at, bit);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_newest_chain_without_a_whole_backup_puts_the_one_before_it_in_doubt() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path(), None);
    chains(&place, 2).await;
    flip(&dir.path().join("main").join(named(2)).join("0001.manifest"), 40, 1);
    let shelf = Shelf::look(&place, "main").await.expect("looks");
    let chosen = choose(&shelf, None).expect("there is one");
    assert_eq!(chosen.chain.name, named(1));
    assert!(chosen.damage.len() == 1 && chosen.damage[0].contains(&named(2)), "{:?}", chosen.damage);
    assert!(choose(&shelf, Some(Tid(DAY))).expect("it has that").damage.is_empty());
}

#[tokio::test]
async fn a_wrong_key_is_told_as_that_and_what_a_newer_program_wrote_breaks_its_chain() {
    let dir = tempfile::tempdir().expect("a directory");
    chains(&place(dir.path(), Some(7)), 2).await;
    for key in [None, Some(8)] {
        let looked = Shelf::look(&place(dir.path(), key), "main").await;
        assert!(matches!(looked, Err(Error::Key(_))), "{looked:?}");
    }
    let place = place(dir.path(), Some(7));
    put(&place, "main", 3, Manifest { format: FORMAT + 1, ..manifest(1, None, 3 * DAY) }).await;
    let shelf = Shelf::look(&place, "main").await.expect("looks");
    assert_eq!(shelf.newest().map(|(chain, _)| chain.name.clone()), Some(named(2)));
    assert!(shelf.chains[2].broken.as_ref().is_some_and(|why| why.contains("newer")), "{:?}", shelf.chains[2].broken);
}

#[tokio::test]
async fn what_says_how_far_a_cut_backup_is_never_ends_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path(), None);
    chains(&place, 1).await;
    let (name, file) =
        ("0003-0000000a.progress", dir.path().join("main").join(named(1)).join("0003-0000000a.progress"));
    for (format, database) in [(FORMAT + 1, "main"), (FORMAT, "shop")] {
        let cut = Manifest { format, database: database.to_owned(), ..manifest(3, None, DAY) };
        std::fs::write(&file, cut.sealed(&place, name).expect("seals")).expect("writes");
        let shelf = Shelf::look(&place, "main").await.expect("looks");
        assert!(shelf.chains[0].backups.len() == 2 && shelf.chains[0].begun[0].manifest.is_none());
    }
}

#[tokio::test]
async fn a_chain_of_another_database_is_not_taken_for_ones_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path(), None);
    put(&place, "shop", 1, manifest(1, None, DAY)).await;
    let shelf = Shelf::look(&place, "shop").await.expect("looks");
    let broken = shelf.chains[0].broken.clone().unwrap_or_default();
    assert!(shelf.newest().is_none() && broken.contains("database main"), "{broken}");
    assert!(choose(&shelf, None).is_err_and(|error| error.to_string().contains("database main")));
}

#[tokio::test]
async fn what_is_damaged_and_what_others_made_is_never_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path(), None);
    chains(&place, 5).await;
    let chain = |number| dir.path().join("main").join(named(number));
    flip(&chain(1).join("0002.manifest"), 40, 1);
    let foreign = ["notes.txt", "0001-cafecafe/photo.jpg", "2025-holidays/1.log", "2025-holidays/2.log#1", "draft#7"];
    let ours =
        ["0001-cafecafe/000001.log", "0001-cafecafe/blobs/7ba659cbc835f250d10b07cad5f982f9/000001", "0001.manifest#3"];
    for chain in [chain(2), chain(5)] {
        for name in foreign.iter().chain(&ours[..2]) {
            let file = chain.join(name);
            std::fs::create_dir_all(file.parent().expect("one")).expect("made");
            std::fs::write(file, "words").expect("writes");
        }
    }
    std::fs::write(chain(2).join(ours[2]), "words").expect("writes");
    // Far enough behind the writing that what is no part of a backup is dead.
    let tidied = tidy(&place, "main", Keep::Backups(1), u64::MAX / 2).await.expect("tidies");
    assert_eq!(tidied.chains, [named(2), named(3), named(4)]);
    assert_eq!(Shelf::look(&place, "main").await.expect("looks").chains[0].backups.len(), 1);
    assert!(chain(1).join("0002.manifest").exists() && !chain(3).exists());
    for name in foreign {
        assert!(chain(2).join(name).exists() && chain(5).join(name).exists(), "{name}");
    }
    for name in ours {
        assert!(!chain(2).join(name).exists(), "{name}");
    }
    assert!(!chain(2).join("0001.manifest").exists() && !chain(5).join(ours[0]).exists());
}
