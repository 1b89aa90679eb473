//! Uploads over the wire: what is refused, and the share of one connection.

use super::support::{start_with, status_fault};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::reader_client::ReaderClient;
use zeolite_proto::wire::v2::writer_client::WriterClient;
use zeolite_proto::{Fault, FaultKind};
use zeolite_server::settings::{DatabaseSettings, Settings};

fn part(id: u8, offset: u64, data: &[u8], done: bool) -> v2::PutBlobPart {
    let done = done.then(|| v2::BlobEnd { length: offset + data.len() as u64, crc: crc32fast::hash(data) });
    v2::PutBlobPart { blob: vec![id; 16].into(), offset, data: data.to_vec().into(), done }
}

async fn put(channel: &Channel, parts: Vec<v2::PutBlobPart>) -> Result<v2::BlobStatusReply, Fault> {
    let put = WriterClient::new(channel.clone()).put_blob(tokio_stream::iter(parts)).await;
    put.map(tonic::Response::into_inner).map_err(|status| status_fault(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_upload_is_refused() {
    let test = start_with(|_| {}).await;
    let channel = test.channel().await;
    let zeros = put(&channel, vec![part(0, 0, b"x", true)]).await.expect_err("nobody's id");
    assert!(zeros.kind == FaultKind::Invalid && zeros.message.contains("16 random bytes"), "{zeros}");
    let behind = put(&channel, vec![part(1, 0, b"hello", true), part(1, 5, b" world", false)]).await;
    let behind = behind.expect_err("a part behind the last one");
    assert!(behind.kind == FaultKind::Invalid && behind.message.contains("go on from byte 0"), "{behind}");
    let whole = put(&channel, vec![part(1, 0, b"hello", false), part(1, 5, b"", false), part(1, 0, b"", false)]).await;
    assert!(!whole.expect("goes on").whole, "it was not ended");
    let all = v2::PutBlobPart { done: part(1, 0, b"hello", true).done, ..part(1, 0, b"hello", false) };
    let told = put(&channel, vec![all]).await.expect("ends");
    assert!(told.whole && told.length == 5, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_stages_its_share_of_uploads() {
    let test = start_with(|settings| settings.store.staged_blobs_max = 12).await;
    let (bad, other) = (test.channel().await, test.channel().await);
    for n in 1..=3 {
        put(&bad, vec![part(n, 0, b"abandoned", n % 2 == 0)]).await.expect("a quarter of 12");
    }
    let refused = put(&bad, vec![part(4, 0, b"one more", true)]).await.expect_err("a share");
    assert_eq!(refused.kind, FaultKind::Busy, "{refused}");
    assert!(refused.retry_after_ms > 0 && refused.message.contains("connection_share_percent"), "{refused}");
    for n in 5..=7 {
        put(&other, vec![part(n, 0, b"another's", true)]).await.expect("another connection has its own share");
    }
    // Whoever goes on with an upload has it from then on.
    put(&test.channel().await, vec![part(1, 0, b"abandoned", true)]).await.expect("goes on");
    put(&bad, vec![part(4, 0, b"one more", true)]).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_read_only_in_the_database_that_it_is_of() {
    let shop = |settings: &mut Settings| drop(settings.databases.insert("shop".into(), DatabaseSettings::default()));
    let test = start_with(shop).await;
    let channel = test.channel().await;
    put(&channel, vec![part(1, 0, b"of main", true)]).await.expect("is whole");
    let read = async |database: &'static str| {
        let mut asked = tonic::Request::new(v2::GetBlobRequest { blob: vec![1; 16].into(), offset: 0, length: 0 });
        asked.metadata_mut().insert("zeolite-database", MetadataValue::from_static(database));
        let mut pieces = match ReaderClient::new(channel.clone()).get_blob(asked).await {
            Ok(pieces) => pieces.into_inner(),
            Err(status) => return Err(status_fault(&status)),
        };
        pieces.message().await.map(|piece| piece.expect("a piece").data).map_err(|status| status_fault(&status))
    };
    assert_eq!(read("main").await.expect("is there"), b"of main"[..]);
    assert_eq!(read("shop").await.expect_err("is of another one").kind, FaultKind::NotFound);
}
