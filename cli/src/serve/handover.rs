//! Owns the hand-over: a new process takes the place of a running server, and its clients notice a moment of waiting.
//!
//! ```text
//!   SIGUSR2 ──> this very program once more, which starts the next process, and ends: the same program with the same arguments, as
//!               its file is now (an upgrade may have replaced it, or led a link elsewhere)
//!                 │  ── number of the new process ──>
//!                 │  <── listener, addresses, directory ──                 over a socket that is its standard input
//!                 │  ── ready ──>    settings, certificates, users read and right, addresses free, the directory the same
//!   stops accepting, finishes what it has, leaves the store ── end of the socket ──> opens the store, accepts
//! ```
//! Who connects meanwhile waits in the listener's queue, which both processes have: nobody is refused. A new process that is not ready in time,
//! or ends before it is, changes nothing: the old one serves on. Behind `ready` there is no way back; if the new process dies then, the old one
//! ends with an error, and whoever watches over them starts another.
//!
//! The new process is nobody's child but the service manager's, before that hears of it: systemd asks once, when it is told of a main
//! process, whether that is its child, and does not wait for the end of one that is not: a `systemctl stop` would be a kill -9. What
//! starts it is of the old one's making, so the new one may be of an earlier version as well.

use anyhow::{Context, Result, bail, ensure};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Says to a process that its standard input is the other end of a hand-over, and what it is to do with it.
const VARIABLE: &str = "ZEOLITE_HANDOVER";
/// To take over.
const TAKE_OVER: &str = "1";
/// To start the one that does, and end.
const START: &str = "start";
/// What is to be started.
const PROGRAM: &str = "ZEOLITE_HANDOVER_PROGRAM";
/// This program's file, whatever has its name by now.
const OWN_FILE: &str = "/proc/self/exe";
/// The new process must be ready within this.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const READY: &[u8] = b"r";
/// To one that is ready, and shall not take over after all; the end of the line says that it shall.
const NOT_NOW: &[u8] = b"n";
/// What is sent with the listener has at most this.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Arguments that are of one start alone.
const ONCE: [&str; 2] = ["--put-back", "--discard-own"];

/// What the old process has, and the new one has to fit.
#[derive(Serialize, Deserialize)]
pub(super) struct Old {
    /// Where it tells its numbers.
    pub(super) metrics: Option<SocketAddr>,
    pub(super) data: String,
}

/// The process that takes the place of this one.
pub(super) struct Next {
    pid: Pid,
    /// Its end tells the other that the store is free.
    line: UnixStream,
}

/// Starts it, and waits until it is ready.
pub(super) fn next(program: &Path, listener: &TcpListener, old: &Old) -> Result<Next> {
    let (line, theirs) = UnixStream::pair().context("a socket for the hand-over")?;
    let mut command = Command::new(OWN_FILE);
    command.args(std::env::args_os().skip(1).filter(|argument| !ONCE.iter().any(|once| argument == once)));
    command.env(VARIABLE, START).env(PROGRAM, program).stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut starts = super::systemd::of_another_process(&mut command).spawn().context(OWN_FILE)?;
    // It has the other end as well, and would hide that the new process has ended.
    drop(command);
    let until = Instant::now() + READY_WITHIN;
    let number = number(&line, &mut starts, until);
    // One that has ended already cannot be killed, which is as good.
    drop(starts.kill());
    starts.wait().context("the process that starts the new one")?;
    let next = Next { pid: number.with_context(|| format!("{} was not started", program.display()))?, line };
    match make_ready(&next.line, listener, old, until) {
        Ok(()) => Ok(next),
        Err(why) => {
            next.give_up();
            Err(why.context("the new process did not become ready; its message is above"))
        }
    }
}

/// Of the new process. The line alone does not tell that who was to start it has ended: the new process has the other end as well.
fn number(mut line: &UnixStream, starts: &mut Child, until: Instant) -> Result<Pid> {
    line.set_read_timeout(Some(LOOK_EVERY))?;
    loop {
        // It may have been said at the very end.
        let ended = starts.try_wait()?;
        let mut said = [0; 4];
        match (line.read(&mut said), ended) {
            // Said in one piece.
            (Ok(4), _) => return Pid::from_raw(i32::from_be_bytes(said)).context("it has no number"),
            (Ok(_), _) => bail!("its message is above"),
            (Err(error), None) if is_silence(&error) => ensure!(Instant::now() < until, "nothing was heard in time"),
            (Err(error), Some(ended)) if is_silence(&error) => bail!("what was to start it has ended ({ended})"),
            (Err(error), _) => return Err(error).context("waiting for its number"),
        }
    }
}

fn is_silence(error: &std::io::Error) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&error.kind())
}

/// Whether this process has taken the place of another, which then had no child that somebody waits for.
pub(super) fn has_taken_over() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|what| what == TAKE_OVER)
}

/// Whether this process was started to start the next one; that is done then, and it is to end.
pub(super) fn has_started_next() -> Result<bool> {
    if std::env::var_os(VARIABLE).is_none_or(|what| what != START) {
        return Ok(false);
    }
    let mut line = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?);
    let program = std::env::var_os(PROGRAM).with_context(|| format!("{PROGRAM} names no program"))?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).env(VARIABLE, TAKE_OVER).env_remove(PROGRAM);
    let next = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
    line.write_all(&next.id().to_be_bytes()).context("the old process has gone")?;
    Ok(true)
}

fn make_ready(mut line: &UnixStream, listener: &TcpListener, old: &Old, until: Instant) -> Result<()> {
    let message = serde_json::to_vec(old)?;
    ensure!(message.len() <= MESSAGE_BYTES_MAX, "the name of the data directory is too long to hand it over");
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut room);
    let fds = [listener.as_fd()];
    ensure!(with.push(SendAncillaryMessage::ScmRights(&fds)), "no room for a descriptor");
    rustix::net::sendmsg(line, &[IoSlice::new(&message)], &mut with, SendFlags::empty()).context("the listener")?;
    let left = until.saturating_duration_since(Instant::now()).max(LOOK_EVERY);
    line.set_read_timeout(Some(left))?;
    let mut said = [0];
    line.read_exact(&mut said).context("waiting for it")?;
    ensure!(said == READY, "it said something else");
    Ok(())
}

impl Next {
    pub(super) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether its end of the line is there: it ends with the process. Behind `ready` nothing comes over it.
    fn is_there(&self) -> bool {
        rustix::net::recv(&self.line, &mut [0; 8], RecvFlags::PEEK | RecvFlags::DONTWAIT) == Err(Errno::AGAIN)
    }

    /// It is not to take over after all.
    pub(super) fn give_up(mut self) {
        // One that has ended already is not told, and not killed, which is as good.
        drop(self.line.write_all(NOT_NOW));
        if self.is_there() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }

    /// The store is free: the other one goes on. Says whether there is one.
    pub(super) fn go(self) -> Result<()> {
        ensure!(self.is_there(), "the new process has ended and nobody serves; start the server again");
        Ok(())
    }
}

/// What a process was handed that takes the place of another one.
pub(super) struct Inherited {
    line: UnixStream,
    pub(super) listener: TcpListener,
    pub(super) old: Old,
}

/// None: this process was started in the ordinary way.
pub(super) fn inherited() -> Result<Option<Inherited>> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(None);
    }
    let line = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?);
    let (listener, old) = received(&line).with_context(|| {
        format!("{VARIABLE} is set, and standard input is no hand-over of a running server; unset it to start one")
    })?;
    Ok(Some(Inherited { line, listener, old }))
}

fn received(line: &UnixStream) -> Result<(TcpListener, Old)> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut room);
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(line, &mut [IoSliceMut::new(&mut bytes)], &mut with, flags)?;
    let old = serde_json::from_slice(&bytes[..got.bytes]).context("what the other end has said")?;
    let fds = with.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let listener = TcpListener::from(fds.context("there is no listener in it")?);
    rustix::io::fcntl_setfd(&listener, FdFlags::CLOEXEC)?;
    Ok((listener, old))
}

impl Inherited {
    /// Tells the old process that it may leave, and waits until it has.
    pub(super) fn take_over(mut self) -> Result<TcpListener> {
        self.line.write_all(READY).context("the old process has gone")?;
        // Whatever ends the line, the old process has nothing more to say.
        let mut said = [0];
        match self.line.read(&mut said) {
            Ok(1..) if said == NOT_NOW => bail!("the old process serves on after all"),
            _ => Ok(self.listener),
        }
    }
}
