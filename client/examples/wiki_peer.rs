//! A program beside another one, in any language, on the same database: a wiki's pages, with every collection. Commands come as lines,
//! each is a transaction, and the answer is a line of JSON. The tests of the Python package hold their objects against it.
//!
//! ```text
//!   add TITLE BODY      a page, under its title          show TITLE          all of a page
//!   hit TITLE N         its counter                      remark TITLE TEXT   its list
//!   size KEY N          a map of numbers; `size KEY` takes it out
//!   tag WORD, untag WORD                                 a set
//!   by AUTHOR TITLE     an index                         push N, take N      a queue of numbers
//!   note SLUG AUTHOR TEXT                                an object with indexes that are kept with it
//!   edit SLUG NEW AUTHOR TEXT, unnote SLUG               the same, changed or removed; `notes AUTHOR`, `word WORD`
//!   verify, verify cards                                 whether the indexes of notes, or cards, hold
//!   card1 CODE SIZE COLOUR NAME, card ...                an object whose indexes change with its version; `recard`, `uncard CODE`, `cards`
//!   stock N             a number from 0 to 100 that begins at 10        offer N      to a greatest and a least number
//!   label WORD, unlabel WORD, sign WORD N                a small set, a small list of pairs; `shop` shows these
//!   photo TITLE TEXT    an object that names a blob; `photo TITLE` shows it
//!   all                 all collections
//! ```
//!
//! `cargo run -p zeolite-client --example wiki_peer -- 127.0.0.1:7878`

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use zeolite_client::collections::{
    BoundedCounter, Counter, Create, Greatest, Index, Least, List, Map, Queue, Set, SmallList, SmallSet, UniqueIndex,
};
use zeolite_client::evolve::verify_indexes;
use zeolite_client::{BlobId, Cell, Db, Error, Persistent, Record, Ref, Tx};
use zeolite_proto::resolvers::bounded::Bounded;

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Page", version = 2, codec = "cbor")]
struct Page {
    title: String,
    body: String,
    parent: Option<Ref<Page>>,
    /// A point in time as its text.
    written: String,
    rating: f64,
    is_public: bool,
    tags: Vec<String>,
    sizes: BTreeMap<String, i64>,
    place: Place,
    hits: Counter,
    remarks: List<String>,
}

#[derive(Serialize, Deserialize)]
struct Place {
    shelf: String,
    row: u16,
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Note", codec = "cbor", index(name = "words", key = String, by = Note::words))]
struct Note {
    #[persistent(unique)]
    slug: String,
    #[persistent(index)]
    author: String,
    text: String,
}

impl Note {
    fn new(slug: &str, author: &str, text: &str) -> Note {
        Note { slug: slug.to_owned(), author: author.to_owned(), text: text.to_owned() }
    }

    fn words(&self) -> Vec<String> {
        self.text.split('-').filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    }
}

async fn note(tx: &Tx, words: &[&str]) -> Result<Value, Error> {
    let found = async |slug: &str| {
        let found = Note::BY_SLUG.find(tx, slug).await?;
        found.ok_or_else(|| Error::app(format!("there is no note {slug}")))
    };
    let slugs = |notes: Vec<(Ref<Note>, Note)>| json!(notes.into_iter().map(|(_, note)| note.slug).collect::<Vec<_>>());
    match words {
        ["note", slug, author, text] => drop(tx.create(&Note::new(slug, author, text)).await?),
        ["edit", slug, new, author, text] => tx.set(found(slug).await?, &Note::new(new, author, text))?,
        ["unnote", slug] => tx.remove(found(slug).await?)?,
        ["notes", author] => return Ok(slugs(Note::BY_AUTHOR.load(tx, *author).await?)),
        ["word", word] => return Ok(slugs(Note::BY_WORDS.load(tx, *word).await?)),
        _ => return Err(Error::app(format!("no such command: {words:?}"))),
    }
    Ok(json!(true))
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Card", codec = "cbor")]
struct Card1 {
    #[persistent(unique)]
    code: String,
    #[persistent(index)]
    size: String,
    #[persistent(index)]
    colour: String,
    #[persistent(index)]
    name: String,
}

/// One index is dropped, one has other keys, one is unique now, and one is not any more.
#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Card", version = 2, codec = "cbor", from = Card1)]
struct Card {
    #[persistent(index)]
    code: String,
    #[persistent(index)]
    size: u64,
    colour: String,
    #[persistent(unique)]
    name: String,
}

impl From<Card1> for Card {
    fn from(Card1 { code, size, colour, name }: Card1) -> Card {
        Card { code, size: size.parse().unwrap_or(0), colour, name }
    }
}

async fn card(tx: &Tx, words: &[&str]) -> Result<Value, Error> {
    let own = |text: &str| text.to_owned();
    let found = async |name: &str| {
        let found = Card::BY_NAME.find(tx, name).await?;
        found.ok_or_else(|| Error::app(format!("there is no card {name}")))
    };
    let size = |size: &str| size.parse().map_err(Error::app);
    match words {
        ["card1", code, size, colour, name] => {
            let card = Card1 { code: own(code), size: own(size), colour: own(colour), name: own(name) };
            tx.create(&card).await?;
        }
        ["card", code, big, colour, name] => {
            let card = Card { code: own(code), size: size(big)?, colour: own(colour), name: own(name) };
            tx.create(&card).await?;
        }
        ["recard", name, code, big] => {
            let (code, size) = (own(code), size(big)?);
            tx.update(found(name).await?, |card| (card.code, card.size) = (code, size)).await?;
        }
        ["uncard", name] => tx.remove(found(name).await?)?,
        _ => {
            let cards = Card::BY_SIZE.range(tx, ..).collect().await?;
            return Ok(json!(cards.into_iter().map(|(size, _)| size).collect::<Vec<u64>>()));
        }
    }
    Ok(json!(true))
}

#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Photo", codec = "cbor")]
struct Photo {
    title: String,
    image: BlobId,
}

/// What is kept in one record each.
struct Shop {
    stock: BoundedCounter,
    high: Greatest,
    low: Least,
    labels: SmallSet<String>,
    signs: SmallList<(String, i64)>,
}

impl Shop {
    async fn open(tx: &Tx) -> Result<Shop, Error> {
        let stock = match tx.root("stock").await? {
            Some(stock) => stock,
            None => {
                let made = BoundedCounter::create(tx, Bounded { value: 10, low: 0, high: 100 }).await?;
                tx.set_root("stock", &made).await?;
                made
            }
        };
        Ok(Shop {
            stock,
            high: tx.root_or_create("high").await?,
            low: tx.root_or_create("low").await?,
            labels: tx.root_or_create("labels").await?,
            signs: tx.root_or_create("signs").await?,
        })
    }

    async fn show(&self, tx: &Tx) -> Result<Value, Error> {
        let Bounded { value, low, high } = self.stock.get(tx).await?;
        Ok(json!({
            "stock": [value, low, high], "high": self.high.get(tx).await?, "low": self.low.get(tx).await?,
            "labels": self.labels.get(tx).await?, "signs": self.signs.get(tx).await?,
        }))
    }

    async fn change(&self, tx: &Tx, words: &[&str]) -> Result<Value, Error> {
        let number = |text: &str| text.parse::<i64>().map_err(Error::app);
        match words {
            ["stock", by] => self.stock.add(tx, number(by)?)?,
            ["offer", value] => {
                self.high.offer(tx, number(value)?)?;
                self.low.offer(tx, number(value)?)?;
            }
            ["label", word] => self.labels.insert(tx, &(*word).to_owned())?,
            ["unlabel", word] => self.labels.remove(tx, &(*word).to_owned())?,
            ["sign", word, value] => self.signs.push(tx, &((*word).to_owned(), number(value)?))?,
            _ => return self.show(tx).await,
        }
        Ok(json!(true))
    }
}

/// A record that names a blob is put with its header: the derive knows references only.
async fn photo(tx: &Tx, words: &[&str]) -> Result<Value, Error> {
    let photos: Map<String, Ref<Photo>> = tx.root_or_create("photos").await?;
    if let ["photo", title, text] = words {
        let image = tx.db().put_blob(text.as_bytes()).await?;
        let made = tx.create(&Photo { title: (*title).to_owned(), image }).await?;
        let cell = Cell::object(made.oid());
        let record = tx.get(&cell).await?.unwrap_or_default();
        tx.put(cell, &Record { blobs: vec![image], ..record })?;
        photos.insert(tx, *title, &made)?;
        return Ok(json!(true));
    }
    let found = photos.get(tx, words[1]).await?.ok_or_else(|| Error::app("there is no such photo"))?;
    let (photo, named) = (tx.load(found).await?, tx.blobs(&Cell::object(found.oid())).await?);
    let mut texts = Vec::new();
    for blob in &named {
        texts.push(String::from_utf8_lossy(&blob.bytes(0..1000).await?).into_owned());
    }
    Ok(json!({ "title": photo.title, "image": photo.image, "named": named.len(), "texts": texts }))
}

struct Wiki {
    titles: UniqueIndex<String, Ref<Page>>,
    sizes: Map<String, i64>,
    tags: Set<String>,
    authors: Index<String, Page>,
    jobs: Queue<i64>,
    edits: Counter,
}

impl Wiki {
    async fn open(tx: &Tx) -> Result<Wiki, Error> {
        Ok(Wiki {
            titles: tx.root_or_create("titles").await?,
            sizes: tx.root_or_create("sizes").await?,
            tags: tx.root_or_create("tags").await?,
            authors: tx.root_or_create("authors").await?,
            jobs: tx.root_or_create("jobs").await?,
            edits: tx.root_or_create("edits").await?,
        })
    }

    async fn page(&self, tx: &Tx, title: &str) -> Result<(Ref<Page>, Page), Error> {
        let found = self.titles.get(tx, title).await?;
        let page = found.ok_or_else(|| Error::app(format!("there is no page {title}")))?;
        Ok((page, tx.load(page).await?))
    }

    async fn add(&self, tx: &Tx, title: &str, body: &str) -> Result<Value, Error> {
        let page = Page {
            title: title.to_owned(),
            body: body.to_owned(),
            parent: None,
            written: "2026-11-30T12:00:00.25Z".to_owned(),
            rating: 4.0,
            is_public: true,
            tags: vec!["rust".to_owned()],
            sizes: [("a".to_owned(), -1)].into(),
            place: Place { shelf: "poems".to_owned(), row: 3 },
            hits: Counter::create(tx).await?,
            remarks: List::create(tx).await?,
        };
        let made = tx.create(&page).await?;
        Ok(json!(self.titles.insert(tx, title, &made).await?.is_new()))
    }

    async fn show(&self, tx: &Tx, title: &str) -> Result<Value, Error> {
        let (_, page) = self.page(tx, title).await?;
        let parent = match page.parent {
            Some(parent) => Some(tx.load(parent).await?.title),
            None => None,
        };
        let remarks = page.remarks.iter(tx).collect().await?.into_iter().map(|item| item.value);
        Ok(json!({
            "title": page.title, "body": page.body, "parent": parent, "written": page.written, "rating": page.rating,
            "is_public": page.is_public, "tags": page.tags, "sizes": page.sizes, "shelf": page.place.shelf,
            "row": page.place.row, "hits": page.hits.get(tx).await?, "remarks": remarks.collect::<Vec<String>>(),
        }))
    }

    async fn all(&self, tx: &Tx) -> Result<Value, Error> {
        let mut authors = Vec::new();
        for (author, page) in self.authors.iter(tx).collect().await? {
            authors.push((author, tx.load(page).await?.title));
        }
        let titles = self.titles.iter(tx).collect().await?.into_iter().map(|(title, _)| title);
        Ok(json!({
            "titles": titles.collect::<Vec<String>>(), "sizes": self.sizes.iter(tx).collect().await?,
            "tags": self.tags.iter(tx).collect().await?, "authors": authors,
            "jobs": self.jobs.peek(tx, 1000).await?.into_iter().map(|item| item.value).collect::<Vec<i64>>(),
            "edits": self.edits.get(tx).await?,
        }))
    }

    async fn change(&self, tx: &Tx, words: &[&str]) -> Result<Value, Error> {
        let number = |text: &str| text.parse::<i64>().map_err(Error::app);
        self.edits.add(tx, 1)?;
        match words {
            ["add", title, body] => return self.add(tx, title, body).await,
            ["hit", title, by] => self.page(tx, title).await?.1.hits.add(tx, number(by)?)?,
            ["remark", title, text] => self.page(tx, title).await?.1.remarks.push(tx, &(*text).to_owned())?,
            ["size", key, value] => self.sizes.insert(tx, *key, &number(value)?)?,
            ["size", key] => self.sizes.remove(tx, *key)?,
            ["tag", word] => self.tags.insert(tx, *word)?,
            ["untag", word] => self.tags.remove(tx, *word)?,
            ["by", author, title] => self.authors.insert(tx, *author, self.page(tx, title).await?.0)?,
            ["push", value] => self.jobs.push(tx, &number(value)?)?,
            ["take", count] => return Ok(json!(self.jobs.take(tx, number(count)?.unsigned_abs()).await?)),
            _ => return Err(Error::app(format!("no such command: {words:?}"))),
        }
        Ok(json!(true))
    }
}

async fn answer(db: &Db, line: &str) -> Result<Value, Error> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if let ["verify", of @ ..] = &words[..] {
        let found = match of {
            [] => verify_indexes::<Note>(db).await?,
            _ => verify_indexes::<Card>(db).await?,
        };
        return Ok(
            json!({ "objects": found.objects, "problems_total": found.problems_total, "problems": found.problems }),
        );
    }
    // What another process was told is committed is there.
    let transaction = db.transaction().fresh();
    transaction
        .run(async |tx| {
            if let ["stock" | "offer" | "label" | "unlabel" | "sign" | "shop", ..] = words[..] {
                return Shop::open(&tx).await?.change(&tx, &words).await;
            }
            if let ["photo", ..] = words[..] {
                return photo(&tx, &words).await;
            }
            if let ["note" | "edit" | "unnote" | "notes" | "word", ..] = words[..] {
                return note(&tx, &words).await;
            }
            if let ["card1" | "card" | "recard" | "uncard" | "cards", ..] = words[..] {
                return card(&tx, &words).await;
            }
            let wiki = Wiki::open(&tx).await?;
            match words[..] {
                ["show", title] => wiki.show(&tx, title).await,
                ["all"] => wiki.all(&tx).await,
                _ => wiki.change(&tx, &words).await,
            }
        })
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("say where the server is: host:port")?;
    let db = Db::connect(address).await?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let told = match answer(&db, &line?).await {
            Ok(value) => value,
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(out, "{told}")?;
        out.flush()?;
    }
    Ok(())
}
