//! Owns the life of `serve`: it begins on a listener of its own, of a service manager, or of the process before it; and ends, or lets the
//! next process take its place.

use super::follow::{self as following, discard_own, find_stores};
use super::{FollowArgs, ServeArgs, apart, followed, handover, keep_of, registry, schedules, steering, systemd};
use crate::exit::Usage;
use crate::moment;
use crate::output::{Out, counted};
use anyhow::{Context, Result, ensure};
use sd_notify::NotifyState;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeolite_proto::Tid;
use zeolite_server::server::{Components, Server, ServerError};
use zeolite_server::settings::Settings;
use zeolite_server::store::StoreError;
use zeolite_server::store::disk::holder::{Holder, NOT_FOLLOWED, SERVED};

/// A new process waits so long for the store that the old one has left.
const STORE_WITHIN: Duration = Duration::from_secs(30);
/// Any process waits so long: whoever asks who has a directory holds its lock for a moment.
const LOOKS_WITHIN: Duration = Duration::from_millis(100);
/// And so long for other databases, when it has `main`.
const OTHERS_WITHIN: Duration = Duration::from_secs(1);

/// `zeolite serve`: until SIGINT or SIGTERM; a second one ends the process at once, which loses nothing acknowledged. SIGHUP: files of
/// users and certificates are read now. SIGUSR2: a new process takes the place of this one.
pub(crate) async fn serve(out: &Out, args: &ServeArgs) -> Result<()> {
    run(out, args, &How { primary: None, discard_own: false, must_follow: false }).await
}

/// `zeolite follow`: the same, and what it has is a warm copy of another server.
pub(crate) async fn follow(out: &Out, args: &FollowArgs) -> Result<()> {
    let FollowArgs { primary, discard_own, serve } = args;
    run(out, serve, &How { primary: primary.as_deref(), discard_own: *discard_own, must_follow: true }).await
}

/// What tells the two apart.
struct How<'a> {
    primary: Option<&'a str>,
    discard_own: bool,
    must_follow: bool,
}

async fn run(out: &Out, args: &ServeArgs, how: &How<'_>) -> Result<()> {
    if handover::has_started_next()? {
        return Ok(());
    }
    // Before anything else: a signal without somebody who takes it ends the process.
    let mut signals = Signals::new()?;
    let program = program()?;
    log_to_stderr(&args.log, args.log_format)?;
    let watchdog = systemd::Watchdog::start();
    let settings = args.settings(how.primary)?;
    keep_of(&settings).and_then(|_| apart(&settings)).and_then(|()| followed(&settings)).map_err(Usage)?;
    if how.must_follow && !settings.follow.is_on() {
        return Err(
            Usage("nobody is named to follow; write zeolite follow PRIMARY, or set follow.primary".into()).into()
        );
    }
    if how.discard_own {
        discard_own(&settings).await?;
    }
    let interrupted = || crate::exit::Interrupted(" while opening the store");
    let begun = tokio::select! {
        begun = begin(args, settings.clone()) => begun?,
        () = signals.end() => return Err(interrupted().into()),
    };
    let Begun { mut server, listener, data } = begun;
    watchdog.of(&server);
    // It listens: whoever asks meanwhile is told how far the opening is.
    let opened = tokio::select! {
        opened = server.opened() => opened,
        () = signals.end() => return Err(interrupted().into()),
    };
    if let Err(why) = opened {
        // Why there is no server is told; how it stops says nothing.
        drop(server.stop().await);
        return Err(usage_or_failure(why));
    }
    tell_restart(&settings.data_dir, SERVED);
    let schedules = schedules::start(&server, &settings);
    steering::begin(&server);
    let follows = following::start(&server, &settings)?;
    tell_started(out, &server, &data)?;
    systemd::tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
    let old = handover::Old { metrics: server.metrics_address(), data };
    let next = || {
        let next = can_be_followed().and_then(|()| handover::next(&program, &listener, &old));
        if next.is_err() {
            tell_restart(&settings.data_dir, NOT_FOLLOWED);
        }
        next
    };
    let next = live(&server, &mut signals, next).await;
    // What was under way is gone on with after the next start.
    drop((schedules, follows));
    tokio::select! {
        ended = end(server, next) => ended,
        () = signals.end() => Err(crate::exit::Interrupted(" before the store was closed; nothing is lost").into()),
    }
}

/// What `zeolite restart` waits for.
fn tell_restart(dir: &Path, word: &str) {
    if let Err(error) = Holder::note(dir, word) {
        tracing::warn!(%error, "the lock file cannot be written, and `zeolite restart` does not learn how this server stands");
    }
}

async fn end(server: Server, next: Option<handover::Next>) -> Result<()> {
    let Some(next) = next else {
        systemd::tell(&[NotifyState::Stopping]);
        return Ok(server.stop().await?);
    };
    tracing::info!(pid = next.id(), "a new process takes over");
    systemd::tell(&[NotifyState::MainPid(next.id())]);
    let left = server.make_way().await;
    next.go()?;
    Ok(left?)
}

/// This program's file, by the name that it was started by: an upgrade may put another file there, or lead a link elsewhere.
fn program() -> Result<PathBuf> {
    let by_name = std::env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
    match by_name {
        Some(name) => std::path::absolute(name).context("this program's own file"),
        None => std::env::current_exe().context("this program's own file"),
    }
}

/// A server that listens.
struct Begun {
    server: Server,
    /// The same that it accepts on, for the process after this one.
    listener: std::net::TcpListener,
    data: String,
}

async fn begin(args: &ServeArgs, settings: Settings) -> Result<Begun> {
    settings.check().map_err(|problems| Usage(problems.join("; ")))?;
    if settings.data_dir.exists() && !settings.data_dir.is_dir() {
        let data = settings.data_dir.display();
        return Err(Usage(format!(
            "the data directory {data} is a file; name a directory, or a path where there is nothing yet"
        ))
        .into());
    }
    let data =
        std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone()).display().to_string();
    let inherited = handover::inherited()?;
    let is_next = inherited.is_some();
    let listener = match inherited {
        Some(inherited) => {
            fits(&settings, &data, &inherited)?;
            tokio::task::spawn_blocking(|| inherited.take_over()).await.context("the hand-over")??
        }
        None => listen(&settings).await?,
    };
    listener.set_nonblocking(true).context("the listener")?;
    let components = components(&settings, is_next).await.map_err(usage_or_failure)?;
    let listens = listener.local_addr().context("the listener")?;
    let copies = settings.follow.is_on().then(|| find_stores(settings.clone(), listens));
    let components = Components { put_back: args.put_back, copies, ..components };
    let registry = registry(&settings.zodb);
    let accepting = TcpListener::from_std(listener.try_clone().context("the listener")?).context("the listener")?;
    let server = Server::begin(components, settings, registry, accepting).await.map_err(usage_or_failure)?;
    Ok(Begun { server, listener, data })
}

/// Whatever can be known before the old process has left anything.
fn fits(settings: &Settings, data: &str, inherited: &handover::Inherited) -> Result<()> {
    let address = inherited.listener.local_addr().context("the listener")?;
    Server::check_files(settings, address).map_err(usage_or_failure)?;
    let old = &inherited.old;
    ensure!(
        old.data == data,
        "the data directory is {data} now and was {}: stop the server and start it again",
        old.data
    );
    if let Some(metrics) = settings.metrics.listen_addr().map_err(Usage)?
        && metrics.port() != 0
        && old.metrics != Some(metrics)
    {
        // Bound again when the old one has gone.
        drop(std::net::TcpListener::bind(metrics).with_context(|| format!("metrics.listen = {metrics}"))?);
    }
    Ok(())
}

/// On the socket of a service manager, or one of its own.
async fn listen(settings: &Settings) -> Result<std::net::TcpListener> {
    if let Some(listener) = systemd::listener()? {
        return Ok(listener);
    }
    // Where it was looked up that strangers are kept out: another lookup might say another address.
    let address = settings.listen_addr().map_err(Usage)?;
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.with_context(|| format!("cannot listen on {}; is another server running there?", settings.listen))?;
    Ok(listener.into_std()?)
}

/// The machine's disk and clock; for the process after another one, as soon as that has let the store go. Other databases may be others' for
/// good.
async fn components(settings: &Settings, is_next: bool) -> Result<Components, ServerError> {
    let begun = Instant::now();
    let store_within = if is_next { STORE_WITHIN } else { LOOKS_WITHIN };
    loop {
        match Components::real(settings) {
            Ok(components) if is_next && components.has_locked() && begun.elapsed() < OTHERS_WITHIN => drop(components),
            Err(ServerError::Store(StoreError::Locked { .. })) if begun.elapsed() < store_within => {}
            made => return made,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn tell_started(out: &Out, server: &Server, data: &str) -> Result<()> {
    let metrics = server.metrics_address().map(|address| address.to_string());
    if out.is_json() {
        let (address, pid) = (server.address().to_string(), std::process::id());
        return out.json(&json!({ "address": address, "metrics": metrics, "data": data, "pid": pid }));
    }
    let status = server.engine().status();
    let there = match status.visible {
        Tid::NONE => "a new, empty database".to_owned(),
        // The server's own bookkeeping takes no time.
        newest if newest.unix_nanos() < 0 => "no commit so far".to_owned(),
        newest => format!("{}, newest {}", counted(status.objects, "object"), moment::shown(newest)),
    };
    out.line(format_args!("listening on {}, data in {data} ({there})", server.address()));
    metrics.iter().for_each(|address| out.line(format_args!("metrics at http://{address}/metrics")));
    Ok(())
}

/// Until it is told to end, or, then there is one, another process is ready to go on.
async fn live(
    server: &Server,
    signals: &mut Signals,
    next: impl Fn() -> Result<handover::Next>,
) -> Option<handover::Next> {
    loop {
        tokio::select! {
            biased;
            _ = signals.interrupt.recv() => return None,
            _ = signals.terminate.recv() => return None,
            _ = signals.reload.recv() => {
                systemd::reloading();
                server.look_at_files();
                systemd::tell(&[NotifyState::Ready]);
            }
            _ = signals.hand_over.recv() => match tokio::task::block_in_place(&next) {
                // Who was told to end meanwhile ends.
                Ok(next) if signals.has_ended().await => {
                    next.give_up();
                    return None;
                }
                Ok(next) => return Some(next),
                Err(why) => tracing::error!("{why:#}; this process serves on"),
            },
        }
    }
}

/// The processes of the machine itself, and of no container on it: PROC_PID_INIT_INO of the kernel.
const MACHINES_OWN: &str = "pid:[4026531836]";

/// A container ends with its first process, and that ends with the one that it has started, unless it is a service manager.
fn can_be_followed() -> Result<()> {
    anyhow::ensure!(std::process::id() != 1, "process 1 cannot be followed by another; stop it and start it again");
    let in_container = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|own| own != Path::new(MACHINES_OWN));
    let is_waited_for = std::os::unix::process::parent_id() == 1 && !handover::has_taken_over();
    anyhow::ensure!(
        !in_container || !is_waited_for || std::env::var_os("NOTIFY_SOCKET").is_some(),
        "process 1 of this container has started this one, and would end with it; stop it and start it again"
    );
    Ok(())
}

/// The signals that a server knows.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    reload: Signal,
    hand_over: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let of = |kind: SignalKind| signal(kind).context("signals");
        let (interrupt, terminate) = (of(SignalKind::interrupt())?, of(SignalKind::terminate())?);
        let (reload, hand_over) = (of(SignalKind::hangup())?, of(SignalKind::user_defined2())?);
        Ok(Signals { interrupt, terminate, reload, hand_over })
    }

    /// Whether the end was asked for already.
    async fn has_ended(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.end() => true,
            () = std::future::ready(()) => false,
        }
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn usage_or_failure(error: ServerError) -> anyhow::Error {
    match error {
        ServerError::Settings(_) | ServerError::Listen(_) => Usage(error.to_string()).into(),
        other => other.into(),
    }
}

fn log_to_stderr(filter: &str, format: super::LogFormat) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Usage(format!("the log filter {filter:?} does not make sense: {error}")))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let started = match format {
        super::LogFormat::Text => subscriber.try_init(),
        super::LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
}
