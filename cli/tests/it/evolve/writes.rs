//! Steps in another language that write more than their object: the recipes of the guide, by a program in Python, line by line and in
//! lists.

use super::scene::Scene;
use std::path::Path;
use zeolite_client::collections::{Counter, Index, UniqueIndex};
use zeolite_client::{Cell, Db, Handle, Oid, Persistent, Record, Ref};

/// What the indexes lead to; its data is JSON, which only the program knows.
#[derive(serde::Serialize, serde::Deserialize)]
struct Page;

impl Persistent for Page {
    const CLASS: &str = "wiki.Page";
}

struct Site {
    titles: Index<String, Page>,
    names: UniqueIndex<String, Ref<Page>>,
    count: Counter,
}

/// With each page: its title into the index, its name into the unique one, one for the counter, and its author becomes an object of
/// its own, which it refers to. Pages without a title go.
const STEP: &str = r#"
import base64, json, sys

TITLES, NAMES, COUNT = sys.argv[1:4]

def step(asked):
    page = json.loads(base64.b64decode(asked["data"]))
    if not page["title"]:
        return {"delete": True}
    encoded = lambda value: base64.b64encode(json.dumps(value).encode()).decode()
    author = page.pop("author")
    return {
        "version": 2, "data": encoded(page), "refs": ["$author"],
        "writes": [
            {"create": "$author", "class": "wiki.Author", "data": encoded(author), "refs": [asked["oid"]]},
            {"index": TITLES, "insert": page["title"]},
            {"unique": NAMES, "insert": page["name"]},
            {"add": COUNT, "by": 1},
        ],
    }

for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, list):
        print(json.dumps([{"oid": one["oid"], **step(one)} for one in asked]), flush=True)
    else:
        print(json.dumps({"oid": asked["oid"], **step(asked)}), flush=True)
"#;

async fn pages(db: &Db) -> (Site, Vec<Oid>) {
    let site = db.run(async |tx| {
        let titles = tx.root_or_create("titles").await?;
        let names = tx.root_or_create("names").await?;
        Ok(Site { titles, names, count: tx.root_or_create("count").await? })
    });
    let site = site.await.expect("creates");
    let mut oids = Vec::new();
    let tx = db.begin().await.expect("begins");
    for number in 0..50 {
        let oid = db.new_oid().await.expect("an oid");
        let title = if number == 7 { String::new() } else { format!("title {}", number % 10) };
        let name = if number == 9 { 8 } else { number };
        let data = format!(r#"{{"title": "{title}", "name": "page {name}", "author": "Ada {number}"}}"#);
        tx.put(Cell::object(oid), &Record::new(Page::CLASS, 1, data)).expect("encodes");
        oids.push(oid);
    }
    tx.commit().await.expect("commits");
    (site, oids)
}

async fn check(db: &Db, site: &Site, oids: &[Oid]) {
    db.newest().await.expect("answers");
    let view = db.now();
    assert_eq!(site.count.get(&view).await.expect("reads"), 48, "no title, and a name that is another's");
    for (number, oid) in oids.iter().enumerate() {
        let record: Option<Record> = view.get(&Cell::object(*oid)).await.expect("reads");
        let has = site.names.get(&view, &format!("page {number}")).await.expect("reads");
        match (number, record) {
            (7, record) => assert_eq!((record, has), (None, None)),
            (9, record) => assert_eq!((record.expect("is there").version, has), (1, None), "it is in the quarantine"),
            (_, record) => {
                let record = record.expect("is there");
                assert_eq!((record.version, has), (2, Some(Ref::new(*oid))));
                let author: Record = view.get(&Cell::object(record.refs[0])).await.expect("reads").expect("was made");
                assert_eq!(author.data, format!("\"Ada {number}\""));
                assert_eq!((author.class.as_str(), &author.refs[..]), ("wiki.Author", &[*oid][..]));
            }
        }
    }
    let titled = site.titles.find(&view, "title 3").await.expect("reads");
    let expected: Vec<Ref<Page>> = oids.iter().skip(3).step_by(10).map(|oid| Ref::new(*oid)).collect();
    assert_eq!(titled, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_builds_indexes_counts_and_splits_objects() {
    for batch in [&[][..], &["--batch", "20"]] {
        let scene = Scene::with(0).await;
        let (site, oids) = pages(&scene.db).await;
        let script = scene.script("step.py", STEP);
        let oid = |handle: Oid| handle.to_string();
        let [titles, names, count] = [site.titles.oid(), site.names.oid(), site.count.oid()].map(oid);
        let exec = ["--exec", "python3", path(&script), &titles, &names, &count];
        let plan = ["--class", Page::CLASS, "--below", "2"];
        let tried = [&["plan", "p"][..], &plan, &["--dry-run"], batch, &exec].concat();
        assert!(scene.refused_or_done(&tried).contains("4"), "the dry run works");
        scene.evolve(&[&["plan", "p"][..], &plan].concat());
        scene.refused(1, &[&["run", "p"][..], batch, &exec].concat());
        let shown = scene.evolve(&["show", "p"]);
        let bad = shown["quarantine"].as_array().expect("a list");
        assert_eq!((bad.len(), &bad[0]["cell"]), (1, &oids[9].to_string().into()), "{shown}");
        assert!(bad[0]["error"].as_str().is_some_and(|why| why.contains("is taken in its unique index")), "{shown}");
        check(&scene.db, &site, &oids).await;
        // All that it wrote goes with it.
        scene.evolve(&["cancel", "p"]);
        scene.evolve(&["undo", "p"]);
        scene.db.newest().await.expect("answers");
        let view = scene.db.now();
        assert_eq!(site.count.get(&view).await.expect("reads"), 0);
        assert!(site.titles.iter(&view).collect().await.expect("reads").is_empty());
        assert_eq!(scene.db.admin().kinds().await.expect("tells").of("wiki.Author"), 0);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}
