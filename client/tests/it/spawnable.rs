//! Whatever the client does can run in a spawned task: this compiles, which is the test.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use zeolite_client::collections::{Index, Map};
use zeolite_client::{Cell, Db, Error, Oid, Persistent, Range, Record, Ref, Tx};

fn spawnable<F: Future + Send + 'static>(future: F) {
    drop(future);
}

#[derive(Serialize, Deserialize)]
struct Page {
    title: String,
    next: Option<Ref<Page>>,
}

impl Persistent for Page {
    const CLASS: &str = "Page";
}

async fn read_all(tx: &Tx, names: &[String]) -> Result<usize, Error> {
    let mut read = 0;
    for name in names {
        let cell = Cell::entry(Oid::ROOT, name.clone());
        read += usize::from(tx.get(&cell).await?.is_some());
        tx.put(cell, &Record::new("Name", 1, name.clone()))?;
        let mut scan = tx.scan(Oid::ROOT, Range::all());
        while let Some(entry) = scan.next().await? {
            read += entry.key.len();
        }
    }
    Ok(read)
}

#[expect(dead_code, reason = "only has to compile")]
fn everything_is_send(db: Db) {
    let other = db.clone();
    spawnable(async move {
        let names = vec![String::from("a"), String::from("b")];
        // An async closure that borrows from its surroundings.
        let read = other.run(async |tx| read_all(&tx, &names).await).await?;
        // A closure that owns what it needs.
        let names = &names;
        let again = other.run(|tx| async move { read_all(&tx, names).await }).await?;
        let many = other.transaction().serializable().run(async |tx| {
            let cells = [Cell::object(Oid(1)), Cell::object(Oid(2))];
            let (one, two) = tokio::join!(tx.get(&cells[0]), tx.get(&cells[1]));
            Ok(tx.get_many(&cells).await?.len() + usize::from(one?.is_some() && two?.is_some()))
        });
        Ok::<usize, Error>(read + again + many.await?)
    });
    let typed = db.clone();
    spawnable(async move {
        let seen = AtomicU64::new(0);
        let work = typed.run(async |tx| {
            let words: Map<String, u64> = tx.root_or_create("words").await?;
            let pages: Index<String, Page> = tx.root_or_create("pages").await?;
            words.insert(&tx, "a", &1)?;
            let mut range = words.range(&tx, "a".to_owned()..);
            while let Some((_, value)) = range.next().await? {
                seen.fetch_add(value, Ordering::Relaxed);
            }
            let page = tx.create(&Page { title: "a".into(), next: None }).await?;
            pages.insert(&tx, "a", page)?;
            let found = pages.find(&tx, "a").await?;
            tx.update(page, |page| page.next = found.first().copied()).await?;
            tx.load_many(&found).await
        });
        work.await
    });
    spawnable(async move {
        let pin = db.pin().await?;
        let view = pin.view();
        view.prefetch(&[Cell::object(Oid(1))]).await?;
        let mut log = db.admin().log(Some(view.snapshot()), Some(view.snapshot()), None, false).await?;
        log.next().await
    });
}
