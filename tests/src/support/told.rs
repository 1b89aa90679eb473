//! Owns the answer that has not come yet: what a `Done` of the engine puts into a test's hands.

use parking_lot::Mutex;
use std::sync::Arc;
use zeolite_proto::Fault;
use zeolite_server::engine::Done;

/// The place of an answer. Clones share it.
#[derive(Debug)]
pub struct Told<T> {
    answer: Arc<Mutex<Option<Result<T, Fault>>>>,
}

impl<T> Clone for Told<T> {
    fn clone(&self) -> Self {
        Told { answer: self.answer.clone() }
    }
}

impl<T: Send + 'static> Told<T> {
    /// A place, and the callback that fills it. A second answer is an error of the engine.
    pub fn pair() -> (Done<T>, Told<T>) {
        let told = Told { answer: Arc::default() };
        let place = told.answer.clone();
        let done = Box::new(move |answer| {
            let earlier = place.lock().replace(answer);
            assert!(earlier.is_none(), "a caller was answered twice");
        });
        (done, told)
    }

    /// An answer that is there already.
    pub fn with(answer: Result<T, Fault>) -> Told<T> {
        Told { answer: Arc::new(Mutex::new(Some(answer))) }
    }

    /// Whether the answer is there.
    pub fn is_told(&self) -> bool {
        self.answer.lock().is_some()
    }

    /// Takes the answer out, if it is there.
    pub fn take(&self) -> Option<Result<T, Fault>> {
        self.answer.lock().take()
    }

    /// Takes the answer of a call that must have ended.
    pub fn expect(&self) -> Result<T, Fault> {
        self.take().expect("the loops were run dry, and every caller is answered by then")
    }
}
