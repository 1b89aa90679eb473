//! Owns the life of `serve`: it begins on a listener of its own, of a service manager, or of the process before it; and ends, or lets the
//! next process take its place.

use super::{ServeArgs, handover, keep_of, registry, schedules, systemd};
use crate::exit::Usage;
use crate::moment;
use crate::output::{Out, counted};
use anyhow::{Context, Result};
use sd_notify::NotifyState;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeolite_proto::Tid;
use zeolite_server::server::{Components, Server, ServerError};
use zeolite_server::settings::Settings;
use zeolite_server::store::StoreError;

/// A new process waits so long for the store that the old one has left.
const STORE_WITHIN: Duration = Duration::from_secs(30);

/// `zeolite serve`: until SIGINT or SIGTERM; a second one ends the process at once, which loses nothing acknowledged. SIGHUP: files of
/// users and certificates are read now. SIGUSR2: a new process takes the place of this one.
pub(crate) async fn serve(out: &Out, args: &ServeArgs) -> Result<()> {
    // Now: an upgrade may put another file in its place.
    let program = std::env::current_exe().context("this program's own file")?;
    log_to_stderr(&args.log, args.log_format)?;
    let settings = args.settings()?;
    keep_of(&settings).map_err(Usage)?;
    let Begun { mut server, listener, data } = begin(args, settings.clone()).await?;
    let mut signals = Signals::new()?;
    // It listens: whoever asks meanwhile is told how far the opening is.
    let opened = tokio::select! {
        opened = server.opened() => opened,
        () = signals.end() => return Err(crate::exit::Interrupted(" while opening the store").into()),
    };
    if let Err(why) = opened {
        // Why there is no server is told; how it stops says nothing.
        drop(server.stop().await);
        return Err(usage_or_failure(why));
    }
    let schedules = schedules::start(&server, &settings);
    tell_started(out, &server, &data)?;
    systemd::tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
    let next = live(&server, &mut signals, || handover::next(&program, &listener)).await;
    // What was under way is gone on with after the next start.
    drop(schedules);
    let ends = async {
        match next {
            None => {
                systemd::tell(&[NotifyState::Stopping]);
                Ok(server.stop().await?)
            }
            Some(next) => {
                tracing::info!(pid = next.id(), "a new process takes over");
                systemd::tell(&[NotifyState::MainPid(next.id())]);
                let left = server.make_way().await;
                next.go()?;
                Ok(left?)
            }
        }
    };
    tokio::select! {
        ended = ends => ended,
        () = signals.end() => Err(crate::exit::Interrupted(" before the store was closed; nothing is lost").into()),
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
            Server::check_files(&settings).map_err(usage_or_failure)?;
            tokio::task::spawn_blocking(|| inherited.take_over()).await.context("the hand-over")??
        }
        None => listen(&settings).await?,
    };
    listener.set_nonblocking(true).context("the listener")?;
    let components = components(&settings, is_next).await.map_err(usage_or_failure)?;
    let components = Components { put_back: args.put_back, ..components };
    let registry = registry(&settings.zodb);
    let accepting = TcpListener::from_std(listener.try_clone().context("the listener")?).context("the listener")?;
    let server = Server::begin(components, settings, registry, accepting).await.map_err(usage_or_failure)?;
    Ok(Begun { server, listener, data })
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

/// The machine's disk and clock; for the process after another one, as soon as that has let the store go.
async fn components(settings: &Settings, is_next: bool) -> Result<Components, ServerError> {
    let begun = Instant::now();
    loop {
        match Components::real(settings) {
            Ok(components) if is_next && components.has_locked() && begun.elapsed() < STORE_WITHIN => drop(components),
            Err(ServerError::Store(StoreError::Locked { .. })) if is_next && begun.elapsed() < STORE_WITHIN => {}
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
    let every = systemd::watchdog();
    loop {
        // Whoever has no watchdog looks at nothing.
        let sign = async { tokio::time::sleep(every.unwrap_or(Duration::MAX)).await };
        tokio::select! {
            biased;
            _ = signals.interrupt.recv() => return None,
            _ = signals.terminate.recv() => return None,
            _ = signals.reload.recv() => {
                systemd::reloading();
                server.look_at_files();
                systemd::tell(&[NotifyState::Ready]);
            }
            _ = signals.hand_over.recv() => match tokio::task::block_in_place(|| can_be_followed().and_then(|()| next())) {
                Ok(next) => return Some(next),
                Err(why) => tracing::error!("{why:#}; this process serves on"),
            },
            () = sign => {
                // What stands still tells nothing, and is started anew.
                server.is_moving().await;
                systemd::tell(&[NotifyState::Watchdog]);
            }
        }
    }
}

/// A container ends with its first process.
fn can_be_followed() -> Result<()> {
    anyhow::ensure!(std::process::id() != 1, "process 1 cannot be followed by another; stop it and start it again");
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
