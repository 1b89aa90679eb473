//! The examples, run against a real server.

#[path = "../../examples/bridge.rs"]
#[expect(dead_code, reason = "its main is the program's")]
mod bridge;
#[path = "../../examples/counter.rs"]
#[expect(dead_code, reason = "its main is the program's")]
mod counter;
#[path = "../../examples/evolve_worker.rs"]
#[expect(dead_code, reason = "its main is the program's")]
mod evolve_worker;
#[path = "../../examples/site.rs"]
#[expect(dead_code, reason = "its main is the program's")]
mod site;

use crate::support::{World, within};
use evolve_worker::wiki::{self, Page, PageV1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeolite_client::evolve::Settings;
use zeolite_client::{Error, FaultKind, ModeEnd, ModeKind};

#[tokio::test(flavor = "multi_thread")]
async fn the_counter_is_exact() {
    let world = World::start().await;
    assert_eq!(within(counter::run(&world.network.url(), 16, 10)).await.expect("runs"), 160);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wiki_is_evolved_beside_its_pages() {
    let world = World::start().await;
    let db = world.db().await;
    let page = |title: &str| Page { title: title.into(), author: "ada".into(), text: String::new() };
    for title in ["Home", "News", "Home"] {
        within(wiki::save(&db, page(title))).await.expect("saves");
    }
    assert_eq!(wiki::titles_of(&db, "ada").await.expect("reads"), ["Home", "News"]);
    let taken = wiki::rename(&db, "News", "Home").await.expect_err("is taken");
    assert!(matches!(taken, Error::UniqueTaken { .. }), "{taken}");
    assert!(wiki::rename(&db, "News", "Olds").await.expect("renames"));
    // The first release has pages as well.
    let old = |number: u32| PageV1 { title: format!("old {number}"), text: String::new() };
    let make = db.run(async |tx| {
        for number in 0..20 {
            tx.create(&old(number)).await?;
        }
        Ok(())
    });
    make.await.expect("creates");
    // The disk of whoever runs the tests is nobody's business.
    let settings = Settings::default().disk_pause_percent(0.0).disk_stop_percent(0.0);
    let url = world.network.url();
    let (pages, problems) = within(evolve_worker::run(&url, "pages-2", settings.clone())).await.expect("runs");
    assert_eq!((pages, problems), (22, Vec::new()));
    db.newest().await.expect("answers");
    assert_eq!(wiki::titles_of(&db, "nobody").await.expect("reads").len(), 20);
    let refused = db.run(async |tx| tx.create(&old(99)).await).await.expect_err("the gate is closed");
    assert_eq!(refused.kind(), Some(FaultKind::Gated));
    let told = async |word| within(evolve_worker::indexes(&url, word, settings.clone())).await.expect("answers");
    assert_eq!(told("verify").await.exit_code(), 0);
    let home = Page::BY_TITLE.find(&db.now(), "Home").await.expect("reads").expect("is there");
    db.run(async |tx| tx.delete(home.cell())).await.expect("what is raw keeps no index");
    let (looked, mended) = (told("verify").await, told("reindex").await);
    assert_eq!((looked.exit_code(), mended.exit_code()), (2, 0), "{looked}\n{mended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_run_side_by_side() {
    let world = World::start().await;
    let mut settings = Settings::default();
    (settings.disk_pause_percent, settings.disk_stop_percent) = (0.0, 0.0);
    let found = within(bridge::run(&world.network.url(), settings)).await.expect("runs");
    assert_eq!(found, ["the bridge: Home by Countess <ada@x.org>", "release 2: Home by Bob"]);
}

async fn asked(address: std::net::SocketAddr, method: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("{method} / HTTP/1.1\r\nhost: site\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asks");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("answers");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_goes_on_reading_with_a_banner() {
    let world = World::start().await;
    let db = world.db().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let router = site::router(db.clone()).await.expect("begins");
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    assert!(asked(address, "POST").await.ends_with("thank you\n"));
    assert!(asked(address, "GET").await.ends_with("\r\n\r\n1 visits\n"));
    let mut modes = db.on_mode_change();
    db.admin().set_mode(ModeKind::ReadOnly, "back at five", ModeEnd::Never).await.expect("switches");
    within(modes.next()).await.expect("is told");
    assert!(asked(address, "GET").await.ends_with("\r\n\r\n(back at five)\n1 visits\n"));
    let refused = asked(address, "POST").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("back at five"), "{refused}");
    serving.abort();
}
