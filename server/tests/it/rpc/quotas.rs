//! Limits of a user at the doors: whatever writes counts, also what makes a prepared draft another one, and what takes a commit back.

use super::support::{TestServer, cell, draft, put, start_with, status_fault, within};
use std::path::Path;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::writer_client::WriterClient;
use zeolite_proto::{FaultKind, Role};
use zeolite_server::auth::token::Token;
use zeolite_server::auth::users::{Limits, Users};

static LARGE: [u8; 20_000] = [7; 20_000];

/// A writer with these limits, as the value of his metadata.
fn user(file: &Path, name: &str, limits: Limits) -> String {
    let token = Token::new().expect("randomness");
    let written = Users::change(file, |users| {
        users.add(name, Role::Write, &[])?;
        users.keep(name, &token, 0, None)?;
        users.limit(name, |kept| *kept = limits)
    });
    written.expect("written");
    format!("Bearer {}", token.secret())
}

async fn writer(test: &TestServer) -> WriterClient<Channel> {
    test.unary().await.writer
}

macro_rules! ask {
    ($writer:expr, $says:expr, $method:ident, $message:expr) => {{
        let mut request = Request::new($message);
        request.metadata_mut().insert("authorization", MetadataValue::try_from($says.as_str()).expect("plain text"));
        within($writer.$method(request)).await.map(Response::into_inner).map_err(|status| status_fault(&status).kind)
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_and_an_undo_count_like_what_they_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.toml");
    let free = user(&file, "free", Limits::default());
    // What is written once is paid off in hours: one thing of any size, and then nothing.
    let slow = Limits { written_bytes_per_s: Some(1), ..Limits::default() };
    let (amending, undoing) = (user(&file, "amending", slow), user(&file, "undoing", slow));
    let little = user(&file, "little", Limits { prepared_bytes: Some(10_000), ..Limits::default() });
    let test = start_with(|settings| settings.auth.users_file = file).await;
    let mut writer = writer(&test).await;

    let prepare = |number| {
        let draft = draft(0, vec![put(cell(number), 0, "small")]);
        v2::PrepareRequest { draft: Some(draft), ..Default::default() }
    };
    ask!(writer, free, new_oids, v2::NewOidsRequest { count: 100 }).expect("oids");
    for (says, number, kind) in [(&amending, 16, FaultKind::Busy), (&little, 17, FaultKind::TooLarge)] {
        let small = prepare(number);
        let commit_key = small.draft.as_ref().expect("a draft").commit_key.clone();
        let prepared = ask!(writer, says, prepare, small).expect("a small one").prepared;
        let larger = v2::Draft { commit_key, ..draft(0, vec![put(cell(number), 0, LARGE.to_vec())]) };
        let amend = v2::AmendRequest { prepared, draft: Some(larger), ..Default::default() };
        assert_eq!(ask!(writer, says, amend, amend).map(|_| ()), Err(kind), "{number}");
    }

    let large = draft(0, vec![put(cell(18), 0, LARGE.to_vec())]);
    let tid = ask!(writer, free, commit, large).expect("no limits").tid;
    let undo = |tid, key: u8| v2::UndoRequest { tid, commit_key: vec![key; 16].into(), ..Default::default() };
    let undone = ask!(writer, undoing, undo, undo(tid, 1)).expect("one thing of any size").tid;
    let again = ask!(writer, undoing, undo, undo(undone, 2)).map(|_| ());
    assert_eq!(again, Err(FaultKind::Busy), "what it took back counts");
    ask!(writer, free, undo, undo(undone, 3)).expect("of another user");
}
