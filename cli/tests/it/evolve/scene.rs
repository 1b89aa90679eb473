//! Owns the scene of these tests: a served database with numbered objects, and steps that are shell scripts.

use crate::served::{Served, program};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use zeolite_client::{Cell, Db, Oid, Record};

/// The class of the objects.
pub(crate) const CLASS: &str = "test.Number";

/// Adds one to the object's number: an object that is stepped twice can be told from one that is stepped once.
pub(crate) const ADD_ONE: &str = r#"
while IFS= read -r line; do
  oid=${line#*'"oid":"'}
  oid=${oid%%'"'*}
  case "$line" in
    *'"data":"MA=="'*) echo '{"oid":"'$oid'","version":2,"data":"MQ=="}' ;;
    *'"data":"MQ=="'*) echo '{"oid":"'$oid'","version":2,"data":"Mg=="}' ;;
    *) echo '{"oid":"'$oid'","error":"no number that this step knows"}' ;;
  esac
done
"#;

/// A served database.
pub(crate) struct Scene {
    pub(crate) served: Served,
    pub(crate) db: Db,
    pub(crate) oids: Vec<Oid>,
    dir: tempfile::TempDir,
}

impl Scene {
    /// With so many objects, all with the number 0, in version 1.
    pub(crate) async fn with(objects: usize) -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let served = Served::start(&dir.path().join("data"));
        let db = Db::connect(&served.address).await.expect("connects");
        let mut oids = Vec::new();
        for _ in 0..objects {
            oids.push(db.new_oid().await.expect("an oid"));
        }
        let scene = Scene { served, db, oids, dir };
        let tx = scene.db.begin().await.expect("begins");
        for oid in &scene.oids {
            tx.put(Cell::object(*oid), &Record::new(CLASS, 1, "0")).expect("encodes");
        }
        tx.commit().await.expect("commits");
        scene
    }

    /// Kills the server, or stops it in order, and starts it again where it was.
    pub(crate) fn restart(self, kill: bool) -> Scene {
        let Scene { served, db, oids, dir } = self;
        let address = served.address.clone();
        match kill {
            true => drop(served),
            false => assert_eq!(served.stop(), Some(0)),
        }
        let served = Served::start_at(&dir.path().join("data"), &address);
        Scene { served, db, oids, dir }
    }

    /// A script that steps objects.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path
    }

    /// The numbers of all objects with their versions, in order.
    pub(crate) async fn numbers(&self) -> Vec<(u32, String)> {
        let view = self.db.transaction().fresh().begin().await.expect("begins");
        let mut numbers = Vec::new();
        for oid in &self.oids {
            let record = view.get(&Cell::object(*oid)).await.expect("reads").expect("is there");
            numbers.push((record.version, String::from_utf8_lossy(&record.data).into_owned()));
        }
        numbers
    }

    /// `evolve …` that must succeed; its only JSON value.
    pub(crate) fn evolve(&self, args: &[&str]) -> Value {
        // The disk of the machine that tests may be fairly full: that is another test's business.
        let any_disk = ["--set", "disk_pause_percent=0", "--set", "disk_stop_percent=0"];
        let args = match args {
            ["plan", name, rest @ ..] => [&["evolve", "plan", name], &any_disk[..], rest].concat(),
            args => [&["evolve"], args].concat(),
        };
        self.served.json(&args).pop().expect("one value")
    }

    /// `evolve …` that must fail with a code; what it said about it.
    pub(crate) fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.served.run(&[&["evolve"], args].concat());
        let said = crate::served::text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    /// `evolve …` for people, with its code; all that it said.
    pub(crate) fn said(&self, code: i32, args: &[&str]) -> String {
        let output = self.served.run(&[&["evolve"], args].concat());
        let said = [crate::served::text(&output.stdout), crate::served::text(&output.stderr)].concat();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    /// `evolve …`, however it ends; what it printed.
    pub(crate) fn refused_or_done(&self, args: &[&str]) -> String {
        crate::served::text(&self.served.run(&[&["evolve"], args].concat()).stdout)
    }

    /// `evolve run NAME --exec sh SCRIPT` in the background.
    pub(crate) fn worker(&self, name: &str, script: &Path) -> Child {
        program()
            .args(["--server", &self.served.address, "evolve", "run", name, "--exec", "sh"])
            .arg(script)
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts")
    }

    /// `evolve watch NAME` in the background.
    pub(crate) fn watch(&self, name: &str) -> Watching {
        let mut child = program()
            .args(["--json", "--server", &self.served.address, "evolve", "watch", name])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("has an output")).lines();
        Watching { child, lines }
    }
}

/// What `evolve watch` tells.
pub(crate) struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    /// The first state that is as wanted.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        for line in self.lines.by_ref() {
            let state: Value = serde_json::from_str(&line.expect("reads")).expect("json");
            if wanted(&state) {
                return state;
            }
        }
        panic!("the watch ended before that");
    }

    /// Its exit code, once it ends by itself.
    pub(crate) fn ends(mut self) -> Option<i32> {
        self.lines.by_ref().for_each(drop);
        self.child.wait().expect("ends").code()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
