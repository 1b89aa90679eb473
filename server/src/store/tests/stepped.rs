//! What another thread might do between two steps, done there: the settler's work inside of every read, and every read
//! inside of the settler's work, each compared with the model.

use super::model::{Model, ask, random_txn};
use super::*;
use crate::store::Appender;
use crate::store::steps::Step;
use parking_lot::Mutex;
use std::collections::BTreeMap;

fn write(appender: &mut Appender, model: &mut Model, dice: &mut fastrand::Rng) {
    let mut tid = model.last().0;
    for _ in 0..dice.usize(1..4) {
        tid += dice.u64(1..3);
        let txn = random_txn(dice, tid);
        let appended = appender.append(std::slice::from_ref(&txn)).expect("appends");
        appender.publish(appended);
        model.add(&txn);
    }
}

fn run(seed: u64, passed: &Arc<Mutex<BTreeMap<String, usize>>>) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let settings = StoreSettings {
        cache_bytes: [0, 1 << 20][dice.usize(0..2)],
        recent_entries_max: [0, 5, 50][dice.usize(0..3)],
        ..small()
    };
    let Opened { mut appender, reader, settler, .. } = open(&SimDisk::new(), settings).expect("opens");
    let settler = Arc::new(Mutex::new(settler));
    let mut model = Model::default();
    for _ in 0..60 {
        write(&mut appender, &mut model, &mut dice);
        let steps = &reader.state.overlay.steps;
        let (inside, state, passed_here) = (settler.clone(), reader.state.clone(), passed.clone());
        let own = Mutex::new(fastrand::Rng::with_seed(dice.u64(..)));
        steps.hook(Some(Arc::new(move |step| {
            if own.lock().u8(0..4) == 0 && !state.overlay.is_held() {
                *passed_here.lock().entry(format!("{step:?}")).or_default() += 1;
                let txns_max = own.lock().usize(0..4);
                inside.lock().settle(txns_max).expect("settles");
            }
        })));
        (0..3).for_each(|_| ask(&reader, &model, &mut dice));
        steps.hook(None);
        write(&mut appender, &mut model, &mut dice);
        let (asked, asking, passed_here) = (Arc::new(model.clone()), reader.clone(), passed.clone());
        let own = Mutex::new(fastrand::Rng::with_seed(dice.u64(..)));
        steps.hook(Some(Arc::new(move |step| {
            *passed_here.lock().entry(format!("{step:?}")).or_default() += 1;
            ask(&asking, &asked, &mut own.lock());
        })));
        settler.lock().settle(dice.usize(0..4)).expect("settles");
        steps.hook(None);
    }
}

#[test]
fn whatever_happens_between_two_steps_every_answer_is_right() {
    let passed = Arc::new(Mutex::new(BTreeMap::new()));
    for seed in 1..40 {
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &passed)));
        assert!(told.is_ok(), "failed with seed {seed}");
    }
    let passed = passed.lock();
    for step in [
        Step::BeforeOverlay,
        Step::AfterOverlay,
        Step::BeforeInsertion,
        Step::Committed,
        Step::CacheTold,
        Step::Removing,
    ] {
        assert!(passed.get(&format!("{step:?}")).is_some_and(|count| *count > 100), "{passed:?}");
    }
}
