//! Single scenes of the file: damage, losses of power, chunks that come to their next turn, readers that fail, the fixture.

use super::*;
use crate::cache::file::{self, layout::DEAD};

/// What is in the file as it was when a process ended in order.
fn filled(path: &Path, shape: Shape) -> Arc<Mutex<Server>> {
    let server = Server::with(fastrand::Rng::with_seed(3), 200);
    let (cache, file, mut writer) = begun(opened(path, shape), &server);
    server.lock().adopt(&cache, false);
    for number in 0..CELLS {
        let at = server.lock().position();
        let truth = server.lock().truth(number, at);
        if let Some((tid, record)) = truth {
            cache.insert(&cell(number), &Revision { tid, end: None, record }, at, 1);
        }
        // More than a few do not wait.
        writer.turn(file.queue.now(), false).expect("writes");
    }
    writer.turn(file.queue.now(), true).expect("writes");
    server
}

fn found(opened: &Opened, server: &Server) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let cells: Vec<Cell> = (0..CELLS).map(cell).collect();
    let cells: Vec<&Cell> = cells.iter().collect();
    let found = runtime.block_on(opened.cache.find_in_file(&cells, server.position(), 0));
    for (number, known) in found.iter().enumerate() {
        if let Some(known) = known {
            assert_eq!(Some((known.tid, known.record.clone())), server.truth(number as u64, server.position()));
        }
    }
    found.iter().flatten().count()
}

#[test]
fn a_file_that_was_damaged_has_less_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let whole = std::fs::read(&path).expect("reads");
    let all = found(&opened(&path, shape), &server.lock());
    assert!(all >= 20, "{all}");
    let mut dice = fastrand::Rng::with_seed(5);
    let mut fewer = 0;
    for _ in 0..400 {
        let mut damaged = whole.clone();
        match dice.u8(0..3) {
            0 => damaged.truncate(dice.usize(0..whole.len())),
            1 => damaged[dice.usize(0..60_000)] ^= 1 << dice.u8(0..8),
            _ => damaged[dice.usize(8192..60_000)..].iter_mut().take(3000).for_each(|byte| *byte = dice.u8(..)),
        }
        std::fs::write(&path, &damaged).expect("writes");
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        // A flipped bit may make it one that is refused.
        if claim(&file, shape).is_ok() {
            fewer += usize::from(found(&opened(&path, shape), &server.lock()) < all);
            assert_eq!(std::fs::metadata(&path).expect("is there").len(), shape.bytes);
        }
    }
    assert!(fewer > 200, "{fewer}");
}

#[test]
fn what_ended_stays_ended_where_a_mark_was_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let before = found(&opened(&path, shape), &server.lock());
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    server.lock().generation = 0;
    cache.is_of(Of { generation: 0, store_id: 1, timeline: 1 });
    let tid = server.lock().position().next();
    (0..CELLS).for_each(|number| server.lock().commits.push((tid, number, None)));
    server.lock().told += CELLS as usize;
    cache.invalidate(tid, &(0..CELLS).map(cell).collect::<Vec<_>>());
    writer.turn(file.queue.now(), true).expect("writes");
    let mut image = std::fs::read(&path).expect("reads");
    let marks: Vec<usize> = (0..image.len() - 4).filter(|at| image[*at..at + 4] == DEAD).collect();
    assert_eq!(marks.len(), before, "each of them is marked");
    for bit in 0..32 {
        marks.iter().for_each(|at| image[at + bit / 8] ^= 1 << (bit % 8));
        std::fs::write(&path, &image).expect("writes");
        assert_eq!(found(&opened(&path, shape), &server.lock()), 0, "bit {bit}");
        marks.iter().for_each(|at| image[at + bit / 8] ^= 1 << (bit % 8));
    }
}

/// What a damage hides is not live when the damage is gone: nobody could mark it meanwhile.
#[test]
fn what_was_not_read_once_is_never_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let mut image = std::fs::read(&path).expect("reads");
    image[8192 + 24 + 40] ^= 1;
    std::fs::write(&path, &image).expect("writes");
    let fewer = found(&opened(&path, shape), &server.lock());
    let mut healed = std::fs::read(&path).expect("reads");
    healed[8192 + 24 + 40] ^= 1;
    std::fs::write(&path, &healed).expect("writes");
    assert_eq!(found(&opened(&path, shape), &server.lock()), fewer);
}

/// A reader finds that the disk fails, and what was to be marked is lost: then no position is written.
#[test]
fn a_file_that_a_reader_gave_up_is_not_said_to_be_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    server.lock().generation = 0;
    cache.is_of(Of { generation: 0, store_id: 1, timeline: 1 });
    let batch = file.queue.now();
    let before = server.lock().position();
    let tid = before.next();
    server.lock().commits.push((tid, 0, None));
    server.lock().told += 1;
    cache.invalidate(tid, &[cell(0)]);
    file.fail(&io::Error::other("a reader's"));
    writer.turn(batch, true).expect("writes");
    let kept = opened(&path, shape).kept.expect("is as it was");
    assert_eq!(kept.position, before);
}

/// A loss of power leaves a late entry of a turn on the disk, and neither the chunk's header nor what is before it; then the same is loaded
/// again, in the same order, and the late one is committed anew.
#[test]
fn what_a_loss_of_power_has_left_behind_the_end_is_no_entry() {
    for salt in [Some(9), None] {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
        let server = filled(&path, shape);
        let synced = std::fs::read(&path).expect("reads");
        let load = |numbers: std::ops::Range<u64>| {
            let (cache, file, writer) = begun(opened(&path, shape), &server);
            *file.trial.salt.lock() = salt;
            server.lock().generation = 0;
            cache.is_of(Of { generation: 0, store_id: 1, timeline: 1 });
            for number in numbers {
                let record = Some(vec![number as u8; 500].into());
                let at = server.lock().position();
                cache.insert(&cell(1000 + 2 * number), &Revision { tid: at, end: None, record }, at, 0);
            }
            (cache, file, writer)
        };
        let (_, file, mut writer) = load(0..5);
        writer.turn(file.queue.now(), false).expect("writes");
        let mut image = std::fs::read(&path).expect("reads");
        let begins = (0..shape.chunks()).map(|chunk| shape.chunk_at(chunk) as usize);
        let begun_at = begins.into_iter().find(|at| image[*at..at + 512] != synced[*at..at + 512]).expect("a chunk");
        image[begun_at..begun_at + 2048].copy_from_slice(&synced[begun_at..begun_at + 2048]);
        std::fs::write(&path, &image).expect("writes");
        let (_, file, mut writer) = load(0..4);
        let tid = server.lock().position().next();
        server.lock().commits.push((tid, 1008, None));
        server.lock().told += 1;
        writer.turn(file.queue.now(), true).expect("writes");
        let again = opened(&path, shape).cache;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let found = runtime.block_on(again.find_in_file(&[&cell(1006), &cell(1008)], tid, 0));
        assert!(found[0].is_some());
        // With one salt for all turns it is found, although it has ended.
        assert_eq!(found[1].is_some(), salt.is_some(), "{salt:?}");
    }
}

/// A long list is read while its chunk comes to its next turn, and the cell is at the same place in it.
#[test]
fn what_was_read_in_an_earlier_turn_of_its_chunk_is_not_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 3 * 16384, chunk_bytes: 16384 });
    let server = filled(&path, shape);
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    let (at, late) = (server.lock().position(), Cell::object(Oid(5000)));
    let mut keep = |cell: &Cell, tid: Tid, fill: u8| {
        let record = Some(vec![fill; 3300].into());
        cache.insert(cell, &Revision { tid, end: None, record }, tid, 0);
        writer.turn(file.queue.now(), false).expect("writes");
    };
    let hash = crate::cache::shard::hash(&late);
    keep(&late, at, 1);
    let place = cache.shards.of(hash).lock().place(hash, 0).expect("is there");
    let read = file.look(place, &late, true);
    let mut tid = at;
    // Three chunks of four.
    for turn in 1..=12 {
        tid = tid.next();
        cache.invalidate(tid, std::slice::from_ref(&late));
        let other = Cell::object(Oid(6000 + turn));
        keep(if turn == 12 { &late } else { &other }, tid, 2);
    }
    assert_eq!(cache.shards.of(hash).lock().place(hash, 0), Some(place), "it is where it was");
    assert_eq!(cache.take(&file, &late, (hash, place), read, 0), None);
}

#[test]
fn what_ends_while_it_is_read_is_not_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let (cache, file, _) = begun(opened(&path, shape), &server);
    let mut read = 0;
    for cell in (0..CELLS).map(cell) {
        let hash = crate::cache::shard::hash(&cell);
        let Some(place) = cache.shards.of(hash).lock().place(hash, 0) else { continue };
        let looked = file.look(place, &cell, true);
        assert!(matches!(looked, file::Looked::Found(..)), "{cell}: {looked:?}");
        cache.invalidate(server.lock().position().next(), std::slice::from_ref(&cell));
        assert_eq!(cache.take(&file, &cell, (hash, place), looked, 0), None, "{cell}");
        assert_eq!(cache.peek(&cell, server.lock().position().next(), 0), None, "{cell}");
        read += 1;
    }
    assert!(read >= 20, "{read}");
}

/// Of two cells with one tag the later one is in the file, and never taken for the other.
#[test]
fn two_cells_with_one_tag_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, shape) = (dir.path().join("a"), Shape { bytes: 8192 + 20 * 4096, chunk_bytes: 4096 });
    let server = filled(&path, shape);
    let (cache, file, mut writer) = begun(opened(&path, shape), &server);
    let mut by_tag = BTreeMap::new();
    // In a file as small as this there is one segment in each shard.
    let tag = |hash: u64| ((hash >> 48) % 32, hash as u16);
    let pair = (1000..).find_map(|oid| {
        let cell = Cell::object(Oid(oid));
        by_tag.insert(tag(crate::cache::shard::hash(&cell)), cell.clone()).map(|other| [other, cell])
    });
    let [first, second] = pair.expect("they are not endless");
    let at = server.lock().position();
    for (cell, text) in [(&first, "first"), (&second, "second")] {
        cache.insert(cell, &Revision { tid: Tid(5), end: None, record: Some(text.into()) }, at, 0);
        writer.turn(file.queue.now(), true).expect("writes");
    }
    let again = opened(&path, shape).cache;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for cache in [&*cache, &again] {
        let found = runtime.block_on(cache.find_in_file(&[&first, &second], at, 0));
        assert_eq!(found[0], None);
        assert_eq!(found[1].as_ref().and_then(|known| known.record.as_deref()), Some(&b"second"[..]));
    }
}

/// Format 1: what is written today is the fixture, and the fixture is opened.
#[test]
fn the_fixture_of_format_1_is_what_is_written_and_is_read() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/client-cache-1.zeocache");
    let dir = tempfile::tempdir().expect("a directory");
    let cells = [(Cell::object(Oid(7)), Tid(100), "an object"), (Cell::entry(Oid(8), "a key"), Tid(101), "an entry")];
    let gone = (Cell::object(Oid(9)), Tid(102), "ended at 103");
    let (file, header) = file::open(dir.path(), "", 1 << 20).expect("opens").expect("is free");
    let path = file.path().to_owned();
    let opened = Cache::over_file(0, file, header).expect("is read");
    let (file, scanned) = opened.writer.expect("there is a file");
    *file.trial.salt.lock() = Some(0xfedc_ba98_7654_3211);
    let seen = || Seen { generation: 1, tid: Tid(110), timeline: 0 };
    let mut writer = Writer::new(file.clone(), opened.cache.shards.clone(), &scanned, Box::new(seen));
    opened.cache.reset(1, Tid(90));
    opened.cache.is_of(Of { generation: 1, store_id: 0x0123_4567_89ab_cdef, timeline: 77 });
    for (cell, tid, text) in cells.iter().chain([&gone]) {
        opened.cache.insert(cell, &Revision { tid: *tid, end: None, record: Some((*text).into()) }, Tid(102), 1);
    }
    writer.turn(file.queue.now(), false).expect("writes");
    opened.cache.invalidate(Tid(103), std::slice::from_ref(&gone.0));
    writer.turn(file.queue.now(), true).expect("writes");
    let written = std::fs::read(&path).expect("reads");
    if std::env::var_os("ZEOLITE_WRITE_FIXTURES").is_some() {
        let end = written.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last + 1).next_multiple_of(8));
        std::fs::write(fixture, &written[..end]).expect("writes");
    }
    let fixed = std::fs::read(fixture).expect("is there");
    assert!(written[..fixed.len()] == fixed && written[fixed.len()..].iter().all(|byte| *byte == 0));

    let other = tempfile::tempdir().expect("a directory");
    std::fs::copy(fixture, other.path().join("main-1.zeocache")).expect("copies");
    let (file, header) = file::open(other.path(), "main", 1 << 20).expect("opens").expect("is free");
    let opened = Cache::over_file(0, file, header).expect("is read");
    let kept = opened.kept.expect("can be gone on with");
    assert_eq!((kept.store_id, kept.timeline, kept.position), (0x0123_4567_89ab_cdef, 77, Tid(110)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let all: Vec<&Cell> = cells.iter().map(|(cell, ..)| cell).chain([&gone.0]).collect();
    let found = runtime.block_on(opened.cache.find_in_file(&all, Tid(110), 0));
    for ((_, tid, text), known) in cells.iter().zip(&found) {
        let known = known.as_ref().expect("it is there");
        assert_eq!((known.tid, known.record.as_deref()), (*tid, Some(text.as_bytes())));
    }
    assert_eq!(found[2], None);
}
