//! TLS: who knows whom, what is said when one side does not speak it, and a certificate that is renewed under a running server.

use super::scene::{Ca, Scene, set, until_refused};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeolite_client::{Admin, Db, Error, FaultKind, Options};
use zeolite_proto::Role;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_knows_the_server_by_its_ca_and_by_its_name() {
    let scene = Scene::start(|_, _| {}).await;
    let token = scene.user("shop", Role::Write, &[], None);
    let db = scene.comes(scene.options(Some(&token))).await;
    set(&db, 1).await.expect("commits");

    let port = scene.server.address().port();
    let without_scheme = Db::connect_with(format!("localhost:{port}"), scene.options(Some(&token))).await;
    assert!(without_scheme.is_ok(), "a CA says that it is TLS: {without_scheme:?}");

    let stranger = scene.write("stranger.pem", &Ca::new("stranger").signs("x", &["localhost"]).0);
    let mut options = scene.options(Some(&token));
    options.tls.ca = Some(stranger);
    let told = scene.refused(options).await.to_string();
    assert!(told.contains("give the CA"), "{told}");

    let other_name = format!("https://127.0.0.1:{port}");
    let told = Db::connect_with(other_name.as_str(), scene.options(Some(&token))).await.expect_err("no such name");
    assert!(told.to_string().contains("server_name"), "{told}");
    let mut options = scene.options(Some(&token));
    options.tls.server_name = Some("localhost".into());
    Db::connect_with(other_name, options).await.expect("by its name");

    let told =
        Db::connect_with(format!("http://localhost:{port}"), scene.options(None)).await.expect_err("a CA and no TLS");
    assert!(matches!(&told, Error::Fault(fault) if fault.kind == FaultKind::Invalid), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_tls_with_one_who_does_not_is_told_what_to_do() {
    let scene = Scene::start(|_, _| {}).await;
    let port = scene.server.address().port();
    let plain = Db::connect_with(format!("http://localhost:{port}"), Options::default()).await.expect_err("plain");
    assert!(plain.to_string().contains("this server speaks TLS: connect to https://"), "{plain}");
    let admin =
        Admin::connect(format!("http://localhost:{port}"), &Options::default()).await.expect("nothing was said");
    let plain = admin.status().await.expect_err("plain");
    assert!(plain.to_string().contains("https://"), "{plain}");

    let other = Scene::start(|settings, _| settings.tls = Default::default()).await;
    let told = other.refused(scene.options(None)).await;
    assert!(told.to_string().contains("write http://"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_says_which_user_a_client_works_for() {
    let scene = Scene::start(|settings, dir| settings.tls.client_ca = dir.join("ca.pem")).await;
    scene.change(|users| users.add("shop", Role::Read, &["main".into()]));
    let options = |(cert, key): (String, String), name: &str| {
        let cert = Some(scene.write(&format!("{name}.pem"), &cert));
        let key = Some(scene.write(&format!("{name}.key"), &key));
        scene.options(None).tls(scene.options(None).tls.cert(cert).key(key))
    };
    let shop = scene.comes(options(scene.ca.signs("shop", &[]), "shop")).await;
    let refused = set(&shop, 1).await.expect_err("a reader");
    assert_eq!(refused.kind(), Some(FaultKind::Denied), "{refused}");
    assert!(Db::connect_with(scene.url(), options(scene.ca.signs("web-1", &["shop"]), "by-host")).await.is_ok());

    let unknown = scene.refused(options(scene.ca.signs("nobody", &[]), "nobody")).await;
    assert_eq!(unknown.kind(), Some(FaultKind::Unauthenticated), "{unknown}");
    let of_strangers = scene.refused(options(Ca::new("strangers").signs("shop", &[]), "stranger")).await;
    assert!(matches!(of_strangers, Error::Disconnected { .. }), "{of_strangers}");
    let told = of_strangers.to_string();
    assert!(told.contains("give cert and key") || told.contains("does not know the CA"), "{told}");
    let none = scene.refused(scene.options(None)).await.to_string();
    assert!(none.contains("give cert and key"), "{none}");

    scene.change(|users| users.remove("shop"));
    until_refused(&shop, FaultKind::Unauthenticated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_ends_its_connections_and_comes_in_no_more() {
    let scene = Scene::start(|settings, dir| {
        settings.tls.client_ca = dir.join("cas.pem");
        settings.tls.client_crl = dir.join("crl.pem");
        let another = Ca::new("another");
        std::fs::write(dir.join("crl.pem"), another.revokes(&[1])).expect("written");
        let own = std::fs::read_to_string(dir.join("ca.pem")).expect("reads");
        std::fs::write(dir.join("cas.pem"), own + &another.pem()).expect("written");
    })
    .await;
    scene.change(|users| {
        users.add("lost", Role::Write, &[])?;
        users.add("kept", Role::Write, &[])
    });
    let options = |name: &str, serial: u64| {
        let (cert, key) = scene.ca.signs_numbered(name, &[], Some(serial));
        let cert = Some(scene.write(&format!("{name}.pem"), &cert));
        let key = Some(scene.write(&format!("{name}.key"), &key));
        scene.options(None).tls(scene.options(None).tls.cert(cert).key(key))
    };
    let hasty = Duration::from_secs(1);
    let (lost, kept) = (options("lost", 1).request_timeout(hasty), options("kept", 2));
    let (of_lost, of_kept) = (scene.comes(lost.clone()).await, scene.comes(kept.clone()).await);
    set(&of_lost, 1).await.expect("the list of another CA says nothing of it");

    // Of a CA with the same name and another key, of a stranger, and none at all: no client is refused for such a one.
    for wrong in [Ca::new("ca").revokes(&[9]), Ca::new("stranger").revokes(&[9]), "no list".to_owned()] {
        scene.write("crl.pem", &wrong);
        let admin = of_kept.admin();
        let told = async {
            while !admin
                .status()
                .await
                .is_ok_and(|it| it.security_problem.is_some_and(|why| why.contains("client_crl")))
            {
                scene.server.look_at_files();
            }
        };
        tokio::time::timeout(crate::support::GUARD, told).await.expect("it is told");
        scene.comes(lost.clone()).await;
        set(&of_lost, 1).await.expect("and nobody is cut");
    }
    scene.write("crl.pem", &scene.ca.revokes(&[1, 7]));
    scene.server.look_at_files();
    let ended = async { while of_lost.newest().await.is_ok() {} };
    tokio::time::timeout(crate::support::GUARD, ended).await.expect("its connection is cut");
    let refused = scene.refused(lost).await;
    assert!(matches!(refused, Error::Disconnected { .. }), "{refused}");
    set(&of_kept, 2).await.expect("another one is not the worse for it");
    scene.comes(kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_in_and_a_half_written_one_is_not() {
    let scene = Scene::start(|_, _| {}).await;
    let token = scene.user("operator", Role::Admin, &[], None);
    let db = scene.comes(scene.options(Some(&token))).await;
    let admin = db.admin();
    let status = async |wanted: fn(&zeolite_client::Status) -> bool| {
        let seen = async {
            loop {
                scene.server.look_at_files();
                let status = admin.status().await.expect("tells");
                if wanted(&status) {
                    return status;
                }
            }
        };
        tokio::time::timeout(crate::support::GUARD, seen).await.expect("it is told")
    };
    let before = status(|status| status.certificate_expires_unix_ms > 0 && status.security_problem.is_none()).await;
    assert!(before.certificate_expires_unix_ms > before.unix_ms);

    let next = Ca::new("next");
    let (cert, key) = next.signs("server", &["localhost"]);
    scene.write("server.pem", &cert[..cert.len() / 2]);
    let told = status(|status| status.security_problem.is_some()).await.security_problem.expect("told");
    assert!(told.contains("tls.cert"), "{told}");
    scene.write("server.pem", &cert);
    status(|status| status.security_problem.as_ref().is_some_and(|why| why.contains("do not go together"))).await;
    Db::connect_with(scene.url(), scene.options(Some(&token))).await.expect("the former is in force");
    scene.write("server.key", &key);
    status(|status| status.security_problem.is_none()).await;

    let told = scene.refused(scene.options(Some(&token))).await.to_string();
    assert!(told.contains("give the CA"), "{told}");
    let mut options = scene.options(Some(&token));
    options.tls.ca = Some(scene.write("next.pem", &next.pem()));
    Db::connect_with(scene.url(), options).await.expect("by the new one");
    db.newest().await.expect("who was there is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shakes_hands_slowly_holds_up_nobody_and_is_closed() {
    let scene = Scene::start(|settings, _| settings.sessions.keepalive_timeout_ms = 1000).await;
    let token = scene.user("shop", Role::Write, &[], None);
    let mut silent = Vec::new();
    for begun in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1]].iter().cycle().take(30) {
        let mut stream = TcpStream::connect(scene.server.address()).await.expect("accepted");
        stream.write_all(begun).await.expect("taken");
        silent.push(stream);
    }
    set(&scene.comes(scene.options(Some(&token))).await, 1).await.expect("commits beside them");
    for mut stream in silent {
        let closed = tokio::time::timeout(crate::support::GUARD, stream.read_to_end(&mut Vec::new())).await;
        // By an end or by a reset.
        drop(closed.expect("it is closed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_take_nobodys_place() {
    let scene = Scene::start(|settings, _| {
        settings.sessions.keepalive_timeout_ms = 600_000;
        settings.sessions.connections_max = 16;
    })
    .await;
    let token = scene.user("shop", Role::Write, &[], None);
    let mut silent = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(scene.server.address()).await.expect("accepted");
        // One that was closed at once takes nothing, which is as good.
        drop(stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await);
        silent.push(stream);
    }
    let comes = async {
        loop {
            // The place of one that is being cut may not be free yet.
            if let Ok(db) = Db::connect_with(scene.url(), scene.options(Some(&token))).await {
                return db;
            }
        }
    };
    let db = tokio::time::timeout(crate::support::GUARD, comes).await.expect("there is a place for him");
    set(&db, 1).await.expect("commits");
}
