//! Owns `#[derive(Persistent)]`: the attribute `#[persistent(...)]`, and the impl that it stands for.
//!
//! Every mistake in the attribute is told where it stands, with what to write instead. What only the compiler knows (the class and the
//! version of the type in `from`) is asked of it by a constant beside the impl.

use crate::indexed::{self, Index};
use crate::others::Others;
use crate::shape;
use crate::values::value;
use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, LitInt, LitStr, Result, Type};

/// The longest name that a record's header takes.
const CLASS_BYTES_MAX: usize = 255;

/// What the values of words are.
const TEXT: &str = "a text in quotes";
const TYPE: &str = "a type of the same class";

const WORDS: &str =
    "class = \"app.Name\", version = 2, from = Old, newer = New, codec = \"cbor\", shape = \"\", index(..), unique(..)";

/// What the attribute says.
#[derive(Default)]
struct Said {
    class: Option<LitStr>,
    version: Option<LitInt>,
    from: Option<Type>,
    newer: Option<Type>,
    codec: Option<LitStr>,
    shape: Option<LitStr>,
    indexes: Vec<Index>,
}

impl Said {
    fn read(attributes: &[Attribute]) -> Result<Said> {
        let mut said = Said::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("persistent")) {
            attribute.parse_nested_meta(|word| {
                let name = word.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let twice = match name.as_str() {
                    "class" => said.class.replace(value(&word, TEXT, "class = \"app.Name\"")?).is_some(),
                    "version" => said.version.replace(value(&word, "a whole number", "version = 2")?).is_some(),
                    "from" => said.from.replace(value(&word, TYPE, "from = PageV1")?).is_some(),
                    "newer" => said.newer.replace(value(&word, TYPE, "newer = r2::Page")?).is_some(),
                    "codec" => said.codec.replace(value(&word, TEXT, "codec = \"cbor\"")?).is_some(),
                    "shape" => said.shape.replace(value(&word, TEXT, "shape = \"\"")?).is_some(),
                    "index" | "unique" => {
                        said.indexes.push(Index::read(&word, name == "unique")?);
                        false
                    }
                    _ => return Err(word.error(format!("this says nothing about a class; what does: {WORDS}"))),
                };
                if twice { Err(word.error(format!("`{name}` is said twice; leave one of them out"))) } else { Ok(()) }
            })?;
        }
        Ok(said)
    }

    fn class(&self, of: &Ident) -> Result<&LitStr> {
        let missing = || Error::new(of.span(), "say which class this is: #[persistent(class = \"app.Name\")]");
        let class = self.class.as_ref().ok_or_else(missing)?;
        match class.value().len() {
            1..=CLASS_BYTES_MAX => Ok(class),
            length => Err(Error::new(class.span(), format!("a class name has 1 to 255 bytes, this has {length}"))),
        }
    }

    fn version(&self) -> Result<u32> {
        let Some(written) = &self.version else { return Ok(1) };
        let version: u32 = written.base10_parse()?;
        match version {
            0 => Err(Error::new(written.span(), "versions begin with 1")),
            version => Ok(version),
        }
    }

    fn codec(&self) -> Result<TokenStream> {
        let Some(written) = &self.codec else { return Ok(quote!(Postcard)) };
        match written.value().as_str() {
            "postcard" => Ok(quote!(Postcard)),
            "cbor" => Ok(quote!(Cbor)),
            other => {
                Err(Error::new(written.span(), format!("there is no codec {other:?}; write \"postcard\" or \"cbor\"")))
            }
        }
    }

    fn check_shape(&self, input: &DeriveInput, indexes: &[Index]) -> Result<()> {
        let Some(written) = &self.shape else { return Ok(()) };
        let now = shape::fingerprint(input, indexes);
        let message = match written.value() {
            said if said == now => return Ok(()),
            said if said.is_empty() => format!("write shape = \"{now}\""),
            _ => format!(
                "the shape has changed: raise `version`, keep the old type as `from`, and write shape = \"{now}\" (values of the old \
                 shape would be misread; if none was ever stored, write the new shape alone)"
            ),
        };
        Err(Error::new(written.span(), message))
    }
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if let Data::Union(union) = &input.data {
        return Err(Error::new(union.union_token.span, "a union cannot be stored; make it an enum"));
    }
    if !input.generics.params.is_empty() {
        let message = "a class is one type: derive `Persistent` for a type without parameters";
        return Err(Error::new(input.generics.span(), message));
    }
    let mut said = Said::read(&input.attrs)?;
    let indexes = indexed::all(input, std::mem::take(&mut said.indexes))?;
    let (class, version, codec) = (said.class(&input.ident)?, said.version()?, said.codec()?);
    // Beside the impl: without it, each use of the type would be an error as well.
    let shape = said.check_shape(input, &indexes).err().map(Error::into_compile_error);
    let name = &input.ident;
    let others = Others { from: said.from.as_ref(), newer: said.newer.as_ref() };
    let upgrade = upgrade(others);
    let (index, readers) = (indexed::items(&indexes, others), indexed::readers(input, &indexes));
    let follows = said.from.as_ref().map(|from| {
        quote_spanned! {from.span()=> const _: () = ::zeolite_client::typed::follows::<#from, #name>(); }
    });
    let precedes = said.newer.as_ref().map(|newer| {
        quote_spanned! {newer.span()=> const _: () = ::zeolite_client::typed::precedes::<#name, #newer>(); }
    });
    Ok(quote! {
        #[automatically_derived]
        impl ::zeolite_client::Persistent for #name {
            const CLASS: &'static str = #class;
            const VERSION: u32 = #version;
            const CODEC: ::zeolite_client::Codec = ::zeolite_client::Codec::#codec;
            #upgrade
            #index
        }
        #readers
        #follows
        #precedes
        #shape
    })
}

/// The part of the impl that reads what they have written.
fn upgrade(Others { from, newer }: Others<'_>) -> TokenStream {
    if from.is_none() && newer.is_none() {
        return TokenStream::new();
    }
    let codec_of_newer = newer.map(|newer| {
        quote_spanned! {newer.span()=>
            newer if newer > <Self as ::zeolite_client::Persistent>::VERSION => ::zeolite_client::typed::codec_of_newer::<#newer>(newer),
        }
    });
    let codec_of_former = from.map(|from| {
        quote_spanned! {from.span()=>
            older if older < <Self as ::zeolite_client::Persistent>::VERSION => ::zeolite_client::typed::codec_of_former::<#from>(older),
        }
    });
    let downgrade = newer.map(|newer| {
        quote_spanned! {newer.span()=>
            newer if newer > <Self as ::zeolite_client::Persistent>::VERSION => ::zeolite_client::typed::downgrade_from::<#newer, Self>(version, data),
        }
    });
    let upgrade = from.map(|from| {
        quote_spanned! {from.span()=>
            older if older < <Self as ::zeolite_client::Persistent>::VERSION => ::zeolite_client::typed::upgrade_from::<#from, Self>(version, data),
        }
    });
    quote! {
        fn codec_of(version: u32) -> ::zeolite_client::Codec {
            match version {
                #codec_of_newer
                #codec_of_former
                _ => <Self as ::zeolite_client::Persistent>::CODEC,
            }
        }

        fn upgrade(version: u32, data: &[u8]) -> ::zeolite_client::Result<Self> {
            match version {
                #downgrade
                #upgrade
                _ => ::zeolite_client::Result::Err(<Self as ::zeolite_client::Persistent>::no_upgrade(version)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::Span;
    use syn::parse_quote;

    /// The compile error, alone or beside the impl.
    fn refusal(input: &DeriveInput) -> String {
        match derive(input) {
            Err(refused) => refused.to_string(),
            Ok(impls) => impls
                .to_string()
                .split_once("compile_error")
                .map(|(_, told)| told.replace('\\', ""))
                .unwrap_or_default(),
        }
    }

    #[test]
    fn each_mistake_in_the_attribute_is_told_with_what_to_write() {
        let refused: [(DeriveInput, &str); 16] = [
            (parse_quote! { struct P { a: u8 } }, "say which class this is"),
            (
                parse_quote! { #[persistent(class = "")] struct P { a: u8 } },
                "a class name has 1 to 255 bytes, this has 0",
            ),
            (parse_quote! { #[persistent(class = "P", version = 0)] struct P { a: u8 } }, "versions begin with 1"),
            (
                parse_quote! { #[persistent(class = "P", version = "2")] struct P { a: u8 } },
                "here belongs a whole number, without quotes: version = 2",
            ),
            (
                parse_quote! { #[persistent(class = P)] struct P { a: u8 } },
                "here belongs a text in quotes: class = \"app.Name\"",
            ),
            (
                parse_quote! { #[persistent(class = "P", newer = "Q")] struct P { a: u8 } },
                "here belongs a type of the same class, without quotes: newer = r2::Page",
            ),
            (
                parse_quote! { #[persistent(class = "P", from = 7)] struct P { a: u8 } },
                "here belongs a type of the same class: from = PageV1",
            ),
            (
                parse_quote! { #[persistent(class = "P", from)] struct P { a: u8 } },
                "here belongs a type of the same class: from = PageV1",
            ),
            (
                parse_quote! { #[persistent(klass = "P")] struct P { a: u8 } },
                "this says nothing about a class; what does: class =",
            ),
            (parse_quote! { #[persistent(class = "P", class = "Q")] struct P { a: u8 } }, "`class` is said twice"),
            (
                parse_quote! { #[persistent(class = "P", codec = "json")] struct P { a: u8 } },
                "there is no codec \"json\"",
            ),
            (parse_quote! { #[persistent(class = "P", shape = "")] struct P { a: u8 } }, "write shape = \""),
            (
                parse_quote! { #[persistent(class = "P", shape = "0")] struct P { a: u8 } },
                "the shape has changed: raise `version`",
            ),
            (parse_quote! { #[persistent(class = "P")] struct P<T> { a: T } }, "a class is one type"),
            (parse_quote! { #[persistent(class = "P")] union P { a: u8 } }, "a union cannot be stored"),
            (parse_quote! { #[persistent] struct P { a: u8 } }, "expected attribute arguments"),
        ];
        for (input, message) in refused {
            let told = refusal(&input);
            assert!(told.contains(message), "{told:?} does not say {message:?}");
        }
    }

    #[test]
    fn the_shape_that_is_told_is_the_one_that_is_taken() {
        let told = refusal(&parse_quote! { #[persistent(class = "P", shape = "")] struct P { a: u8 } });
        let (_, shape) = told.split_once("shape = \"").expect("the shape is told");
        let shape = LitStr::new(&shape[..8], Span::call_site());
        assert_eq!(refusal(&parse_quote! { #[persistent(class = "P", shape = #shape)] struct P { a: u8 } }), "");
        assert_ne!(refusal(&parse_quote! { #[persistent(class = "P", shape = #shape)] struct P { a: u16 } }), "");
    }
}
