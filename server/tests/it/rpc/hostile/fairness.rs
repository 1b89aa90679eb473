//! Long calls that stand still: who has many of them waiting keeps nobody else from his own, and nobody from the status; and their
//! answers count as memory.

use super::super::support::{Raw, TestServer, cell, draft, fault, hello, put, start_of, within};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use zeolite_proto::FaultKind;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_client::AdminClient;
use zeolite_proto::wire::v2::client_frame::Request;
use zeolite_proto::wire::v2::server_frame::Reply;
use zeolite_server::engine::clock::SystemClock;
use zeolite_server::server::Components;
use zeolite_server::settings::Settings;
use zeolite_server::store::disk::sim::{SimDisk, SimOp};
use zeolite_server::store::disk::watched::{Call, WatchedDisk};

const LONG_CALLS: usize = 4;
/// More than may run, of one connection.
const MANY: usize = 20;
/// So many of them that their answers do not fit into a connection's memory.
const TOO_MANY: usize = 50;
const RECORD_BYTES: usize = 100_000;

/// While it is shut, whoever reads the log stands before it.
#[derive(Default)]
struct Door {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    shut: bool,
    standing: usize,
    passed: usize,
}

impl Door {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.standing += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.shut);
        state.standing -= 1;
        state.passed += 1;
        self.changed.notify_all();
    }

    fn shut(&self, shut: bool) {
        self.state.lock().shut = shut;
        self.changed.notify_all();
    }

    fn standing(&self) -> usize {
        self.state.lock().standing
    }

    fn passed(&self) -> usize {
        self.state.lock().passed
    }

    /// Waits until so many stand there.
    async fn until(self: &Arc<Self>, count: usize) {
        self.wait_for(move |state| state.standing >= count).await;
    }

    async fn wait_for(self: &Arc<Self>, come: impl Fn(&State) -> bool + Send + 'static) {
        let door = self.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let mut state = door.state.lock();
            !door.changed.wait_while_for(&mut state, |state| !come(state), Duration::from_secs(60)).timed_out()
        });
        assert!(waited.await.expect("waits"), "it never came to this");
    }
}

/// Opens the door whatever happens, or the server would never stop.
struct Opens(Arc<Door>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.shut(false);
    }
}

/// Every load is a long call, and reads the log.
fn from_the_log(settings: &mut Settings) {
    settings.sessions.inline_cells_max = 0;
    settings.sessions.long_calls_max = LONG_CALLS;
    (settings.store.cache_bytes, settings.store.inline_bytes_max, settings.store.kept_bytes_max) = (0, 0, 0);
    (settings.limits.draft_writes_max, settings.limits.draft_bytes_max) = (100, 500_000);
    (settings.limits.record_bytes_max, settings.sessions.connection_bytes_max) = (450_000, 2_000_000);
}

async fn with_a_door() -> (TestServer, Opens) {
    let door = Arc::new(Door::default());
    let before = door.clone();
    let disk = WatchedDisk::new(Arc::new(SimDisk::new()), move |call: Call<'_>| {
        if call.op == SimOp::Read && call.path.starts_with("log") {
            before.pass();
        }
        Ok(())
    });
    let test = start_of(Components::new(Arc::new(disk), Arc::new(SystemClock::new()), 7), from_the_log).await;
    let mut writer = test.session().await;
    writer.commit(draft(0, vec![put(cell(1), 0, vec![7; RECORD_BYTES])])).await.expect("new");
    (test, Opens(door))
}

fn load() -> Request {
    Request::Load(v2::LoadRequest { cells: vec![cell(1)], ..Default::default() })
}

async fn send_many(raw: &mut Raw) {
    for _ in 0..MANY {
        raw.send(load()).await;
    }
}

async fn loaded(raw: &mut Raw) {
    loop {
        match raw.next().await.reply.expect("a reply") {
            Reply::Load(load) => return assert!(load.revisions[0].record.is_some()),
            Reply::Feed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The same, or a refusal: whoever reads more slowly than the server answers has too much waiting at some point.
async fn answered(raw: &mut Raw) {
    loop {
        match raw.next().await.reply.expect("a reply") {
            Reply::Load(_) => return,
            Reply::Fault(fault) if fault.kind == i32::from(v2::FaultKind::Busy) => return,
            Reply::Feed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn sessions_open(admin: &mut AdminClient<Channel>) -> u64 {
    within(admin.status(v2::StatusRequest {})).await.expect("a status").into_inner().sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_gets_a_place_and_the_status_is_told_while_the_first_has_many_waiting() {
    let (test, door) = with_a_door().await;
    let (mut bad, mut other) = (test.session().await, test.session().await);
    door.0.shut(true);
    send_many(&mut bad).await;
    door.0.until(LONG_CALLS / 2).await;
    other.send(load()).await;
    door.0.until(LONG_CALLS / 2 + 1).await;
    let mut admin = AdminClient::new(test.channel().await);
    assert!(sessions_open(&mut admin).await >= 2);
    other.commit(draft(0, vec![put(cell(2), 0, "x")])).await.expect("commits go on");
    assert_eq!(door.0.standing(), LONG_CALLS / 2 + 1, "one connection has half of the places");
    door.0.shut(false);
    loaded(&mut other).await;
    for _ in 0..MANY {
        loaded(&mut bad).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_count_as_memory_of_their_connection() {
    let (test, door) = with_a_door().await;
    let narrow = test.endpoint().initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
    let mut bad = Raw::connect(narrow.connect().await.expect("connects")).await;
    bad.hello(hello()).await;
    door.0.shut(true);
    for _ in 0..TOO_MANY {
        bad.send(load()).await;
    }
    // When this is answered, all before it are read.
    assert!(matches!(bad.ask(Request::Ping(v2::Ping {})).await, Reply::Done(_)));
    let all = door.0.passed() + TOO_MANY;
    door.0.shut(false);
    door.0.wait_for(move |state| state.passed >= all).await;
    let (mut loaded, mut busy) = (0, 0);
    while loaded + busy < TOO_MANY {
        match bad.next().await.reply.expect("a reply") {
            Reply::Load(_) => loaded += 1,
            reply => {
                let told = fault(reply);
                let is_told = told.kind == FaultKind::Busy && told.message.contains("connection_bytes_max");
                assert!(is_told && told.retry_after_ms > 0, "{told}");
                busy += 1;
            }
        }
    }
    assert!(loaded >= 10 && busy >= 10, "{loaded} loaded, {busy} refused");
    bad.send(load()).await;
    self::loaded(&mut bad).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_told_while_every_place_is_taken() {
    let (test, door) = with_a_door().await;
    let (mut one, mut another) = (test.session().await, test.session().await);
    door.0.shut(true);
    send_many(&mut one).await;
    send_many(&mut another).await;
    door.0.until(LONG_CALLS).await;
    let mut admin = AdminClient::new(test.channel().await);
    for _ in 0..10 {
        assert!(sessions_open(&mut admin).await >= 2);
    }
    assert_eq!(door.0.standing(), LONG_CALLS, "all places are taken still");
    door.0.shut(false);
    for _ in 0..MANY {
        answered(&mut one).await;
        answered(&mut another).await;
    }
}
