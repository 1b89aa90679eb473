//! Owns the conversation with a Python program that runs beside a test: messages are lists of byte strings, in turn.
//!
//! ```text
//!   message   u32 number of parts, then for each u32 length and bytes; little endian
//! ```
//!
//! The Python that has ZODB is in `target/venv`, which `./test` makes. Without it these tests fail and say so.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running program.
pub(crate) struct Python {
    child: Child,
    to: ChildStdin,
    from: std::io::BufReader<ChildStdout>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

impl Python {
    /// Starts a program of `zodb/tests/python`.
    pub(crate) fn run(program: &str, args: &[String]) -> Python {
        let interpreter = workspace().join("target/venv/bin/python");
        assert!(
            interpreter.exists(),
            "{} is needed for ZODB: run ./test, or python3 -m venv target/venv && \
             target/venv/bin/pip install -r python/requirements-test.txt",
            interpreter.display()
        );
        let mut child = Command::new(interpreter)
            .arg(workspace().join("zodb/tests/python").join(program))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let to = child.stdin.take().expect("is piped");
        let from = std::io::BufReader::new(child.stdout.take().expect("is piped"));
        Python { child, to, from }
    }

    /// The next message; none: the program has ended.
    pub(crate) fn hear(&mut self) -> Option<Vec<Vec<u8>>> {
        let count = self.number()?;
        (0..count).map(|_| self.part()).collect()
    }

    fn number(&mut self) -> Option<u32> {
        let mut bytes = [0; 4];
        self.from.read_exact(&mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn part(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.number()? as usize];
        self.from.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Says something.
    pub(crate) fn say(&mut self, parts: &[Vec<u8>]) {
        let mut message = (parts.len() as u32).to_le_bytes().to_vec();
        for part in parts {
            message.extend((part.len() as u32).to_le_bytes());
            message.extend(part);
        }
        self.to.write_all(&message).and_then(|()| self.to.flush()).expect("Python listens");
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn end(self) {
        let Python { mut child, to, .. } = self;
        drop(to);
        let status = child.wait().expect("Python ends");
        assert!(status.success(), "Python says above what is wrong: {status}");
    }
}

/// The seed of a run: of the environment, or a new one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("ZEOLITE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| fastrand::u64(..1 << 32))
}

/// Text of a part.
pub(crate) fn text(part: &[u8]) -> String {
    String::from_utf8_lossy(part).into_owned()
}
