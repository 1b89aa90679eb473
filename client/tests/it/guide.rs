//! The Rust of the pages, as it stands there: each block of README.md and of docs/*.md is code of this file, which is compiled and run
//! (or of the tests of `zeolite-testing`).
//!
//! Space and a comma before a closing bracket aside, since a block is not as deep as the code here.

use crate::support::{World, within};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokio::net::TcpListener;
use zeolite_client::collections::{Counter, Cursor, Index, Map};
use zeolite_client::evolve::{self, NewJob, Phase, Plan, Stepped, index_holds};
use zeolite_client::typed::{decode_record, encode_record, value_of};
use zeolite_client::{Cell, Db, Error, Key, Oid, Options, Persistent, Ref, Tx, keys};
use zeolite_proto::Registry;
use zeolite_server::server::Server;
use zeolite_server::settings::Settings;

/// The last: what needs a crate above this one.
const OWN: &str = concat!(
    include_str!("guide.rs"),
    include_str!("../../examples/bridge.rs"),
    include_str!("../../../testing/tests/it.rs")
);

/// Code without what depends on how deep it stands.
fn bare(code: &str) -> String {
    let bare: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    bare.replace(",)", ")").replace(",}", "}")
}

/// The blocks of a page that say they are Rust.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced
        .filter_map(|fenced| fenced.split_once('\n'))
        .filter(|(kind, _)| kind.starts_with("rust"))
        .map(|(_, code)| code)
}

#[derive(Serialize, Deserialize)]
struct Old {
    title: String,
}

impl Persistent for Old {
    const CLASS: &str = "wiki.Page";
}

#[derive(Serialize, Deserialize)]
struct Page {
    title: String,
    length: u64,
}

impl Persistent for Page {
    const CLASS: &str = "wiki.Page";
    const VERSION: u32 = 2;

    fn upgrade(version: u32, data: &[u8]) -> Result<Page, Error> {
        let Old { title } = Page::old_shape(version, data)?;
        Ok(Page { length: title.len() as u64, title })
    }
}

// docs/modelling.md, "Change comes".
#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Topic")]
struct TopicV1 {
    name: String,
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Topic", version = 2, from = TopicV1, shape = "54e79f3c")]
struct Topic {
    name: String,
    pinned: bool,
}

impl From<TopicV1> for Topic {
    fn from(old: TopicV1) -> Topic {
        Topic { name: old.name, pinned: false }
    }
}

// docs/modelling.md, "Indexes that are kept for you".
#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Note", index(name = "word", key = String, by = Note::words))]
struct Note {
    #[persistent(unique)]
    slug: String,
    #[persistent(index)]
    author: String,
    text: String,
}

impl Note {
    fn words(&self) -> Vec<String> {
        self.text.split_whitespace().map(str::to_lowercase).collect()
    }
}

#[derive(Key)]
struct Shelf {
    room: String,
    row: u16,
}

/// docs/modelling.md, "Reading a part of a collection".
async fn parts(
    tx: Tx,
    books: Map<Shelf, String>,
    behind: Option<Cursor>,
) -> Result<(Vec<String>, Option<String>), Error> {
    let mut shown = Vec::new();
    let mut page = books.prefix(&tx, "poems").limit(20).after(behind); // keys are (shelf, row); behind: Option<Cursor>
    while let Some((shelf, title)) = page.next().await? {
        shown.push(format!("{}: {title}", shelf.row));
    }
    let next_page = page.cursor().map(|cursor| cursor.to_string()); // and back by `.parse()`
    Ok((shown, next_page))
}

/// docs/modelling.md, "Indexes that are kept for you".
async fn kept(tx: Tx) -> Result<(), Error> {
    let note = Note { slug: "home".into(), author: "ada".into(), text: "Hello world".into() };
    let home = tx.create(&note).await?;
    let hers: Vec<(Ref<Note>, Note)> = Note::BY_AUTHOR.load(&tx, "ada").await?;
    let by_slug: Option<Ref<Note>> = Note::BY_SLUG.find(&tx, "home").await?;
    let with_h = Note::BY_WORD.prefix(&tx, "h").limit(20).collect().await?;
    assert_eq!((hers.len(), hers[0].0, by_slug), (1, home, Some(home)));
    assert_eq!(with_h, [("hello".to_owned(), home)]);
    Ok(())
}

/// README.md, "A client".
async fn client(address: String) -> Result<Db, Error> {
    let db = Db::connect(address).await?; // "127.0.0.1:7878"
    db.run(async |tx| {
        let words: Map<String, String> = tx.root_or_create("words").await?;
        let edits: Counter = tx.root_or_create("edits").await?;
        words.insert(&tx, "zeolite", &"a mineral that exchanges ions".to_owned())?;
        edits.add(&tx, 1) // 64 clients may do this at once: no conflict, the exact sum
    })
    .await?;
    Ok(db)
}

/// docs/evolve.md, "In one minute".
async fn program(address: String) -> Result<Db, Error> {
    let db = Db::connect_with(address, Options::new().role("evolve")).await?;
    let job = evolve::find(&db, "pages-2").await?;
    evolve::Worker::new(&job).tasks(2).run(evolve::upgrade::<Page>()).await?;
    Ok(db)
}

/// docs/evolve.md, "A new index over existing objects".
async fn title_index(job: &evolve::Job, titles: Index<String, Page>) -> Result<evolve::Report, Error> {
    let step = evolve::with("title index", move |tx, cell, old| {
        Box::pin(async move {
            let page: Page = value_of(cell, &old)?;
            titles.insert(tx, &page.title, Ref::new(cell.oid))?; // an Index<String, Page>
            Ok(Stepped::Keep)
        })
    });
    evolve::Worker::new(job).run(step).await
}

/// docs/testing.md, "In Rust".
async fn own_server() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let settings = Settings { data_dir: directory.path().to_owned(), ..Settings::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await?; // 0: any free port
    let server = Server::start(settings, Registry::built_in(), listener).await?;
    let db = Db::connect(format!("http://{}", server.address())).await?;
    db.run(async |tx| tx.root_or_create::<Counter>("visits").await?.add(&tx, 1)).await?;
    drop(db);
    Ok(server.stop().await?)
}

fn job(name: &str, plan: Plan) -> NewJob {
    let mut new = NewJob::new(name, plan);
    // The disk of whoever runs the tests is nobody's business.
    (new.settings.disk_pause_percent, new.settings.disk_stop_percent) = (0.0, 0.0);
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_the_pages_does_what_they_say() {
    let world = World::start().await;
    let db = within(client(world.network.url())).await.expect("runs");
    let words: Map<String, String> = db.now().root("words").await.expect("reads").expect("was made");
    let said = words.get(&db.now(), "zeolite").await.expect("reads");
    assert_eq!(said.as_deref(), Some("a mineral that exchanges ions"));

    let read = db.run(async |tx| {
        let books: Map<Shelf, String> = tx.root_or_create("books").await?;
        for row in 0..30 {
            books.insert(&tx, &Shelf { room: "poems".into(), row }, &format!("volume {row}"))?;
        }
        parts(tx, books, None).await
    });
    let (shown, next) = within(read).await.expect("reads");
    assert_eq!((shown.len(), shown[19].as_str(), next.is_some()), (20, "19: volume 19", true));
    within(db.run(async |tx| kept(tx).await)).await.expect("runs");
    let make = db.run(async |tx| {
        for number in 0..30 {
            tx.create(&Old { title: format!("title {}", number % 10) }).await?;
        }
        tx.root_or_create("titles").await
    });
    let titles: Index<String, Page> = make.await.expect("commits");
    evolve::plan(&db, job("pages-2", Plan::below("wiki.Page", 2))).await.expect("plans");
    let worker = within(program(world.network.url())).await.expect("runs");
    let job_2 = evolve::find(&worker, "pages-2").await.expect("is there");
    assert_eq!(job_2.ensure_done().await.expect("is done").changed, 30);

    let indexed = evolve::plan(&db, job("titles", Plan::class("wiki.Page"))).await.expect("plans");
    let report = within(title_index(&indexed, titles)).await.expect("runs");
    assert_eq!((report.phase, report.counts.kept), (Phase::Done, 30));
    let holds = index_holds(titles, |page: &Page| vec![page.title.clone()]);
    within(own_server()).await.expect("runs");
    let verified = indexed.verify(&[&holds]).await.expect("verifies");
    assert_eq!((verified.objects, verified.problems), (30, Vec::new()));
}

#[test]
fn the_types_of_the_pages_do_what_they_say() {
    let old = encode_record(&TopicV1 { name: "Minerals".into() }).expect("encodes");
    let topic: Topic = decode_record(&Cell::object(Oid(1)), &old).expect("is upgraded");
    assert_eq!((topic.name.as_str(), topic.pinned), ("Minerals", false));
    let shelf = Shelf { room: "east".into(), row: 3 };
    assert_eq!(keys::encode(&shelf), keys::encode(&("east", 3u16)));
    let read: Shelf = keys::decode(&keys::encode(&shelf)).expect("a key");
    assert_eq!((read.room.as_str(), read.row), ("east", 3));
}

#[test]
fn every_block_of_the_pages_is_code_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in the workspace");
    let (mut waiting, mut pages) = (vec![root.join("docs")], vec![root.join("README.md")]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => waiting.push(path),
                false if path.extension().is_some_and(|extension| extension == "md") => pages.push(path),
                false => {}
            }
        }
    }
    let (own, mut found) = (bare(OWN), 0);
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page can be read");
        for block in blocks(&text) {
            found += 1;
            assert!(
                own.contains(&bare(block)),
                "{}: is not in client/tests/it/guide.rs, client/examples/bridge.rs or testing/tests/it.rs:\n{block}",
                page.display()
            );
        }
    }
    assert!(found >= 3, "only {found} blocks were found");
}
