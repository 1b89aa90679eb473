//! Owns the refusal of a plan over what nobody has: mostly a name that is mistyped, and then "0 of 0 objects, done" would let a
//! deployment go on, with the gate of a class closed that nobody writes.
//!
//! ```text
//!   class         there is no object of it, at any version           the nearest names are told
//!   collection    no entries, and no own record of a collection      so are collections in the root
//!   reachable     there is no such object                            the same
//!   list          it is empty
//! ```
//! A class with objects of which none is below the version is no mistake: its plan has 0 objects. Which objects of a list are
//! there is not looked at. Whoever knows better says `allow_empty`: a script for databases of which some have the class.

use crate::admin::Admin;
use crate::errors::{Error, Result};
use crate::tx::View;
use zeolite_proto::evolve::Plan;
use zeolite_proto::record::Header;
use zeolite_proto::resolvers::class;
use zeolite_proto::{Cell, Oid, hash};

/// Names that are suggested.
const SUGGESTED_MAX: usize = 5;
/// Names in the root that are looked at for that.
const ROOTS_MAX: usize = 1000;
const ALLOW: &str = "or allow the plan to be empty (--allow-empty)";

/// Refuses a plan that covers nothing because there is nothing of the kind; `total`: how many objects it covers.
pub(crate) async fn check(view: &View, plan: &Plan, total: u64) -> Result<()> {
    // What is reachable from an object has that one in it, whether it is there or not.
    if total > 0 && !matches!(plan, Plan::Reachable { .. }) {
        return Ok(());
    }
    match plan {
        Plan::Objects { class, .. } => class_is_known(&view.db().admin(), class).await,
        Plan::Collection { oid, .. } => collection_is_there(view, Oid(*oid)).await,
        Plan::Reachable { from } => object_is_there(view, Oid(*from)).await,
        Plan::Oids { .. } => Err(Error::invalid(format!("the plan names no object; name some, {ALLOW}"))),
        _ => Ok(()),
    }
}

/// An error with the nearest names, if there is no object of a class.
pub async fn class_is_known(admin: &Admin, class: &str) -> Result<()> {
    let kinds = admin.kinds().await?.kinds;
    if kinds.iter().any(|kind| kind.class == class) {
        return Ok(());
    }
    let known: hash::Set<String> = kinds.into_iter().map(|kind| kind.class).collect();
    let own = |name: &str| name.starts_with("zeolite.");
    let known = known.into_iter().filter(|name| !own(name) || own(class)).collect();
    let nearest = match nearest(class, known).join(", ") {
        none if none.is_empty() => "there are none of any other".to_owned(),
        names => format!("known: {names}"),
    };
    Err(Error::invalid(format!("there is no object of class {class:?}; {nearest}; name one of those, {ALLOW}")))
}

async fn collection_is_there(view: &View, oid: Oid) -> Result<()> {
    let cell = Cell::object(oid);
    let Some(record) = view.get_many(std::slice::from_ref(&cell)).await?.pop().flatten() else {
        return if oid == Oid::ROOT { Ok(()) } else { Err(nothing_at(view, oid).await?) };
    };
    let header = Header::parse(&record).map_err(|bad| crate::tx::damaged(&cell, &bad))?;
    if class::COLLECTIONS.contains(&header.class) {
        return Ok(());
    }
    let (class, roots) = (header.class, roots(view).await?);
    Err(Error::invalid(format!(
        "object {oid} of class {class:?} is no collection and has no entries; {roots}, {ALLOW}"
    )))
}

async fn object_is_there(view: &View, oid: Oid) -> Result<()> {
    let there = oid == Oid::ROOT || view.get_many(&[Cell::object(oid)]).await?.iter().any(Option::is_some);
    if there { Ok(()) } else { Err(nothing_at(view, oid).await?) }
}

async fn nothing_at(view: &View, oid: Oid) -> Result<Error> {
    Ok(Error::invalid(format!("nothing is stored at {oid}; {}, {ALLOW}", roots(view).await?)))
}

/// What has a name in the root.
async fn roots(view: &View) -> Result<String> {
    let (mut all, mut names) = (view.roots(), Vec::new());
    while let Some((name, named)) = all.next().await? {
        // Evolves are not changed by evolves.
        if !name.starts_with("zeolite.") {
            names.push(format!("{name:?} is {}", named.oid()));
        }
        if names.len() == ROOTS_MAX {
            break;
        }
    }
    let more = names.len().saturating_sub(SUGGESTED_MAX);
    names.truncate(SUGGESTED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Ok(match names.join(", ") {
        none if none.is_empty() => "the root has no names".to_owned(),
        names => format!("in the root {names}{more}: take one of those"),
    })
}

/// The names that are most like one, the nearest first.
fn nearest(wanted: &str, mut known: Vec<String>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    known.sort_by_cached_key(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name.clone()));
    known.truncate(SUGGESTED_MAX);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let known = ["wiki.User", "shop.Customer", "wiki.Page"].map(str::to_owned).to_vec();
        assert_eq!(nearest("wiki.Pgae", known.clone()), ["wiki.Page", "wiki.User", "shop.Customer"]);
        assert_eq!(nearest("WIKI.USER", known)[0], "wiki.User");
    }
}
