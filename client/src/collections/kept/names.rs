//! Owns the names that kept indexes have in the root: the same for all programs, in whichever language.
//!
//! ```text
//!   class, name, unique, kind of keys ──> "wiki.Page:author"   "wiki.Page:unique:slug"   "wiki.Page:length(u64)"
//!   looked for as well, from before names told the kind ──────────────────────────────>  "wiki.Page:length"
//! ```
//! Not here: making one (`objects`).

use crate::errors::{Error, Result};
use crate::tx::{KeptIndex, View};
use crate::typed::Handle;
use std::borrow::Cow;
use zeolite_proto::Oid;

const UNIQUE: &str = "unique:";
const TEXT: &str = "text";

/// The name of an index that is kept with the objects of a class, for who knows class and index when the program runs (a client for another
/// language). Types have `IndexBy` and `UniqueBy` instead.
///
/// ```
/// use zeolite_client::collections::KeptName;
///
/// # zeolite_testing::with_db(async |db| {
/// let name = KeptName::new("wiki.Page", "length", false, "u64")?;
/// assert_eq!((name.in_class(), name.in_root()), ("length(u64)".into(), "wiki.Page:length(u64)".into()));
/// let (made, index) = db
///     .run(async |tx| Ok((tx.kept_index(&name).await?, tx.kept_index_or_create(&name).await?)))
///     .await?;
/// assert_eq!((made, db.now().kept_index(&name).await?), (None, Some(index)));
/// # Ok(()) });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptName {
    class: String,
    name: String,
    unique: bool,
    /// None: text.
    kind: Option<String>,
    was_other: bool,
}

/// Where a kept index is.
///
/// ```
/// # async fn example(tx: zeolite_client::Tx, name: zeolite_client::collections::KeptName) -> zeolite_client::Result<()> {
/// let place = tx.kept_index_or_create(&name).await?;
/// let key = zeolite_client::keys::encode("home");
/// let there = tx.get(&zeolite_client::Cell::entry(place.oid, key)).await?; // of a unique index
/// # let _ = there;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KeptPlace {
    /// The collection.
    pub oid: Oid,
    /// It was found by the name without the kind of its keys: so of which kind they are is not said.
    pub is_bare: bool,
}

impl KeptPlace {
    pub(crate) fn new(oid: Oid) -> KeptPlace {
        KeptPlace { oid, is_bare: false }
    }
}

impl KeptName {
    /// Of an index of a class, with keys of a kind: as [`KeyKind`](crate::keys::KeyKind) is shown.
    pub fn new(class: &str, name: &str, unique: bool, kind: &str) -> Result<KeptName> {
        if name.contains([':', '(']) {
            return Err(Error::invalid(format!(
                "the name of an index has neither `:` nor `(`, as {name:?} has; rename it"
            )));
        }
        let kind = (kind != TEXT).then(|| kind.to_owned());
        Ok(KeptName { class: class.to_owned(), name: name.to_owned(), unique, kind, was_other: false })
    }

    /// As a type of the class declares it.
    pub(crate) fn of(class: &str, index: KeptIndex) -> KeptName {
        let kind = (!index.kind.is_text()).then(|| index.kind.to_string());
        let (class, name) = (class.to_owned(), index.name.to_owned());
        KeptName { class, name, unique: index.unique, kind, was_other: index.was_other }
    }

    /// A former version of the class had one of this name with keys of another kind: the name without the kind is that one's.
    #[must_use]
    pub fn was_other(mut self) -> KeptName {
        self.was_other = true;
        self
    }

    /// Behind the class: `author`, `unique:slug`, `length(u64)`. A field whose index becomes a unique one, or the other way round, has
    /// another one, and so has one with another kind of keys: these are other collections, and records of either version are in their own.
    pub fn in_class(&self) -> String {
        let kind = self.kind.as_ref().map(|kind| format!("({kind})"));
        self.bare() + &kind.unwrap_or_default()
    }

    /// The same without the kind of its keys.
    pub fn bare(&self) -> String {
        let unique = if self.unique { UNIQUE } else { "" };
        format!("{unique}{}", self.name)
    }

    /// In the root.
    pub fn in_root(&self) -> String {
        format!("{}:{}", escaped(&self.class), self.in_class())
    }

    pub(crate) fn bare_in_root(&self) -> String {
        format!("{}:{}", escaped(&self.class), self.bare())
    }

    /// Which of the names that there are in the class is its own: that of [`KeptName::in_class`], unless there is only the bare one.
    pub fn among(&self, there: &[String]) -> String {
        let whole = self.in_class();
        if self.was_other || there.contains(&whole) { whole } else { self.bare() }
    }

    /// Whether a key is one object's.
    pub fn is_unique(&self) -> bool {
        self.unique
    }

    /// What it stands for.
    pub(crate) async fn find<H: Handle>(&self, view: &View) -> Result<Option<KeptPlace>> {
        if let Some(found) = view.root::<H>(&self.in_root()).await? {
            return Ok(Some(KeptPlace::new(found.oid())));
        }
        if self.kind.is_none() || self.was_other {
            return Ok(None);
        }
        Ok(view.root::<H>(&self.bare_in_root()).await?.map(|found| KeptPlace { oid: found.oid(), is_bare: true }))
    }
}

/// The name in the root of an index as a type declares it.
pub(crate) fn root_name(class: &str, index: KeptIndex) -> String {
    KeptName::of(class, index).in_root()
}

/// A class whose own name ends like the beginning of a unique index's has a colon more: it is not to meet that index.
fn escaped(class: &str) -> Cow<'_, str> {
    match class.trim_end_matches(':').ends_with(":unique") {
        true => format!("{class}:").into(),
        false => class.into(),
    }
}

/// Which index of a class a name in the root stands for, as it is named there without the class: `author`, `unique:slug`, `length(u64)`.
/// None: it is no index of that class.
pub fn index_in_name<'n>(name: &'n str, class: &str) -> Option<&'n str> {
    let index = name.strip_prefix(&*escaped(class))?.strip_prefix(':')?;
    let bare = index.strip_prefix(UNIQUE).unwrap_or(index);
    (!bare.is_empty() && !bare.contains(':')).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_indexes_have_one_name() {
        let (slug, unique) = (KeptIndex::many("slug"), KeptIndex::unique("slug"));
        let (text, number, pair) = (slug.keyed::<String>(), slug.keyed::<u64>(), unique.keyed::<(String, u16)>());
        let mut names: Vec<String> = ["a.Doc", "a.Doc:unique", "a.Doc:unique:", "a.Doc:", "a:b"]
            .iter()
            .flat_map(|class| [slug, unique, number, pair].map(|index| root_name(class, index)))
            .collect();
        assert_eq!(names[..4], ["a.Doc:slug", "a.Doc:unique:slug", "a.Doc:slug(u64)", "a.Doc:unique:slug(text,u16)"]);
        assert_eq!(root_name("a.Doc", text), "a.Doc:slug", "as it was before names told the kind");
        assert_eq!(names[4], "a.Doc:unique::slug");
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_name_tells_its_index_to_its_class_only() {
        for (name, class, index) in [
            ("a.Doc:slug", "a.Doc", Some("slug")),
            ("a.Doc:unique:slug(u64)", "a.Doc", Some("unique:slug(u64)")),
            ("a.Doc:unique::slug", "a.Doc", None),
            ("a.Doc:unique::slug", "a.Doc:unique", Some("slug")),
            ("a.Doc:part:slug", "a.Doc", None),
            ("a.Docs:slug", "a.Doc", None),
        ] {
            assert_eq!(index_in_name(name, class), index, "{name} {class}");
        }
    }

    #[test]
    fn what_is_known_as_the_program_runs_has_the_names_of_what_the_compiler_knows() {
        let of_type = KeptIndex::unique("place").keyed::<(String, Option<u16>)>();
        let told = KeptName::new("a.Doc:unique", "place", true, "text,u16?").expect("a name");
        assert_eq!(told, KeptName::of("a.Doc:unique", of_type));
        let text = KeptName::new("a.Doc", "slug", false, "text").expect("a name");
        assert_eq!(text, KeptName::of("a.Doc", KeptIndex::many("slug")));
        for bad in ["a:b", "a(u64)"] {
            assert!(KeptName::new("a.Doc", bad, false, "text").is_err());
        }
    }

    #[test]
    fn the_name_without_a_kind_is_its_own_while_there_is_none_with_it() {
        let size = KeptName::new("a.Doc", "size", false, "u64").expect("a name");
        let there = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(size.among(&there(&["size"])), "size");
        assert_eq!(size.among(&there(&["size", "size(u64)"])), "size(u64)");
        assert_eq!(size.was_other().among(&there(&["size"])), "size(u64)");
    }
}
