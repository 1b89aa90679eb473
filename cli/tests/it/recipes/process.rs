//! Owns a release as a process: this very program, started again and asked to be one.
//!
//! ```text
//!   ZEOLITE_TEST_RELEASE="RELEASE ADDRESS"        serves requests until its input ends     a line for each: edited, made
//!   ZEOLITE_TEST_RELEASE="RELEASE ADDRESS JOB"    works on a job until that is over        a line: its phase
//! ```
//! What fails is a line, too, and the end of it.

use super::requests::{Clerk, Done};
use super::shop::{Bridge, Customer, Indexing, Last, New, Old, Shop, Whole, last_name};
use crate::program::text;
use crate::served::Served;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use zeolite_client::evolve::{self, Step, Stepped, Worker};
use zeolite_client::typed::value_of;
use zeolite_client::{Db, Error, Options, Ref};

const ASKED: &str = "ZEOLITE_TEST_RELEASE";
const TEST: &str = "recipes::process::this_program_is_a_release_when_it_is_asked_to_be_one";
/// What a process says to the test, among what the test program says by itself.
const MARK: &str = "release: ";
/// Nothing here takes this long: a test that hangs fails instead.
const GUARD: Duration = Duration::from_secs(120);

/// How many requests were acknowledged.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) edits: u64,
    pub(crate) made: u64,
}

impl std::ops::AddAssign for Acknowledged {
    fn add_assign(&mut self, other: Acknowledged) {
        (self.edits, self.made) = (self.edits + other.edits, self.made + other.made);
    }
}

/// A running release.
pub(crate) struct Release {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    acknowledged: Acknowledged,
    failed: Vec<String>,
}

impl Release {
    pub(crate) fn start(served: &Served, release: &str) -> Release {
        Release::spawn(&format!("{release} {}", served.address))
    }

    fn spawn(asked: &str) -> Release {
        let mut child = command(asked).spawn().expect("this program starts");
        let output = BufReader::new(child.stdout.take().expect("has an output"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(said) = line.strip_prefix(MARK) {
                    // Nobody listens to one that is over.
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        let input = child.stdin.take();
        Release { child, input, lines, acknowledged: Acknowledged::default(), failed: Vec::new() }
    }

    fn hear(&mut self, said: String) {
        match said.as_str() {
            "edited" => self.acknowledged.edits += 1,
            "made" => {
                (self.acknowledged.edits, self.acknowledged.made) =
                    (self.acknowledged.edits + 1, self.acknowledged.made + 1)
            }
            _ => self.failed.push(said),
        }
    }

    /// Waits until it has served so many more requests.
    pub(crate) fn serves(&mut self, more: u64) {
        let wanted = self.acknowledged.edits + more;
        // What it has said in the meantime is of the time before.
        let before: Vec<String> = self.lines.try_iter().collect();
        let wanted = wanted + before.len() as u64;
        before.into_iter().for_each(|said| self.hear(said));
        while self.acknowledged.edits < wanted {
            let said = self.lines.recv_timeout(GUARD).unwrap_or_else(|error| panic!("{error}: {:?}", self.failed));
            self.hear(said);
            assert!(self.failed.is_empty(), "a request has failed: {:?}", self.failed);
        }
    }

    /// Asks it to stop; no request has failed. Gives those that were served.
    pub(crate) fn stop(mut self) -> Acknowledged {
        drop(self.input.take());
        let (acknowledged, failed) = self.ended();
        assert!(failed.is_empty(), "a request has failed: {failed:?}");
        acknowledged
    }

    /// Waits until a request fails, which ends it; gives why.
    pub(crate) fn fails(mut self) -> (Acknowledged, String) {
        let (acknowledged, failed) = self.ended();
        (acknowledged, failed.join("; "))
    }

    fn ended(&mut self) -> (Acknowledged, Vec<String>) {
        loop {
            match self.lines.recv_timeout(GUARD) {
                Ok(said) => self.hear(said),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(timeout) => panic!("it does not end: {timeout}"),
            }
        }
        self.child.wait().expect("ends");
        (self.acknowledged, std::mem::take(&mut self.failed))
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(asked: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    command.args(["--exact", TEST, "--nocapture"]).env(ASKED, asked);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Lets a release work on a job until that is over; gives how it ended.
pub(crate) fn work(served: &Served, release: &str, job: &str) -> String {
    let mut worker = Release::spawn(&format!("{release} {} {job}", served.address));
    worker.ended().1.join("; ")
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{what}").and_then(|()| out.flush()).expect("the test listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_program_is_a_release_when_it_is_asked_to_be_one() {
    let Ok(asked) = std::env::var(ASKED) else {
        let output = command("none 127.0.0.1:1").output().expect("this program starts");
        assert!(text(&output.stdout).contains("release: failed: no such release"), "{}", text(&output.stdout));
        return;
    };
    let words: Vec<&str> = asked.split(' ').collect();
    let (release, address, job) = (words[0], words[1], words.get(2).copied());
    let ended = match release {
        "old" => be::<Old>(address, job, evolve::upgrade::<Old>()).await,
        "indexing" => be::<Indexing>(address, job, index_step(address).await).await,
        "bridge" => be::<Bridge>(address, job, evolve::upgrade::<Bridge>()).await,
        "new" => be::<New>(address, job, evolve::upgrade::<New>()).await,
        "last" => be::<Last>(address, job, evolve::upgrade::<Last>()).await,
        _ => Err(Error::app("no such release")),
    };
    if let Err(error) = ended {
        say(&format!("failed: {error}"));
    }
}

async fn be<T: Customer>(address: &str, job: Option<&str>, step: impl Step) -> Result<(), Error> {
    let Some(job) = job else { return serve::<T>(address).await };
    let db = Db::connect_with(address, Options::new().role("evolve")).await?;
    let job = evolve::find(&db, job).await?;
    let report = Worker::new(&job).tasks(2).run(step).await?;
    say(report.phase.text());
    Ok(())
}

async fn serve<T: Customer>(address: &str) -> Result<(), Error> {
    let db = Db::connect(address).await?;
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    std::thread::spawn(move || {
        // Its end, however it comes.
        let _ = std::io::stdin().lock().lines().count();
        told.store(true, Ordering::Release);
    });
    let mut clerk: Clerk<T> = Clerk::new(&db, std::process::id()).await?;
    while !over.load(Ordering::Acquire) {
        say(match clerk.serve().await? {
            Done::Edited => "edited",
            Done::Made => "made",
        });
    }
    Ok(())
}

/// The step of the guide: both new indexes.
async fn index_step(address: &str) -> impl Step + use<> {
    let db = Db::connect(address).await.expect("connects");
    let shop: Shop<Indexing> = db.run(async |tx| Shop::open(&tx).await).await.expect("is there");
    evolve::with("last names and emails", move |tx, cell, old| {
        Box::pin(async move {
            let customer: Indexing = value_of(cell, &old)?;
            let (whole, reference): (Whole, Ref<Indexing>) = (customer.into(), Ref::new(cell.oid));
            shop.lasts.insert(tx, &last_name(&whole.name), reference)?;
            shop.emails.claim(tx, &whole.email, reference).await?;
            Ok(Stepped::Keep)
        })
    })
}
