//! The store alone, without engine and network: appends beside a settling thread against the bare disk, opening after a
//! kill, and reads.
//!
//! ```text
//! cargo bench -p zeolite-benches --bench store -- [directory] [seconds] [append] [open] [reads]
//! ```
//! "cpu" is the time on a processor, which stays comparable when the machine has other work.
//! The directory (default: a temporary one) is on the disk to be measured. A transaction is 4 records of 1 KiB.

#![expect(clippy::print_stdout, reason = "a bench tells its numbers")]

use bytes::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zeolite_proto::record::Record;
use zeolite_proto::{Cell, CommitKey, Oid, Tid};
use zeolite_server::store::disk::RealDisk;
use zeolite_server::store::{Opened, Range, Reader, Settler, Store, StoreError, StoreSettings, Txn, TxnWrite};

const RECORDS: u64 = 4;
const RECORD_BYTES: usize = 1024;
const OBJECTS: u64 = 200_000;

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let temporary = tempfile::tempdir()?;
    let root = args.first().map_or(temporary.path(), Path::new).join("zeolite-bench");
    let seconds = args.get(1).map_or(Ok(3), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    std::fs::create_dir_all(&root)?;
    let wanted = |part: &str| args.len() < 3 || args[2..].iter().any(|arg| arg == part);
    for batch in [1, 8, 64].into_iter().filter(|_| wanted("append")) {
        let raw = raw(&root, batch, time)?;
        let appended = append(&root.join(format!("b{batch}")), batch, time)?;
        println!(
            "batch {batch:>2}: bare disk {raw:>7.0} tx/s, store {:>7.0} tx/s ({:.0} %), left to settle {:.2} s, written {:.2} x logical",
            appended.rate,
            100.0 * appended.rate / raw,
            appended.left_s,
            appended.written
        );
    }
    if wanted("open") {
        reopen(&root)?;
    }
    if wanted("reads") {
        reads(&root)?;
    }
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

fn open(root: &Path, settings: StoreSettings) -> Result<Opened, StoreError> {
    Store::open(Arc::new(RealDisk::open(root)?), settings, 1, &mut |_| {})
}

fn record(dice: &mut fastrand::Rng) -> Result<Bytes, Box<dyn std::error::Error>> {
    let mut data = vec![0; RECORD_BYTES];
    dice.fill(&mut data);
    Ok(Record::new("Bench", 1, data).encode()?)
}

fn put(cell: Cell, record: Bytes) -> TxnWrite {
    TxnWrite { cell, record: Some(record), merged: false }
}

fn txn(tid: u64, writes: Vec<TxnWrite>) -> Txn {
    Txn {
        tid: Tid(tid << 16),
        key: CommitKey([tid as u8; 16]),
        digest: 0,
        own: false,
        note: Bytes::new(),
        writes: writes.into(),
    }
}

// The same bytes, one write and one fdatasync a batch, nothing else.
fn raw(root: &Path, batch: u64, time: Duration) -> Result<f64, Box<dyn std::error::Error>> {
    let path = root.join("raw");
    let file = File::create(&path)?;
    let mut buffer = vec![0; (batch * RECORDS) as usize * (RECORD_BYTES + 40)];
    fastrand::Rng::with_seed(1).fill(&mut buffer);
    let (start, mut at, mut batches) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        file.write_all_at(&buffer, at)?;
        file.sync_data()?;
        at += buffer.len() as u64;
        batches += 1;
    }
    let rate = (batches * batch) as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

struct AppendRun {
    rate: f64,
    left_s: f64,
    written: f64,
}

fn append(root: &Path, batch: u64, time: Duration) -> Result<AppendRun, Box<dyn std::error::Error>> {
    let before = written_bytes()?;
    let Opened { mut appender, reader, settler, .. } = open(root, StoreSettings::default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let thread = std::thread::spawn(move || settle(settler, &told));
    let mut dice = fastrand::Rng::with_seed(2);
    let pool = (0..64).map(|_| record(&mut dice)).collect::<Result<Vec<_>, _>>()?;
    let (start, cpu, mut tid, mut batches) = (Instant::now(), cpu_ns(), 0, 0);
    let (mut write_ns, mut sync_ns, mut encode_ns) = (0, 0, 0);
    while start.elapsed() < time {
        let txns: Vec<_> = (0..batch)
            .map(|_| {
                tid += 1;
                let cell = |dice: &mut fastrand::Rng| Cell::object(Oid(dice.u64(0..OBJECTS)));
                let writes = (0..RECORDS).map(|_| put(cell(&mut dice), pool[dice.usize(0..64)].clone()));
                txn(tid, writes.collect())
            })
            .collect();
        loop {
            match appender.append(&txns) {
                Ok(appended) => {
                    write_ns += appended.write_ns;
                    sync_ns += appended.sync_ns;
                    encode_ns += appended.encode_ns;
                    appender.publish(appended);
                    break;
                }
                Err(StoreError::Behind { .. }) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        batches += 1;
    }
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    let drain = Instant::now();
    let mut settler = thread.join().map_err(|_| "the settling thread panicked")??;
    let left_s = drain.elapsed().as_secs_f64();
    let each = |ns: u64| ns as f64 / 1000.0 / f64::from(batches);
    println!(
        "          per batch: encode {:.0} us, write {:.0} us, fdatasync {:.0} us, all {:.0} us, cpu {:.0} us",
        each(encode_ns),
        each(write_ns),
        each(sync_ns),
        took.as_micros() as f64 / f64::from(batches),
        (cpu_ns() - cpu) / 1000.0 / f64::from(batches)
    );
    settler.close()?;
    drop((appender, reader, settler));
    let logical = (tid * RECORDS) as f64 * RECORD_BYTES as f64;
    Ok(AppendRun {
        rate: tid as f64 / took.as_secs_f64(),
        left_s,
        written: (written_bytes()? - before) as f64 / logical,
    })
}

// Settles while some hundreds of transactions wait; when told to stop, everything.
fn settle(mut settler: Settler, stop: &AtomicBool) -> Result<Settler, StoreError> {
    loop {
        let left = settler.left();
        let stopping = stop.load(Ordering::Relaxed);
        if left.txns >= 1000 || (stopping && left.txns > 0) {
            settler.settle(4096)?;
        } else if stopping {
            println!("          settling: cpu {:.2} s", cpu_ns() / 1e9);
            return Ok(settler);
        } else {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

// Time on a processor of this thread: on a machine with other work it says more than the clock.
fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn written_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes")?.parse()?)
}

// 60 MiB of log that the index does not have, copied as a kill would leave it.
fn reopen(root: &Path) -> Done {
    let (from, to) = (root.join("reopen"), root.join("killed"));
    let Opened { mut appender, reader, settler, .. } = open(&from, StoreSettings::default())?;
    let mut dice = fastrand::Rng::with_seed(3);
    let record = record(&mut dice)?;
    for tid in (1..15_000).step_by(50) {
        let writes = |dice: &mut fastrand::Rng| {
            (0..RECORDS).map(|_| put(Cell::object(Oid(dice.u64(0..OBJECTS))), record.clone())).collect()
        };
        let txns: Vec<_> = (tid..tid + 50).map(|tid| txn(tid, writes(&mut dice))).collect();
        let appended = appender.append(&txns)?;
        appender.publish(appended);
    }
    for dir in ["", "log"] {
        std::fs::create_dir_all(to.join(dir))?;
        for entry in std::fs::read_dir(from.join(dir))? {
            let entry = entry?;
            if entry.file_type()?.is_file() && entry.file_name() != "lock" {
                std::fs::copy(entry.path(), to.join(dir).join(entry.file_name()))?;
            }
        }
    }
    drop((appender, reader, settler));
    let (start, cpu) = (Instant::now(), cpu_ns());
    let mut opened = open(&to, StoreSettings::default())?;
    let took = start.elapsed();
    let mib = opened.recovered.replayed_bytes >> 20;
    println!("open with {mib} MiB to replay: {:.3} s, cpu {:.3} s", took.as_secs_f64(), (cpu_ns() - cpu) / 1e9);
    opened.settler.close()?;
    drop(opened);
    let start = Instant::now();
    let opened = open(&to, StoreSettings::default())?;
    println!("open after close: {:.4} s", start.elapsed().as_secs_f64());
    drop(opened);
    Ok(())
}

fn reads(root: &Path) -> Done {
    const ENTRIES: u64 = 200_000;
    for (what, cache_bytes) in [("cache", 512 << 20), ("index and log", 0)] {
        let settings = StoreSettings { cache_bytes, ..StoreSettings::default() };
        let opened = open(&root.join("reads"), settings)?;
        let Opened { mut appender, reader, mut settler, recovered } = opened;
        let mut dice = fastrand::Rng::with_seed(4);
        if recovered.last_tid == Tid::NONE {
            let record = record(&mut dice)?;
            let small = Record::new("Entry", 1, vec![7; 32]).encode()?;
            for first in (0..ENTRIES).step_by(1000) {
                let plain = (first..first + 1000).map(|oid| put(Cell::object(Oid(oid + 10)), record.clone()));
                let entry = |number: u64| put(Cell::entry(Oid(1), number.to_be_bytes().to_vec()), small.clone());
                let appended =
                    appender.append(&[txn(first + 1, plain.chain((first..first + 1000).map(entry)).collect())])?;
                appender.publish(appended);
                settler.settle(usize::MAX)?;
            }
        }
        let plain: Vec<_> = (0..ENTRIES).map(|oid| Cell::object(Oid(oid + 10))).collect();
        for cell in &plain {
            reader.get(cell, Tid::MAX)?;
        }
        let (cpu, mut dice) = (cpu_ns(), fastrand::Rng::with_seed(9));
        for _ in 0..ENTRIES {
            reader.get(&plain[dice.usize(..plain.len())], Tid::MAX)?;
        }
        println!("get by {what}: cpu {:.0} ns", (cpu_ns() - cpu) / ENTRIES as f64);
        let cpu = cpu_ns();
        for _ in 0..ENTRIES {
            reader.get(&plain[dice.usize(..1000)], Tid::MAX)?;
        }
        println!("get by {what}, 1000 hot objects: cpu {:.0} ns", (cpu_ns() - cpu) / ENTRIES as f64);
        for threads in [1, 2] {
            println!("get by {what}, {threads} thread(s): {:.0} k/s", gets(&reader, &plain, threads)? / 1000.0);
        }
        let (start, cpu) = (Instant::now(), cpu_ns());
        for cells in plain.chunks(100) {
            reader.get_many(cells, Tid::MAX, usize::MAX)?;
        }
        let (took, cpu) = (start.elapsed().as_secs_f64(), (cpu_ns() - cpu) / ENTRIES as f64);
        println!("get_many of 100 by {what}: {:.0} k/s, cpu {cpu:.0} ns each", ENTRIES as f64 / took / 1000.0);
        let mut range = Range { oid: Oid(1), from: Bytes::new(), to: Bytes::new(), reverse: false, keys_only: false };
        let (start, cpu, mut count) = (Instant::now(), cpu_ns(), 0);
        loop {
            let (page, next) = reader.scan(&range, Tid::MAX, 1000, 1 << 20)?;
            count += page.len();
            let Some(next) = next else { break };
            range.from = next;
        }
        let (took, cpu) = (start.elapsed().as_secs_f64(), (cpu_ns() - cpu) / count as f64);
        println!("scan of {count} entries: {:.0} k/s, cpu {cpu:.0} ns each", count as f64 / took / 1000.0);
        settler.close()?;
    }
    Ok(())
}

fn gets(reader: &Reader, cells: &[Cell], threads: usize) -> Result<f64, StoreError> {
    const ROUNDS: usize = 400_000;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let work = |seed| {
            move || -> Result<(), StoreError> {
                let mut dice = fastrand::Rng::with_seed(seed);
                for _ in 0..ROUNDS {
                    reader.get(&cells[dice.usize(..cells.len())], Tid::MAX)?;
                }
                Ok(())
            }
        };
        let running: Vec<_> = (0..threads).map(|seed| scope.spawn(work(seed as u64))).collect();
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    Ok((ROUNDS * threads) as f64 / start.elapsed().as_secs_f64())
}
