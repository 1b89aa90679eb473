//! Clients that commit, each to a counter of its own that names a blob, until standard input ends: what they feel of what is done to their server meanwhile.
//! `traffic ADDRESS CLIENTS`, with token and CA from the environment as `zeolite` takes them. It says where it stands once each client has tried its first (`at work`), and at the end in one line: how many
//! commits, how many failed, the longest wait. Its exit code is 0 if none failed and each counter is what it was told and each blob is there: every commit
//! happened, and happened once.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that says what it has done")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use zeolite_client::{Cell, Db, Error, Options, Record, Tx};

/// What one of them has felt.
#[derive(Default)]
struct Felt {
    commits: u64,
    failed: u64,
    longest: Duration,
    is_right: bool,
}

struct Shared {
    ends: AtomicBool,
    at_work: AtomicUsize,
    clients: usize,
}

fn number(record: Option<Record>) -> u64 {
    record.and_then(|record| Some(u64::from_le_bytes(record.data.as_ref().try_into().ok()?))).unwrap_or(0)
}

async fn work(db: Db, shared: Arc<Shared>) -> Result<Felt, Error> {
    let cell = Cell::object(db.new_oid().await?);
    let film = vec![7; 300_000];
    let blob = db.put_blob(&film[..]).await?;
    let mut felt = Felt::default();
    while !shared.ends.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let add = async |tx: Tx| {
            let count = number(tx.get(&cell).await?);
            let record = Record::new("Counter", 1, (count + 1).to_le_bytes().to_vec());
            tx.put(cell.clone(), &Record { blobs: vec![blob], ..record })
        };
        match db.run(add).await {
            Ok(_) => felt.commits += 1,
            Err(error) => {
                felt.failed += 1;
                eprintln!("after {} ms: {error}", begun.elapsed().as_millis());
            }
        }
        felt.longest = felt.longest.max(begun.elapsed());
        if felt.commits + felt.failed == 1 && shared.at_work.fetch_add(1, Ordering::Relaxed) + 1 == shared.clients {
            println!("at work");
        }
    }
    let counted = number(db.transaction().fresh().begin().await?.get(&cell).await?);
    felt.is_right = counted == felt.commits && db.blob(blob).bytes(0..300_000).await? == film;
    if !felt.is_right {
        eprintln!("{cell}: {counted} are there, and {} were told", felt.commits);
    }
    Ok(felt)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("traffic ADDRESS CLIENTS")?;
    let clients = args.next().ok_or("traffic ADDRESS CLIENTS")?.parse()?;
    let shared = Arc::new(Shared { ends: AtomicBool::new(false), at_work: AtomicUsize::new(0), clients });
    let options = || Options::new().wait_for_server(true).with_credentials_for(&address);
    let mut working = Vec::new();
    for _ in 0..clients {
        working.push(tokio::spawn(work(Db::connect_with(&address, options()?).await?, shared.clone())));
    }
    let ending = shared.clone();
    std::thread::spawn(move || {
        // Whatever it says, or that it cannot be read: it has ended.
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        ending.ends.store(true, Ordering::Relaxed);
    });
    let (mut all, mut is_right) = (Felt::default(), true);
    for work in working {
        let felt = work.await??;
        (all.commits, all.failed) = (all.commits + felt.commits, all.failed + felt.failed);
        all.longest = all.longest.max(felt.longest);
        is_right &= felt.is_right;
    }
    println!("{} commits, {} failed, the longest took {} ms", all.commits, all.failed, all.longest.as_millis());
    if all.failed > 0 || !is_right {
        return Err("something was lost, failed or happened twice".into());
    }
    Ok(())
}
