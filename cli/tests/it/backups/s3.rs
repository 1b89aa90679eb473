//! Backups in an object store: s3s-fs, a server of its own that speaks S3, on loopback.

use super::scene::{Scene, files, log};
use crate::program::{program, text};
use crate::served::Served;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::path::Path;
use std::process::Output;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zeolite_client::Db;

/// An object store on a directory, with one bucket.
struct Bucket {
    url: String,
    serving: JoinHandle<()>,
}

impl Bucket {
    async fn start(root: &Path) -> Bucket {
        std::fs::create_dir_all(root.join("bucket")).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root).expect("a store"));
        builder.set_auth(SimpleAuth::from_single("amy", "her-secret"));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
                tokio::spawn(async { drop(connection.await) });
            }
        });
        Bucket { url, serving }
    }

    /// A command with this secret.
    fn run(&self, secret: &str, args: &[&str]) -> Output {
        let mut command = program();
        command.env("AWS_ACCESS_KEY_ID", "amy").env("AWS_SECRET_ACCESS_KEY", secret);
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
    let bucket = Bucket::start(&root).await;
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
