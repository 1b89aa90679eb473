//! Two releases side by side: the second one splits a page's author into name and mail. While it is rolled out, the first one runs as a
//! *bridge*: it reads what the second has written, and goes on writing its own shape.
//!
//! ```text
//!   release 1, a bridge   r1::Page   newer = r2::Page: reads both, writes version 1, keeps the indexes of both right
//!   release 2             r2::Page   from = r1::Page: reads both, writes version 2; keeps `author` until no bridge is left
//!   afterwards            an evolve to version 2 with a gate; then release 3 may drop `author`, and the type of release 1
//! ```
//!
//! `cargo run -p zeolite-client --example bridge -- 127.0.0.1:7878`

#![expect(clippy::print_stderr, reason = "a program that says what it has done")]

use zeolite_client::evolve::{self, NewJob, Plan, Settings, Worker};
use zeolite_client::{Db, Error, Ref};

/// The first release. It becomes a bridge by one word, `newer`, and the way back.
pub(crate) mod r1 {
    use super::r2;
    use serde::{Deserialize, Serialize};
    use zeolite_client::Persistent;

    #[derive(Serialize, Deserialize, Persistent)]
    #[persistent(class = "press.Page", newer = r2::Page)]
    pub(crate) struct Page {
        #[persistent(unique)]
        pub(crate) title: String,
        #[persistent(index)]
        pub(crate) author: String,
    }

    impl From<r2::Page> for Page {
        fn from(new: r2::Page) -> Page {
            Page { author: new.author(), title: new.title }
        }
    }
}

/// The second release.
pub(crate) mod r2 {
    use super::r1;
    use serde::{Deserialize, Serialize};
    use zeolite_client::Persistent;

    #[derive(Serialize, Deserialize, Persistent)]
    #[persistent(class = "press.Page", version = 2, from = r1::Page)]
    // The bridge looks pages up by it: kept from the new fields, until no bridge is left.
    #[persistent(index(name = "author", key = String, by = Page::authors))]
    pub(crate) struct Page {
        #[persistent(unique)]
        pub(crate) title: String,
        #[persistent(index)]
        pub(crate) name: String,
        #[persistent(index)]
        pub(crate) mail: String,
    }

    impl Page {
        /// As the first release has it.
        pub(crate) fn author(&self) -> String {
            format!("{} <{}>", self.name, self.mail)
        }

        fn authors(&self) -> [String; 1] {
            [self.author()]
        }
    }

    impl From<r1::Page> for Page {
        fn from(old: r1::Page) -> Page {
            let (name, mail) = old.author.split_once(" <").unwrap_or((&old.author, ""));
            Page { name: name.into(), mail: mail.trim_end_matches('>').into(), title: old.title }
        }
    }
}

/// Both releases write one page in turn, then an evolve ends the overlap. Gives what the bridge and the second release have found.
pub(crate) async fn run(url: &str, settings: Settings) -> Result<Vec<String>, Error> {
    let db = Db::connect(url).await?;
    let mut found = Vec::new();
    let page = r1::Page { title: "Home".into(), author: "Ada <ada@x.org>".into() };
    let home = db.run(async |tx| tx.create(&page).await).await?;
    let new = Ref::<r2::Page>::new(home.oid());
    db.run(async |tx| tx.update(new, |page| page.name = "Countess".into()).await).await?;
    // The bridge finds by its own index what the second release has written.
    let hers = r1::Page::BY_AUTHOR.load(&db.now(), "Countess <ada@x.org>").await?;
    found.extend(hers.into_iter().map(|(_, page)| format!("the bridge: {} by {}", page.title, page.author)));
    // And takes out what that one has entered under the former name and mail.
    db.run(async |tx| tx.update(home, |page| page.author = "Bob <bob@x.org>".into()).await).await?;
    found.extend(r2::Page::BY_MAIL.find(&db.now(), "ada@x.org").await?.iter().map(|at| format!("astray: {at:?}")));

    let mut new = NewJob::new("pages-2", Plan::below("press.Page", 2));
    (new.gate, new.settings) = (true, settings);
    let job = evolve::plan(&db, new).await?;
    Worker::new(&job).run(evolve::upgrade::<r2::Page>()).await?;
    job.ensure_done().await?;
    db.newest().await?;
    let bobs = r2::Page::BY_MAIL.load(&db.now(), "bob@x.org").await?;
    found.extend(bobs.into_iter().map(|(_, page)| format!("release 2: {} by {}", page.title, page.name)));
    found.extend(evolve::verify_indexes::<r2::Page>(&db).await?.problems);
    Ok(found)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7878".into());
    for line in run(&url, Settings::default()).await? {
        eprintln!("{line}");
    }
    Ok(())
}
