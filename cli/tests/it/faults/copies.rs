//! Backups and restores on a disk that fails under them: what is told, that the last backup stays good, and that they are gone on with.

use super::scene::{EIO, ENOSPC, Op, Scene};
use crate::program::{program, text};
use std::path::Path;
use std::process::Output;

impl Scene {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("plain").to_owned()
    }

    /// A command on whose disk the faults are in force.
    fn under_faults(&self, args: &[&str]) -> Output {
        let mut command = program();
        self.faults.in_force(command.args(["--json", "--server", &self.served().address]).args(args));
        command.output().expect("the binary starts")
    }

    async fn history(&self) {
        for name in 0..6 {
            let cell = self.cell().await;
            for time in 0..10_u8 {
                self.put(&cell, &[name + time; 3000]).await.expect("commits");
            }
        }
        self.db.put_blob(&[3_u8; 100_000][..]).await.expect("goes up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_place_fails_says_so_and_the_last_one_stays_good() {
    let scene = Scene::start(&[]).await;
    let to = scene.path("backup");
    scene.history().await;
    assert!(scene.served().run(&["backup", &to]).status.success());
    for (op, error, words) in [
        (Op::Write, ENOSPC, "No space left"),
        (Op::Write, EIO, "Input/output error"),
        (Op::Sync, EIO, "Input/output error"),
        (Op::Create, ENOSPC, "No space left"),
    ] {
        scene.history().await;
        scene.faults.fail(&[op], "/backup/", error);
        let failed = scene.under_faults(&["backup", &to, "--object-bytes", "4096"]);
        assert!(scene.faults.hits() > 0);
        let told = text(&failed.stderr);
        assert!(failed.status.code() == Some(5) && told.contains(words) && told.contains("/backup"), "{op:?} {told}");
        scene.faults.heal();
        let verified = scene.under_faults(&["backup", "verify", &to]);
        assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
        let taken = scene.under_faults(&["backup", &to, "--object-bytes", "4096"]);
        assert_eq!(taken.status.code(), Some(0), "{op:?} {}", text(&taken.stderr));
        assert!(scene.under_faults(&["backup", "drill", &to]).status.success());
    }
    scene.faults.fail(&[Op::Read], "/backup/", EIO);
    let unreadable = scene.under_faults(&["backup", "verify", &to]);
    assert_ne!(unreadable.status.code(), Some(0), "{}", text(&unreadable.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_finds_no_room_or_a_bad_disk_says_so_and_is_gone_on_with() {
    let scene = Scene::start(&[]).await;
    let from = scene.path("backup");
    scene.history().await;
    assert!(scene.served().run(&["backup", &from, "--object-bytes", "4096"]).status.success());
    for (n, (op, error)) in [(Op::Write, ENOSPC), (Op::Write, EIO), (Op::Sync, EIO)].into_iter().enumerate() {
        let into = scene.path(&format!("restored-{n}"));
        scene.faults.fail(&[op], &format!("restored-{n}/log/"), error);
        let failed = scene.under_faults(&["restore", &from, "--into", &into]);
        assert!(scene.faults.hits() > 0);
        assert_ne!(failed.status.code(), Some(0), "{op:?} {}", text(&failed.stdout));
        println!("{op:?} {error}: {:?} {}", failed.status.code(), text(&failed.stderr));
        scene.faults.heal();
        let again = scene.under_faults(&["restore", &from, "--into", &into, "--resume"]);
        assert_eq!(again.status.code(), Some(0), "{op:?} {}", text(&again.stderr));
        let verified = scene.under_faults(&["verify", "--data", &into]);
        assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
        assert!(Path::new(&into).join("log").is_dir());
    }
}
