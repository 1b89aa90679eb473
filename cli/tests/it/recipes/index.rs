//! "A new index over existing objects", also a unique one.

use super::process::{Acknowledged, Release, work};
use super::shop::{CLASS, CUSTOMERS, Indexing, Old, Scene, Shop, Whole, last_name};
use zeolite_client::evolve::{self, index_holds, unique_index_holds};
use zeolite_client::{Handle, Ref};

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_beside_code_that_keeps_it() {
    let scene = Scene::open().await;
    let served = &scene.served;
    let mut done = Acknowledged::default();
    let mut old = Release::start(served, "old");
    old.serves(30);
    let mut indexing = Release::start(served, "indexing");
    indexing.serves(30);
    old.serves(10);
    done.edits += old_code_changes_what_is_indexed(&scene).await;
    // What does not keep the indexes is gone before they are cleared of what it left, and that is done before the plan.
    done += old.stop();
    let shop: Shop<Indexing> = scene.db.run(async |tx| Shop::open(&tx).await).await.expect("is there");
    for (clear, index) in [("clear-lasts", shop.lasts.oid()), ("clear-emails", shop.emails.oid())] {
        scene.plan(clear, &["--collection", &index.to_string()]);
        scene.command(0, &["evolve", "run", clear, "--delete"]);
    }
    scene.plan("by-last", &["--class", CLASS]);
    assert_eq!(work(served, "indexing", "by-last"), "done");
    indexing.serves(30);
    done += indexing.stop();
    // On a busy machine a request may have been under way for longer than the job waits for such.
    if !scene.says(&["evolve", "ensure", "by-last"]) {
        assert_eq!(work(served, "indexing", "by-last"), "done");
    }
    scene.command(0, &["evolve", "ensure", "by-last"]);
    verifies(&scene, "by-last").await;
    scene.is_exact::<Indexing>(done.edits, CUSTOMERS as u64 + done.made).await;
}

/// As old code does whenever both are live: the indexes stay as they are. Gives how many edits that was.
async fn old_code_changes_what_is_indexed(scene: &Scene) -> u64 {
    let work = scene.db.transaction().fresh().run(async |tx| {
        let shop: Shop<Old> = Shop::open(&tx).await?;
        let (_, renamed) = shop.lasts.iter(&tx).collect().await?.swap_remove(0);
        let (_, moved) = shop.emails.iter(&tx).collect().await?.swap_remove(0);
        let mut whole: Whole = tx.load(renamed).await?.into();
        shop.names.remove(&tx, &whole.name, renamed)?;
        (whole.name, whole.edits) = ("By Oldcode".into(), whole.edits + 1);
        shop.names.insert(&tx, &whole.name, renamed)?;
        tx.set(renamed, &Old::from(whole))?;
        let mut whole: Whole = tx.load(moved).await?.into();
        (whole.email, whole.edits) = ("by@oldcode".into(), whole.edits + 1);
        tx.set(moved, &Old::from(whole))?;
        shop.edits.add(&tx, 2)
    });
    work.await.expect("commits");
    2
}

/// Both directions.
async fn verifies(scene: &Scene, name: &str) {
    let shop: Shop<Indexing> = scene.db.run(async |tx| Shop::open(&tx).await).await.expect("is there");
    let whole = |customer: &Indexing| -> Whole { customer.clone().into() };
    let lasts = index_holds(shop.lasts, move |customer: &Indexing| vec![last_name(&whole(customer).name)]);
    let emails = unique_index_holds(shop.emails, move |customer: &Indexing| vec![whole(customer).email]);
    let job = evolve::find(&scene.db, name).await.expect("is there");
    let verified = job.verify(&[&lasts, &emails]).await.expect("verifies");
    assert_eq!(verified.problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_of_a_unique_index_are_named_in_the_quarantine() {
    let scene = Scene::open().await;
    let served = &scene.served;
    let mut done = Acknowledged::default();
    // Two customers with one email, as code without the index may leave them.
    let make = scene.db.run(async |tx| {
        let shop: Shop<Old> = Shop::open(&tx).await?;
        let mut twins = Vec::new();
        for name in ["Tweedle Dum", "Tweedle Dee"] {
            let twin = tx.create(&Old::from(Whole { name: name.into(), email: "twin@shop".into(), edits: 0 })).await?;
            shop.names.insert(&tx, name, twin)?;
            twins.push(twin);
        }
        Ok(twins)
    });
    let twins: Vec<Ref<Old>> = make.await.expect("commits");
    done.made += 2;
    scene.plan("emails", &["--class", CLASS]);
    assert_eq!(work(served, "indexing", "emails"), "failed");
    let shown = &served.json(&["evolve", "show", "emails"])[0];
    let bad = shown["quarantine"].as_array().expect("a list");
    let named = bad.iter().map(|bad| bad["cell"].as_str().expect("a cell").to_owned()).collect::<Vec<_>>();
    assert_eq!(named.len(), 1, "{shown}");
    assert!(twins.iter().any(|twin| named[0] == twin.oid().to_string()), "{shown}");
    let why = bad[0]["error"].as_str().expect("an error");
    assert!(why.contains("twin@shop") && why.contains("is taken in its unique index"), "with the key: {why}");
    let said = scene.command(1, &["evolve", "ensure", "emails"]);
    assert!(said.contains("1 objects are in the quarantine"), "{said}");

    // Live code mends it, and what was in the quarantine is tried again, beside more of it.
    let mut indexing = Release::start(served, "indexing");
    indexing.serves(20);
    let worse = *twins.iter().find(|twin| named[0] == twin.oid().to_string()).expect("one of them");
    let mend = scene.db.run(async |tx| {
        let shop: Shop<Indexing> = Shop::open(&tx).await?;
        let customer: Ref<Indexing> = Ref::new(worse.oid());
        let mut whole: Whole = tx.load(customer).await?.into();
        if whole.email == "twin@shop" {
            whole.email = "dee@shop".into();
            shop.emails.insert(&tx, "dee@shop", &customer).await?.or_refuse()?;
        }
        tx.set(customer, &Indexing::from(whole))
    });
    mend.await.expect("commits");
    scene.command(0, &["evolve", "resume", "emails"]);
    assert_eq!(work(served, "indexing", "emails"), "done");
    indexing.serves(20);
    done += indexing.stop();
    if !scene.says(&["evolve", "ensure", "emails"]) {
        assert_eq!(work(served, "indexing", "emails"), "done");
    }
    scene.command(0, &["evolve", "ensure", "emails"]);
    verifies(&scene, "emails").await;
    scene.is_exact::<Indexing>(done.edits, CUSTOMERS as u64 + done.made).await;
}
