//! Owns the model of a primary and its follower: both in one thread, on disks that lose what was not synced, with a line between them that
//! breaks; against what clients were told.
//!
//! ```text
//!   dice ── a draft, a turn of a loop, a batch across, an acknowledgement, a cut, a crash of either, time, a fail-over
//!   after each step   whoever was told of a commit: it is on the follower's disk, and nothing newer is visible than what is there
//!   after each fail-over   whatever was acknowledged is committed, under the tid that was told; a key that is sent again is committed once
//! ```

mod fences;
mod stops;
mod world;

use world::World;

#[test]
fn what_is_acknowledged_outlives_every_crash_and_fail_over() {
    let seeds = std::env::var("ZEOLITE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150);
    let (mut acknowledged, mut fail_overs) = (0, 0);
    for seed in 0..seeds {
        let ran = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..600).for_each(|_| world.step());
            world.end();
            (world.acknowledged.len(), world.fail_overs)
        });
        let (told, over) = ran.unwrap_or_else(|_| panic!("seed {seed}"));
        (acknowledged, fail_overs) = (acknowledged + told, fail_overs + over);
    }
    assert!(
        acknowledged as u64 > 4 * seeds && fail_overs > seeds,
        "{acknowledged} acknowledged, {fail_overs} fail-overs"
    );
}
