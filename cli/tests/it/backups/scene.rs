//! Owns the scene of the tests of backups: a served database with histories, files and deletions, a place for backups, and what is
//! equal.

use crate::served::{Served, program, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use tempfile::TempDir;
use zeolite_client::revision::LoggedTransaction;
use zeolite_client::{BlobId, Cell, Db, Oid, Record, Tid};
use zeolite_proto::resolvers::entry;

/// A server, and a directory for backups and everything else.
pub(super) struct Scene {
    pub(super) dir: TempDir,
    pub(super) served: Served,
    pub(super) db: Db,
}

impl Scene {
    pub(super) async fn start() -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let served = Served::start(&dir.path().join("data"));
        let db = Db::connect(&served.address).await.expect("connects");
        Scene { dir, served, db }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("plain").to_owned()
    }

    /// `backup` into the directory `backup`, with more arguments; what it says.
    pub(super) fn backup(&self, args: &[&str]) -> Value {
        let to = self.path("backup");
        self.served.json(&[&["backup", &to], args].concat()).remove(0)
    }

    /// `backup` that is left running.
    pub(super) fn begin_backup(&self, args: &[&str]) -> Child {
        let to = self.path("backup");
        let mut command = program();
        command.args(["--server", &self.served.address, "backup", &to]).args(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
    }

    /// A command that asks no server.
    pub(super) fn alone(&self, args: &[&str]) -> Output {
        program().arg("--json").args(args).output().expect("the binary starts")
    }

    /// Restores into a new directory; the database there, served.
    pub(super) fn restored(&self, into: &str, args: &[&str]) -> Served {
        let (from, into) = (self.path("backup"), self.path(into));
        let output = self.alone(&[&["restore", &from, "--into", &into], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let verified = self.alone(&["verify", "--data", &into]);
        assert_eq!(verified.status.code(), Some(0), "{}{}", text(&verified.stdout), text(&verified.stderr));
        Served::start(Path::new(&into))
    }

    /// An object of its own, written so often; kept from the root, so that packs leave it.
    pub(super) async fn object(&self, name: &str, times: usize, bytes: usize) -> Oid {
        let oid = self.db.new_oid().await.expect("an oid");
        let link = entry::record(name.as_bytes(), vec![oid]);
        self.put(Cell::entry(Oid::ROOT, name.to_owned()), link).await;
        for time in 0..times {
            self.put(Cell::object(oid), Record::new("Thing", 1, noise(bytes, time as u64))).await;
        }
        oid
    }

    pub(super) async fn put(&self, cell: Cell, record: Record) -> Tid {
        let put = async |tx: zeolite_client::Tx| tx.put(cell.clone(), &record);
        self.db.transaction().note("amy", "writes").run(put).await.expect("commits");
        self.db.newest().await.expect("told")
    }

    /// An object that names a file.
    pub(super) async fn file(&self, name: &str, bytes: usize) -> BlobId {
        let blob = self.db.put_blob(&noise(bytes, 7)[..]).await.expect("goes up");
        self.put(
            Cell::entry(Oid::ROOT, name.to_owned()),
            Record { blobs: vec![blob], ..Record::new("File", 1, name.to_owned()) },
        )
        .await;
        blob
    }

    pub(super) async fn root(&self) {
        self.put(
            Cell::object(Oid::ROOT),
            zeolite_proto::resolvers::collection::record(zeolite_proto::resolvers::class::MAP),
        )
        .await;
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut noise);
    noise
}

/// The whole log of a database, as it is there; up to a tid.
pub(crate) async fn log(db: &Db, to: Option<Tid>) -> Vec<LoggedTransaction> {
    let pages = db.admin().log_left(None, to, None, true).await.expect("reads");
    let mut all = pages.collect().await.expect("reads");
    all.iter_mut().for_each(|transaction| transaction.packed_to = Tid::NONE);
    all
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut all, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type().expect("told").is_dir() {
                true => dirs.push(entry.path()),
                false => all.push(entry.path()),
            }
        }
    }
    all.sort();
    all
}
