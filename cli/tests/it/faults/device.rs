//! A device that fails below a real file system: ext4 on a loop device, whose blocks are in a file in memory. What is not allocated in that
//! file cannot be written once the memory is full, which the file system learns when it writes back, and the program when it syncs: so does
//! a thin volume whose pool is full. What lies behind the end of a file that was cut cannot be read.
//!
//! ```text
//!   server ── ext4 ── loop device ── file with holes ── tmpfs that fills up
//! ```
//! Mounted in a name space that nobody else sees. Who holds it ends with the test, and so do the servers on it: then nothing is mounted any
//! more, and the loop device is free. It takes root, and loop devices.

#![expect(clippy::print_stdout, reason = "what was met is said")]

use super::left_out;
use super::scene::{fault, put};
use crate::program::{program, text};
use crate::served::Served;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use zeolite_client::{Cell, Db, Error, FaultKind, Options, Record, Remedy};

/// The device has this many mebibytes, as it says, and its pool fewer.
const SAYS_MIB: u32 = 400;
const HAS_MIB: u32 = 100;
const EACH: usize = 100_000;

struct Device {
    holder: Child,
    dir: TempDir,
    errors: &'static str,
}

impl Device {
    /// None: it cannot be had here, which is said. A file system that meets an error of its own does so (`errors=` of ext4).
    fn new(errors: &'static str) -> Option<Device> {
        let dir = TempDir::new().expect("a directory");
        let script = format!(
            "command -v mkfs.ext4 >&2 || {{ echo 'mkfs.ext4 (e2fsprogs) is not there' >&2; exit 1; }}
             cd \"$0\" && mkdir pool disk && mount -t tmpfs -o size={HAS_MIB}m pool pool && echo mounted && exec cat"
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(dir.path())
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) runs");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("has an output")).read_line(&mut line).expect("reads");
        if line != "mounted\n" {
            let mut why = String::new();
            holder.stderr.take().expect("has one").read_to_string(&mut why).expect("reads");
            holder.wait().expect("has ended");
            left_out(&format!("a device takes root that may mount, and e2fsprogs: {}", why.trim()));
            return None;
        }
        let device = Device { holder, dir, errors };
        device.must(&format!("truncate -s {SAYS_MIB}M pool/image && mkfs.ext4 -q -F -J size=4 pool/image"));
        let mounted = device.mount();
        if !mounted.status.success() {
            left_out(&format!("no loop devices here: {}", text(&mounted.stderr)));
            return None;
        }
        Some(device)
    }

    fn sh(&self, script: &str) -> Output {
        Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .args(["sh", "-c", &format!("cd \"$0\" && {script}")])
            .arg(self.dir.path())
            .env("PATH", path())
            .output()
            .expect("nsenter (util-linux) runs")
    }

    fn must(&self, script: &str) -> String {
        let done = self.sh(script);
        assert!(done.status.success(), "{script}: {}", text(&done.stderr));
        text(&done.stdout)
    }

    fn mount(&self) -> Output {
        self.sh(&format!("mount -o loop,errors={} pool/image disk", self.errors))
    }

    /// As after a reboot: what was not written is not there.
    fn mount_again(&self) {
        self.must("umount disk");
        let mounted = self.mount();
        assert!(mounted.status.success(), "{}", text(&mounted.stderr));
    }

    /// As seen from outside, where the server runs.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}/{name}", self.holder.id(), self.dir.path().display()))
    }

    /// From now on nothing can be written where nothing was.
    fn fails(&self) {
        let full = self.sh("cat /dev/zero > pool/filler");
        assert!(text(&full.stderr).contains("No space left"), "{}", text(&full.stderr));
    }

    /// Makes a file lie behind all that is there, and tells where it begins: all room is taken by pieces of its length, and the last one is its own.
    fn puts_at_the_end(&self, file: &str) -> u64 {
        let told = self.must(&format!(
            "echo 0 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE disk))/reserved_clusters
             length=$(stat -c %s {file}) && mkdir disk/pieces && n=0
             while fallocate -l $length disk/pieces/$n 2>/dev/null; do n=$((n + 1)); done
             rm -f disk/pieces/$n && sync -f disk
             filefrag -b1 -e disk/pieces/* $(find disk/data -type f -size +0) > pool/extents
             awk -F '[ :.]+' '/^File size of/ {{ sub(/^File size of /, \"\"); sub(/ is .*/, \"\"); file = $0 }}
               /^ *[0-9]+: / {{ count[file]++; if ($5 > begins[file]) begins[file] = $5 }}
               END {{ for (file in count) if (count[file] == 1 || file !~ /pieces/) print begins[file], file }}' pool/extents |
               sort -n > pool/begins
             set -- $(tail -n 1 pool/begins)
             case $2 in disk/pieces/*) ;; *) tail pool/begins pool/extents >&2; exit 1 ;; esac
             dd if={file} of=$2 conv=notrunc status=none && mv $2 {file} && rm -r disk/pieces pool/extents pool/begins
             umount disk && mount -o loop pool/image disk && echo $1"
        ));
        told.trim().parse().unwrap_or_else(|_| panic!("where it begins: {told:?}"))
    }

    /// The device has no more than so many bytes. It knows that it has not: what is behind cannot be written either, and is not made longer so.
    fn ends_at(&self, bytes: u64) {
        self.must(&format!("truncate -s {bytes} pool/image && losetup --set-capacity $(findmnt -no SOURCE disk)"));
    }

    fn has_room_again(&self) {
        self.must("rm pool/filler");
    }

    fn serve(&self, settings: &[&str]) -> Served {
        // Its own caution aside, and the log grows with each commit.
        let own = ["engine.read_only_below_free_bytes=0", "store.cache_bytes=0", "store.log_room_bytes=0"];
        let from_the_disk = ["store.kept_bytes_max=0", "store.inline_bytes_max=0", "metrics.listen=127.0.0.1:0"];
        let settings = [&own[..], &from_the_disk, settings].concat();
        Served::start_by(program(), &self.path("disk/data"), "127.0.0.1:0", &settings)
    }
}

/// With the tools of file systems, which not everybody's has.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

impl Drop for Device {
    fn drop(&mut self) {
        // With the name space its mounts go, and with them the loop device.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged(Vec<Cell>);

fn data(n: usize) -> Vec<u8> {
    // Nothing that a file system could leave out.
    (0..EACH).map(|at| (at.wrapping_mul(31) ^ n) as u8 | 1).collect()
}

impl Acknowledged {
    async fn one(&mut self, db: &Db) -> Result<(), Error> {
        let cell = Cell::object(db.new_oid().await?);
        put(db, &cell, &data(self.0.len())).await?;
        self.0.push(cell);
        Ok(())
    }

    async fn are_there(&self, db: &Db) {
        assert_eq!(self.are_read(db).await, self.0.len());
    }

    /// Or the index, which is on the same device, has failed as well: who needs that is told to come back, and the status tells why.
    async fn are_there_or_the_index_is_down(&self, served: &Served) {
        let impatient = Options::new().cache_bytes(0).request_timeout(Duration::from_secs(2));
        let read = self.are_read(&Db::connect_with(&served.address, impatient).await.expect("connects")).await;
        println!("{read} of {} are read", self.0.len());
        // Its code is 1, since the store is poisoned.
        let told = served.run(&["--json", "status"]);
        let status: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{}", text(&told.stderr)));
        assert!(read == self.0.len() || status["index_down"].is_string(), "{status}");
    }

    /// How many are, until one is told to come back.
    async fn are_read(&self, db: &Db) -> usize {
        let view = db.transaction().fresh().begin().await.expect("begins");
        for (n, cell) in self.0.iter().enumerate() {
            match view.get(cell).await {
                Ok(record) => assert!(record.expect("there").data == data(n), "{cell}"),
                Err(Error::Fault(fault)) if fault.kind == FaultKind::Busy => return n,
                Err(error) => panic!("{cell}: {error}"),
            }
        }
        self.0.len()
    }
}

async fn connect(served: &Served) -> Db {
    Db::connect_with(&served.address, Options::new().cache_bytes(0)).await.expect("connects")
}

fn check(served: &Served) -> (Option<i32>, String) {
    let limits = ["--warn", "free_percent=", "--crit", "free_percent=", "--warn", "live_p99_ms="];
    let told = served.run(&[&["check"], &limits[..]].concat());
    (told.status.code(), text(&told.stdout))
}

fn verified(data: &Path) {
    let told = program().args(["verify", "--data"]).arg(data).output().expect("runs");
    assert_eq!(told.status.code(), Some(0), "{}{}", text(&told.stdout), text(&told.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_cannot_write_back_poisons_and_nothing_acknowledged_is_lost() {
    for errors in ["continue", "remount-ro"] {
        let Some(device) = Device::new(errors) else { return };
        let served = device.serve(&[]);
        let db = connect(&served).await;
        let mut acknowledged = Acknowledged::default();
        for _ in 0..20 {
            acknowledged.one(&db).await.expect("commits");
        }
        device.fails();
        let (oid, begun) = (db.new_oid().await.expect("an oid"), acknowledged.0.len());
        // From here on nobody knows which of them is the one.
        let (cell, key, since, unknown) = loop {
            let n = acknowledged.0.len();
            let cell = Cell::entry(oid, n.to_string());
            let tx = db.begin().await.expect("begins");
            tx.put(cell.clone(), &Record::new("Thing", 1, data(n))).expect("encodes");
            let (key, since) = (db.new_commit_key(), db.position());
            match tx.commit_as(key, since).await {
                Ok(_) => acknowledged.0.push(cell),
                Err(error) => break (cell, key, since, error),
            }
        };
        let more = acknowledged.0.len() - begun;
        println!("{errors}: {more} more commits, then {unknown}");
        assert!(matches!(unknown, Error::OutcomeUnknown { .. } | Error::Fault(_)), "{unknown}");
        let refused = fault(put(&db, &cell, b"x").await.expect_err("nothing is taken any more"));
        assert_eq!(refused.kind, FaultKind::Poisoned, "{refused}");
        let (code, told) = check(&served);
        println!("{errors}: {told}");
        assert!(code == Some(2) && told.contains("poisoned: syncing the log"), "{told}");
        acknowledged.are_there_or_the_index_is_down(&served).await;
        // Room alone mends nothing: what was not written back is forgotten.
        device.has_room_again();
        assert_eq!(fault(put(&db, &cell, b"x").await.expect_err("still")).kind, FaultKind::Poisoned);
        served.kill();
        device.mount_again();
        verified(&device.path("disk/data"));
        let served = device.serve(&[]);
        let db = connect(&served).await;
        acknowledged.are_there(&db).await;
        let tx = db.begin().await.expect("begins");
        tx.put(cell.clone(), &Record::new("Thing", 1, data(acknowledged.0.len()))).expect("encodes");
        tx.commit_as(key, since).await.expect("is told, or done");
        acknowledged.0.push(cell);
        acknowledged.one(&db).await.expect("goes on");
        acknowledged.are_there(&db).await;
        assert_eq!(check(&served).0, Some(0));
        drop(served);
        verified(&device.path("disk/data"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_makes_itself_read_only_is_told_and_after_a_mount_all_is_there() {
    let Some(device) = Device::new("remount-ro") else { return };
    let served = device.serve(&[]);
    let db = connect(&served).await;
    let mut acknowledged = Acknowledged::default();
    for _ in 0..20 {
        acknowledged.one(&db).await.expect("commits");
    }
    // As when it finds something wrong in itself.
    device.must("echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE disk))/trigger_fs_error");
    let options = device.must("findmnt -no OPTIONS disk");
    assert!(options.trim().split(',').any(|option| option == "ro" || option == "emergency_ro"), "{options}");
    let refused = loop {
        if let Err(error) = acknowledged.one(&db).await {
            break error;
        }
    };
    println!("{refused}");
    let (code, told) = check(&served);
    println!("{told}");
    assert!(code == Some(2) && told.contains("poisoned: ") && told.contains("Read-only file system"), "{told}");
    acknowledged.are_there_or_the_index_is_down(&served).await;
    assert!(refused.remedy() != Remedy::Retry, "{refused}");
    served.kill();
    // Started on it as it is, it says what is wrong.
    let again = program().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(device.path("disk/data")).output();
    let again = again.expect("runs");
    assert!(!again.status.success() && text(&again.stderr).contains("ead-only"), "{}", text(&again.stderr));
    device.mount_again();
    let served = device.serve(&[]);
    let db = connect(&served).await;
    acknowledged.are_there(&db).await;
    acknowledged.one(&db).await.expect("goes on");
    drop(served);
    verified(&device.path("disk/data"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_cannot_read_is_told_with_its_place_and_all_else_goes_on() {
    let Some(device) = Device::new("continue") else { return };
    let settings = ["store.segment_bytes_max=1000000"];
    let served = device.serve(&settings);
    let db = connect(&served).await;
    let mut acknowledged = Acknowledged::default();
    for _ in 0..100 {
        acknowledged.one(&db).await.expect("commits");
    }
    assert_eq!(served.stop(), Some(0));
    let segment = segment_in_the_middle(&device.path("disk/data/log"));
    let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
    let begins = device.puts_at_the_end(&format!("disk/data/log/{name}"));
    let served = device.serve(&settings);
    let db = connect(&served).await;
    device.ends_at(begins);
    let view = db.transaction().fresh().begin().await.expect("begins");
    let (mut there, mut failed) = (0, Vec::new());
    for (n, cell) in acknowledged.0.iter().enumerate() {
        match view.get(cell).await {
            Ok(record) => {
                assert!(record.expect("there").data == data(n), "{cell}");
                there += 1;
            }
            Err(error) => failed.push(fault(error)),
        }
    }
    println!("{there} are read, {} are not: {}", failed.len(), failed.first().expect("some cannot be read"));
    assert!(there > 50);
    for failed in &failed {
        assert!(
            failed.message.starts_with("reading segment") && failed.message.contains("look at the disk"),
            "{failed}"
        );
    }
    let (code, told) = check(&served);
    assert!(code == Some(1) && told.contains("the disk has failed") && told.contains(&name), "{told}");
    let verified = served.run(&["verify"]);
    assert!(!verified.status.success(), "{}", text(&verified.stdout));
    println!("{}{}", text(&verified.stdout), text(&verified.stderr));
    assert!((text(&verified.stdout) + &text(&verified.stderr)).contains("Input/output error"));
    acknowledged.one(&db).await.expect("commits go on");
    let image = device.path("pool/image").metadata().expect("is there").len();
    assert_eq!(image, begins, "what is written behind the cut would be zeros in front of it");
}

fn segment_in_the_middle(log: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> = std::fs::read_dir(log)
        .expect("lists")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.metadata().is_ok_and(|metadata| metadata.size() > 500_000))
        .collect();
    all.sort();
    all.swap_remove(all.len() / 2)
}
