//! Owns `top`: a look at a server every second, drawn in a terminal or told as lines.
//!
//! ```text
//!   terminal                   a screen that is drawn anew: screen, terminal; q quits
//!   --once                     one table after one interval
//!   --json, or no terminal     one JSON value for each interval
//! ```
//! A sample is the difference of two looks at the server's status: nothing runs in the server for it. The evolves beside it are
//! read like any other objects, in a session that the number of sessions is told without. On the screen a
//! server that does not answer is waited for; as lines that ends the command with the code for it.

mod sample;
mod screen;
mod terminal;

use crate::evolve::{Glance, Jobs};
use crate::exit::Ends;
use crate::output::Out;
use crate::server::Server;
use anyhow::{Context, Result};
use clap::Args;
use sample::Sample;
use screen::{Screen, Tone};
use std::io::IsTerminal;
use std::time::Duration;
use terminal::{Terminal, Wish};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use zeolite_client::{Admin, Status};

/// The server's answer must come within this, or it counts as not there: an old number on the screen is worse than none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A server that could not be asked for its evolves is not asked again for so long: the numbers must not wait for it.
const GLANCE_AGAIN_AFTER: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct TopArgs {
    /// Seconds between two samples
    #[arg(long, short = 'i', value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// One table after one interval, instead of a screen
    #[arg(long)]
    once: bool,
    /// End after so many samples; 0 for never
    #[arg(long, short = 'n', value_name = "SAMPLES", default_value_t = 0)]
    count: u64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "write seconds, as in 1 or 0.5")?;
    if (0.05..=3600.0).contains(&value) { Ok(value) } else { Err("use 0.05 to 3600 seconds".into()) }
}

pub(crate) async fn top(out: &Out, server: &Server, args: &TopArgs) -> Result<()> {
    let mut watcher = Watcher::connect(server, args).await?;
    let on_screen = std::io::stdout().is_terminal() && !out.is_json() && !args.once;
    let mut ends = Ends::new()?;
    tokio::select! {
        done = watch(out, &mut watcher, args, on_screen) => done,
        why = ends.next("") => Err(why),
    }
}

async fn watch(out: &Out, watcher: &mut Watcher, args: &TopArgs, on_screen: bool) -> Result<()> {
    if on_screen {
        return draw(watcher, args).await;
    }
    let mut told = 0;
    while !out.is_closed() {
        let Some(sample) = watcher.next().await? else { continue };
        if args.once && !out.is_json() {
            table(out, &watcher.server.address, sample);
        } else {
            out.json(&sample)?;
        }
        told += 1;
        if args.once || told == args.count {
            return Ok(());
        }
    }
    Ok(())
}

fn table(out: &Out, server: &str, sample: Sample) {
    let mut screen = Screen::new(server);
    screen.add(sample);
    for line in screen.table() {
        match line.tone {
            Tone::Title => out.line(out.bold(&line.text)),
            Tone::Quiet => out.line(out.dim(&line.text)),
            Tone::Alarm => out.line(out.verdict(false, &line.text)),
            Tone::Plain => out.line(&line.text),
        }
    }
}

async fn draw(watcher: &mut Watcher, args: &TopArgs) -> Result<()> {
    let mut screen = Screen::new(&watcher.server.address);
    let mut terminal = Terminal::take_over()?;
    let mut wishes = terminal::wishes();
    let mut told = 0;
    loop {
        let (width, height) = Terminal::size();
        terminal.draw(&screen.lines(width, height))?;
        if args.count > 0 && told == args.count {
            return Ok(());
        }
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(Wish::Redraw) => {}
                // None: nobody can press a key any more.
                Some(Wish::Quit) | None => return Ok(()),
            },
            next = watcher.next() => match next {
                Ok(sample) => {
                    screen.set_trouble(None);
                    told += u64::from(sample.is_some());
                    sample.into_iter().for_each(|sample| screen.add(sample));
                }
                Err(error) => screen.set_trouble(Some(format!("{error:#}"))),
            },
        }
    }
}

/// A server that is looked at again and again.
struct Watcher {
    server: Server,
    admin: Admin,
    ticks: Interval,
    before: Option<Status>,
    /// For the evolves; none: not yet, or it did not work.
    glance: Option<Glance>,
    glance_from: Instant,
}

impl Watcher {
    async fn connect(server: &Server, args: &TopArgs) -> Result<Watcher> {
        let server = server.clone().within(Some(ANSWER_WITHIN.min(server.timeout)));
        let admin = server.admin().await?;
        let mut ticks = interval(Duration::from_secs_f64(args.interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Watcher { server, admin, ticks, before: None, glance: None, glance_from: Instant::now() })
    }

    /// Waits for the next tick; `None`: there is nothing to compare with yet. Dropped in between it has lost nothing.
    async fn next(&mut self) -> Result<Option<Sample>> {
        self.ticks.tick().await;
        let mut after = match self.admin.status().await {
            Ok(status) => status,
            Err(error) => {
                // A token or a certificate that was made anew is read with a new connection.
                if let Ok(admin) = self.server.admin().await {
                    self.admin = admin;
                }
                return Err(error.into());
            }
        };
        // Not the one that is there only because somebody looks.
        after.sessions = after.sessions.saturating_sub(u64::from(self.glance.is_some()));
        let jobs = self.jobs().await;
        let sample = self.before.as_ref().and_then(|before| Sample::between(before, &after));
        self.before = Some(after);
        Ok(sample.map(|sample| sample.with_jobs(jobs)))
    }

    /// The evolves; `None`: the server cannot be asked for them now.
    async fn jobs(&mut self) -> Option<Jobs> {
        if Instant::now() < self.glance_from {
            return None;
        }
        let jobs = self.ask().await.ok();
        if jobs.is_none() {
            (self.glance, self.glance_from) = (None, Instant::now() + GLANCE_AGAIN_AFTER);
        }
        jobs
    }

    async fn ask(&mut self) -> Result<Jobs> {
        if self.glance.is_none() {
            self.glance = Some(Glance::connect(&self.server, "top").await?);
        }
        self.glance.as_ref().context("no session")?.jobs().await
    }
}
