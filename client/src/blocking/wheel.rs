//! Owns the wheel: a runtime that is turned by whoever waits.
//!
//! With threads of its own a runtime costs a caller two changes of threads for each answer: somebody has to be woken to send what is
//! asked, and the caller by who has read the answer. On a machine whose cores are busy these cost more than the answer. So here the
//! thread that waits drives sockets, timers and tasks itself:
//!
//! ```text
//!   one waits        ask ─> write ─> epoll ─> read ─> answer                 in its own thread
//!   more wait        one turns; the others sleep until their answer is there, or until it is their turn to turn
//!   a crowd waits    the wheel's own thread turns: handed from one to the next who has his answer already, the wheel would stand still
//!   nobody waits     it turns as well: the feed, signs of life, what was spawned
//! ```
//!
//! The own thread must not be in the way of callers who come one after the other, since to get the wheel from it is a change of threads
//! again. So it takes the wheel when for a [`LOOK`] nobody has waited; for twice that at most what nobody waits for lies still, unless
//! it is told ([`Wheel::tell`]). Where an answer is waited for elsewhere, by an event loop ([`Wheel::spawn`]), it takes the wheel at once.
//! It gives it up as soon as somebody waits, and sleeps while the same callers go on waiting: an idle process never wakes it.
//!
//! tokio's `current_thread` runtime does the rest: any number of threads may be in its `block_on`, and one of them turns.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::task::Poll;
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// For how long nobody must have waited before the own thread turns.
const LOOK: Duration = Duration::from_millis(5);

/// The own thread turns for more than these, until somebody comes and not more than a few wait, him included. Measured with threads of Python:
/// four commit a third more when they turn themselves, 64 a third less.
const CROWD: usize = 32;
const FEW: usize = 2;

/// A runtime that is turned by whoever waits. When it is dropped its tasks end, and nobody waits for that.
///
/// ```
/// use zeolite_client::blocking::Wheel;
///
/// # fn main() -> std::io::Result<()> {
/// let wheel = Wheel::start()?;
/// assert_eq!(wheel.wait(async { 7 }), 7);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Wheel {
    // Dropped before its thread is told to end, which so is the last to have the runtime, and drops it: a task, which may drop the wheel, must not.
    turned: Arc<Turned>,
    own: Own,
    /// Answers that are waited for elsewhere.
    elsewhere: Arc<AtomicUsize>,
}

/// The own thread, from outside. It ends when this is dropped.
#[derive(Debug)]
struct Own {
    thread: Thread,
    calls: Arc<Calls>,
}

/// What calls the own thread from its turning, and to its end.
#[derive(Debug, Default)]
struct Calls {
    called: Notify,
    over: AtomicBool,
}

/// What the own thread does.
mod own {
    /// It looks now and then whether anybody has waited.
    pub(super) const LOOKS: u8 = 0;
    /// It sleeps until the last who waits goes, or there is a crowd.
    pub(super) const SLEEPS: u8 = 1;
    /// It turns the wheel until it is called away.
    pub(super) const TURNS: u8 = 2;
}

#[derive(Debug)]
struct Turned {
    runtime: Runtime,
    /// Those who wait now, and how many ever have.
    waiting: AtomicUsize,
    waits: AtomicU64,
    /// What the own thread does.
    own: AtomicU8,
    calls: Arc<Calls>,
    /// There is something to do for which nobody waits.
    told: AtomicBool,
}

/// Somebody waits.
struct Waits<'w>(&'w Wheel);

/// Somebody waits elsewhere.
struct Elsewhere(Arc<AtomicUsize>);

impl Wheel {
    /// A wheel, and its own thread.
    pub fn start() -> io::Result<Wheel> {
        let calls = Arc::<Calls>::default();
        let turned = Arc::new(Turned {
            runtime: Builder::new_current_thread().enable_all().build()?,
            waiting: AtomicUsize::new(0),
            waits: AtomicU64::new(0),
            own: AtomicU8::new(own::LOOKS),
            calls: calls.clone(),
            told: AtomicBool::new(false),
        });
        let of_own = turned.clone();
        let own = thread::Builder::new().name("zeolite".to_owned()).spawn(move || of_own.turn_meanwhile())?;
        Ok(Wheel { turned, own: Own { thread: own.thread().clone(), calls }, elsewhere: Arc::default() })
    }

    /// Waits for the work, and turns the wheel meanwhile.
    ///
    /// # Panics
    /// In a thread that a runtime runs on.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let _waits = Waits::new(self);
        self.turned.runtime.block_on(work)
    }

    /// The work's answer, if it is there without waiting. What the work asks for lies in the wheel then, for who waits for it.
    pub fn ready<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let once = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => Poll::Ready(None),
        });
        // Not only in its context: whoever does not hold the wheel has to wake who does, which costs a call of the system.
        self.turned.runtime.block_on(once)
    }

    /// Does what can be done without waiting, if nobody else is there for that: what has come is taken in, what was spawned is begun.
    pub fn turn(&self) {
        if self.turned.own.load(SeqCst) != own::TURNS && self.turned.waiting.load(SeqCst) == 0 {
            self.wait(tokio::task::yield_now());
        }
    }

    /// Begins work whose end is waited for elsewhere.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let elsewhere = Elsewhere::new(&self.elsewhere);
        let task = self.turned.runtime.spawn(async move {
            let _elsewhere = elsewhere;
            work.await
        });
        self.tell();
        task
    }

    /// There is something to do that was spawned elsewhere in its context, and for which nobody waits.
    pub fn tell(&self) {
        if self.turned.own.load(SeqCst) == own::LOOKS && self.turned.waiting.load(SeqCst) == 0 {
            self.tell_own();
        }
    }

    fn tell_own(&self) {
        self.turned.told.store(true, SeqCst);
        self.own.thread.unpark();
    }

    /// The runtime's context for this thread.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.turned.runtime.enter()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.calls.over.store(true, SeqCst);
        self.calls.called.notify_one();
        self.thread.unpark();
    }
}

impl Waits<'_> {
    fn new(wheel: &Wheel) -> Waits<'_> {
        let turned = &wheel.turned;
        turned.waits.fetch_add(1, SeqCst);
        let waiting = turned.waiting.fetch_add(1, SeqCst) + 1;
        match turned.own.load(SeqCst) {
            own::TURNS if waiting <= FEW => turned.calls.called.notify_one(),
            own::LOOKS | own::SLEEPS if waiting > CROWD => wheel.tell_own(),
            _ => {}
        }
        Waits(wheel)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Wheel { turned, own, elsewhere } = self.0;
        if turned.waiting.fetch_sub(1, SeqCst) == 1 {
            match (turned.own.load(SeqCst), elsewhere.load(SeqCst) > 0) {
                (own::SLEEPS | own::LOOKS, true) => self.0.tell_own(),
                (own::SLEEPS, false) => own.thread.unpark(),
                _ => {}
            }
        }
    }
}

impl Elsewhere {
    fn new(count: &Arc<AtomicUsize>) -> Elsewhere {
        count.fetch_add(1, SeqCst);
        Elsewhere(count.clone())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Turned {
    /// The own thread's life.
    fn turn_meanwhile(&self) {
        let mut before = self.waits.load(SeqCst);
        loop {
            if !self.told.load(SeqCst) {
                thread::park_timeout(LOOK);
            }
            if self.calls.over.load(SeqCst) {
                return;
            }
            let (waiting, waits) = (self.waiting.load(SeqCst), self.waits.load(SeqCst));
            let is_quiet = self.told.swap(false, SeqCst) || waits == before;
            before = waits;
            match is_quiet {
                true if needs_own(waiting) => self.turn_until_called(),
                true => self.sleep(),
                false => {}
            }
        }
    }

    fn turn_until_called(&self) {
        self.own.store(own::TURNS, SeqCst);
        // Whoever comes from now on calls.
        if needs_own(self.waiting.load(SeqCst)) {
            self.runtime.block_on(self.calls.called.notified());
        }
        self.own.store(own::LOOKS, SeqCst);
    }

    fn sleep(&self) {
        self.own.store(own::SLEEPS, SeqCst);
        // Whoever goes from now on wakes.
        if self.waiting.load(SeqCst) > 0 {
            thread::park();
        }
        self.own.store(own::LOOKS, SeqCst);
    }
}

/// Whether nobody else turns, or should.
fn needs_own(waiting: usize) -> bool {
    waiting == 0 || waiting > CROWD
}
