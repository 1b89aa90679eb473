//! A wiki: pages with two indexes that the library keeps, in the second version of their class. Pages of the first version are upgraded as
//! they are read; `evolve_worker` brings all of them over.
//!
//! `cargo run -p zeolite-client --example wiki -- 127.0.0.1:7878`

#![expect(clippy::print_stderr, reason = "a program that says what it has done")]

use serde::{Deserialize, Serialize};
use zeolite_client::{Db, Error, Persistent, Ref};

/// As the first release had it. It stays as long as there may be records of it.
#[derive(Serialize, Deserialize, Persistent)]
#[persistent(class = "wiki.Page", shape = "4f54f253")]
pub(crate) struct PageV1 {
    pub(crate) title: String,
    pub(crate) text: String,
}

/// As it is now: found by its title, and by its author, who is new.
#[derive(Serialize, Deserialize, Persistent, Debug)]
#[persistent(class = "wiki.Page", version = 2, from = PageV1, shape = "f0f9bf17")]
pub(crate) struct Page {
    #[persistent(unique)]
    pub(crate) title: String,
    #[persistent(index)]
    pub(crate) author: String,
    pub(crate) text: String,
}

impl From<PageV1> for Page {
    fn from(old: PageV1) -> Page {
        Page { title: old.title, author: "nobody".into(), text: old.text }
    }
}

/// Writes a page, new or not.
pub(crate) async fn save(db: &Db, page: Page) -> Result<Ref<Page>, Error> {
    db.run(async |tx| match Page::BY_TITLE.find(&tx, &page.title).await? {
        Some(there) => tx.set(there, &page).map(|()| there),
        None => tx.create(&page).await,
    })
    .await
}

/// Another title. One that is taken is an error that says so.
pub(crate) async fn rename(db: &Db, old: &str, new: &str) -> Result<bool, Error> {
    db.run(async |tx| {
        let Some(page) = Page::BY_TITLE.find(&tx, old).await? else { return Ok(false) };
        tx.update(page, |page| page.title = new.into()).await?;
        Ok(true)
    })
    .await
}

/// The titles of an author's pages.
pub(crate) async fn titles_of(db: &Db, author: &str) -> Result<Vec<String>, Error> {
    let pages = Page::BY_AUTHOR.load(&db.now(), author).await?;
    Ok(pages.into_iter().map(|(_, page)| page.title).collect())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7878".into());
    let db = Db::connect(address).await?;
    save(&db, Page { title: "Home".into(), author: "ada".into(), text: "Welcome.".into() }).await?;
    save(&db, Page { title: "News".into(), author: "ada".into(), text: "None.".into() }).await?;
    match rename(&db, "News", "Home").await {
        Err(error @ Error::UniqueTaken { .. }) => eprintln!("{error}"),
        renamed => drop(renamed?),
    }
    eprintln!("pages of ada: {}", titles_of(&db, "ada").await?.join(", "));
    Ok(())
}
