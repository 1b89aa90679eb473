//! Owns giving way: a thread that works beside the traffic is passed over where processors are short, so that who waits for a commit goes first.
//!
//! Nobody stands still: it gets its share, a smaller one. That matters, because now and then the traffic waits for it (a portion of the index is being
//! written). A thread that gives way once does so to its end: to go back needs a right that servers do not have.

use std::io;

/// By so much the settle loop gives way: the memory of what it has not done yet has a limit.
pub(crate) const SETTLE_NICE: i32 = 5;
/// By so much a pack or a verify does, which nobody waits for.
pub(crate) const LONG_WORK_NICE: i32 = 10;

/// This thread gives way from now on.
pub(crate) fn give_way(nice: i32) {
    // Of this thread alone, as Linux counts; elsewhere, and where it may not be, it goes on as it is.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(nice) {
        tracing::debug!(%error, nice, "a thread cannot give way");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// Does a long work on a thread of its own that gives way.
pub(crate) fn beside_the_traffic(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let named = std::thread::Builder::new().name("zeolite-long work".to_owned());
    named.spawn(|| {
        give_way(LONG_WORK_NICE);
        work();
    })?;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    // The nice value of the thread that asks: the 19th field of its stat, behind the name in brackets.
    fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("reads");
        let behind = stat.rsplit_once(") ").expect("a name").1;
        behind.split(' ').nth(16).expect("a field").parse().expect("a number")
    }

    #[test]
    fn only_the_thread_that_works_gives_way() {
        let (tell, told) = std::sync::mpsc::channel();
        let before = nice();
        beside_the_traffic(move || tell.send(nice()).expect("somebody listens")).expect("there is a thread");
        assert_eq!(told.recv().expect("works"), (before + LONG_WORK_NICE).min(19));
        assert_eq!(nice(), before);
    }
}
