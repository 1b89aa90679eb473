//! Backups in an object store: s3s-fs, a server of its own that speaks S3, on loopback.

use super::scene::{Scene, files, log, noise};
use crate::program::{most_memory, program, text};
use crate::served::Served;
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::task::{JoinHandle, JoinSet};
use zeolite_client::{Cell, Db, Oid, Record};

/// An object store on a directory, with one bucket.
pub(crate) struct Bucket {
    root: PathBuf,
    address: SocketAddr,
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

/// Who may use it.
pub(crate) const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "amy"), ("AWS_SECRET_ACCESS_KEY", "her-secret")];

impl Bucket {
    /// At an address of this machine.
    pub(crate) async fn start(root: &Path, address: impl ToSocketAddrs) -> Bucket {
        std::fs::create_dir_all(root.join("bucket")).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root).expect("a store"));
        let [(_, key), (_, secret)] = CREDENTIALS;
        builder.set_auth(SimpleAuth::from_single(key, secret));
        let service = builder.build();
        let listener = TcpListener::bind(address).await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
                connections.spawn(async { drop(connection.await) });
            }
        });
        Bucket { root: root.to_owned(), address, url: format!("http://{address}"), serving }
    }

    /// Another one in its place, which knows of nothing that was under way.
    pub(crate) async fn start_anew(mut self) -> Bucket {
        self.serving.abort();
        (&mut self.serving).await.expect_err("it is aborted, with its connections");
        Bucket::start(&self.root, self.address).await
    }

    /// A command with this secret.
    fn run(&self, secret: &str, args: &[&str]) -> Output {
        let mut command = program();
        command.envs(CREDENTIALS).env("AWS_SECRET_ACCESS_KEY", secret);
        command.arg("--json").args(args).args(["--endpoint", &self.url]).output().expect("the binary starts")
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn good(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_takes_backups_gives_them_back_and_refuses_who_has_no_right() {
    let scene = Scene::start().await;
    scene.root().await;
    scene.object("thing", 5, 3000).await;
    scene.file("film", 100_000).await;
    let root = scene.dir.path().join("s3");
    let bucket = Bucket::start(&root, "127.0.0.1:0").await;
    let (to, server) = ("s3://bucket/zeolite/site", scene.served.address.as_str());
    let refused = bucket.run("a wrong secret", &["--server", server, "backup", to]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("s3://bucket/zeolite/site"), "{}", text(&refused.stderr));
    let nowhere = bucket.run("her-secret", &["--server", server, "backup", "s3://no-such-bucket/x"]);
    assert_eq!(nowhere.status.code(), Some(5), "{}", text(&nowhere.stderr));

    let key = scene.path("key");
    good(&program().args(["backup", "key", &key]).output().expect("starts"));
    let options = ["--key-file", &key];
    let take = |more: &[&str]| {
        good(&bucket.run("her-secret", &[&["--server", server, "backup", to], &options[..], more].concat()))
    };
    assert!(take(&["--object-bytes", "4096"]).contains("\"full\":true"));
    scene.object("other", 3, 3000).await;
    assert!(take(&["--object-bytes", "4096"]).contains("\"full\":false"));
    let again = |command: &[&str]| good(&bucket.run("her-secret", &[command, &options[..]].concat()));
    assert_eq!(again(&["backup", "list", to]).lines().count(), 2);
    assert!(again(&["backup", "verify", to]).contains("\"good\":true"));
    assert!(again(&["backup", "drill", to]).contains("\"good\":true"));
    let into = scene.path("restored");
    again(&["restore", to, "--into", &into]);
    let copy = Served::start(Path::new(&into));
    let copy = Db::connect(&copy.address).await.expect("connects");
    assert_eq!(log(&copy, None).await, log(&scene.db, None).await);

    // A part of it changes where it lies.
    let object = files(&root).into_iter().find(|file| file.extension().is_some_and(|extension| extension == "log"));
    let object = object.expect("there is an object");
    let mut bytes = std::fs::read(&object).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes).expect("writes");
    let found = bucket.run("her-secret", &[&["backup", "verify", to], &options[..]].concat());
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));

    // A new chain, and what is too old goes.
    let told = take(&["--full", "--keep", "1"]);
    assert!(told.contains("\"removed_backups\":2"), "{told}");
    assert!(again(&["backup", "verify", to]).contains("\"good\":true"));
    assert_eq!(again(&["backup", "list", to]).lines().count(), 1);
}

/// Of 3 GiB, in objects of the usual size, with `ZEOLITE_BLOB_MIB=3072`.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_any_size_goes_there_and_back_in_little_memory() {
    let asked = std::env::var("ZEOLITE_BLOB_MIB").ok().and_then(|mib| mib.parse().ok());
    // So the memory, which a few objects take, is far below the blob.
    let (mib, object_bytes, memory) = asked.map_or((96_u64, "1048576", 92 << 20), |mib| (mib, "16777216", 160 << 20));
    let scene = Scene::start().await;
    scene.root().await;
    let (db, piece) = (&scene.db, bytes::Bytes::from(noise(1 << 20, mib)));
    let film = db.new_blob_id();
    let pieces = (0..mib).map(|_| Ok::<_, std::io::Error>(piece.clone()));
    db.put_blob_of(film, futures_util::stream::iter(pieces)).await.expect("goes up");
    let named = Record { blobs: vec![film], ..Record::new("File", 1, "film") };
    scene.put(Cell::entry(Oid::ROOT, "film"), named).await;
    let bucket = Bucket::start(&scene.dir.path().join("s3"), "127.0.0.1:0").await;
    let (to, into) = ("s3://bucket/site", scene.path("restored"));
    for args in [
        &["--server", &scene.served.address, "backup", to, "--object-bytes", object_bytes][..],
        &["restore", to, "--into", &into],
    ] {
        let begun = std::time::Instant::now();
        let mut command = program();
        command.envs(CREDENTIALS).args(args).args(["--endpoint", &bucket.url]).stdout(Stdio::null());
        let (mut child, mut most) = (command.spawn().expect("starts"), 0);
        let ended = loop {
            match child.try_wait().expect("told") {
                Some(ended) => break ended,
                None => most = most_memory(child.id()).unwrap_or(0).max(most),
            }
            tokio::task::yield_now().await;
        };
        println!("{mib} MiB, {args:?}: {} MiB of memory, {} ms", most >> 20, begun.elapsed().as_millis());
        assert!(ended.success() && most > 0 && most < memory, "{args:?}: {ended}, {most} bytes of memory");
    }
    let server = most_memory(scene.served.pid()).expect("it runs");
    println!("the server: {} MiB", server >> 20);
    assert!(server < 256 << 20, "{server} bytes of memory");
    let restored = Served::start(Path::new(&into));
    let copy = Db::connect(&restored.address).await.expect("connects");
    let mut back = Box::pin(copy.blob(film).read(0..mib << 20));
    let mut length = 0;
    while let Some(part) = back.next().await {
        let part = part.expect("comes");
        let mut rest = &part[..];
        while !rest.is_empty() {
            let expected = &piece[length % piece.len()..];
            let (compared, behind) = rest.split_at(rest.len().min(expected.len()));
            assert!(compared == &expected[..compared.len()], "at {length}");
            (length, rest) = (length + compared.len(), behind);
        }
    }
    assert_eq!(length as u64, mib << 20);
}
