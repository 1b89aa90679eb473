//! Owns the indexes in `#[derive(Persistent)]`: which a type says it has, and the parts of the impl that keep and read them.
//!
//! ```text
//!   #[persistent(index)] author: String                              BY_AUTHOR: IndexBy<String, Page>
//!   #[persistent(unique)] slug: String                               BY_SLUG:   UniqueBy<String, Page>
//!   #[persistent(index(name = "word", key = String, by = words))]    BY_WORD; `words(&page)` gives any number of keys
//! ```

use crate::others::Others;
use crate::values::{function, value};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, Field, LitStr, Member, Result, Type};

const WORDS: &str = "index(name = \"word\", key = String, by = words)";

/// Where an index's keys come from.
enum Keys {
    Field(Member),
    /// A function from a reference to the value to its keys.
    By(Expr),
}

/// One index.
pub(crate) struct Index {
    name: String,
    unique: bool,
    key: Type,
    keys: Keys,
    span: Span,
}

impl Index {
    /// What stands in the parentheses of `index(...)` or `unique(...)` on the type.
    pub(crate) fn read(word: &ParseNestedMeta<'_>, unique: bool) -> Result<Index> {
        let (mut name, mut key, mut by) = (None::<LitStr>, None::<Type>, None::<Expr>);
        let span = word.path.span();
        word.parse_nested_meta(|inner| {
            match inner.path.get_ident().map(ToString::to_string).unwrap_or_default().as_str() {
                "name" => name = Some(value(&inner, "a text in quotes", "name = \"word\"")?),
                "key" => key = Some(value(&inner, "the type of its keys", "key = String")?),
                "by" => by = Some(function(&inner, "by = Page::words")?),
                _ => return Err(inner.error(format!("this says nothing about an index; what does: {WORDS}"))),
            }
            Ok(())
        })?;
        let (Some(name), Some(key), Some(by)) = (name, key, by) else {
            return Err(Error::new(
                span,
                format!("an index of the type has a name, a key and what gives its keys: {WORDS}"),
            ));
        };
        if !is_word(&name.value()) {
            let message = "the name of an index is a word of letters, digits and `_` that begins with a letter";
            return Err(Error::new(name.span(), message));
        }
        Ok(Index { name: name.value(), unique, key, keys: Keys::By(by), span })
    }

    /// The constant by which it is read.
    fn constant(&self) -> Ident {
        format_ident!("BY_{}", self.name.to_uppercase(), span = self.span)
    }

    /// What the parentheses of the type's attribute say, for its fingerprint.
    pub(crate) fn says(&self) -> [&str; 2] {
        [if self.unique { "unique" } else { "index" }, &self.name]
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The indexes that stand on the fields, behind those of the type.
pub(crate) fn all(input: &DeriveInput, mut indexes: Vec<Index>) -> Result<Vec<Index>> {
    let of_variants = |data: &syn::DataEnum| data.variants.iter().flat_map(|variant| variant.fields.clone()).collect();
    let (fields, is_struct): (Vec<Field>, bool) = match &input.data {
        Data::Struct(data) => (data.fields.iter().cloned().collect(), true),
        Data::Enum(data) => (of_variants(data), false),
        Data::Union(_) => (Vec::new(), false),
    };
    for field in &fields {
        for (unique, span) in marks(&field.attrs)? {
            if !is_struct {
                let message =
                    format!("not every value has this field: say on the type where the keys come from, {WORDS}");
                return Err(Error::new(span, message));
            }
            let Some(ident) = &field.ident else {
                let message = format!("a field without a name gives its index none: say it on the type, {WORDS}");
                return Err(Error::new(span, message));
            };
            let (name, keys) = (ident.unraw().to_string(), Keys::Field(Member::Named(ident.clone())));
            indexes.push(Index { name, unique, key: field.ty.clone(), keys, span });
        }
    }
    for (place, index) in indexes.iter().enumerate() {
        if indexes[..place].iter().any(|other| other.name == index.name) {
            return Err(Error::new(
                index.span,
                format!("there are two indexes {:?}; give one another name", index.name),
            ));
        }
    }
    Ok(indexes)
}

/// What a field's attributes say.
fn marks(attributes: &[Attribute]) -> Result<Vec<(bool, Span)>> {
    let mut found = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("persistent")) {
        attribute.parse_nested_meta(|word| {
            let unique = word.path.is_ident("unique");
            if !unique && !word.path.is_ident("index") {
                return Err(word.error("this says nothing about a field; what does: `index`, `unique`"));
            }
            found.push((unique, word.path.span()));
            Ok(())
        })?;
    }
    Ok(found)
}

/// The parts of `impl Persistent`.
pub(crate) fn items(indexes: &[Index], others: Others<'_>) -> TokenStream {
    let named = indexes.iter().map(|Index { name, unique, key, span, .. }| {
        let make = if *unique { format_ident!("unique") } else { format_ident!("many") };
        let after = others.from.map(|_| quote! { .after(<Self as ::zeolite_client::Persistent>::FORMERLY_INDEXED) });
        quote_spanned! {*span=> ::zeolite_client::KeptIndex::#make(#name).keyed::<#key>() #after }
    });
    let adds = indexes.iter().map(|Index { name, key, keys, span, .. }| match keys {
        Keys::Field(field) => quote_spanned! {*span=> keys.add::<#key>(#name, &self.#field); },
        Keys::By(by) => quote_spanned! {*span=>
            // Not a loop: what gives a key or none may be an `Option`.
            ::core::iter::Iterator::for_each(::core::iter::IntoIterator::into_iter((#by)(self)), |key: #key| {
                keys.add::<#key>(#name, &key);
            });
        },
    });
    let own = (!indexes.is_empty()).then(|| {
        quote! {
            const INDEXES: &'static [::zeolite_client::KeptIndex] = &[#(#named),*];

            fn index(&self, keys: &mut ::zeolite_client::typed::Keys) {
                #(#adds)*
            }
        }
    });
    let of_others = of_others(others);
    quote! { #own #of_others }
}

/// Under which keys the records of the others are.
fn of_others(Others { from, newer }: Others<'_>) -> TokenStream {
    if from.is_none() && newer.is_none() {
        return TokenStream::new();
    }
    let formerly = from.map(|from| {
        quote_spanned! {from.span()=>
            const FORMERLY_INDEXED: &'static [::zeolite_client::KeptIndex] =
                &::zeolite_client::typed::formerly_indexed::<#from, { ::zeolite_client::typed::indexes_to::<#from>() }>();
        }
    });
    let later = newer.map(|newer| {
        quote_spanned! {newer.span()=>
            const LATER_INDEXED: &'static [::zeolite_client::KeptIndex] =
                &::zeolite_client::typed::later_indexed::<#newer, { ::zeolite_client::typed::indexes_from::<#newer>() }>();
            const INDEXED_TO: u32 = <#newer as ::zeolite_client::Persistent>::INDEXED_TO;
        }
    });
    let of_newer = newer.map(|newer| {
        quote_spanned! {newer.span()=>
            if version > <Self as ::zeolite_client::Persistent>::VERSION {
                return ::zeolite_client::typed::index_newer::<#newer>(version, data, keys);
            }
        }
    });
    let of_former = from.map(|from| {
        quote_spanned! {from.span()=> ::zeolite_client::typed::index_former::<#from>(version, data, keys)?; }
    });
    quote! {
        #formerly
        #later

        fn index_former(
            version: u32,
            data: &[u8],
            keys: &mut ::zeolite_client::typed::Keys,
        ) -> ::zeolite_client::Result<()> {
            #of_newer
            #of_former
            ::zeolite_client::Result::Ok(())
        }
    }
}

/// The constants by which the indexes are read.
pub(crate) fn readers(input: &DeriveInput, indexes: &[Index]) -> TokenStream {
    if indexes.is_empty() {
        return TokenStream::new();
    }
    let (name, visible) = (&input.ident, &input.vis);
    let reader = |each: &Index| {
        let (constant, Index { name: index, unique, key, .. }) = (each.constant(), each);
        let kind = if *unique { format_ident!("UniqueBy") } else { format_ident!("IndexBy") };
        let doc = format!("The index `{index}`, which is kept with the objects.");
        quote! {
            #[doc = #doc]
            #visible const #constant: ::zeolite_client::collections::#kind<#key, #name> =
                ::zeolite_client::collections::#kind::new(#index);
        }
    };
    let readers = indexes.iter().map(reader);
    let constants = indexes.iter().map(Index::constant);
    quote! {
        #[automatically_derived]
        impl #name { #(#readers)* }
        // Nobody has to read an index.
        const _: () = { #(let _ = #name::#constants;)* };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn what_cannot_be_an_index_is_told_why() {
        let refusal = |input: DeriveInput| match crate::persistent::derive(&input) {
            Err(refused) => refused.to_string(),
            Ok(_) => "none".into(),
        };
        let refused: [(DeriveInput, &str); 8] = [
            (
                parse_quote! { #[persistent(class = "P")] enum P { A { #[persistent(index)] a: u8 } } },
                "not every value has this field: say on the type",
            ),
            (parse_quote! { #[persistent(class = "P")] struct P(#[persistent(unique)] u8); }, "a field without a name"),
            (
                parse_quote! { #[persistent(class = "P")] struct P { #[persistent(indexed)] a: u8 } },
                "this says nothing about a field; what does: `index`, `unique`",
            ),
            (
                parse_quote! { #[persistent(class = "P", index(name = "a", key = u8))] struct P { a: u8 } },
                "an index of the type has a name, a key and what gives its keys: index(name =",
            ),
            (
                parse_quote! { #[persistent(class = "P", index(name = "a b", key = u8, by = f))] struct P { a: u8 } },
                "the name of an index is a word",
            ),
            (
                parse_quote! { #[persistent(class = "P", index(name = "a", key = "u8", by = f))] struct P { a: u8 } },
                "here belongs the type of its keys, without quotes: key = String",
            ),
            (
                parse_quote! { #[persistent(class = "P", index(name = "a", key = u8, by = "f"))] struct P { a: u8 } },
                "here belongs a function or a closure, without quotes: by = Page::words",
            ),
            (
                parse_quote! {
                    #[persistent(class = "P", unique(name = "a", key = u8, by = f))]
                    struct P { #[persistent(index)] a: u8 }
                },
                "there are two indexes \"a\"",
            ),
        ];
        for (input, message) in refused {
            let told = refusal(input);
            assert!(told.contains(message), "{told:?} does not say {message:?}");
        }
    }

    #[test]
    fn another_index_is_another_shape() {
        let shape = |input: DeriveInput| {
            let indexes = all(&input, Vec::new()).expect("are read");
            crate::shape::fingerprint(&input, &indexes)
        };
        let bare = shape(parse_quote! { struct P { a: u8 } });
        let indexed = shape(parse_quote! { struct P { #[persistent(index)] a: u8 } });
        let unique = shape(parse_quote! { struct P { #[persistent(unique)] a: u8 } });
        assert!(bare != indexed && indexed != unique && unique != bare);
    }
}
