//! Owns the parts of a record as an answer gives them, and the names of what it makes. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::HashMap;
use zeolite_client::{Oid, Record};

/// The parts of a record; what is not given stays, or is nothing.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Parts {
    pub(super) class: Option<String>,
    pub(super) version: Option<u32>,
    pub(super) refs: Option<Vec<String>>,
    pub(super) data: Option<String>,
}

impl Parts {
    /// The record with these parts in the place of its own.
    pub(super) fn over(&self, old: Record, names: &Names) -> Result<Record, String> {
        let mut new = old;
        if let Some(class) = &self.class {
            new.class.clone_from(class);
        }
        if let Some(version) = self.version {
            new.version = version;
        }
        if let Some(refs) = &self.refs {
            new.refs = refs.iter().map(|text| names.oid(text)).collect::<Result<_, _>>()?;
        }
        if let Some(data) = &self.data {
            new.data = STANDARD.decode(data).map_err(|error| format!("its data is no base64: {error}"))?.into();
        }
        Ok(new)
    }
}

/// The objects that an answer makes, by its own names for them.
#[derive(Default)]
pub(super) struct Names(pub(super) HashMap<String, Oid>);

impl Names {
    /// The oid that a text means.
    pub(super) fn oid(&self, text: &str) -> Result<Oid, String> {
        if text.starts_with('$') {
            let oid = self.0.get(text).copied();
            return oid.ok_or_else(|| format!("it names {text:?}, which none of its writes creates"));
        }
        text.parse::<Oid>().map_err(|error| format!("{text:?} is no oid in hexadecimal: {error}"))
    }
}
