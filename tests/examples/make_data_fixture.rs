//! Writes the data fixtures of the format that this program writes: `cargo run --example make_data_fixture -- DIR`.
//!
//! It is run once for each format number; what it wrote is checked in under `fixtures/data-N/` and never changed, because what
//! it shows is that data of that format can be opened.
//!
//! ```text
//!   whole    several segments, the first of them packed to one; an index that covers all but the last commits, as a killed
//!            server leaves it
//!   torn     its last segment, with the last batch cut in the middle
//!   damaged  its first segment with a blob, with one byte of that changed
//! ```

use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use zeolite_proto::resolvers::items::Item;
use zeolite_proto::resolvers::{class, collection, counter, entry, list, queue};
use zeolite_proto::{Cell, Oid, Record, Tid};
use zeolite_server::store::disk::Disk;
use zeolite_server::store::disk::sim::SimDisk;
use zeolite_server::store::{Packer, Store, StoreError, StoreSettings};
use zeolite_tests::support::work::key;
use zeolite_tests::support::{House, HouseSettings, Work};

fn play() -> SimDisk {
    let mut settings = HouseSettings::default();
    settings.store.segment_bytes_max = 4096;
    let mut house = House::new(settings);
    let first = house.oids(10).expect("a new house hands out oids");
    let cell = |n: u64| Cell::object(Oid(first.0 + n));
    let [page, leaf, hits, journal, map, jobs] = [0, 1, 2, 3, 4, 5].map(cell);
    let referring = Record { refs: vec![leaf.oid], ..Record::new("Page", 2, "refers to the leaf") };
    let mut n = 0;
    let mut commit = |house: &mut House, work: Work| {
        n += 1;
        house.clock().advance(std::time::Duration::from_secs(1));
        let mut draft = work.note("fixture", &format!("commit {n}")).draft();
        draft.key = key(n);
        house.commit(draft).expect("nothing is in the way").tid
    };
    let work = || Work::new(key(0));
    let begin = Tid::NONE;
    let t = commit(
        &mut house,
        work()
            .put(page.clone(), begin, &Record::new("Page", 1, "first"))
            .put(leaf.clone(), begin, &Record::new("Leaf", 1, "a leaf"))
            .put(map.clone(), begin, &collection::record(class::MAP))
            .put(Cell::entry(map.oid, "k1"), begin, &entry::record(b"one", Vec::new()))
            .put(Cell::entry(map.oid, "k\0 2"), begin, &entry::record(b"two", vec![leaf.oid])),
    );
    let t = commit(&mut house, work().put(page.clone(), t, &referring).delete(Cell::entry(map.oid, "k1"), t));
    for round in 0..6 {
        let item = list::append(&[Item::new(format!("item {round}"))]).expect("one short item");
        let now = house.engine().visible();
        commit(
            &mut house,
            work()
                .apply(hits.clone(), class::COUNTER, counter::add(10 + round))
                .apply(journal.clone(), class::LIST, item)
                .stamped(Cell::entry(jobs.oid, "job-"), &queue::record(b"work", Vec::new()))
                .put(cell(6), now, &Record::new("Blob", 1, vec![b'b'; 3000])),
        );
    }
    let t = commit(&mut house, work().delete(leaf, t));
    let to = house.engine().visible();
    house.shut_down().expect("shuts down");
    pack(house.disk(), to).expect("packs");
    house.kill().expect("restarts");
    // After the restart nothing is settled any more: the index lacks these.
    commit(&mut house, work().put(page, t, &Record::new("Page", 3, "third")));
    commit(&mut house, work().apply(hits, class::COUNTER, counter::add(1000)));
    house.disk().fork()
}

// Takes all but the newest blob away, so that what is left of two segments becomes one.
fn pack(disk: &SimDisk, to: Tid) -> Result<(), StoreError> {
    let settings = StoreSettings { segment_bytes_max: 8192, ..StoreSettings::default() };
    let mut opened = Store::open(Arc::new(disk.clone()), settings, 1, &mut |_| {})?;
    let settler = Arc::new(Mutex::new(opened.settler));
    let mut packer = Packer::new(&opened.reader, settler.clone(), to, &mut |_, _, _| Ok(()))?;
    packer.forecast(&mut |_, _, _| Ok(()))?;
    opened.appender.roll()?;
    packer.run(to, &mut |_, _, _| Ok(()))?;
    settler.lock().close()
}

fn write(disk: &SimDisk, path: &str, to: &Path) -> std::io::Result<()> {
    let to = to.join(path);
    to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(to, disk.bytes(path).unwrap_or_default())
}

fn main() -> std::io::Result<()> {
    let dir = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("say where to: make_data_fixture DIR"))?;
    let dir = Path::new(&dir);
    if dir.exists() {
        return Err(std::io::Error::other(format!("{} is there already; fixtures are never changed", dir.display())));
    }
    let disk = play();
    for name in disk.list("")? {
        write(&disk, &name, &dir.join("whole"))?;
    }
    let segments: Vec<String> = disk.list("log")?.iter().map(|name| format!("log/{name}")).collect();
    for segment in &segments {
        write(&disk, segment, &dir.join("whole"))?;
    }
    let blob_in = |path: &&String| {
        let bytes = disk.bytes(path).unwrap_or_default();
        bytes.windows(8).any(|eight| eight == b"bbbbbbbb")
    };
    let (Some(first), Some(last)) = (segments.iter().find(blob_in), segments.last()) else { return Ok(()) };
    let torn = disk.fork();
    torn.edit(last, |bytes| bytes.truncate(bytes.len() - 20));
    write(&torn, last, &dir.join("torn"))?;
    let damaged = disk.fork();
    damaged.edit(first, |bytes| {
        let in_a_blob = bytes.windows(8).position(|eight| eight == b"bbbbbbbb");
        in_a_blob.into_iter().for_each(|at| bytes[at] ^= 1);
    });
    write(&damaged, first, &dir.join("damaged"))
}
