//! Blobs in the storage, over the simulated disk: uploads, cuts, damage, faults, sweeps, packs, and a power cut at every call.

mod crashes;
mod faults;
mod shares;

use super::*;
use crate::clock::HandClock;
use crate::store::disk::sim::SimOp;
use crate::store::disk::{Disk, SimDisk};
use bytes::Bytes;
use zeolite_proto::{BlobId, BlobStanding, CommitKey, Record};

const KEEP: Duration = Duration::from_secs(60);
const ROOT: u64 = 0;

/// A storage on a simulated disk, and what it was told.
struct World {
    disk: SimDisk,
    append: Box<dyn Append>,
    read: Arc<dyn Read>,
    upkeep: Arc<dyn Upkeep>,
    blobs: Arc<Blobs>,
    now: Duration,
    tid: u64,
}

/// Nothing is in the way of a pack here.
struct Alone<'a>(&'a mut dyn Append);

impl Gatekeeper for Alone<'_> {
    fn condemn(&mut self, _: RoaringTreemap) -> Result<Vec<Oid>, StoreError> {
        Ok(Vec::new())
    }
    fn roll(&mut self) -> Result<(), StoreError> {
        self.0.roll()
    }
    fn step(&mut self, _: &str, _: u64, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

fn id(n: u8) -> BlobId {
    BlobId([n.wrapping_mul(37); 16])
}

/// The bytes of a test's blob, of which no two stretches are alike.
fn content(seed: u8, len: usize) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(u64::from(seed));
    std::iter::repeat_with(|| dice.u8(..)).take(len).collect()
}

impl World {
    fn open(disk: SimDisk) -> Result<World, StoreError> {
        let settings = StoreSettings {
            segment_bytes_max: 6000,
            pack_garbage_min_percent: 0,
            staged_keep_s: KEEP.as_secs(),
            open_blobs_max: 4,
            staged_blobs_max: 9,
            staged_bytes_max: 3 << 20,
            ..StoreSettings::default()
        };
        let clock = Arc::new(HandClock::at(0));
        let opened = super::open(Arc::new(disk.clone()), clock, settings, 77, &mut |_| {})?;
        let Opened { append, ahead: _, read, upkeep, blobs, recovered } = opened;
        Ok(World { disk, append, read, upkeep, blobs, now: Duration::from_secs(1000), tid: recovered.last_tid.0 })
    }

    fn new() -> World {
        World::open(SimDisk::new()).expect("opens")
    }

    /// Uploads in pieces of odd sizes, from where it stands.
    fn upload(&self, id: BlobId, bytes: &[u8]) -> Result<(), StoreError> {
        let (Some(upload), BlobStanding::Begun(at)) = self.blobs.upload(id, Uploader::default(), self.now)? else {
            return Ok(());
        };
        for piece in bytes[at as usize..].chunks(50_001) {
            upload.append(piece, self.now)?;
        }
        upload.finish(bytes.len() as u64, crc32fast::hash(bytes), self.now)
    }

    /// As the engine does it: hold, append, publish.
    fn commit(&mut self, oid: u64, refs: &[u64], blobs: &[BlobId]) -> Result<Tid, StoreError> {
        let refs = refs.iter().map(|oid| Oid(*oid)).collect();
        let record = Record { refs, blobs: blobs.to_vec(), ..Record::new("File", 1, vec![1; 300]) };
        self.write(oid, Some(record.encode().expect("encodes")), blobs)
    }

    fn write(&mut self, oid: u64, record: Option<Bytes>, blobs: &[BlobId]) -> Result<Tid, StoreError> {
        let _hold = self.blobs.hold(blobs.to_vec())?;
        self.tid += 1;
        let writes = vec![TxnWrite { cell: Cell::object(Oid(oid)), record, merged: false }];
        let (tid, note) = (Tid(self.tid), Bytes::new());
        let key = CommitKey(u128::from(self.tid).to_le_bytes());
        self.append.append(&[Txn { tid, key, digest: 0, own: false, note, writes: writes.into() }])?;
        self.append.publish();
        Ok(tid)
    }

    fn pack(&mut self) -> Result<Packed, StoreError> {
        let roots = vec![Oid(ROOT)];
        let plan = PackPlan { to: self.read.published(), roots, dry_run: false, keys_floor: Tid::NONE };
        Ok(self.upkeep.pack(plan, &mut Alone(self.append.as_mut()))?.1)
    }

    fn sweep(&self) -> Result<u64, StoreError> {
        Ok(self.upkeep.sweep_blobs(self.now, &mut || true)?.blobs)
    }

    /// What is read of a blob, from an offset.
    fn bytes(&self, id: BlobId, from: u64) -> Result<Vec<u8>, StoreError> {
        let reader = self.blobs.read(id)?;
        let mut all = Vec::new();
        loop {
            let piece = reader.read(from + all.len() as u64, 100_000)?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    fn problems(&self) -> Vec<String> {
        self.upkeep.verify(&[], &mut |_, _, _| Ok(())).expect("verifies").problems
    }

    /// The files of blobs.
    fn files(&self) -> Vec<String> {
        let dirs = (0..=255_u8).map(|shard| format!("blobs/{shard:02x}")).chain(["blobs/staged".to_owned()]);
        let of = |dir: String| {
            let names = self.disk.list(&dir).expect("lists");
            names.into_iter().map(move |name| format!("{dir}/{name}")).collect::<Vec<_>>()
        };
        dirs.flat_map(of).collect()
    }

    fn standing(&self, id: BlobId) -> BlobStanding {
        self.blobs.standing(id).expect("tells")
    }
}

#[test]
fn a_blob_of_any_length_is_read_from_any_place() {
    let world = World::new();
    for (n, len) in [0, 1, 65_535, 65_536, 65_537, 131_072, 1_500_000].into_iter().enumerate() {
        let (id, bytes) = (id(n as u8), content(n as u8, len));
        let mut world = World::open(world.disk.clone()).expect("opens");
        world.upload(id, &bytes).expect("uploads");
        assert_eq!(world.standing(id), BlobStanding::Whole(len as u64));
        world.commit(n as u64, &[], &[id]).expect("commits");
        for from in [0, 1, 65_535, 65_536, 65_537, len / 2, len] {
            assert_eq!(world.bytes(id, from as u64).expect("reads"), bytes[from.min(len)..], "{len} from {from}");
        }
        world.sweep().expect("sweeps");
        assert_eq!(world.bytes(id, 0).expect("reads"), bytes, "it was moved");
        assert_eq!(world.problems(), Vec::<String>::new());
    }
}

#[test]
fn a_file_of_format_1_stays_as_it_is() {
    let world = World::new();
    world.upload(BlobId([0xb1; 16]), b"hello").expect("uploads");
    let bytes = world.disk.bytes(&format!("blobs/staged/{}", "b1".repeat(16))).expect("there");
    let shown: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "5a424c4201000000b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b100000000ecd5ff3768656c6c6febbfb8\
                    505a42454e050000000000000086a61036000000006e6e3eca";
    assert_eq!(shown, expected);
}

#[test]
fn an_upload_goes_on_where_it_was_cut_also_after_a_restart() {
    let (bytes, id) = (content(1, 400_000), id(1));
    for cut in [0, 1, 70_000, 131_072, 399_999, 400_000] {
        let world = World::new();
        let (Some(upload), standing) = world.blobs.upload(id, Uploader::default(), world.now).expect("begins") else {
            panic!("new")
        };
        assert_eq!(standing, BlobStanding::Begun(0));
        upload.append(&bytes[..cut], world.now).expect("takes");
        assert_eq!(upload.length().expect("tells"), cut as u64);
        drop(upload);
        let there = cut as u64 / 65_536 * 65_536;
        assert_eq!(world.standing(id), BlobStanding::Begun(there), "whole frames count");
        let again = World::open(world.disk.fork()).expect("opens");
        assert_eq!(again.standing(id), BlobStanding::Begun(there));
        for world in [&world, &again] {
            world.upload(id, &bytes).expect("goes on");
            assert_eq!(world.bytes(id, 0).expect("reads"), bytes, "cut at {cut}");
        }
        assert!(again.upload(id, b"something else").is_ok(), "what is whole stays as it is");
        assert_eq!(again.bytes(id, 0).expect("reads"), bytes);
    }
}

#[test]
fn only_one_goes_on_with_an_upload_and_what_was_sent_must_have_come() {
    let (world, bytes) = (World::new(), content(2, 200_000));
    let begin = || world.blobs.upload(id(1), Uploader::default(), world.now).expect("begins").0.expect("not whole");
    let old = begin();
    old.append(&bytes[..100_000], world.now).expect("takes");
    let new = begin();
    assert!(matches!(old.append(&bytes[100_000..], world.now), Err(StoreError::BlobsBusy { .. })));
    drop(old);
    new.append(&bytes[65_536..], world.now).expect("the turn is the new one's");
    new.finish(200_000, crc32fast::hash(&bytes), world.now).expect("whole");
    assert_eq!(world.bytes(id(1), 0).expect("reads"), bytes);
    world
        .blobs
        .upload(id(2), Uploader::default(), world.now)
        .expect("begins")
        .0
        .expect("new")
        .append(&bytes, world.now)
        .expect("takes");
    let other = world.blobs.upload(id(2), Uploader::default(), world.now).expect("begins").0.expect("goes on");
    other.append(&bytes[196_608..], world.now).expect("takes");
    let refused = other.finish(200_000, 7, world.now).expect_err("another checksum");
    assert!(matches!(&refused, StoreError::Refused { what } if what.contains("upload it anew")), "{refused}");
    assert_eq!(world.standing(id(2)), BlobStanding::Unknown);
    let held = world.blobs.hold(vec![id(1), id(2)]).map(|_| ()).expect_err("not there");
    assert!(matches!(&held, StoreError::NoBlob { what } if what.contains("upload it")), "{held}");
}

#[test]
fn pack_takes_what_no_revision_names_and_leaves_what_one_does_or_somebody_holds() {
    let mut world = World::new();
    for n in 1..=5 {
        world.upload(id(n), &content(n, 70_000)).expect("uploads");
    }
    world.commit(ROOT, &[10, 11], &[]).expect("commits");
    world.commit(10, &[], &[id(1)]).expect("commits");
    // An undo names the same again.
    world.commit(10, &[], &[id(2)]).expect("commits");
    world.commit(10, &[], &[id(1)]).expect("commits");
    world.commit(11, &[], &[id(3)]).expect("commits");
    world.commit(11, &[], &[]).expect("commits");
    // Garbage.
    world.commit(12, &[], &[id(4)]).expect("commits");
    world.sweep().expect("sweeps");
    assert_eq!(world.blobs.counts().blobs, 4);
    let reading = world.blobs.read(id(3)).expect("opens");
    let packed = world.pack().expect("packs");
    assert_eq!((packed.blobs, world.blobs.counts().blobs), (2, 2), "the second and the garbage's");
    assert_eq!(reading.read(69_999, 10).expect("reads on").len(), 1);
    drop(reading);
    assert_eq!(world.pack().expect("packs").blobs, 1, "it is not read any more");
    assert_eq!(world.bytes(id(1), 0).expect("kept"), content(1, 70_000));
    assert_eq!(world.standing(id(5)), BlobStanding::Whole(70_000), "what is staged is not pack's");
    for n in 2..=4 {
        assert!(world.commit(10, &[], &[id(n)]).is_err(), "{n} is gone");
    }
    assert_eq!(world.problems(), Vec::<String>::new());
    assert_eq!(world.blobs.counts().bytes, 32 + 70_000 + 8 + 24);
}

/// Names a blob anew while a pack is looking which are named.
struct Meanwhile<'a> {
    append: &'a mut dyn Append,
    during: &'a mut dyn FnMut(&mut dyn Append, &str),
}

impl Gatekeeper for Meanwhile<'_> {
    fn condemn(&mut self, _: RoaringTreemap) -> Result<Vec<Oid>, StoreError> {
        Ok(Vec::new())
    }
    fn roll(&mut self) -> Result<(), StoreError> {
        self.append.roll()
    }
    fn step(&mut self, stage: &str, _: u64, _: u64) -> Result<(), StoreError> {
        (self.during)(self.append, stage);
        Ok(())
    }
}

#[test]
fn a_blob_that_is_named_again_while_pack_looks_for_it_stays() {
    for names_again in [false, true] {
        let mut world = World::new();
        world.upload(id(1), &content(1, 70_000)).expect("uploads");
        world.commit(ROOT, &[], &[id(1)]).expect("commits");
        // More rows than are read at once, so that the pass has steps.
        for oid in ROOT..40 {
            world.commit(oid, &[], &[]).expect("commits");
        }
        world.sweep().expect("moves it");
        let (blobs, mut named) = (world.blobs.clone(), 0);
        let record = Record { blobs: vec![id(1)], ..Record::new("File", 1, vec![1; 300]) };
        let writes = vec![TxnWrite {
            cell: Cell::object(Oid(ROOT)),
            record: Some(record.encode().expect("encodes")),
            merged: false,
        }];
        let (tid, key, note) = (Tid(world.tid + 1), CommitKey([9; 16]), Bytes::new());
        let txn = Txn { tid, key, digest: 0, own: false, note, writes: writes.into() };
        let mut during = |append: &mut dyn Append, stage: &str| {
            if names_again && named == 0 && stage.contains("blobs") {
                named += 1;
                // Held, durable, published and let go, all within the look.
                let hold = blobs.hold(vec![id(1)]).expect("it is there still");
                append.append(std::slice::from_ref(&txn)).expect("appends");
                append.publish();
                drop(hold);
            }
        };
        let plan = PackPlan { to: world.read.published(), roots: vec![], dry_run: false, keys_floor: Tid::NONE };
        let mut meanwhile = Meanwhile { append: world.append.as_mut(), during: &mut during };
        let packed = world.upkeep.pack(plan, &mut meanwhile).expect("packs").1;
        assert_eq!((packed.blobs, named), if names_again { (0, 1) } else { (1, 0) });
        assert_eq!(world.blobs.hold(vec![id(1)]).is_ok(), names_again);
        assert_eq!(world.problems(), Vec::<String>::new());
    }
}

#[test]
fn what_nobody_names_is_swept_after_a_time_also_after_a_restart_and_nothing_else() {
    let mut world = World::new();
    world.disk.put("blobs/staged/notes.txt", b"somebody's".to_vec());
    world.disk.put("blobs/staged/0123.part", b"somebody's".to_vec());
    world.disk.put("blobs/00/readme", b"somebody's".to_vec());
    for n in 1..=3 {
        world.upload(id(n), &content(n, 10)).expect("uploads");
    }
    world
        .blobs
        .upload(id(4), Uploader::default(), world.now)
        .expect("begins")
        .0
        .expect("new")
        .append(&[1; 70_000], world.now)
        .expect("takes");
    world.commit(ROOT, &[], &[id(1)]).expect("commits");
    let hold = world.blobs.hold(vec![id(2)]).expect("whole");
    let again = World::open(world.disk.fork()).expect("opens");
    assert_eq!(world.sweep().expect("sweeps"), 0, "it is too early");
    world.now += KEEP;
    assert_eq!(world.sweep().expect("sweeps"), 2, "the third and the half one");
    drop(hold);
    assert_eq!(world.sweep().expect("sweeps"), 1, "the second");
    let kept = format!("blobs/{:02x}/{}", id(1).0[0], id(1));
    let left = ["blobs/00/readme", kept.as_str(), "blobs/staged/0123.part", "blobs/staged/notes.txt"];
    let sorted = |mut files: Vec<String>| {
        files.sort();
        files
    };
    assert_eq!(sorted(world.files()), left);
    // In the next life all begins anew, and what was named is found in the log.
    let mut again = again;
    assert_eq!(again.blobs.counts().staged, 4);
    let blind = || again.upkeep.sweep_blobs(again.now, &mut || false).expect("sweeps").blobs;
    assert_eq!(blind(), 0, "its time begins");
    again.now += KEEP;
    assert_eq!(again.upkeep.sweep_blobs(again.now, &mut || false).expect("sweeps").blobs, 1, "the half one alone");
    assert_eq!(again.sweep().expect("sweeps"), 2, "what the log does not know");
    assert_eq!(sorted(again.files()), left);
    let counts = again.blobs.counts();
    assert_eq!((counts.blobs, counts.staged, counts.staged_bytes), (1, 0, 0));
    assert_eq!(again.bytes(id(1), 0).expect("kept"), content(1, 10));
    assert_eq!(world.pack().expect("packs").blobs, 0, "and a pack leaves it, and what is nobody's");
    assert_eq!(sorted(world.files()), left);
}

#[test]
fn uploads_and_readers_have_their_limits() {
    let world = World::new();
    let begin = |n: u8| world.blobs.upload(id(n), Uploader::default(), world.now).map(|begun| begun.0.expect("new"));
    let running: Vec<_> = (1..=4).map(|n| begin(n).expect("begins")).collect();
    let busy = begin(5).map(|_| ()).expect_err("too many open");
    assert!(busy.to_string().contains("store.open_blobs_max"), "{busy}");
    drop(running);
    (5..=9).for_each(|n| drop(begin(n).expect("begins")));
    let busy = begin(10).map(|_| ()).expect_err("too many staged");
    assert!(busy.to_string().contains("store.staged_blobs_max"), "{busy}");
    let upload = begin(1).expect("goes on");
    let (mut taken, piece) = (0_u64, vec![0; 1 << 20]);
    let busy = loop {
        match upload.append(&piece, world.now) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(taken == 3 && busy.to_string().contains("store.staged_bytes_max"), "{taken}, {busy}");
}
