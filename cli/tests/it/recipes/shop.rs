//! Owns the shop: its customers in two shapes, as five releases know them, and what has to be true of them at the end.
//!
//! ```text
//!   old       v1                  before anything began
//!   indexing  v1                  keeps two more indexes of what it writes
//!   bridge    v1, reads v2 too    what both sides of a change of the shape can live with
//!   new       v2, reads v1 too
//!   last      v2                  the code for the old shape is gone
//! ```

use crate::served::Served;
use serde::{Deserialize, Serialize};
use zeolite_client::collections::{Counter, Index, UniqueIndex};
use zeolite_client::{Db, Error, Persistent, Ref, Tx, View};

pub(crate) const CLASS: &str = "shop.Customer";
pub(crate) const CUSTOMERS: usize = 120;

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Whole {
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) edits: u64,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Apart {
    pub(crate) first: String,
    pub(crate) last: String,
    pub(crate) email: String,
    pub(crate) edits: u64,
}

impl From<Whole> for Apart {
    fn from(Whole { name, email, edits }: Whole) -> Apart {
        let (first, last) = name.split_once(' ').expect("all names have two parts");
        Apart { first: first.into(), last: last.into(), email, edits }
    }
}

impl From<Apart> for Whole {
    fn from(Apart { first, last, email, edits }: Apart) -> Whole {
        Whole { name: format!("{first} {last}"), email, edits }
    }
}

/// A customer, whatever a release makes of one.
pub(crate) trait Customer: Persistent + From<Whole> + Into<Whole> + Clone + Send + Sync + 'static {
    /// Keeps the indexes by last name and by email.
    const KEEPS_INDEXES: bool = false;

    fn whole(&self) -> Whole {
        self.clone().into()
    }
}

/// A release: the shape that it writes, and the other one if it reads that, too.
macro_rules! release {
    ($name:ident: $shape:ident, version $version:literal $(, reads $other:ident of $from:literal)?) => {
        #[derive(Serialize, Deserialize, Clone)]
        pub(crate) struct $name($shape);

        impl Persistent for $name {
            const CLASS: &str = CLASS;
            const VERSION: u32 = $version;

            $(fn upgrade(version: u32, data: &[u8]) -> Result<$name, Error> {
                match version {
                    $from => Ok($name($name::old_shape::<$other>(version, data)?.into())),
                    _ => Err($name::no_upgrade(version)),
                }
            })?
        }

        impl From<Whole> for $name {
            fn from(whole: Whole) -> $name {
                $name(whole.into())
            }
        }

        impl From<$name> for Whole {
            fn from(customer: $name) -> Whole {
                customer.0.into()
            }
        }
    };
}

release!(Old: Whole, version 1);
release!(Indexing: Whole, version 1);
release!(Bridge: Whole, version 1, reads Apart of 2);
release!(New: Apart, version 2, reads Whole of 1);
release!(Last: Apart, version 2);

impl Customer for Old {}
impl Customer for Bridge {}
impl Customer for New {}
impl Customer for Last {}
impl Customer for Indexing {
    const KEEPS_INDEXES: bool = true;
}

/// What has a name in the root.
#[derive(Clone, Copy)]
pub(crate) struct Shop<T> {
    /// Kept by every release.
    pub(crate) names: Index<String, T>,
    pub(crate) edits: Counter,
    /// Kept by those that index.
    pub(crate) lasts: Index<String, T>,
    pub(crate) emails: UniqueIndex<String, Ref<T>>,
}

impl<T: Customer> Shop<T> {
    pub(crate) async fn open(tx: &Tx) -> Result<Shop<T>, Error> {
        Ok(Shop {
            names: tx.root_or_create("names").await?,
            edits: tx.root_or_create("edits").await?,
            lasts: tx.root_or_create("lasts").await?,
            emails: tx.root_or_create("emails").await?,
        })
    }

    pub(crate) async fn customers(&self, view: &View) -> Result<Vec<Ref<T>>, Error> {
        Ok(self.names.iter(view).collect().await?.into_iter().map(|(_, customer)| customer).collect())
    }
}

pub(crate) fn last_name(name: &str) -> String {
    name.split_once(' ').expect("all names have two parts").1.to_owned()
}

/// A served shop.
pub(crate) struct Scene {
    pub(crate) served: Served,
    pub(crate) db: Db,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// With customers that an old release has made.
    pub(crate) async fn open() -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let served = Served::start(&dir.path().join("data"));
        let db = Db::connect(&served.address).await.expect("connects");
        let make = db.run(async |tx| {
            let shop: Shop<Old> = Shop::open(&tx).await?;
            for number in 0..CUSTOMERS {
                let (name, email) = (format!("First{number} Last{}", number % 10), format!("{number}@shop"));
                let customer = tx.create(&Old(Whole { name: name.clone(), email, edits: 0 })).await?;
                shop.names.insert(&tx, &name, customer)?;
            }
            Ok(())
        });
        make.await.expect("commits");
        Scene { served, db, _dir: dir }
    }

    /// `evolve plan NAME …`.
    pub(crate) fn plan(&self, name: &str, args: &[&str]) {
        // The disk of the machine that tests may be fairly full: that is another test's business.
        let any_disk = ["--set", "disk_pause_percent=0", "--set", "disk_stop_percent=0"];
        self.command(0, &[&["evolve", "plan", name], &any_disk[..], args].concat());
    }

    /// A command that ends with this code; what it said.
    pub(crate) fn command(&self, code: i32, args: &[&str]) -> String {
        let output = self.served.run(args);
        let said = crate::served::text(&output.stdout) + &crate::served::text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    /// Whether a command ends with 0.
    pub(crate) fn says(&self, args: &[&str]) -> bool {
        self.served.run(args).status.success()
    }

    /// How many customers are stored in a version.
    pub(crate) async fn of_version(&self, version: u32) -> u64 {
        let kinds = self.db.admin().kinds().await.expect("tells").kinds;
        kinds.iter().filter(|kind| kind.class == CLASS && kind.version == version).map(|kind| kind.objects).sum()
    }

    /// All that was acknowledged is there, as this release reads it, and the indexes lead to it and to nothing else.
    pub(crate) async fn is_exact<T: Customer>(&self, edits: u64, customers: u64) {
        let view = self.db.transaction().fresh().begin().await.expect("begins");
        let shop: Shop<T> = Shop::open(&view).await.expect("is there");
        let all = shop.names.iter(&view).collect().await.expect("reads");
        let mut sum = 0;
        for (name, customer) in &all {
            let whole = view.load(*customer).await.expect("this release can read it").whole();
            assert_eq!(&whole.name, name, "{customer:?} in the index by name");
            sum += whole.edits;
            if T::KEEPS_INDEXES {
                let has = shop.lasts.contains(&view, &last_name(name), *customer).await.expect("reads");
                assert!(has, "{name} in the index by last name");
                let email = shop.emails.get(&view, &whole.email).await.expect("reads");
                assert_eq!(email, Some(*customer), "{} in the index by email", whole.email);
            }
        }
        if T::KEEPS_INDEXES {
            let entries = shop.lasts.iter(&view).collect().await.expect("reads").len();
            let emails = shop.emails.iter(&view).collect().await.expect("reads").len();
            assert_eq!((entries, emails), (all.len(), all.len()), "no entry is of what was");
        }
        assert_eq!(all.len() as u64, customers);
        assert_eq!(self.of_version(1).await + self.of_version(2).await, customers);
        assert_eq!(sum, edits, "every acknowledged edit is kept");
        assert_eq!(shop.edits.get(&view).await.expect("reads") as u64, edits);
    }
}
