//! Owns the place where backups lie: a directory, or a bucket of an object store, behind one small door.
//!
//! ```text
//!   /srv/backup            a directory, made when missing; each file is written beside, synced, and renamed
//!   s3://bucket/prefix     whatever speaks S3; the endpoint by `endpoint`, who one is by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or
//!                          by what AWS gives a machine
//! ```
//! In a directory large ones are written in slices ([`slices`]) while others are to feel nothing of it.
//! An object is put whole or not at all, and is never changed after that. So nobody meets half of one, and a cut leaves at most
//! objects that nothing names, and (in a directory) a file `NAME#NUMBER` that was being written.

use crate::errors::{Error, Result};
use crate::key::Key;
use crate::slices::{self, SLICE_BYTES};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a place is reached, beside its name.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// The URL of a server that speaks S3; none: AWS, or AWS_ENDPOINT_URL.
    pub endpoint: Option<String>,
    /// The region; none: AWS_REGION, or `us-east-1`.
    pub region: Option<String>,
    /// What everything there is encrypted with; none: it is not.
    pub key: Option<Key>,
}

/// A place of backups.
#[derive(Clone, Debug)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    prefix: Name,
    key: Option<Key>,
    shown: String,
    dir: Option<PathBuf>,
    /// Somebody else waits for the disk.
    is_gentle: Arc<AtomicBool>,
}

/// An object that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Below the place.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Place {
    /// Opens a place to put backups into; a directory is made when it is missing.
    pub fn open(at: &str, reach: Reach) -> Result<Place> {
        if url(at)?.is_none() {
            no_data_directory(at)?;
            std::fs::create_dir_all(at).map_err(|error| failed(&format!("making {at}"), error))?;
        }
        Place::look(at, reach)
    }

    /// Opens a place to put backups into while nobody looks: a directory has to be there. One that is missing is a disk that is not
    /// mounted, and would be made on another one.
    pub fn open_there(at: &str, reach: Reach) -> Result<Place> {
        if url(at)?.is_none() {
            no_data_directory(at)?;
            if !Path::new(at).is_dir() {
                let why = "there is no such directory, and a schedule makes none: mount its disk, or make it (mkdir)";
                return Err(Error::Place { what: format!("looking at {at}"), why: why.to_owned() });
            }
        }
        Place::look(at, reach)
    }

    /// Opens a place that should be there.
    pub fn look(at: &str, reach: Reach) -> Result<Place> {
        if let Some(url) = url(at)? {
            return bucket(at, url, reach);
        }
        let dir = Path::new(at).canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Place {
                what: format!("looking at {at}"),
                why: "there is no such directory; name the one that backups were put into, or mount its disk"
                    .to_owned(),
            },
            _ => failed(&format!("looking at {at}"), error),
        })?;
        let store =
            LocalFileSystem::new_with_prefix(&dir).map_err(|error| failed(&format!("looking at {at}"), error))?;
        let (store, prefix) = (Arc::new(store.with_fsync(true).with_automatic_cleanup(true)), Name::default());
        Ok(Place { store, prefix, key: reach.key, shown: at.to_owned(), dir: Some(dir), is_gentle: Arc::default() })
    }

    /// What everything is encrypted with.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The directory, if it is one.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Whether what is put from now on is to be felt as little as can be, and takes longer; in a directory, which may be on a disk that
    /// others wait for.
    pub(crate) fn be_gentle(&self, is_gentle: bool) {
        self.is_gentle.store(is_gentle, Ordering::Relaxed);
    }

    /// As it was named.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn whole(&self, name: &str) -> Name {
        self.prefix.parts().chain(Name::from(name).parts()).collect()
    }

    fn below(&self, whole: &Name) -> Option<String> {
        let rest: Vec<String> = whole.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        Some(rest.join("/"))
    }

    /// Puts an object, over one of the same name.
    pub(crate) async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        if let Some(dir) = &self.dir
            && bytes.len() > SLICE_BYTES
            && self.is_gentle.load(Ordering::Relaxed)
        {
            let put = slices::put(dir.join(self.whole(name).as_ref()), bytes).await;
            return put.map_err(|error| failed(&format!("writing {}/{name}", self.shown), error));
        }
        let put = self.store.put(&self.whole(name), bytes.into()).await;
        put.map(drop).map_err(|error| self.failed("writing", name, error))
    }

    /// Puts an object where there is none; false: there is one.
    pub(crate) async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool> {
        // Not every server knows the condition; this leaves it the moment between the two.
        if self.is_there(name).await? {
            return Ok(false);
        }
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.whole(name), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("writing", name, error)),
        }
    }

    /// Whether there is an object of that name.
    pub(crate) async fn is_there(&self, name: &str) -> Result<bool> {
        match self.store.head(&self.whole(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("looking for", name, error)),
        }
    }

    /// An object's bytes; none: it is not there.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let got = match self.store.get(&self.whole(name)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("reading", name, error)),
        }
    }

    /// What lies directly in a directory: the objects, and the names of directories.
    pub(crate) async fn listing(&self, dir: &str) -> Result<(Vec<Found>, Vec<String>)> {
        let prefix = self.whole(dir);
        let listed = self.store.list_with_delimiter(Some(&prefix)).await;
        let listed = listed.map_err(|error| self.failed("listing", dir, error))?;
        let last = |name: &Name| name.filename().map(str::to_owned);
        let mut dirs: Vec<String> = listed.common_prefixes.iter().filter_map(last).collect();
        let mut found: Vec<Found> = listed.objects.into_iter().filter_map(|meta| self.found(meta)).collect();
        dirs.sort_unstable();
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok((found, dirs))
    }

    fn found(&self, meta: object_store::ObjectMeta) -> Option<Found> {
        Some(Found { name: self.below(&meta.location)?, bytes: meta.size })
    }

    /// Removes an object; one that is not there is gone.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.whole(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("removing", name, error)),
        }
    }

    /// Removes the objects below a directory that are wanted gone, by their names in the place; says how many bytes.
    pub(crate) async fn remove_below(&self, dir: &str, goes: impl Fn(&str) -> bool) -> Result<u64> {
        let mut all = self.store.list(Some(&self.whole(dir)));
        let mut bytes = 0;
        while let Some(meta) = all.next().await {
            let meta = meta.map_err(|error| self.failed("listing", dir, error))?;
            if let Some(found) = self.found(meta).filter(|found| goes(&found.name)) {
                self.remove(&found.name).await?;
                bytes += found.bytes;
            }
        }
        Ok(bytes)
    }

    /// When any object below a directory was written last; 0: there is none.
    pub(crate) async fn newest_below(&self, dir: &str) -> Result<u64> {
        let all = self.store.list(Some(&self.whole(dir))).map_ok(|meta| meta.last_modified.timestamp_millis());
        let newest = all.try_fold(0, |newest, at| async move { Ok(newest.max(at)) }).await;
        newest.map(|at| u64::try_from(at).unwrap_or(0)).map_err(|error| self.failed("listing", dir, error))
    }

    fn failed(&self, what: &str, name: &str, error: object_store::Error) -> Error {
        failed(&format!("{what} {}/{name}", self.shown), error)
    }
}

fn failed(what: &str, error: impl std::error::Error) -> Error {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !why.contains(&next_text) {
            why = format!("{why}: {next_text}");
        }
        cause = next.source();
    }
    // Where nobody has said who he is, the machine is asked as if it were one of AWS.
    if why.contains("169.254.169.254") {
        why.push_str("; if this is no machine of AWS, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    }
    Error::Place { what: what.to_owned(), why }
}

/// Neither a data directory nor below one: what is done to that would be done to its backups.
fn no_data_directory(at: &str) -> Result<()> {
    let whole = real_path(Path::new(at));
    match whole.ancestors().find(|dir| is_data_directory(dir)) {
        None => Ok(()),
        Some(dir) if dir == whole => {
            Err(Error::Usage(format!("{at} is the data directory of a database; name another one for backups")))
        }
        Some(dir) => Err(Error::Usage(format!(
            "{at} lies in the data directory {}, and would be lost with it; name a directory elsewhere for backups, on another disk if there is one",
            dir.display()
        ))),
    }
}

/// A path from the root on, links followed as far as there is something.
pub fn real_path(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = whole.ancestors().find_map(|dir| Some((dir, dir.canonicalize().ok()?)));
    match there {
        Some((dir, real)) if dir != whole => real.join(whole.strip_prefix(dir).unwrap_or(Path::new(""))),
        Some((_, real)) => real,
        None => whole,
    }
}

fn is_data_directory(dir: &Path) -> bool {
    dir.join("log").is_dir() && (dir.join("lock").exists() || dir.join("index.redb").exists())
}

/// The same, if it is a URL; none: it is a directory, or one is to be made.
fn url(at: &str) -> Result<Option<&str>> {
    let wrong = |why: &str| Err(Error::Usage(format!("{at:?} {why}; name a directory, or s3://BUCKET/PREFIX")));
    if at.contains("://") {
        return Ok(Some(at));
    }
    match at {
        "" => wrong("is no place"),
        _ if at.starts_with("s3:") => wrong("is neither a bucket nor meant for a directory"),
        _ if Path::new(at).exists() && !Path::new(at).is_dir() => wrong("is no directory"),
        _ => Ok(None),
    }
}

#[cfg(feature = "s3")]
fn bucket(at: &str, url: &str, reach: Reach) -> Result<Place> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
    const REQUEST_WITHIN: &str = "5min";
    let Some(rest) = url.strip_prefix("s3://") else {
        return Err(Error::Usage(format!("{at} is no place that is known; name a directory, or s3://BUCKET/PREFIX")));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::Usage(format!("{at} names no bucket; write s3://BUCKET/PREFIX")));
    }
    // reqwest takes the process's provider; one that is set already is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    // An object has to get through a slow line.
    let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    // A store that is started anew is waited for: ten times, ever longer, which comes to some twenty seconds.
    let backoff = BackoffConfig { base: 3.0, ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_config(timeout, REQUEST_WITHIN);
    builder = builder.with_retry(retry);
    if let Some(endpoint) = reach.endpoint {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let Some(region) = reach.region {
        builder = builder.with_region(region);
    }
    let store = builder.build().map_err(|error| failed(&format!("opening {at}"), error))?;
    let prefix = Name::parse(prefix.trim_matches('/')).map_err(|error| failed(&format!("opening {at}"), error))?;
    let shown = at.trim_end_matches('/').to_owned();
    Ok(Place { store: Arc::new(store), prefix, key: reach.key, shown, dir: None, is_gentle: Arc::default() })
}

#[cfg(not(feature = "s3"))]
fn bucket(at: &str, _url: &str, _reach: Reach) -> Result<Place> {
    Err(Error::Usage(format!(
        "{at}: this program was built without object stores (cargo feature s3); name a directory"
    )))
}
