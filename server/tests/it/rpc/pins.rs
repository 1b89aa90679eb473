//! Pins at the door: one that moves keeps what it moved to, and no longer what it left; after a start those of before can be taken again.

use super::support::{TestServer, Unary, cell, draft, put, start_in, start_with, status_fault, within};
use std::sync::Arc;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;

/// Commits one object three times; the tids.
async fn three(unary: &mut Unary) -> [u64; 3] {
    let mut tids = [0; 3];
    for at in 0..3 {
        let base = if at == 0 { 0 } else { tids[at - 1] };
        let committed = unary.writer.commit(draft(base, vec![put(cell(1), base, "x")])).await;
        tids[at] = committed.expect("nothing is in its way").into_inner().tid;
    }
    tids
}

/// Packs all that may go; what the end of it says.
async fn pack(test: &TestServer) -> v2::PackProgress {
    let mut admin = AdminClient::new(test.channel().await);
    let request = v2::PackRequest { keep_garbage: true, ..Default::default() };
    let mut stages = admin.pack(request).await.expect("packs").into_inner();
    let mut last = None;
    while let Some(stage) = within(stages.message()).await.expect("no fault") {
        last = Some(stage);
    }
    last.filter(|last| last.done).expect("it comes to its end")
}

async fn pin(unary: &mut Unary, snapshot: u64) -> Result<v2::PinReply, FaultKind> {
    let answer = unary.reader.pin(v2::PinRequest { snapshot, lease_ms: 60_000 }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status_fault(&status).kind)
}

async fn renew(unary: &mut Unary, pin: u64, snapshot: u64) -> Result<v2::PinReply, FaultKind> {
    let answer = unary.reader.renew(v2::RenewRequest { pin, snapshot, ..Default::default() }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status_fault(&status).kind)
}

/// Which of these snapshots can be read.
async fn readable(unary: &mut Unary, tids: [u64; 3]) -> [bool; 3] {
    let mut all = [true; 3];
    for (at, snapshot) in tids.into_iter().enumerate() {
        let loaded = unary.reader.load(v2::LoadRequest { snapshot, cells: vec![cell(1)], ..Default::default() }).await;
        if let Err(status) = loaded {
            assert_eq!(status_fault(&status).kind, FaultKind::SnapshotPacked);
            all[at] = false;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_moved_keeps_what_it_moved_to_and_nothing_older() {
    let test = start_with(|settings| settings.engine.history_min_s = 0).await;
    let mut unary = test.unary().await;
    let tids = three(&mut unary).await;
    let held = pin(&mut unary, tids[0]).await.expect("pins");
    assert!(pack(&test).await.held_back.contains("pinned"));
    assert_eq!(readable(&mut unary, tids).await, [true; 3]);

    let moved = renew(&mut unary, held.pin, tids[1]).await.expect("moves");
    assert_eq!((moved.pin, moved.snapshot), (held.pin, tids[1]));
    assert_eq!(renew(&mut unary, held.pin, 0).await.expect("stays").snapshot, tids[1], "0 is where it is");
    let packed = pack(&test).await;
    assert_eq!((packed.packed_to, packed.held_back.contains("pinned")), (tids[1], true));
    assert_eq!(readable(&mut unary, tids).await, [false, true, true]);
    assert_eq!(renew(&mut unary, held.pin, tids[0]).await, Err(FaultKind::SnapshotPacked), "there is no way back");
    assert_eq!(renew(&mut unary, held.pin, tids[2] + 1).await, Err(FaultKind::SnapshotAhead));
    assert_eq!(readable(&mut unary, tids).await, [false, true, true], "what was refused has moved nothing");
    assert_eq!(pack(&test).await.packed_to, tids[1]);

    unary.reader.unpin(v2::UnpinRequest { pin: held.pin }).await.expect("unpins");
    pack(&test).await;
    assert_eq!(readable(&mut unary, tids).await, [false, false, true]);
    within(test.server.stop()).await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_what_was_pinned_is_pinned_anew_and_without_the_grace_it_may_be_gone() {
    for (grace_s, stays) in [(3600, true), (0, false)] {
        let settings = move |settings: &mut zeolite_server::settings::Settings| {
            (settings.engine.history_min_s, settings.engine.pin_grace_s) = (0, grace_s);
        };
        let test = start_with(settings).await;
        let tids = three(&mut test.unary().await).await;
        let before = pin(&mut test.unary().await, tids[0]).await.expect("pins");
        let TestServer { server, directory } = test;
        within(server.stop()).await.expect("stops");
        let test = start_in(Arc::clone(&directory), settings).await;
        let mut unary = test.unary().await;
        assert_eq!(renew(&mut unary, before.pin, 0).await, Err(FaultKind::PinLost), "it was of the life before");
        // Somebody else packs before its owner has come back.
        assert_eq!(pack(&test).await.held_back.contains("engine.pin_grace_s"), stays);
        let anew = pin(&mut unary, tids[0]).await;
        assert_eq!(anew.map(|pin| pin.snapshot), if stays { Ok(tids[0]) } else { Err(FaultKind::SnapshotPacked) });
        assert_eq!(readable(&mut unary, tids).await[..2], [stays; 2]);
        within(test.server.stop()).await.expect("stops");
    }
}
